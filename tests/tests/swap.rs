//! Trained weights go to work only if held-out samples are answered no worse: with real sessions, in
//! `fulcrumd run` on a board in a folder.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_planner::boards;
use fulcrum_runtime::engine::params;
use fulcrum_tests::models::digits;
use fulcrum_tests::onnxruntime;
use fulcrum_tests::programs::{Answer, fulcrum, fulcrumd};
use fulcrum_tests::running::Running;
use fulcrum_tests::tree::TemporaryFolder;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

struct Device {
    folder: TemporaryFolder,
}

impl Device {
    fn new() -> Self {
        let device = Self {
            folder: TemporaryFolder::new(),
        };
        let board = boards::named("orin-agx").unwrap();
        board_folder::create(&device.path("board"), board, JetPack::Five).unwrap();
        let plan = "plan --board orin-agx --profiles synthetic:orin-agx --train resnet18 --infer mobilenetv3 \
                    --strategy rnd:40";
        let mut command = fulcrum();
        command.args(plan.split_whitespace());
        let _ = Answer::of(command.arg("--out").arg(device.path("x.plan"))).expect(0);
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The summary of a run with these options that has trained at least so many steps.
    fn run(&self, options: &str, steps: u64) -> Value {
        let mut command = fulcrumd();
        command.args([
            "run",
            "--json",
            "--power",
            "30",
            "--latency-ms",
            "500",
            "--rate",
            "60",
        ]);
        let data = onnxruntime::digits();
        for (option, path) in [
            ("--plan", self.path("x.plan")),
            ("--sysfs-root", self.path("board")),
            ("--state-dir", self.path("state")),
            ("--checkpoint", self.path("c")),
            ("--train", digits("train.onnx")),
            ("--infer", digits("infer.onnx")),
            ("--data", data.train),
            ("--held-out", data.held_out),
            ("--onnxruntime", onnxruntime::library().path),
        ] {
            command.arg(option).arg(path);
        }
        command.args(options.split_whitespace());
        let running = Running::start(command);
        running.reports(|report| report["steps"].as_u64() >= Some(steps));
        running.end()
    }
}

#[test]
fn weights_that_a_wild_learning_rate_made_are_never_served() {
    let device = Device::new();
    let good = device.run("--validate 0.2 --validate-every 20 --lr 0.05", 1_000);
    assert!(good["swaps_accepted"].as_u64().unwrap() > 0, "{good}");
    assert_eq!(good["allocations_in_loop"], 0, "{good}");
    let reached = good["validated_accuracy"].as_f64().unwrap();
    let before = good["accuracy_before"].as_f64().unwrap();
    assert!(reached > before, "{good}");
    // What serves was written down as well, and goes on serving in the next run.
    let served = fs::read(device.path("c.served")).unwrap();
    let wild = device.run("--validate 0.2 --validate-every 20 --lr 10", 500);
    assert!(wild["swaps_refused"].as_u64().unwrap() > 0, "{wild}");
    assert_eq!(wild["swaps_accepted"], 0, "{wild}");
    assert_eq!(
        wild["validated_accuracy"].as_f64().unwrap(),
        reached,
        "{wild}"
    );
    assert_eq!(wild["accuracy_after"], good["accuracy_after"], "{wild}");
    assert_eq!(wild["allocations_in_loop"], 0, "{wild}");
    assert_eq!(fs::read(device.path("c.served")).unwrap(), served);
    // Training itself went wild: the check is what kept that away.
    let trained = params::read(&device.path("c")).unwrap();
    let served = params::read(&device.path("c.served")).unwrap();
    assert_ne!(trained.tensors[0], served.tensors[0]);
}

//! Training that is killed again and again reaches what training that is left alone reaches, bit for bit.
//! Goal: parameters, optimizer state and the order of the samples. Method: `fulcrumd run` on a board in a
//! folder, killed at many moments; whatever checkpoint it left is compared with a run in this process that
//! nobody interrupts.
//!
//! `FULCRUM_KILLS=1000 cargo test --release -p fulcrum-tests --test resume` does it a thousand times.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_planner::boards;
use fulcrum_runtime::data::{Batches, Place, Records};
use fulcrum_runtime::engine::params::{self, Progress};
use fulcrum_runtime::engine::{Parameters, TrainingSession};
use fulcrum_tests::models::{digits, load};
use fulcrum_tests::onnxruntime;
use fulcrum_tests::programs::{Answer, fulcrum, fulcrumd};
use fulcrum_tests::running::{PATIENCE, Running};
use fulcrum_tests::tree::TemporaryFolder;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KILLS: u64 = 20;
const RATE: f32 = 0.05;
const SEED: u64 = 5;

/// A board, a plan and data in a folder, for runs that only train.
struct Device {
    folder: TemporaryFolder,
    data: PathBuf,
    library: PathBuf,
}

impl Device {
    fn new() -> Self {
        let device = Self {
            data: onnxruntime::digits().train,
            library: onnxruntime::library().path,
            folder: TemporaryFolder::new(),
        };
        let board = boards::named("orin-agx").unwrap();
        board_folder::create(&device.path("board"), board, JetPack::Five).unwrap();
        let plan = "plan --board orin-agx --profiles synthetic:orin-agx --train resnet18 --strategy rnd:20";
        let mut command = fulcrum();
        command.args(plan.split(' '));
        let _ = Answer::of(command.arg("--out").arg(device.path("x.plan"))).expect(0);
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, step: &Path, options: &str) -> Command {
        let mut command = fulcrumd();
        command.args(["run", "--json", "--power", "30", "--lr", "0.05"]);
        for (option, path) in [
            ("--plan", &self.path("x.plan")),
            ("--sysfs-root", &self.path("board")),
            ("--state-dir", &self.path("state")),
            ("--checkpoint", &self.path("digits.checkpoint")),
            ("--train", &step.to_owned()),
            ("--data", &self.data),
            ("--onnxruntime", &self.library),
        ] {
            command.arg(option).arg(path);
        }
        command.args(options.split(' '));
        command
    }
}

/// Training that nobody interrupts, as far as it was asked for.
struct Uninterrupted {
    session: TrainingSession,
    parameters: Parameters,
    batches: Batches,
    steps: u64,
}

impl Uninterrupted {
    fn new(data: &Path) -> Self {
        let (mut session, parameters) = load(&digits("train.onnx"));
        session.set_learning_rate(RATE);
        let records = Records::open(data).unwrap();
        // `fulcrumd run` keeps the last fifth back.
        let count = records.count() - records.count() / 5;
        Self {
            session,
            parameters,
            batches: Batches::of_first(records, count, SEED),
            steps: 0,
        }
    }

    fn go_to(&mut self, steps: u64) {
        while self.steps < steps {
            let (x, y) = self.session.x_and_y_mut();
            self.batches.fill(x, y);
            self.session.step(&mut self.parameters).unwrap();
            self.steps += 1;
        }
    }

    fn bits(&self) -> Vec<Vec<u32>> {
        self.parameters.values().map(bits).collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn i9_training_that_is_killed_goes_on_bit_for_bit() {
    let kills = std::env::var("FULCRUM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let device = Device::new();
    let checkpoint = device.path("digits.checkpoint");
    let mut reference = Uninterrupted::new(&device.data);
    let options = format!("--seed {SEED} --duration-s 600 --checkpoint-every 7");
    let start = Instant::now();
    let (mut checked, mut moments) = (0, fulcrum_runtime::random::Random::new(3));
    for kill in 0..kills {
        let mut child = device
            .run(&digits("train.onnx"), &options)
            .stdout(Stdio::null())
            .stderr(fs::File::create(device.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        // From before its first step to some checkpoints later, once it is known how long a start takes.
        let before = modified(&checkpoint);
        let patience = Instant::now();
        while kill % 4 != 0 && modified(&checkpoint) == before {
            if let Some(status) = child.try_wait().unwrap() {
                let said = fs::read_to_string(device.path("stderr")).unwrap();
                panic!("kill {kill}: it ended by itself, {status}: {said}");
            }
            assert!(patience.elapsed() < PATIENCE, "no checkpoint");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(moments.below(60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        if !checkpoint.exists() {
            continue;
        }
        let found =
            params::read(&checkpoint).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let progress = found.progress.expect("a checkpoint says where it stands");
        assert!(
            progress.steps >= reference.steps,
            "kill {kill}: it went back"
        );
        checked += u64::from(progress.steps > reference.steps);
        reference.go_to(progress.steps);
        assert_eq!(progress.place, reference.batches.place(), "kill {kill}");
        let found: Vec<Vec<u32>> = found.tensors.iter().map(|tensor| bits(tensor)).collect();
        assert!(found == reference.bits(), "kill {kill}: other parameters");
    }
    println!(
        "{kills} kills in {:.0} s: {checked} new checkpoints, each bit-equal to the uninterrupted run; \
         {} steps",
        start.elapsed().as_secs_f64(),
        reference.steps
    );
    assert!(checked >= kills / 2, "only {checked} new checkpoints");
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

#[test]
fn a_run_that_ends_and_goes_on_equals_one_run() {
    let device = Device::new();
    let mut reference = Uninterrupted::new(&device.data);
    let (patience, mut before, mut part) = (Instant::now(), 0, 0);
    while part < 2 {
        assert!(patience.elapsed() < PATIENCE, "{part} runs trained");
        let options = format!("--seed {SEED} --duration-s 0.3 --checkpoint-every 0.1s");
        let said = Answer::of(&mut device.run(&digits("train.onnx"), &options)).expect(0);
        let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(summary["allocations_in_loop"], 0, "{summary}");
        let total = summary["steps_total"].as_u64().unwrap();
        assert_eq!(
            total,
            before + summary["steps"].as_u64().unwrap(),
            "part {part}"
        );
        // A run may end before its first step where the machine stands still.
        part += u32::from(total > before);
        before = total;
        let found = params::read(&device.path("digits.checkpoint")).unwrap();
        reference.go_to(total);
        let progress = found.progress.unwrap();
        assert_eq!(
            (progress.steps, progress.place),
            (total, reference.batches.place())
        );
        let found: Vec<Vec<u32>> = found.tensors.iter().map(|tensor| bits(tensor)).collect();
        assert!(found == reference.bits(), "part {part}");
    }
}

#[test]
fn a_checkpoint_of_another_step_is_refused_and_one_without_progress_is_taken() {
    let device = Device::new();
    let checkpoint = device.path("digits.checkpoint");
    let (_, parameters) = load(&digits("train.onnx"));
    let other = Progress {
        step: [1; 32],
        steps: 9,
        place: Place::default(),
        samples: 1,
        data: 0,
    };
    parameters.save(&checkpoint, Some(&other)).unwrap();
    let whole = fs::read(&checkpoint).unwrap();
    let options = "--duration-s 0.1";
    let answer = Answer::of(&mut device.run(&digits("train.onnx"), options));
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    for part in ["digits.checkpoint", "another training step"] {
        assert!(answer.stderr.contains(part), "{}", answer.stderr);
    }
    assert_eq!(fs::read(&checkpoint).unwrap(), whole, "it is left alone");
    // What earlier versions wrote.
    parameters.save(&checkpoint, None).unwrap();
    let running = Running::start(device.run(&digits("train.onnx"), "--duration-s 600"));
    running.says("no progress");
    running.reports(|report| report["steps"].as_u64() > Some(0));
    let summary = running.end();
    let progress = params::read(&checkpoint).unwrap().progress.unwrap();
    assert_eq!(summary["steps"].as_u64(), Some(progress.steps), "{summary}");
}

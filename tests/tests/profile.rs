//! `fulcrumd profile` with real sessions on a folder that looks like an AGX Orin. Its sensors stand
//! still: powers here are those of the folder, times those of this machine.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_planner::boards;
use fulcrum_tests::onnxruntime;
use fulcrum_tests::programs::{Answer, fulcrum, fulcrumd};
use fulcrum_tests::tree::{self, TemporaryFolder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What the folder's rails add up to: 3,052 + 916 + 4,045 mW.
const FOLDER_POWER_MW: u64 = 8_013;

/// A board's folder, and what its process is started with.
struct Device {
    folder: TemporaryFolder,
    command: String,
}

impl Device {
    fn new() -> Self {
        let folder = TemporaryFolder::new();
        let board = boards::named("orin-agx").unwrap();
        board_folder::create(&folder.path().join("board"), board, JetPack::Five).unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/models/digits");
        let command = format!(
            "echo $$ > {0}/pid; exec {1} profile --train digits={2}/train.onnx \
             --infer digits={2}/infer.onnx:4 --data {3} --onnxruntime {4} --sysfs-root {0}/board",
            folder.path().display(),
            fulcrumd().get_program().display(),
            models.display(),
            onnxruntime::digits().train.display(),
            onnxruntime::library().path.display(),
        );
        Self { folder, command }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plan(&self, profiles: usize) -> Command {
        let mut command = fulcrum();
        command
            .args([
                "plan", "--board", "orin-agx", "--train", "digits", "--infer", "digits",
            ])
            .args(["--profiles", &format!("exec:{}", self.command)])
            .args([
                "--strategy",
                &format!("rnd:{profiles}"),
                "--seed",
                "5",
                "--out",
            ])
            .arg(self.path("x.plan"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn board(&self) -> BTreeMap<PathBuf, String> {
        tree::board_files(&self.path("board"))
    }

    /// Waits until the board differs from `before`, or is as it was then.
    fn wait_until(&self, differs: bool, before: &BTreeMap<PathBuf, String>) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while (self.board() != *before) != differs {
            assert!(Instant::now() < deadline, "the board stays as it is");
            sleep(Duration::from_millis(20));
        }
    }

    fn is_left_changed(&self) -> bool {
        self.path("board/run/fulcrum/original-clocks").exists()
    }
}

fn answer(child: Child) -> Answer {
    child.wait_with_output().unwrap().into()
}

fn kill(pid: &str) {
    let killed = Command::new("kill").args(["-9", pid.trim()]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn a_plan_of_real_minibatches_leaves_the_board_as_it_was() {
    let device = Device::new();
    let before = device.board();
    let report = Answer::of(&mut device.plan(2)).expect(0);
    assert!(report.contains("2 profiles in 1 of 441"), "{report}");
    assert!(!report.contains("not trusted"), "{report}");
    assert_eq!(device.board(), before);
    assert!(!device.is_left_changed());
    let mut show = fulcrum();
    let shown = Answer::of(show.arg("show").arg(device.path("x.plan")).arg("--json")).expect(0);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let mode = &shown["modes"][0];
    let infer = &mode["infer"][0][0];
    for cell in [&mode["train"], infer] {
        assert_eq!(cell["power_mw"], FOLDER_POWER_MW, "{shown}");
        let time_us = cell["time_us"].as_u64().unwrap();
        assert!((1..1_000_000).contains(&time_us), "{shown}");
    }
    assert_eq!(infer["batch"], 4, "{shown}");
}

#[test]
fn i6_the_clocks_are_back_when_the_workstation_dies() {
    let device = Device::new();
    let before = device.board();
    let mut child = device.plan(2).spawn().unwrap();
    device.wait_until(true, &before);
    child.kill().unwrap();
    child.wait().unwrap();
    device.wait_until(false, &before);
}

#[test]
fn i6_a_board_that_dies_costs_one_profile_and_its_clocks_come_back() {
    let device = Device::new();
    let before = device.board();
    let child = device.plan(1).spawn().unwrap();
    device.wait_until(true, &before);
    let pid = fs::read_to_string(device.path("pid")).unwrap();
    kill(&pid);
    let answer = answer(child);
    assert_eq!(answer.code, Some(0), "{}", answer.text());
    assert!(
        answer.stderr.contains("asked for again (1 of 3)"),
        "{}",
        answer.text()
    );
    assert!(
        answer.stderr.contains("its clocks were put back first"),
        "{}",
        answer.text()
    );
    assert_eq!(device.board(), before);
    assert!(!device.is_left_changed());
}

#[test]
fn a_board_without_power_sensors_is_refused_with_the_reason() {
    let device = Device::new();
    let hwmon = device.path("board/sys/class/hwmon");
    fs::remove_dir_all(hwmon).unwrap();
    let before = device.board();
    let answer = Answer::of(&mut device.plan(2));
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    for part in ["power", "fulcrumd doctor", "does not count over-current"] {
        assert!(answer.stderr.contains(part), "{part}: {}", answer.text());
    }
    assert_eq!(device.board(), before, "no clock was touched");
    assert!(!device.path("x.plan").exists());
}

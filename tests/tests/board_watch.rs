//! `fulcrumd run` holding a mode on a folder that looks like an AGX Orin, while something else changes the
//! board: a second actor, over-current, heat, another GPU than the plan's.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_planner::boards;
use fulcrum_tests::programs::{Answer, fulcrum, fulcrumd};
use fulcrum_tests::running::Running;
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CPU_MAX: &str = "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq";
const GPU_MASK: &str = "sys/class/devfreq/17000000.ga10b/device/tpc_pg_mask";

/// A board's folder and a plan for it.
struct Device {
    folder: TemporaryFolder,
}

impl Device {
    /// `profiles` as in `fulcrum plan --profiles`.
    fn new(profiles: &str) -> Self {
        let folder = TemporaryFolder::new();
        let board = boards::named("orin-agx").unwrap();
        board_folder::create(&folder.path().join("board"), board, JetPack::Five).unwrap();
        let mut plan = fulcrum();
        plan.args(["plan", "--board", "orin-agx", "--train", "lstm"])
            .args(["--profiles", profiles, "--strategy", "rnd:40", "--out"])
            .arg(folder.path().join("x.plan"));
        let _ = Answer::of(&mut plan).expect(0);
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("board").join(name)
    }

    fn number(&self, name: &str) -> u64 {
        fs::read_to_string(self.file(name))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    fn board(&self) -> BTreeMap<PathBuf, String> {
        tree::board_files(&self.folder.path().join("board"))
    }

    fn run(&self, options: &[&str]) -> Command {
        let mut command = fulcrumd();
        command
            .args(["run", "--json", "--power", "40", "--plan"])
            .arg(self.folder.path().join("x.plan"))
            .arg("--sysfs-root")
            .arg(self.folder.path().join("board"))
            .arg("--state-dir")
            .arg(self.folder.path().join("state"))
            .args(options);
        command
    }
}

#[test]
fn a_second_actor_is_answered_three_times_and_then_reported() {
    let device = Device::new("synthetic:orin-agx");
    let before = device.board();
    let held = Running::start(device.run(&[]));
    let ours = device.number(CPU_MAX);
    for _ in 0..3 {
        fs::write(device.file(CPU_MAX), "2201600\n").unwrap();
        let said = held.says("they were set again");
        assert!(said.contains("something else changed the clocks"), "{said}");
        assert_eq!(device.number(CPU_MAX), ours);
    }
    fs::write(device.file(CPU_MAX), "2201600\n").unwrap();
    let said = held.says("another program keeps changing");
    assert!(said.contains("CPU clock"), "{said}");
    assert_eq!(device.number(CPU_MAX), 2_201_600, "it is left alone");
    let summary = held.end();
    assert!(summary["drifts"].as_u64() >= Some(4), "{summary}");
    assert_eq!(summary["restored"], true, "{summary}");
    assert_eq!(device.board(), before);
}

#[test]
fn over_current_and_heat_are_counted_and_answered_with_a_mode_of_less_power() {
    let device = Device::new("synthetic:orin-agx");
    let counter = device.file("sys/class/hwmon/hwmon2/oc3_event_cnt");
    let cooling = device.file("sys/class/thermal/cooling_device0/cur_state");
    // Those of before count for nothing.
    fs::write(&counter, "7\n").unwrap();
    let held = Running::start(device.run(&[]));
    fs::write(&counter, "12\n").unwrap();
    held.says("over-current events: now ");
    fs::write(&cooling, "2\n").unwrap();
    held.says("close to thermal throttling: now ");
    let summary = held.end();
    assert_eq!(summary["over_current_events"], 5, "{summary}");
    assert_eq!(summary["heat_events"], 1, "{summary}");
    assert_eq!(summary["restored"], true, "{summary}");
}

#[test]
fn a_gpu_with_other_masks_than_the_plans_is_refused_or_warned_of() {
    let log = TemporaryFolder::new();
    let board = format!(
        "exec:{} orin-agx-jp5 0 {}",
        env!("CARGO_BIN_EXE_virtual_board"),
        log.path().join("log").display()
    );
    let device = Device::new(&board);
    let mut show = fulcrum();
    show.arg("show").arg(device.folder.path().join("x.plan"));
    let shown = Answer::of(&mut show).expect(0);
    assert!(
        shown.contains("measured on a GPU with tpc_pg_mask 0"),
        "{shown}"
    );

    let run = |options: &[&str]| {
        let options = [&["--duration-s", "0.2"], options].concat();
        Answer::of(&mut device.run(&options))
    };
    let same = run(&[]);
    assert!(!same.stderr.contains("tpc_pg_mask"), "{}", same.text());
    let _ = same.expect(0);

    fs::write(device.file(GPU_MASK), "240\n").unwrap();
    let before = device.board();
    let refused = run(&[]);
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    for part in [
        "tpc_pg_mask is 240",
        "measured with 0",
        "--other-masks warn",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.text());
    }
    let warned = run(&["--other-masks", "warn"]);
    assert!(
        warned.stderr.contains("tpc_pg_mask is 240"),
        "{}",
        warned.text()
    );
    let _ = warned.expect(0);
    assert_eq!(device.board(), before);
    assert!(!Path::new(&device.folder.path().join("state/original-clocks")).exists());
}

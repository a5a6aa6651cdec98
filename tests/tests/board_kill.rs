//! SIGKILL at random instants of apply, restore and recover: the next start puts the clocks back.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_plan::PowerMode;
use fulcrum_runtime::board::{Jetson, shipped};
use fulcrum_tests::programs::fulcrumd;
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How many processes of each kind are killed; `FULCRUM_KILLS` says otherwise.
const KILLS: u32 = 300;

fn kills() -> u32 {
    std::env::var("FULCRUM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

/// Starts a process that changes clocks, and kills it some time after it began.
fn kill_one(root: &Path, after: Duration) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_change_clocks"))
        .arg(root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    std::thread::sleep(after);
    let ended = child.try_wait().unwrap();
    assert_eq!(ended, None, "it stopped before it was killed");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Linear congruential generator (Knuth, MMIX).
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn i6_a_killed_process_leaves_clocks_that_the_next_start_puts_back() {
    let folder = TemporaryFolder::new();
    let root = folder.path();
    let board = shipped()
        .iter()
        .find(|board| board.name == "orin-agx")
        .unwrap();
    board_folder::create(root, board, JetPack::Five).unwrap();
    let stock = tree::board_files(root);
    let (seed, kills) = (7u64, kills());
    println!("seed {seed}");
    let mut state = seed;
    let (mut left_changed, mut left_recorded) = (0, 0);
    for kill in 1..=kills {
        // Up to 3 ms: an apply takes about 0.1 ms, a record some more.
        kill_one(root, Duration::from_micros(random(&mut state) % 3_000));
        left_changed += u32::from(tree::board_files(root) != stock);
        // Every other time the next process to be killed has to recover first.
        if kill % 2 == 0 {
            left_recorded += u32::from(Jetson::discover(root).unwrap().recover().unwrap());
            tree::assert_same(&tree::board_files(root), &stock, &format!("kill {kill}"));
        }
    }
    println!("{kills} kills, {left_changed} left changed clocks, {left_recorded} recoveries here");
    assert!(left_changed > kills / 4, "only {left_changed} kills hit");
}

#[test]
fn i6_a_killed_restore_leaves_clocks_that_the_next_start_puts_back() {
    let folder = TemporaryFolder::new();
    let root = folder.path();
    let board = shipped().iter().find(|board| board.name == "orin-agx");
    board_folder::create(root, board.unwrap(), JetPack::Five).unwrap();
    let stock = tree::board_files(root);
    let record = root.join("run/fulcrum/original-clocks");
    let mut jetson = Jetson::discover(root).unwrap();
    let topology = jetson.topology();
    let mode = PowerMode {
        cores: 3,
        cpu_khz: topology.cpu_khz[0],
        gpu_khz: topology.gpu_khz[0],
        emc_khz: topology.emc_khz[0],
    };
    jetson.apply(&mode).unwrap();
    let (changed, recorded) = (tree::board_files(root), fs::read(&record).unwrap());
    drop(jetson);

    let (seed, kills) = (11u64, kills());
    println!("seed {seed}");
    let mut state = seed;
    let (mut killed, mut in_between, mut rounds) = (0, 0, 0);
    // What it takes from start to end, followed as the machine gets slower and faster.
    let mut duration = Duration::from_millis(4);
    while killed < kills {
        rounds += 1;
        assert!(rounds < 10 * kills, "{killed} were killed under way");
        for (path, text) in changed.iter().filter(|(path, text)| stock[*path] != **text) {
            fs::write(root.join(path), text).unwrap();
        }
        fs::write(&record, &recorded).unwrap();
        let mut restore = fulcrumd();
        restore.arg("restore").arg("--sysfs-root").arg(root);
        let mut child = restore.stderr(Stdio::null()).spawn().unwrap();
        let share = 0.2 + 0.8 * (random(&mut state) % 1_000) as f64 / 1_000.0;
        std::thread::sleep(duration.mul_f64(share));
        let was_under_way = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        duration = duration.mul_f64(if was_under_way { 1.03 } else { 0.9 });
        killed += u32::from(was_under_way);
        let left = tree::board_files(root);
        in_between += u32::from(left != changed && left != stock);
        let found = Jetson::discover(root).unwrap().recover().unwrap();
        // Either it is on record what the clocks were, or they are so already.
        assert!(found || left == stock, "round {rounds}");
        tree::assert_same(&tree::board_files(root), &stock, &format!("round {rounds}"));
    }
    // Few of them hit the writes, which take 0.1 ms: those are killed one by one on a mounted board.
    println!("{killed} of {rounds} restores were killed under way, {in_between} in the middle");
}

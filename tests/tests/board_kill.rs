//! SIGKILL at random instants of apply, restore and recover: the next start puts the clocks back.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_runtime::board::{Jetson, shipped};
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How many processes are killed.
const KILLS: u32 = 1000;

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
    let seed = 7u64;
    println!("seed {seed}");
    let mut state = seed;
    let (mut left_changed, mut left_recorded) = (0, 0);
    for kill in 1..=KILLS {
        // Linear congruential generator (Knuth, MMIX). Up to 3 ms: an apply takes about 0.1 ms, a record
        // some more.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        kill_one(root, Duration::from_micros((state >> 33) % 3_000));
        left_changed += u32::from(tree::board_files(root) != stock);
        // Every other time the next process to be killed has to recover first.
        if kill % 2 == 0 {
            left_recorded += u32::from(Jetson::discover(root).unwrap().recover().unwrap());
            tree::assert_same(&tree::board_files(root), &stock, &format!("kill {kill}"));
        }
    }
    println!("{KILLS} kills, {left_changed} left changed clocks, {left_recorded} recoveries here");
    assert!(left_changed > KILLS / 4, "only {left_changed} kills hit");
}

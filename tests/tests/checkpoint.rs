//! Invariant I9: trained parameters survive a kill at any instruction. Goal: whoever opens the checkpoint
//! after a kill finds the one before or the one after, whole. Method: a program that replaces a checkpoint as
//! fast as it can is killed at many different moments.

use fulcrum_runtime::engine::params;
use fulcrum_tests::running::PATIENCE;
use fulcrum_tests::tree::TemporaryFolder;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

const KILLS: u64 = 60;

#[test]
fn i9_a_kill_at_any_moment_leaves_a_whole_checkpoint() {
    let folder = TemporaryFolder::new();
    let path = folder.path().join("step.params");
    params::write(&path, [&[0.0; 20_000][..], &[0.0; 3]], None).unwrap();
    let mut replaced = 0;
    for kill in 0..KILLS {
        let before = fs::read(&path).unwrap();
        let mut writer = Command::new(env!("CARGO_BIN_EXE_checkpoint-writer"))
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // Spread over many of its cycles; of every third one, from its start on.
        let patience = Instant::now();
        while kill % 3 != 0 && fs::read(&path).unwrap() == before {
            assert!(patience.elapsed() < PATIENCE, "kill {kill}: no checkpoint");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(500 + kill * 331));
        writer.kill().unwrap();
        let status = writer.wait().unwrap();
        assert_eq!(
            status.code(),
            None,
            "kill {kill}: the writer ended by itself"
        );
        let found = params::read(&path).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let found = found.tensors;
        assert_eq!([found[0].len(), found[1].len()], [20_000, 3], "kill {kill}");
        let number = found[1][0];
        assert!(
            found.iter().flatten().all(|&value| value == number),
            "kill {kill}: {number}"
        );
        replaced += u64::from(fs::read(&path).unwrap() != before);
    }
    assert!(
        replaced >= KILLS / 2,
        "only {replaced} of {KILLS} writers wrote anything"
    );
}

//! Profiles through a process and through ssh: the plan is the one that was made without, byte by byte,
//! also when the link is cut in between.

use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::ssh::SshServer;
use fulcrum_tests::tree::TemporaryFolder;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PROFILES: usize = 60;
const SEED: &str = "3";
/// Bytes of journal per profile, about: to cut after some of them.
const RECORD_LEN: u64 = 40;

/// A simulated board that takes `delay_ms` for a profile.
fn board(delay_ms: u32) -> String {
    format!(
        "{} orin-agx {SEED} {delay_ms}",
        env!("CARGO_BIN_EXE_synthetic_board")
    )
}

fn through(server: &SshServer, delay_ms: u32) -> String {
    format!(
        "exec:{} {} {}",
        server.ssh(),
        SshServer::HOST,
        board(delay_ms)
    )
}

fn plan(source: &str, folder: &Path, name: &str) -> Command {
    let mut command = fulcrum();
    command
        .args(["plan", "--board", "orin-agx", "--profiles", source])
        .args(["--train", "lstm", "--infer", "mobilenetv3", "--seed", SEED])
        .args(["--strategy", &format!("als:{PROFILES}")])
        .arg("--journal")
        .arg(folder.join(format!("{name}.journal")))
        .arg("--out")
        .arg(folder.join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The plan that the planner makes from its own simulated board.
fn uncut(folder: &Path) -> Vec<u8> {
    let mut command = plan("synthetic:orin-agx", folder, "uncut.plan");
    let _ = Answer::of(&mut command).expect(0);
    fs::read(folder.join("uncut.plan")).unwrap()
}

/// Waits until the journal holds some profiles.
fn wait_for_profiles(folder: &Path, name: &str, count: u64) {
    let journal = folder.join(format!("{name}.journal"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&journal).map_or(0, |found| found.len()) < 200 + count * RECORD_LEN {
        assert!(
            Instant::now() < deadline,
            "no profiles in {}",
            journal.display()
        );
        sleep(Duration::from_millis(5));
    }
}

fn answer(child: Child) -> Answer {
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_plan_through_a_process_is_the_plan_byte_by_byte() {
    let folder = TemporaryFolder::new();
    let expected = uncut(folder.path());
    let source = format!("exec:{}", board(0));
    let _ = Answer::of(&mut plan(&source, folder.path(), "x.plan")).expect(0);
    assert_eq!(fs::read(folder.path().join("x.plan")).unwrap(), expected);
}

#[test]
fn a_link_that_is_cut_costs_one_profile_and_changes_no_byte() {
    let folder = TemporaryFolder::new();
    let expected = uncut(folder.path());
    let server = SshServer::start();
    let child = plan(&through(&server, 20), folder.path(), "x.plan")
        .spawn()
        .unwrap();
    wait_for_profiles(folder.path(), "x.plan", 5);
    assert!(server.cut() > 0, "there was a connection to cut");
    let answer = answer(child);
    let again = answer.stderr.matches("asked for again").count();
    assert_eq!(answer.code, Some(0), "{}", answer.text());
    assert_eq!(again, 1, "{}", answer.text());
    assert!(
        answer.stdout.contains(&format!("{PROFILES} profiles")),
        "{}",
        answer.text()
    );
    assert_eq!(fs::read(folder.path().join("x.plan")).unwrap(), expected);
}

#[test]
fn a_board_that_stays_away_is_lost_and_the_journal_goes_on_later() {
    let folder = TemporaryFolder::new();
    let expected = uncut(folder.path());
    let mut server = SshServer::start();
    let source = through(&server, 20);
    let child = plan(&source, folder.path(), "x.plan").spawn().unwrap();
    wait_for_profiles(folder.path(), "x.plan", 5);
    server.stop();
    let lost = answer(child);
    assert_eq!(
        lost.code,
        Some(0),
        "a plan of what was measured: {}",
        lost.text()
    );
    assert!(
        lost.stdout.contains("the board was lost"),
        "{}",
        lost.text()
    );
    assert_ne!(fs::read(folder.path().join("x.plan")).unwrap(), expected);

    server.start_again();
    let resumed = Answer::of(&mut plan(&source, folder.path(), "x.plan"));
    assert!(
        resumed.stderr.contains("are paid already"),
        "{}",
        resumed.text()
    );
    let _ = resumed.expect(0);
    assert_eq!(fs::read(folder.path().join("x.plan")).unwrap(), expected);
}

#[test]
fn a_board_that_cannot_be_reached_is_an_error_that_says_why() {
    let folder = TemporaryFolder::new();
    let mut server = SshServer::start();
    let source = through(&server, 0);
    server.stop();
    let answer = Answer::of(&mut plan(&source, folder.path(), "x.plan"));
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    assert!(
        answer.stderr.contains("Connection refused"),
        "{}",
        answer.text()
    );
    assert!(
        answer.stderr.contains("fulcrumd profile"),
        "{}",
        answer.text()
    );
    assert!(!folder.path().join("x.plan").exists());
}

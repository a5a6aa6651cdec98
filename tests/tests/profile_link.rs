//! Profiles through a process and through ssh: the plan is the one that was made without, byte by byte,
//! also when the link is cut in between. First with the planner's own simulated board behind the link, then
//! with a virtual Jetson, whose clocks are set and whose sensors are read by `fulcrumd`'s own code.

use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::ssh::SshServer;
use fulcrum_tests::tree::TemporaryFolder;
use std::collections::BTreeSet;
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

/// A virtual Jetson that takes `delay_ms` for a profile and writes down what it was asked for.
fn jetson(delay_ms: u32, log: &Path) -> String {
    format!(
        "{} orin-agx-jp5 {delay_ms} {}",
        env!("CARGO_BIN_EXE_virtual_board"),
        log.display()
    )
}

#[test]
fn a_virtual_jetson_whose_link_is_cut_and_lost_gives_the_bytes_of_an_uncut_run() {
    let folder = TemporaryFolder::new();
    let local = folder.path().join("local.log");
    let source = format!("exec:{}", jetson(0, &local));
    let uncut = Answer::of(&mut plan(&source, folder.path(), "uncut.plan")).expect(0);
    assert!(uncut.contains(&format!("{PROFILES} profiles")), "{uncut}");
    assert!(!uncut.contains("not trusted"), "{uncut}");
    let expected = fs::read(folder.path().join("uncut.plan")).unwrap();

    let log = folder.path().join("remote.log");
    let mut server = SshServer::start();
    // Slow enough for both cuts to come before the end, on a busy machine too.
    let remote = jetson(100, &log);
    let source = format!("exec:{} {} {remote}", server.ssh(), SshServer::HOST);
    let child = plan(&source, folder.path(), "x.plan").spawn().unwrap();
    wait_for_profiles(folder.path(), "x.plan", 5);
    assert!(server.cut() > 0, "there was a connection to cut");
    wait_for_profiles(folder.path(), "x.plan", 15);
    server.stop();
    let lost = answer(child);
    assert!(
        lost.stderr.contains("asked for again (1 of 3)"),
        "{}",
        lost.text()
    );
    assert!(
        lost.stdout.contains("the board was lost"),
        "{}",
        lost.text()
    );

    server.start_again();
    let resumed = Answer::of(&mut plan(&source, folder.path(), "x.plan"));
    assert!(
        resumed.stderr.contains("are paid already"),
        "{}",
        resumed.text()
    );
    let _ = resumed.expect(0);
    assert_eq!(fs::read(folder.path().join("x.plan")).unwrap(), expected);
    // Every profile was measured once, but for those that the link was lost in.
    let asked = fs::read_to_string(&log).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    let different: BTreeSet<&str> = asked.iter().copied().collect();
    assert_eq!(different.len(), PROFILES);
    assert!(asked.len() - different.len() <= 2, "{asked:?}");
}

#[test]
fn progress_and_the_time_left_are_shown_on_a_terminal() {
    let folder = TemporaryFolder::new();
    let source = format!("exec:{}", jetson(300, &folder.path().join("log")));
    let mut command = fulcrum();
    command
        .args(["plan", "--board", "orin-agx", "--profiles", &source])
        .args(["--train", "lstm", "--strategy", "rnd:4", "--out"])
        .arg(folder.path().join("x.plan"));
    // Python has a terminal at hand wherever it is.
    let mut terminal = Command::new("python3");
    terminal
        .args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"])
        .arg(command.get_program())
        .args(command.get_args());
    let shown = Answer::of(&mut terminal).expect(0);
    for part in [
        "profiling [",
        "/4 lstm b16",
        " left)",
        "s left of this profile)",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(folder.path().join("x.plan").exists());
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

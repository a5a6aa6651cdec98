//! `fulcrumd` as a service of systemd: what it tells the manager and when, and what is packaged for it.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_runtime::board::shipped;
use fulcrum_tests::programs::{Answer, fulcrum, fulcrumd};
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// The manager's end: what a service sends arrives here.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 64];
        let received = loop {
            match self.0.recv(&mut buffer) {
                // A wait that is limited ends so when the process was stopped and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        let length = received.expect("a message within a minute");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

/// A running service; killed if the test fails before it ended.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminate(service: &Child) {
    let pid = service.id().to_string();
    let mut kill = Command::new("sh");
    let status = kill.args(["-c", "kill -TERM $0", &pid]).status().unwrap();
    assert!(status.success());
}

#[test]
fn ready_means_applied_the_loop_feeds_the_watchdog_and_stopping_puts_clocks_back() {
    let folder = TemporaryFolder::new();
    let (root, plan) = (folder.path().join("board"), folder.path().join("x.plan"));
    let board = shipped().iter().find(|board| board.name == "orin-agx");
    board_folder::create(&root, board.unwrap(), JetPack::Six).unwrap();
    let request = "plan --board orin-agx --profiles synthetic:orin-agx --train lstm --strategy als:20 --seed 1";
    let _told = Answer::of(fulcrum().args(request.split(' ')).arg("--out").arg(&plan)).expect(0);
    let stock = tree::board_files(&root);

    let path = folder.path().join("notify");
    let manager = Manager::listen(&path);
    let service = fulcrumd()
        .args(["run", "--power", "50", "--plan"])
        .arg(&plan)
        .arg("--sysfs-root")
        .arg(&root)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .spawn();
    let mut service = Service(service.unwrap());
    assert_eq!(manager.next(), "READY=1");
    assert_ne!(tree::board_files(&root), stock, "ready before applied");
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    terminate(&service.0);
    let mut message = manager.next();
    while message == "WATCHDOG=1" {
        message = manager.next();
    }
    assert_eq!(message, "STOPPING=1");
    assert!(service.0.wait().unwrap().success());
    tree::assert_same(&tree::board_files(&root), &stock, "after SIGTERM");
}

#[test]
fn a_service_that_fails_to_start_never_says_it_is_ready() {
    let folder = TemporaryFolder::new();
    let path = folder.path().join("notify");
    let manager = Manager::listen(&path);
    let answer = Answer::of(
        fulcrumd()
            .args(["run", "--power", "50", "--plan", "no.plan", "--sysfs-root"])
            .arg(folder.path())
            .env("NOTIFY_SOCKET", &path),
    );
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 64]).is_err());
}

#[test]
fn what_is_packaged_names_only_options_that_fulcrumd_has() {
    let help = Answer::of(fulcrumd().arg("--help")).expect(0);
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging");
    let mut checked = 0;
    for file in ["fulcrumd.conf", "fulcrumd.service"] {
        let text = fs::read_to_string(packaging.join(file)).unwrap();
        let words = text.split(|c: char| c.is_whitespace() || "\"'`".contains(c));
        let words = words.map(|word| word.trim_end_matches([',', ':']));
        for option in words.filter(|word| word.starts_with("--") && *word != "--help") {
            assert!(help.contains(option), "{file}: {option}");
            checked += 1;
        }
        for command in ["run", "restore"] {
            assert!(help.contains(&format!("fulcrumd {command}")), "{command}");
        }
    }
    assert!(checked >= 8, "only {checked} options were found");
}

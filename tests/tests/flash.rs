//! Flashing through a real sshd, to one device and to many, and under kills: never a torn plan, and
//! `current` can always be read.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_plan::store::{Slot, Store, Trial};
use fulcrum_plan::wire;
use fulcrum_planner::boards;
use fulcrum_planner::random::Random;
use fulcrum_tests::programs::{Answer, fulcrum, fulcrumd};
use fulcrum_tests::ssh::SshServer;
use fulcrum_tests::tree::TemporaryFolder;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A plan of a simulated board.
fn plan(folder: &Path, board: &str, seed: u32) -> PathBuf {
    let path = folder.join(format!("{board}-{seed}.plan"));
    let mut command = fulcrum();
    command
        .args(["plan", "--board", board, "--train", "lstm"])
        .args(["--profiles", &format!("synthetic:{board}")])
        .args(["--strategy", "rnd:20", "--seed", &seed.to_string()]);
    let _ = Answer::of(command.arg("--out").arg(&path)).expect(0);
    path
}

/// `fulcrumd` as a device starts it whose board is below `root`.
fn device(folder: &Path, root: &Path) -> String {
    let script = folder.join("fulcrumd-of-the-device");
    let program = fulcrumd();
    let text = format!(
        "#!/bin/sh\necho 'Welcome to the device'\nexec {} \"$@\" --sysfs-root {}\n",
        program.get_program().display(),
        root.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script.display().to_string()
}

/// A folder that looks like an AGX Orin.
fn agx_orin(folder: &Path) -> PathBuf {
    let root = folder.join("board");
    board_folder::create(&root, boards::named("orin-agx").unwrap(), JetPack::Five).unwrap();
    root
}

fn flash(server: &SshServer, fulcrumd: &str, plan: &Path) -> Command {
    let mut command = fulcrum();
    command.arg("flash").arg(plan);
    command.args(["--ssh", &server.ssh(), "--fulcrumd", fulcrumd]);
    command
}

fn in_use(folder: &Path) -> Vec<u8> {
    let store = Store::new(folder);
    let pointer = store.pointer().unwrap().unwrap();
    fs::read(store.slot_path(pointer.slot)).unwrap()
}

#[test]
fn a_plan_goes_through_ssh_once_and_only_to_its_board() {
    let folder = TemporaryFolder::new();
    let server = SshServer::start();
    let fulcrumd = device(folder.path(), &agx_orin(folder.path()));
    let good = plan(folder.path(), "orin-agx", 1);
    let plans = folder.path().join("the device's plans");
    let to = format!("ssh:{}:{}", SshServer::HOST, plans.display());

    let first = Answer::of(flash(&server, &fulcrumd, &good).args(["--to", &to])).expect(0);
    assert!(first.contains("slot a"), "{first}");
    assert_eq!(in_use(&plans), fs::read(&good).unwrap());
    let pointer = Store::new(&plans).pointer().unwrap().unwrap();
    assert_eq!((pointer.slot, pointer.trial), (Slot::A, Trial::New));
    let again = Answer::of(flash(&server, &fulcrumd, &good).args(["--to", &to])).expect(0);
    assert!(again.contains("already"), "{again}");

    let other = plan(folder.path(), "orin-nx-16", 1);
    let refused = Answer::of(flash(&server, &fulcrumd, &other).args(["--to", &to])).expect(1);
    assert!(
        refused.contains("orin-nx-16") && refused.contains("orin-agx"),
        "{refused}"
    );
    assert_eq!(in_use(&plans), fs::read(&good).unwrap());
}

#[test]
fn a_host_that_is_away_and_one_without_fulcrumd_are_told_apart() {
    let folder = TemporaryFolder::new();
    let mut server = SshServer::start();
    let good = plan(folder.path(), "orin-agx", 1);
    let to = format!("ssh:{}", SshServer::HOST);
    let missing = Answer::of(flash(&server, "/no/fulcrumd", &good).args(["--to", &to]));
    assert_eq!(missing.code, Some(2), "{}", missing.text());
    assert!(
        missing.stderr.contains("/no/fulcrumd"),
        "{}",
        missing.text()
    );
    server.stop();
    let away = Answer::of(flash(&server, "fulcrumd", &good).args(["--to", &to]));
    assert_eq!(away.code, Some(2), "{}", away.text());
    assert!(
        away.stderr.contains("Connection refused"),
        "{}",
        away.text()
    );
}

#[test]
fn a_plan_that_is_cut_off_on_the_way_changes_nothing() {
    let folder = TemporaryFolder::new();
    let root = agx_orin(folder.path());
    let plans = folder.path().join("plans");
    let old = fs::read(plan(folder.path(), "orin-agx", 1)).unwrap();
    let new = fs::read(plan(folder.path(), "orin-agx", 2)).unwrap();
    let accept = |bytes: &[u8]| {
        let mut child = fulcrumd()
            .arg("accept")
            .arg("--plan-dir")
            .arg(&plans)
            .arg("--sysfs-root")
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A device that refuses early closes its end.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        Answer::from(child.wait_with_output().unwrap())
    };
    let answer = accept(&old).expect(0);
    assert_eq!(answer, "fulcrum-accept 1 switched a\n");
    for length in [0, 3, 24, new.len() / 2, new.len() - 1] {
        let answer = accept(&new[..length]).expect(1);
        assert!(answer.starts_with("fulcrum-accept 1 refused "), "{answer}");
        assert_eq!(in_use(&plans), old, "{length} bytes");
    }
    let too_long = vec![0x46; 2 * wire::LEN_MAX];
    assert_eq!(accept(&too_long).code, Some(1));
    assert_eq!(accept(&new).expect(0), "fulcrum-accept 1 switched b\n");
    assert_eq!(in_use(&plans), new);
}

#[test]
fn a_fleet_is_flashed_in_parallel_with_a_table_of_outcomes() {
    let folder = TemporaryFolder::new();
    let server = SshServer::start();
    let fulcrumd = device(folder.path(), &agx_orin(folder.path()));
    let good = plan(folder.path(), "orin-agx", 1);
    let inventory = folder.path().join("hosts.toml");
    let host = |name: &str, to: &str, board: &str| {
        format!("[[host]]\nname = \"{name}\"\nto = \"{to}\"\nboard = \"{board}\"\n")
    };
    let device_folder = |name: &str| folder.path().join(name).display().to_string();
    let through_ssh = |name: &str| format!("ssh:{}:{}", SshServer::HOST, device_folder(name));
    let mut hosts: String = (1..=6)
        .map(|n| {
            host(
                &format!("robot-{n}"),
                &through_ssh(&format!("r{n}")),
                "orin-agx",
            )
        })
        .collect();
    hosts += &host("bench", &device_folder("bench"), "orin-agx");
    let fleet = |hosts: &str| {
        fs::write(&inventory, hosts).unwrap();
        Answer::of(
            flash(&server, &fulcrumd, &good)
                .arg("--inventory")
                .arg(&inventory),
        )
    };
    let lines = |table: &str, word: &str| {
        let outcome = format!("  {word}  ");
        table.lines().filter(|line| line.contains(&outcome)).count()
    };

    let table = fleet(&hosts).expect(0);
    assert_eq!(lines(&table, "flashed"), 7, "{table}");
    let table = fleet(&hosts).expect(0);
    assert_eq!(lines(&table, "unchanged"), 7, "safe to repeat: {table}");
    for name in ["r1", "r6", "bench"] {
        assert_eq!(in_use(&folder.path().join(name)), fs::read(&good).unwrap());
    }

    hosts += &host("nano", &through_ssh("nano"), "orin-nano-8");
    let table = fleet(&hosts).expect(1);
    assert_eq!(
        (lines(&table, "unchanged"), lines(&table, "refused")),
        (7, 1),
        "{table}"
    );
    assert!(
        !folder.path().join("nano").exists(),
        "it was not connected to"
    );

    // The server listens on one address of the loopback network only.
    hosts += &host("lost", "ssh:127.0.0.99", "orin-agx");
    let table = fleet(&hosts).expect(2);
    assert_eq!(
        (lines(&table, "refused"), lines(&table, "unreachable")),
        (1, 1),
        "{table}"
    );
}

/// How many flashes of each kind are killed; `FULCRUM_KILLS` says otherwise.
const KILLS: usize = 100;

/// Two plans, and the device's folder that gets the one that it does not have, over and over.
struct Bench {
    folder: PathBuf,
    plans: [PathBuf; 2],
    bytes: [Vec<u8>; 2],
    kills: usize,
}

impl Bench {
    /// On a disk, where a sync takes its time, and not in memory.
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let plans = [1, 2].map(|seed| plan(&folder, "orin-agx", seed));
        let bytes = plans.each_ref().map(|plan| fs::read(plan).unwrap());
        let kills = std::env::var("FULCRUM_KILLS");
        Self {
            folder,
            plans,
            bytes,
            kills: kills.map_or(KILLS, |kills| kills.parse().unwrap()),
        }
    }

    fn device(&self) -> PathBuf {
        self.folder.join("device")
    }

    /// The plan in use, which is a good one and one of the two; and which the other is.
    fn look(&self, place: &str) -> (usize, usize) {
        let found = in_use(&self.device());
        wire::decode(&found, boards::all()).unwrap_or_else(|error| panic!("{place}: {error}"));
        let peeked = Store::new(&self.device()).peek(boards::all());
        peeked.unwrap_or_else(|error| panic!("{place}: {error}"));
        let which = self.bytes.iter().position(|bytes| *bytes == found);
        let which = which.unwrap_or_else(|| panic!("{place}: neither plan"));
        (which, 1 - which)
    }

    /// The next flash goes through and clears away what the kills left behind.
    fn end(&self, mut flash: Command) {
        let (_, other) = self.look("at the end");
        assert!(flash.arg(&self.plans[other]).status().unwrap().success());
        assert_eq!(self.look("after it").0, other);
        let names: BTreeSet<_> = fs::read_dir(self.device())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected = ["a.plan", "b.plan", "current"].map(str::to_owned);
        assert_eq!(names, BTreeSet::from(expected));
    }
}

#[test]
fn kills_at_random_instants_of_a_flash_never_tear_a_plan() {
    let bench = Bench::new("flash_kills");
    let flash = || {
        let mut command = fulcrum();
        command.arg("flash").arg("--to").arg(bench.device());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let begun = Instant::now();
    for plan in &bench.plans {
        assert!(flash().arg(plan).status().unwrap().success());
    }
    // What a flash takes, followed as the machine gets slower and faster: most are to be killed late.
    let mut duration = begun.elapsed() / 2;

    let seed = 7u64;
    let mut random = Random::new(seed, &[b"kills"]);
    let (mut rounds, mut killed, mut switched) = (0, 0, 0);
    while killed < bench.kills {
        let place = format!("seed {seed}, round {rounds}");
        assert!(
            rounds < 10 * bench.kills,
            "{place}: {killed} flashes were killed under way"
        );
        let (before, which) = bench.look(&place);
        let mut child = flash().arg(&bench.plans[which]).spawn().unwrap();
        sleep(duration.mul_f64(0.3 + 0.7 * random.uniform()));
        let was_under_way = child.try_wait().unwrap().is_none();
        let _ = child.kill();
        child.wait().unwrap();
        duration = duration.mul_f64(if was_under_way { 1.05 } else { 0.85 });
        killed += usize::from(was_under_way);
        switched += usize::from(bench.look(&place).0 != before);
        rounds += 1;
    }
    println!("{killed} of {rounds} flashes were killed under way; {switched} switched the plan");
    assert!(switched > 0, "none got through");
    bench.end(flash());
}

/// Either end may die: the workstation's program, or the device's once it has begun.
#[test]
fn kills_at_both_ends_of_a_flash_through_ssh_never_tear_a_plan() {
    let bench = Bench::new("flash_kills_through_ssh");
    let server = SshServer::start();
    let program = device(&bench.folder, &agx_orin(&bench.folder));
    // The device says which of its processes it is.
    let note = bench.folder.join("device.pid");
    let noted = bench.folder.join("noted");
    let text = format!(
        "#!/bin/sh\necho $$ >{}\nexec {program} \"$@\"\n",
        note.display()
    );
    fs::write(&noted, text).unwrap();
    fs::set_permissions(&noted, fs::Permissions::from_mode(0o755)).unwrap();
    let flash = || {
        let mut command = fulcrum();
        let to = format!("ssh:{}:{}", SshServer::HOST, bench.device().display());
        command.args(["flash", "--to", &to, "--ssh", &server.ssh()]);
        command.arg("--fulcrumd").arg(&noted);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    for plan in &bench.plans {
        assert!(flash().arg(plan).status().unwrap().success());
    }

    let seed = 13u64;
    let mut random = Random::new(seed, &[b"kills"]);
    // From the device's first word to its last.
    let mut duration = Duration::from_millis(20);
    let (mut rounds, mut killed, mut at_the_device, mut switched) = (0, 0, 0, 0);
    while killed < bench.kills {
        let place = format!("seed {seed}, round {rounds}");
        assert!(rounds < 10 * bench.kills, "{place}: {killed} were killed");
        let (before, which) = bench.look(&place);
        let _ = fs::remove_file(&note);
        let mut child = flash().arg(&bench.plans[which]).spawn().unwrap();
        let process = pid_in(&note);
        sleep(duration.mul_f64(random.uniform()));
        let was_under_way = is_running(&process);
        let kills_the_device = random.uniform() < 0.75;
        if kills_the_device {
            kill(&process);
        } else {
            let _ = child.kill();
        }
        let success = child.wait().unwrap().success();
        // A device that lost its workstation may go on to the end.
        let patience = Instant::now();
        while is_running(&process) {
            assert!(patience.elapsed() < Duration::from_secs(30), "{place}");
            sleep(Duration::from_millis(1));
        }
        duration = duration.mul_f64(if was_under_way { 1.05 } else { 0.85 });
        let (found, _) = bench.look(&place);
        assert!(!success || found == which, "{place}: not what was said");
        killed += usize::from(was_under_way);
        at_the_device += usize::from(was_under_way && kills_the_device);
        switched += usize::from(found != before);
        rounds += 1;
    }
    println!(
        "{killed} of {rounds} flashes were killed under way, {at_the_device} of them at the device; \
         {switched} switched the plan"
    );
    assert!(switched > 0, "none got through");
    bench.end(flash());
}

/// The number that a process wrote down when it began.
fn pid_in(note: &Path) -> String {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(note).unwrap_or_default();
        if let Some(process) = text.strip_suffix('\n') {
            return process.to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no connection");
        sleep(Duration::from_millis(1));
    }
}

fn is_running(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // `PID (NAME) STATE …`; a zombie has ended.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn kill(process: &str) {
    let mut command = Command::new("kill");
    let _ = command.args(["-9", process]).stderr(Stdio::null()).status();
}

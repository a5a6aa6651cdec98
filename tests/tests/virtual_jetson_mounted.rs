//! Board control on a mounted virtual Jetson: the real path from file descriptor to kernel.
//!
//! Needs `/dev/fuse` and the right to mount: `cargo test -p fulcrum-tests --features fuse`.

use fulcrum_plan::PowerMode;
use fulcrum_plan::units::MilliWatt;
use fulcrum_planner::random::Random;
use fulcrum_runtime::board::thermal::MilliCelsius;
use fulcrum_runtime::board::watch::REAPPLY_MAX;
use fulcrum_runtime::board::{ApplyError, Jetson, Options};
use fulcrum_runtime::capture::capture;
use fulcrum_runtime::doctor::{Report, Verdict};
use fulcrum_tests::device::Device;
use fulcrum_tests::programs::{Answer, fulcrumd};
use fulcrum_tests::running::{PATIENCE, Running};
use fulcrum_tests::tree::TemporaryFolder;
use fulcrum_tests::virtual_jetson::fuse::{Call, Hang};
use fulcrum_tests::virtual_jetson::kernel::Fault;
use fulcrum_tests::virtual_jetson::sensors::SensorFault;
use fulcrum_tests::virtual_jetson::{Spec, VirtualJetson, fuse, specs};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A mounted board, and where.
struct Board {
    jetson: VirtualJetson,
    mount: TemporaryFolder,
    state: TemporaryFolder,
    session: Option<fuser::BackgroundSession>,
    hang: Arc<Hang>,
}

impl Board {
    fn start(spec: &Spec) -> Self {
        let jetson = VirtualJetson::start(spec);
        let mount = TemporaryFolder::new();
        let hang = Arc::<Hang>::default();
        let session = fuse::mount_with(jetson.shared(), mount.path(), Arc::clone(&hang))
            .expect("this test mounts a file system: it needs /dev/fuse and root");
        Self {
            jetson,
            mount,
            state: TemporaryFolder::new(),
            session: Some(session),
            hang,
        }
    }

    fn named(name: &str) -> Self {
        let spec = specs().into_iter().find(|spec| spec.name == name);
        Self::start(&spec.unwrap())
    }

    fn discover(&self) -> Jetson {
        let options = Options {
            state_folder: Some(self.state.path().to_owned()),
            ..Options::default()
        };
        Jetson::discover_with(self.mount.path(), options, |sysfs| sysfs).unwrap()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

fn modes(board: &Jetson) -> [PowerMode; 2] {
    let topology = board.topology();
    let low = PowerMode {
        cores: 2,
        cpu_khz: topology.cpu_khz[2],
        gpu_khz: topology.gpu_khz[1],
        emc_khz: topology.emc_khz[0],
    };
    let high = PowerMode {
        cores: topology.core_count(),
        cpu_khz: *topology.cpu_khz.last().unwrap(),
        gpu_khz: *topology.gpu_khz.last().unwrap(),
        emc_khz: *topology.emc_khz.last().unwrap(),
    };
    [low, high]
}

#[test]
fn modes_are_applied_and_undone_through_the_file_system() {
    for spec in specs() {
        let mounted = Board::start(&spec);
        let stock = mounted.jetson.kernel().state();
        let mut board = mounted.discover();
        let [low, high] = modes(&board);
        for mode in [low, high, low] {
            let effective = board
                .apply(&mode)
                .unwrap_or_else(|e| panic!("{}: {e}", spec.name));
            assert!(effective.is_exact(), "{effective:?}");
            assert!(!board.verify(&mode).unwrap().any());
        }
        // Clusters died and were born again under open descriptors.
        assert_ne!(mounted.jetson.kernel().state(), stock);
        board.restore().unwrap();
        assert_eq!(mounted.jetson.kernel().state(), stock, "{}", spec.name);
    }
}

#[test]
fn i6_a_failing_write_of_the_kernel_is_rolled_back() {
    let mounted = Board::start(&specs()[1]);
    let mut board = mounted.discover();
    let [low, high] = modes(&board);
    board.apply(&low).unwrap();
    let before = mounted.jetson.kernel().state();
    for k in 1.. {
        mounted.jetson.kernel().fail(Fault::Write(k), libc_eio());
        let outcome = board.apply(&high);
        if mounted.jetson.kernel().heal() {
            outcome.unwrap();
            break;
        }
        assert!(
            matches!(outcome, Err(ApplyError::Failed { rollback: None, .. })),
            "{k}"
        );
        assert_eq!(mounted.jetson.kernel().state(), before, "write {k}");
    }
}

fn libc_eio() -> i32 {
    5
}

#[test]
fn sensors_follow_the_clocks_and_gated_zones_are_absent() {
    for spec in specs() {
        let mounted = Board::start(&spec);
        let mut board = mounted.discover();
        let [low, high] = modes(&board);
        board.apply(&low).unwrap();
        let low_mw = board.power().unwrap();
        board.apply(&high).unwrap();
        assert!(board.power().unwrap() > low_mw, "{}", spec.name);
        assert!(
            board
                .rails()
                .sample()
                .rails
                .iter()
                .all(|rail| rail.is_some())
        );
        assert!(board.power() > Some(MilliWatt(0)));
        assert!(board.temperature_max() > Some(MilliCelsius(0)));
        let gated = board.zones().names().position(|name| name == "cv0-thermal");
        assert_eq!(gated.and_then(|index| board.zones().read(index)), None);
        let before = board.over_current_events().unwrap();
        mounted.jetson.kernel().over_current(3);
        mounted.jetson.kernel().advance_us(2_000_000);
        assert_eq!(board.over_current_events(), Some(before + 3));
    }
}

#[test]
fn doctor_and_capture_read_a_kernel_with_unreadable_files() {
    for spec in specs() {
        let mounted = Board::start(&spec);
        let state = mounted.jetson.kernel().state();
        let report = Report::examine(mounted.mount.path(), Options::default());
        assert_eq!(report.verdict(), Verdict::Good, "{report}");
        let to = TemporaryFolder::new();
        let captured = capture(mounted.mount.path(), to.path()).unwrap();
        assert!(captured.files > 80);
        let gated_reads = spec.gated_zone != "EAGAIN" || spec.board == "agx-xavier";
        assert_eq!(
            captured.unreadable.is_empty(),
            gated_reads,
            "{:?}",
            captured.unreadable
        );
        assert_eq!(
            Report::examine(to.path(), Options::default()).board,
            report.board
        );
        assert_eq!(mounted.jetson.kernel().state(), state);
    }
}

#[test]
fn a_power_sensor_that_vanishes_does_not_answer_or_repeats_itself_is_absent() {
    let mounted = Board::named("orin-nx-16-jp6");
    let board = mounted.discover();
    assert!(board.power() > Some(MilliWatt(0)));
    for fault in [SensorFault::Vanished, SensorFault::Again] {
        mounted.jetson.kernel().set_sensor_fault(Some(fault));
        assert_eq!(board.power(), None, "{fault:?}");
        mounted.jetson.kernel().set_sensor_fault(None);
        assert!(board.power() > Some(MilliWatt(0)), "after {fault:?}");
    }

    // As a profile samples: a live sensor is never absent, one that hangs is after some seconds.
    let sampled = |patience: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if board.power().is_none() {
                return None;
            }
            sleep(Duration::from_millis(50));
        }
        board.power()
    };
    assert!(sampled(Duration::from_secs(6)).is_some());
    assert!(!board.rails().is_stale());
    let stale = Some(SensorFault::Stale);
    mounted.jetson.kernel().set_sensor_fault(stale);
    assert_eq!(sampled(Duration::from_secs(60)), None);
    assert!(board.rails().is_stale());
    assert!(board.rails().sample().rails.iter().all(Option::is_none));
    mounted.jetson.kernel().set_sensor_fault(None);
    // The next value of the chip.
    sleep(Duration::from_millis(20));
    assert!(board.power().is_some());
    assert!(!board.rails().is_stale());
}

#[test]
fn i7_the_clock_that_runs_is_told_from_the_one_that_was_asked_for() {
    let mounted = Board::named("orin-agx-jp6");
    let mut board = mounted.discover();
    let [low, high] = modes(&board);
    for mode in [high, low, high] {
        board.apply(&mode).unwrap();
        sleep(Duration::from_millis(20));
        let running = board.running().measure();
        assert_eq!(running.cpu_khz, Some(mode.cpu_khz));
        assert_eq!(running.gpu_khz, None, "it is not powered");
        assert_eq!(running.judge(&mode), mode);
    }
    mounted.jetson.kernel().set_throttle_khz(Some(1_100_800));
    assert!(!board.verify(&high).unwrap().any(), "no bound shows it");
    let ran = board.running().measure().judge(&high);
    assert_eq!(ran.cpu_khz.0, 1_100_800);
    assert_eq!(ran.gpu_khz, high.gpu_khz);
}

#[test]
fn a_user_who_is_not_root_is_told_what_is_closed() {
    let mounted = Board::named("orin-nano-8-super-jp6");
    // A copy where that user may read it.
    let program = mounted.state.path().join("fulcrumd");
    fs::copy(fulcrumd().get_program(), &program).unwrap();
    for path in [mounted.state.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut doctor = Command::new(program);
    doctor
        .arg("doctor")
        .arg("--sysfs-root")
        .arg(mounted.mount.path());
    let answer = Answer::of(doctor.uid(65_534).gid(65_534));
    assert_eq!(answer.code, Some(1), "{}", answer.text());
    for part in [
        "cannot be read and written by this user",
        "cannot be locked",
        "cpuinfo_cur_freq is root's",
    ] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.text());
    }
    let power = answer.stdout.lines().find(|line| line.contains("VDD_IN"));
    assert!(
        power.unwrap().starts_with("good"),
        "sensors are open: {}",
        answer.text()
    );
}

/// Starts a process that changes clocks, and waits until it does.
fn changing_clocks(mounted: &Board) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_change_clocks"))
        .arg(mounted.mount.path())
        .arg(mounted.state.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Nothing ends a process inside of a call that hangs; a watchdog's SIGKILL counts from when it returns.
#[test]
fn i6_after_a_hang_at_a_call_and_a_kill_the_next_start_puts_the_clocks_back() {
    let mounted = Board::named("orin-nano-8-super-jp6");
    let stock = mounted.jetson.kernel().state();
    let mut left_changed = 0;
    // More calls than one round of the process makes: every write, and reads all over it.
    let writes = (1..=70).map(|k| (Call::Write, k));
    let reads = (1..=240).step_by(7).map(|k| (Call::Read, k));
    let rounds: Vec<_> = writes.chain(reads).collect();
    for &(call, k) in &rounds {
        let mut child = changing_clocks(&mounted);
        mounted.hang.arm(call, k);
        assert!(mounted.hang.wait(Duration::from_secs(30)), "{call:?} {k}");
        child.kill().unwrap();
        mounted.hang.release();
        child.wait().unwrap();
        left_changed += u32::from(mounted.jetson.kernel().state() != stock);
        let _ = mounted.discover().recover().unwrap();
        assert_eq!(mounted.jetson.kernel().state(), stock, "{call:?} {k}");
    }
    println!("{} hangs, {left_changed} left changed clocks", rounds.len());
    assert!(left_changed > 50);
}

/// How many restores are killed; `FULCRUM_KILLS` says otherwise.
const KILLS: u64 = 60;

/// The program itself, killed while one of its writes or reads is under way, any of them.
#[test]
fn i6_a_restore_killed_at_any_of_its_writes_is_ended_by_the_next_start() {
    let kills = std::env::var("FULCRUM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mounted = Board::named("orin-agx-jp6");
    let stock = mounted.jetson.kernel().state();
    let mut board = mounted.discover();
    let [low, _] = modes(&board);
    board.apply(&low).unwrap();
    let changed = mounted.jetson.kernel().state();
    let record = mounted.state.path().join("original-clocks");
    let recorded = fs::read(&record).unwrap();
    let before = mounted.jetson.kernel().writes();
    board.restore().unwrap();
    let writes = mounted.jetson.kernel().writes() - before;
    drop(board);

    let seed = 17u64;
    let mut random = Random::new(seed, &[b"kills"]);
    let mut at_every = vec![0u32; usize::try_from(writes).unwrap()];
    let mut in_between = 0;
    for round in 0..kills {
        mounted.jetson.kernel().set_state(&changed);
        fs::write(&record, &recorded).unwrap();
        let k = (random.uniform() * writes as f64) as usize;
        mounted.hang.arm(Call::Write, k as u64 + 1);
        let mut restore = fulcrumd();
        restore.arg("restore");
        restore.arg("--sysfs-root").arg(mounted.mount.path());
        restore.arg("--state-dir").arg(mounted.state.path());
        let mut child = restore.stderr(Stdio::null()).spawn().unwrap();
        let place = format!("seed {seed}, round {round}, write {}", k + 1);
        assert!(mounted.hang.wait(PATIENCE), "{place}");
        child.kill().unwrap();
        mounted.hang.release();
        assert_eq!(child.wait().unwrap().code(), None, "{place}: killed");
        at_every[k] += 1;
        let left = mounted.jetson.kernel().state();
        in_between += u64::from(left != changed && left != stock);
        assert!(mounted.discover().recover().unwrap(), "{place}");
        assert_eq!(mounted.jetson.kernel().state(), stock, "{place}");
        assert!(!record.exists(), "{place}");
    }
    println!(
        "{kills} restores killed at one of {writes} writes each (kills at each: {at_every:?}); \
         {in_between} left neither the clocks of before nor those of after"
    );
    assert!(in_between > kills / 2);
}

/// Everything of a device around it: the loop serves and trains, the watcher and the guard stand beside it.
#[test]
fn a_second_actor_beside_a_working_loop_is_answered_a_few_times_and_reported_once() {
    let device = Device::new();
    let mounted = Board::named("orin-agx-jp5");
    let stock = mounted.jetson.kernel().state();
    let run = Running::start(device.run(&[
        ("--sysfs-root", mounted.mount.path()),
        ("--duration-s", "600".as_ref()),
        ("--power", "40".as_ref()),
        ("--rate", "60".as_ref()),
        // The guard changes the mode where requests are late, and nothing here is about that: a busy machine may stand
        // still for seconds.
        ("--latency-ms", "10000".as_ref()),
    ]));
    let ours = mounted.jetson.kernel().state();
    assert_ne!(ours, stock);
    let floor = "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq";
    assert!(ours.cpu_khz[&0].0 > 115_200);
    let actors: [(&str, &dyn Fn()); REAPPLY_MAX as usize] = [
        ("nvpmodel", &|| mounted.jetson.kernel().run_nvpmodel()),
        ("jetson_clocks", &|| {
            mounted.jetson.kernel().run_jetson_clocks()
        }),
        ("a udev rule", &|| {
            fs::write(mounted.mount.path().join(floor), "115200\n").unwrap()
        }),
    ];
    for (name, act) in actors {
        act();
        let begun = Instant::now();
        while mounted.jetson.kernel().state() != ours {
            assert!(begun.elapsed() < PATIENCE, "{name} is not answered");
            sleep(Duration::from_millis(2));
        }
        println!("{name}: the clocks are back after {:?}", begun.elapsed());
        run.says("something else changed the clocks; they were set again");
    }
    mounted.jetson.kernel().run_nvpmodel();
    let begun = Instant::now();
    run.says("another program keeps changing");
    println!("nvpmodel once more: reported after {:?}", begun.elapsed());
    let left_alone = mounted.jetson.kernel().state();
    assert_ne!(left_alone, ours);
    let more = run.said_within(Duration::from_secs(3));
    assert!(!more.concat().contains("clocks"), "reported once: {more:?}");
    assert_eq!(mounted.jetson.kernel().state(), left_alone);

    mounted.jetson.kernel().over_current(5);
    run.says("over-current events: now ");
    let answered = mounted.jetson.kernel().state();
    assert!(answered != left_alone && answered != ours, "{answered:?}");
    let summary = run.end();
    println!("{summary}");
    assert!(summary["drifts"].as_u64() >= Some(4), "{summary}");
    assert_eq!(summary["over_current_events"], 5, "{summary}");
    assert!(summary["served"].as_u64() > Some(0), "{summary}");
    assert!(summary["steps"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["allocations_in_loop"], 0, "{summary}");
    assert_eq!(summary["restored"], true, "{summary}");
    assert_eq!(mounted.jetson.kernel().state(), stock);
}

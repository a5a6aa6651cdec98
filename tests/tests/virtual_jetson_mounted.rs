//! Board control on a mounted virtual Jetson: the real path from file descriptor to kernel.
//!
//! Needs `/dev/fuse` and the right to mount: `cargo test -p fulcrum-tests --features fuse`.

use fulcrum_plan::PowerMode;
use fulcrum_plan::units::MilliWatt;
use fulcrum_runtime::board::thermal::MilliCelsius;
use fulcrum_runtime::board::{ApplyError, Jetson, Options};
use fulcrum_runtime::capture::capture;
use fulcrum_runtime::doctor::{Report, Verdict};
use fulcrum_tests::tree::TemporaryFolder;
use fulcrum_tests::virtual_jetson::kernel::Fault;
use fulcrum_tests::virtual_jetson::{Spec, VirtualJetson, fuse, specs};

/// A mounted board, and where.
struct Board {
    jetson: VirtualJetson,
    mount: TemporaryFolder,
    state: TemporaryFolder,
    session: Option<fuser::BackgroundSession>,
}

impl Board {
    fn start(spec: &Spec) -> Self {
        let jetson = VirtualJetson::start(spec);
        let mount = TemporaryFolder::new();
        let session = fuse::mount(jetson.shared(), mount.path())
            .expect("this test mounts a file system: it needs /dev/fuse and root");
        Self {
            jetson,
            mount,
            state: TemporaryFolder::new(),
            session: Some(session),
        }
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
        assert_eq!(board.over_current_events(), Some(before + 3));
    }
}

#[test]
fn doctor_and_capture_read_a_kernel_with_unreadable_files() {
    for spec in specs() {
        let mounted = Board::start(&spec);
        let state = mounted.jetson.kernel().state();
        let report = Report::examine(mounted.mount.path(), None);
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
        assert_eq!(Report::examine(to.path(), None).board, report.board);
        assert_eq!(mounted.jetson.kernel().state(), state);
    }
}

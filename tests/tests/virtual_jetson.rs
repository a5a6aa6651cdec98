//! Board control on a virtual Jetson, which refuses, rounds, delays and forgets like the kernel.

use fulcrum_plan::PowerMode;
use fulcrum_plan::link::{Measured, Order, Reason, Role, Stage};
use fulcrum_plan::units::Khz;
use fulcrum_planner::boards;
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::profile::{Run, Truth};
use fulcrum_runtime::board::node::Cause;
use fulcrum_runtime::board::watch::{REAPPLY_MAX, Reaction, Watch};
use fulcrum_runtime::board::{ApplyError, Jetson, Node, Options};
use fulcrum_runtime::profile::course::Limits;
use fulcrum_runtime::profile::measure::measure;
use fulcrum_runtime::profile::rig::JetsonRig;
use fulcrum_runtime::profile::serve::Trouble;
use fulcrum_tests::golden::assert_golden;
use fulcrum_tests::virtual_jetson::bench::VirtualWork;
use fulcrum_tests::virtual_jetson::kernel::Fault;
use fulcrum_tests::virtual_jetson::sensors::{SensorFault, load};
use fulcrum_tests::virtual_jetson::{Spec, VirtualControls, VirtualJetson, specs};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

const EIO: i32 = 5;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;

fn spec(name: &str) -> Spec {
    specs().into_iter().find(|spec| spec.name == name).unwrap()
}

/// Low clocks on half the cores; high clocks on all of them; something between.
fn modes(board: &Jetson<VirtualControls>) -> [PowerMode; 3] {
    let topology = board.topology();
    let mode = |cores, share: usize| {
        let pick = |table: &fulcrum_plan::board::Clocks| table[(table.len() - 1) * share / 10];
        PowerMode {
            cores,
            cpu_khz: pick(&topology.cpu_khz),
            gpu_khz: pick(&topology.gpu_khz),
            emc_khz: pick(&topology.emc_khz),
        }
    };
    let cores = topology.core_count();
    [mode(cores / 3, 2), mode(cores, 10), mode(cores - 1, 5)]
}

#[test]
fn writes_to_the_kernel_read_like_a_logbook() {
    let specs = specs();
    assert!(specs.len() >= 5);
    for spec in specs {
        let jetson = VirtualJetson::start(&spec);
        let stock = jetson.kernel().state();
        let mut board = jetson.discover(Options::default());
        for mode in modes(&board) {
            jetson.kernel().headline(&format!("apply {mode}"));
            let effective = board.apply(&mode).unwrap();
            assert!(effective.is_exact(), "{}: {effective:?}", spec.name);
            assert!(!board.verify(&mode).unwrap().any());
        }
        jetson.kernel().headline("restore");
        board.restore().unwrap();
        assert_eq!(jetson.kernel().state(), stock, "{}", spec.name);
        let name = format!("virtual-{}.writes", spec.name);
        assert_golden(&name, jetson.kernel().log());
    }
}

#[test]
fn i6_a_failure_at_any_access_ends_in_the_clocks_of_before() {
    let mut failures = 0;
    for spec in specs() {
        let jetson = VirtualJetson::start(&spec);
        let stock = jetson.kernel().state();
        let mut board = jetson.discover(Options::default());
        let [low, high, middle] = modes(&board);
        for (from, to) in [(low, high), (high, low), (low, middle), (middle, low)] {
            for (fault, errno) in [
                (Fault::Write as fn(u64) -> Fault, EIO),
                (Fault::Read, EIO),
                (Fault::Write, EINVAL),
            ] {
                board.apply(&from).unwrap();
                let before = jetson.kernel().state();
                for k in 1.. {
                    jetson.kernel().fail(fault(k), errno);
                    let outcome = board.apply(&to);
                    if jetson.kernel().heal() {
                        // There was no k-th access any more.
                        outcome.unwrap();
                        break;
                    }
                    let name = &spec.name;
                    match outcome {
                        Err(ApplyError::Failed { rollback, .. }) => {
                            assert_eq!(rollback, None, "{name}: {:?}", fault(k));
                        }
                        other => panic!("{name}: {:?}: {other:?}", fault(k)),
                    }
                    assert_eq!(jetson.kernel().state(), before, "{name}: {:?}", fault(k));
                    failures += 1;
                }
            }
        }
        board.restore().unwrap();
        assert_eq!(jetson.kernel().state(), stock);
    }
    println!("{failures} failures injected");
    assert!(failures > 1000);
}

#[test]
fn a_busy_kernel_is_tried_again() {
    let jetson = VirtualJetson::start(&spec("orin-agx-jp6"));
    let mut board = jetson.discover(Options::default());
    let [low, high, _] = modes(&board);
    board.apply(&low).unwrap();
    for k in 1..=20 {
        jetson.kernel().fail(Fault::Write(k), EBUSY);
        board.apply(&high).unwrap();
        board.apply(&low).unwrap();
        assert!(!jetson.kernel().heal());
    }
}

#[test]
fn any_mode_can_follow_any_other() {
    for (seed, spec) in (1u64..).zip(specs()) {
        println!("{}: seed {seed}", spec.name);
        let jetson = VirtualJetson::start(&spec);
        let stock = jetson.kernel().state();
        let mut board = jetson.discover(Options::default());
        let topology = board.topology().clone();
        let mut state = seed;
        let mut random = move |below: usize| {
            // Linear congruential generator (Knuth, MMIX); the upper bits are the good ones.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..300 {
            let mode = PowerMode {
                cores: 1 + random(topology.core_count().into()) as u8,
                cpu_khz: topology.cpu_khz[random(topology.cpu_khz.len())],
                gpu_khz: topology.gpu_khz[random(topology.gpu_khz.len())],
                emc_khz: topology.emc_khz[random(topology.emc_khz.len())],
            };
            let effective = board
                .apply(&mode)
                .unwrap_or_else(|error| panic!("{mode}: {error}"));
            assert!(effective.is_exact(), "{effective:?}");
            assert!(!jetson.kernel().state().gpu_on, "the GPU is left powered");
        }
        board.restore().unwrap();
        assert_eq!(jetson.kernel().state(), stock);
    }
}

#[test]
fn clusters_that_were_offline_at_the_start_are_offline_again_at_the_end() {
    let jetson = VirtualJetson::start(&spec("orin-agx-jp5"));
    // MODE_30W of NVIDIA: 8 of 12 cores.
    jetson.kernel().take_offline(0b1111_0000_0000);
    let before = jetson.kernel().state();
    assert_eq!(before.cpu_khz.len(), 2);
    let mut board = jetson.discover(Options::default());
    assert_eq!(board.topology().clusters.len(), 3);
    let [low, high, _] = modes(&board);
    for mode in [high, low, high] {
        assert!(board.apply(&mode).unwrap().is_exact());
    }
    board.restore().unwrap();
    assert_eq!(jetson.kernel().state(), before);
}

#[test]
fn a_rival_is_noticed_answered_and_at_last_reported() {
    let jetson = VirtualJetson::start(&spec("orin-agx-jp6"));
    let mut board = jetson.discover(Options::default());
    let [low, _, _] = modes(&board);
    board.apply(&low).unwrap();
    let ours = jetson.kernel().state();
    let mut watch = Watch::default();
    let mut reapplied = 0;
    for second in 0..10u64 {
        jetson.kernel().run_nvpmodel();
        let now_ns = second * 1_000_000_000;
        assert!(watch.is_due(now_ns));
        match watch.observe(now_ns, board.verify(&low).unwrap()) {
            Reaction::Reapply => {
                board.apply(&low).unwrap();
                assert_eq!(jetson.kernel().state(), ours);
                reapplied += 1;
            }
            Reaction::Contested => assert_eq!(reapplied, REAPPLY_MAX),
            Reaction::Steady => panic!("second {second}: nothing noticed"),
        }
    }
    assert_eq!(reapplied, REAPPLY_MAX);
}

#[test]
fn a_hot_board_is_told_from_one_that_has_the_clocks() {
    let jetson = VirtualJetson::start(&spec("orin-nx-16-jp6"));
    let stock = jetson.kernel().state();
    let mut board = jetson.discover(Options::default());
    let [low, high, _] = modes(&board);
    board.apply(&low).unwrap();
    let before = jetson.kernel().state();
    jetson.kernel().set_thermal_limit_khz(Some(1_190_400));
    let error = board.apply(&high).unwrap_err();
    let ApplyError::Failed { cause, rollback } = error else {
        panic!("{error}");
    };
    assert_eq!((cause.node, rollback), (Node::CpuMax(0), None));
    assert!(matches!(cause.cause, Cause::Differs { got: 1_190_400, .. }));
    assert_eq!(jetson.kernel().state(), before);

    // With the option the mode is taken as far as it goes, and what it became is told.
    drop(board);
    assert_eq!(jetson.kernel().state(), stock);
    jetson.kernel().set_thermal_limit_khz(None);
    let mut board = jetson.discover(Options {
        accept_other_clocks: true,
        ..Options::default()
    });
    board.apply(&low).unwrap();
    jetson.kernel().set_thermal_limit_khz(Some(1_190_400));
    let effective = board.apply(&high).unwrap();
    assert!(!effective.is_exact());
    assert_eq!(effective.effective.cpu_khz.0, 1_190_400);
    assert_eq!(effective.effective.gpu_khz, high.gpu_khz);
    jetson.kernel().set_thermal_limit_khz(None);
    assert!(!board.verify(&high).unwrap().any());
    board.restore().unwrap();
    assert_eq!(jetson.kernel().state(), stock);
}

#[test]
fn a_board_that_is_hot_at_the_end_gets_its_clocks_back_all_the_same() {
    let jetson = VirtualJetson::start(&spec("orin-agx-jp6"));
    let stock = jetson.kernel().state();
    let mut board = jetson.discover(Options::default());
    let [low, _, _] = modes(&board);
    board.apply(&low).unwrap();
    jetson.kernel().set_thermal_limit_khz(Some(1_190_400));
    board.restore().unwrap();
    jetson.kernel().set_thermal_limit_khz(None);
    assert_eq!(jetson.kernel().state(), stock);
}

/// What `fulcrumd profile` measures on a virtual AGX Orin; `during` is called at every report.
fn profile(jetson: &VirtualJetson, during: impl Fn(Stage)) -> Result<Measured, Trouble> {
    let options = Options {
        accept_other_clocks: true,
        ..Options::default()
    };
    let work = VirtualWork::new(jetson, "orin-agx", Duration::ZERO);
    let mut rig = JetsonRig::new(jetson.discover(options), work);
    let order = Order {
        number: 1,
        mode: MODE,
        role: Role::Train,
        workload: "lstm".try_into().unwrap(),
        batch: 16,
    };
    measure(&mut rig, &order, Limits::default(), &mut |progress| {
        during(progress.stage);
        ControlFlow::Continue(())
    })
}

const MODE: PowerMode = PowerMode {
    cores: 8,
    cpu_khz: Khz(1_344_000),
    gpu_khz: Khz(930_750),
    emc_khz: Khz(2_133_000),
};

#[test]
fn a_profile_on_a_virtual_board_measures_what_its_model_says_and_repeats() {
    let spec = spec("orin-agx-jp5");
    let jetson = VirtualJetson::start(&spec);
    let stock = jetson.kernel().state();
    let measured = profile(&jetson, |_| {}).unwrap();
    assert_eq!(jetson.kernel().state(), stock);
    assert_eq!((measured.mode_before, measured.mode_after), (MODE, MODE));
    assert_eq!(measured.over_current_events, Some(0));
    assert!(measured.settled && !measured.throttled && measured.minibatches >= 40);
    let model = Synthetic::new(boards::named("orin-agx").unwrap(), 0).without_noise();
    let truth = model
        .truth(&Run {
            mode: MODE,
            ..load(fulcrum_planner::workload::Role::Train, "lstm", 16)
        })
        .unwrap();
    let near = |found: u32, expected: u32| found.abs_diff(expected) < expected / 25;
    assert!(
        near(measured.time_us.0, truth.time_us.0),
        "{measured:?}, {truth:?}"
    );
    assert!(
        near(measured.power_mw.0, truth.power_mw.0),
        "{measured:?}, {truth:?}"
    );
    // On the same board again, and on another one.
    assert_eq!(profile(&jetson, |_| {}).unwrap(), measured);
    assert_eq!(
        profile(&VirtualJetson::start(&spec), |_| {}).unwrap(),
        measured
    );
}

#[test]
fn i7_what_goes_wrong_on_the_board_while_it_is_measured_is_told() {
    let jetson = VirtualJetson::start(&spec("orin-agx-jp5"));
    // No bound shows it, only the clock as it is measured.
    jetson.kernel().set_throttle_khz(Some(672_000));
    let slowed = profile(&jetson, |_| {}).unwrap();
    assert_eq!(
        (slowed.mode_before, slowed.mode_after.cpu_khz),
        (MODE, Khz(672_000))
    );
    jetson.kernel().set_throttle_khz(None);

    let once = Cell::new(true);
    let burst = |stage| {
        if stage == Stage::Measure && once.take() {
            jetson.kernel().over_current(4);
        }
    };
    assert_eq!(
        profile(&jetson, burst).unwrap().over_current_events,
        Some(4)
    );

    let hot = |stage| {
        let limit = (stage == Stage::Measure).then_some(1_190_400);
        jetson.kernel().set_thermal_limit_khz(limit);
    };
    let hot = profile(&jetson, hot).unwrap();
    assert!(hot.throttled, "{hot:?}");
    assert_ne!(hot.mode_after, MODE);
    // In the middle alone: neither what is read before nor what is read after shows it.
    let reports = Cell::new(0);
    let hot_for_a_second = |stage| {
        if stage == Stage::Measure {
            reports.set(reports.get() + 1);
            let limit = (reports.get() == 1).then_some(1_190_400);
            jetson.kernel().set_thermal_limit_khz(limit);
        }
    };
    jetson.kernel().set_thermal_limit_khz(None);
    let hot = profile(&jetson, hot_for_a_second).unwrap();
    assert!(reports.get() > 2 && hot.throttled, "{hot:?}");
    assert_eq!((hot.mode_before, hot.mode_after), (MODE, MODE));

    for fault in [SensorFault::Vanished, SensorFault::Again] {
        let vanish = |stage| {
            let fault = (stage == Stage::Settle).then_some(fault);
            jetson.kernel().set_sensor_fault(fault);
        };
        let outcome = profile(&jetson, vanish);
        assert!(outcome.is_ok(), "it came back: {outcome:?}");
        let gone = |stage| {
            if stage == Stage::Settle {
                jetson.kernel().set_sensor_fault(Some(fault));
            }
        };
        let outcome = profile(&jetson, gone);
        assert!(
            matches!(outcome, Err(Trouble::Failed(Reason::Power, _))),
            "{outcome:?}"
        );
        jetson.kernel().set_sensor_fault(None);
    }
}

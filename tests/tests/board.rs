//! Board control on folders of plain files: what is written in which order, and that every failure
//! ends in the clocks that were there before.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_plan::units::{Khz, MilliWatt};
use fulcrum_plan::{Board, PowerMode};
use fulcrum_runtime::board::thermal::MilliCelsius;
use fulcrum_runtime::board::{
    ApplyError, DiscoverError, EmcPolicy, Jetson, Node, Options, RestoreError, shipped,
};
use fulcrum_tests::golden::assert_golden;
use fulcrum_tests::recorder::{Journal, Recorder};
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::fs;
use std::path::Path;

fn board(name: &str) -> &'static Board {
    shipped().iter().find(|board| board.name == name).unwrap()
}

/// Every board and release that is imitated.
fn boards() -> Vec<(&'static Board, JetPack)> {
    let mut boards: Vec<_> = shipped()
        .iter()
        .map(|board| (board, JetPack::Five))
        .collect();
    let orins = shipped()
        .iter()
        .filter(|board| board.name.starts_with("orin"));
    boards.extend(orins.map(|board| (board, JetPack::Six)));
    boards
}

fn folder(board: &Board, jetpack: JetPack) -> TemporaryFolder {
    let folder = TemporaryFolder::new();
    board_folder::create(folder.path(), board, jetpack).unwrap();
    folder
}

fn recorded(root: &Path, options: Options) -> (Jetson<Recorder>, Journal) {
    let journal = Journal::default();
    let jetson = Jetson::discover_with(root, options, |sysfs| Recorder::new(sysfs, root, &journal));
    (jetson.unwrap(), journal)
}

/// A mode in the lower part of the live tables, with some cores off, and the fastest one.
fn modes<C: fulcrum_runtime::board::Controls>(jetson: &Jetson<C>) -> [PowerMode; 2] {
    let topology = jetson.topology();
    let low = PowerMode {
        cores: 4.min(topology.core_count() - 1),
        cpu_khz: topology.cpu_khz[3],
        gpu_khz: topology.gpu_khz[1],
        emc_khz: topology.emc_khz[1],
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
fn every_board_is_found_and_takes_its_modes() {
    for (board, jetpack) in boards() {
        let folder = folder(board, jetpack);
        let before = tree::board_files(folder.path());
        let mut jetson = Jetson::discover(folder.path()).unwrap();
        assert_eq!(jetson.identity().name(), board.name.as_str());
        assert_eq!(jetson.topology().core_count(), board.cores);
        for mode in modes(&jetson) {
            let effective = jetson.apply(&mode).unwrap();
            assert!(effective.is_exact(), "{effective:?}");
            assert!(!jetson.verify(&mode).unwrap().any());
        }
        assert_ne!(tree::board_files(folder.path()), before);
        jetson.restore().unwrap();
        tree::assert_same(
            &tree::board_files(folder.path()),
            &before,
            &format!("{}", board.name),
        );
        assert!(!folder.path().join("run/fulcrum/original-clocks").exists());
    }
}

#[test]
fn writes_read_like_a_logbook() {
    for (name, jetpack) in [
        ("orin-agx", JetPack::Five),
        ("orin-agx", JetPack::Six),
        ("orin-nx-16", JetPack::Six),
        ("orin-nano-8-super", JetPack::Six),
        ("agx-xavier", JetPack::Five),
    ] {
        let folder = folder(board(name), jetpack);
        let (mut jetson, journal) = recorded(folder.path(), Options::default());
        for mode in modes(&jetson) {
            journal.headline(&format!("apply {mode}"));
            jetson.apply(&mode).unwrap();
        }
        journal.headline("restore");
        jetson.restore().unwrap();
        let release = match jetpack {
            JetPack::Five => "jp5",
            JetPack::Six => "jp6",
        };
        assert_golden(&format!("{name}-{release}.writes"), &journal.log());
    }
}

#[test]
fn i6_a_failure_at_any_write_ends_in_the_clocks_of_before() {
    for (board, jetpack) in boards() {
        let folder = folder(board, jetpack);
        let stock = tree::board_files(folder.path());
        let (mut jetson, journal) = recorded(folder.path(), Options::default());
        let [low, high] = modes(&jetson);
        for (from, to) in [
            (None, low),
            (None, high),
            (Some(low), high),
            (Some(high), low),
        ] {
            jetson.restore().unwrap();
            if let Some(mode) = from {
                jetson.apply(&mode).unwrap();
            }
            let before = tree::board_files(folder.path());
            let mut k = 1;
            loop {
                journal.fail_at(k);
                match jetson.apply(&to) {
                    Err(ApplyError::Failed { rollback, .. }) => assert_eq!(rollback, None),
                    other => {
                        other.unwrap();
                        break;
                    }
                }
                let after = tree::board_files(folder.path());
                tree::assert_same(
                    &after,
                    &before,
                    &format!("{}: write {k} failed", board.name),
                );
                k += 1;
            }
            journal.heal();
            assert!(k > 8, "{}: only {k} writes", board.name);
        }
        jetson.restore().unwrap();
        tree::assert_same(&tree::board_files(folder.path()), &stock, "after");
    }
}

#[test]
fn i6_a_kill_before_any_write_leaves_what_the_next_start_puts_back() {
    for (board, jetpack) in [
        (board("orin-agx"), JetPack::Five),
        (board("orin-nano-8"), JetPack::Six),
    ] {
        let folder = folder(board, jetpack);
        let copies = TemporaryFolder::new();
        let stock = tree::board_files(folder.path());
        let (mut jetson, journal) = recorded(folder.path(), Options::default());
        journal.copy_before_every_write(copies.path());
        for mode in modes(&jetson) {
            jetson.apply(&mode).unwrap();
        }
        jetson.restore().unwrap();
        assert!(journal.writes() > 30);
        for k in 1..=journal.writes() {
            let root = copies.path().join(k.to_string());
            let mut next = Jetson::discover(&root).unwrap();
            assert!(next.recover().unwrap(), "kill before write {k}: no record");
            tree::assert_same(
                &tree::board_files(&root),
                &stock,
                &format!("kill before write {k}"),
            );
            assert!(!next.recover().unwrap());
        }
    }
}

#[test]
fn i6_the_next_mode_after_a_kill_still_knows_the_original_clocks() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    let killed = TemporaryFolder::new();
    let stock = tree::board_files(folder.path());
    let mut jetson = Jetson::discover(folder.path()).unwrap();
    let [low, high] = modes(&jetson);
    jetson.apply(&low).unwrap();
    let root = killed.path().join("root");
    tree::copy(folder.path(), &root);
    let mut next = Jetson::discover(&root).unwrap();
    next.apply(&high).unwrap();
    drop(next);
    tree::assert_same(&tree::board_files(&root), &stock, "after");
}

#[test]
fn a_record_of_an_earlier_boot_is_void() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    let mut jetson = Jetson::discover(folder.path()).unwrap();
    let [low, _] = modes(&jetson);
    jetson.apply(&low).unwrap();
    let rebooted = TemporaryFolder::new();
    let root = rebooted.path().join("root");
    tree::copy(folder.path(), &root);
    fs::write(root.join("proc/sys/kernel/random/boot_id"), "another\n").unwrap();
    let before = tree::board_files(&root);
    assert!(!Jetson::discover(&root).unwrap().recover().unwrap());
    tree::assert_same(&tree::board_files(&root), &before, "after");
}

#[test]
fn a_damaged_record_is_refused_and_nothing_is_changed() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    let before = tree::board_files(folder.path());
    let record = folder.path().join("run/fulcrum/original-clocks");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, b"not a record").unwrap();
    let mut jetson = Jetson::discover(folder.path()).unwrap();
    let [low, _] = modes(&jetson);
    assert!(matches!(jetson.apply(&low), Err(ApplyError::Record(_))));
    assert!(matches!(jetson.recover(), Err(RestoreError::Record(_))));
    tree::assert_same(&tree::board_files(folder.path()), &before, "after");
}

#[test]
fn two_processes_cannot_control_one_board() {
    let folder = folder(board("orin-agx"), JetPack::Five);
    let mut first = Jetson::discover(folder.path()).unwrap();
    let mut second = Jetson::discover(folder.path()).unwrap();
    let [low, high] = modes(&first);
    first.apply(&low).unwrap();
    let refused = second.apply(&high).unwrap_err().to_string();
    assert!(refused.contains("another fulcrumd"), "{refused}");
    assert!(second.recover().is_err());
    assert!(!first.verify(&low).unwrap().any());
    first.restore().unwrap();
    second.apply(&high).unwrap();
}

#[test]
fn i6_a_panic_puts_the_clocks_back() {
    let folder = folder(board("orin-agx"), JetPack::Five);
    let before = tree::board_files(folder.path());
    let root = folder.path().to_owned();
    let outcome = std::panic::catch_unwind(move || {
        let mut jetson = Jetson::discover(&root).unwrap();
        let [low, _] = modes(&jetson);
        jetson.apply(&low).unwrap();
        panic!("on purpose");
    });
    assert!(outcome.is_err());
    tree::assert_same(&tree::board_files(folder.path()), &before, "after");
}

#[test]
fn what_cannot_be_rolled_back_is_named_and_stays_on_record() {
    let folder = folder(board("orin-agx"), JetPack::Five);
    let before = tree::board_files(folder.path());
    let (mut jetson, journal) = recorded(folder.path(), Options::default());
    let [low, _] = modes(&jetson);
    journal.break_node(Node::GpuMax);
    let error = jetson.apply(&low).unwrap_err();
    let ApplyError::Failed { cause, rollback } = error else {
        panic!("{error}");
    };
    assert_eq!(cause.node, Node::GpuMax);
    assert_eq!(rollback.unwrap().node, Node::GpuMax);
    assert!(matches!(jetson.restore(), Err(RestoreError::Failed(_))));
    drop(jetson);
    // Everything that could be written is back; the rest is left to the next start.
    let mut next = Jetson::discover(folder.path()).unwrap();
    assert!(next.recover().unwrap());
    tree::assert_same(&tree::board_files(folder.path()), &before, "after");
}

#[test]
fn drift_is_told_by_part() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    let mut jetson = Jetson::discover(folder.path()).unwrap();
    let [low, _] = modes(&jetson);
    jetson.apply(&low).unwrap();
    for (file, text, part) in [
        ("sys/devices/system/cpu/cpu5/online", "1\n", "cores"),
        (
            "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq",
            "729600\n",
            "CPU clock",
        ),
        (
            "sys/class/devfreq/17000000.gpu/max_freq",
            "1300500000\n",
            "GPU clock",
        ),
        (
            "sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked",
            "0\n",
            "memory clock",
        ),
    ] {
        fs::write(folder.path().join(file), text).unwrap();
        assert_eq!(jetson.verify(&low).unwrap().to_string(), part);
        jetson.apply(&low).unwrap();
        assert_eq!(jetson.verify(&low).unwrap().to_string(), "nothing");
    }
}

#[test]
fn a_mode_that_the_board_does_not_list_changes_nothing() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    let before = tree::board_files(folder.path());
    let (mut jetson, journal) = recorded(folder.path(), Options::default());
    let [low, _] = modes(&jetson);
    let foreign = [
        PowerMode { cores: 0, ..low },
        PowerMode { cores: 13, ..low },
        PowerMode {
            cpu_khz: Khz(422_401),
            ..low
        },
        // A clock of the other firmware's table.
        PowerMode {
            gpu_khz: Khz(114_750),
            ..low
        },
        PowerMode {
            emc_khz: Khz(1_600_000),
            ..low
        },
    ];
    for mode in foreign {
        assert!(matches!(
            jetson.apply(&mode),
            Err(ApplyError::Unavailable(_))
        ));
    }
    assert_eq!(journal.writes(), 0);
    tree::assert_same(&tree::board_files(folder.path()), &before, "after");
}

#[test]
fn without_debugfs_a_mode_is_refused_or_applied_with_the_cap_alone() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    fs::remove_dir_all(folder.path().join("sys/kernel/debug")).unwrap();
    let before = tree::board_files(folder.path());
    let (mut jetson, journal) = recorded(folder.path(), Options::default());
    let [low, _] = modes(&jetson);
    assert_eq!(jetson.apply(&low), Err(ApplyError::NoEmcLock));
    assert_eq!(journal.writes(), 0);

    let options = Options {
        emc: EmcPolicy::BestEffort,
        ..Options::default()
    };
    let (mut jetson, journal) = recorded(folder.path(), options);
    let effective = jetson.apply(&low).unwrap();
    assert!(!effective.is_exact());
    assert_eq!(effective.effective.emc_khz, Khz(0));
    assert!(journal.log().contains("nvpmodel_clk_cap/emc 665600000"));
    jetson.restore().unwrap();
    tree::assert_same(&tree::board_files(folder.path()), &before, "after");
}

#[test]
fn what_is_no_board_of_ours_is_named() {
    let empty = TemporaryFolder::new();
    let error = Jetson::discover(empty.path()).unwrap_err();
    assert!(
        matches!(error, DiscoverError::NoDeviceTree { .. }),
        "{error}"
    );

    let folder = folder(board("orin-agx"), JetPack::Six);
    let compatible = folder.path().join("proc/device-tree/compatible");
    fs::write(&compatible, "raspberrypi,5-model-b\0brcm,bcm2712\0").unwrap();
    let error = Jetson::discover(folder.path()).unwrap_err().to_string();
    assert!(error.contains("raspberrypi,5-model-b"), "{error}");
    assert!(error.contains("p3701-0005"), "{error}");

    board_folder::create(folder.path(), board("orin-agx"), JetPack::Six).unwrap();
    fs::remove_dir_all(folder.path().join("sys/devices/platform")).unwrap();
    let error = Jetson::discover(folder.path()).unwrap_err();
    assert!(matches!(error, DiscoverError::NoGpu { .. }), "{error}");
}

#[test]
fn the_total_of_an_agx_orin_is_a_stated_choice_and_another_can_be_made() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    let stated = Jetson::discover(folder.path()).unwrap();
    let chosen = ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"];
    assert_eq!(*stated.rails().summed(), chosen);
    assert_eq!(stated.power(), Some(MilliWatt(3_052 + 916 + 4_045)));
    for (names, power_mw) in [
        (&["VDD_CPU_CV"][..], Some(916)),
        (
            &[
                "VDD_GPU_SOC",
                "VDD_CPU_CV",
                "VIN_SYS_5V0",
                "VDDQ_VDD2_1V8AO",
            ],
            Some(8_620),
        ),
        // One that this board does not have: the total is not known, rather than less.
        (&["VDD_GPU_SOC", "VDD_IN"], None),
    ] {
        let options = Options {
            power_rails: Some(
                names
                    .iter()
                    .map(|name| (*name).try_into().unwrap())
                    .collect(),
            ),
            ..Options::default()
        };
        let (jetson, _) = recorded(folder.path(), options);
        assert_eq!(jetson.power(), power_mw.map(MilliWatt), "{names:?}");
        assert_eq!(
            jetson.rails().sample().rails.len(),
            4,
            "the others are read all the same"
        );
    }
}

#[test]
fn a_chip_that_tells_power_itself_is_a_rail_too() {
    let folder = folder(board("orin-agx"), JetPack::Six);
    let chip = folder.path().join("sys/class/hwmon/hwmon7");
    fs::create_dir_all(&chip).unwrap();
    fs::write(chip.join("name"), "ina238\n").unwrap();
    fs::write(chip.join("power1_input"), "19780001\n").unwrap();
    let options = Options {
        power_rails: Some(["VIN".try_into().unwrap()].into_iter().collect()),
        ..Options::default()
    };
    let (jetson, _) = recorded(folder.path(), options);
    assert_eq!(jetson.power(), Some(MilliWatt(19_781)));
}

#[test]
fn sensors_are_absent_rather_than_zero() {
    let folder = folder(board("orin-agx"), JetPack::Five);
    let root = folder.path();
    let jetson = Jetson::discover(root).unwrap();
    // 19.072 V * 0.160 A, 19.072 V * 0.048 A, 5.056 V * 0.8 A, each rounded up to the mW.
    assert_eq!(jetson.power(), Some(MilliWatt(3_052 + 916 + 4_045)));
    let names: Vec<_> = jetson.rails().names().collect();
    assert_eq!(
        names,
        [
            "VDD_GPU_SOC",
            "VDD_CPU_CV",
            "VIN_SYS_5V0",
            "VDDQ_VDD2_1V8AO"
        ]
    );
    // The gated zone's -256 degrees count for nothing.
    assert_eq!(jetson.temperature_max(), Some(MilliCelsius(41_656)));
    assert_eq!(jetson.over_current_events(), Some(0));
    assert_eq!(jetson.is_heat_limited(), Some(false));
    let cooling = root.join("sys/class/thermal/cooling_device1/cur_state");
    fs::write(&cooling, "1\n").unwrap();
    assert_eq!(jetson.is_heat_limited(), Some(true));
    fs::write(cooling, "\n").unwrap();
    assert_eq!(jetson.is_heat_limited(), None);
    fs::write(root.join("sys/class/hwmon/hwmon2/oc3_event_cnt"), "7\n").unwrap();
    assert_eq!(jetson.over_current_events(), Some(7));
    fs::write(root.join("sys/class/hwmon/hwmon0/curr2_input"), "\n").unwrap();
    assert_eq!(jetson.power(), None);
    let sample = jetson.rails().sample();
    assert_eq!(sample.total, None);
    assert_eq!(sample.rails[0], Some(MilliWatt(3_052)));
    assert_eq!(sample.rails[1], None);

    fs::remove_dir_all(root.join("sys/class/hwmon")).unwrap();
    fs::remove_dir_all(root.join("sys/class/thermal")).unwrap();
    let blind = Jetson::discover(root).unwrap();
    assert_eq!(blind.power(), None);
    assert_eq!(blind.temperature_max(), None);
    assert_eq!(blind.over_current_events(), None);
}

//! What discovery makes of the layouts of JetPack 4 to 7, of cores that are offline, and of files that are not
//! as they should be. All on folders of plain files.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_plan::units::MilliWatt;
use fulcrum_plan::{Board, PowerMode};
use fulcrum_runtime::board::topology::Cluster;
use fulcrum_runtime::board::{DiscoverError, Jetson, Node, Options, shipped};
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const CPUS: &str = "sys/devices/system/cpu";

fn board(name: &str, jetpack: JetPack) -> (TemporaryFolder, &'static Board) {
    let folder = TemporaryFolder::new();
    let board = shipped().iter().find(|board| board.name == name).unwrap();
    board_folder::create(folder.path(), board, jetpack).unwrap();
    (folder, board)
}

fn lowest(jetson: &Jetson, cores: u8) -> PowerMode {
    let topology = jetson.topology();
    PowerMode {
        cores,
        cpu_khz: topology.cpu_khz[0],
        gpu_khz: topology.gpu_khz[0],
        emc_khz: topology.emc_khz[0],
    }
}

/// The GPU's folder somewhere else: its device, its name in the devfreq class if it has one, and the name of
/// its device-tree node if it has one (jetson.md 1.3).
struct Layout {
    what: &'static str,
    board: &'static str,
    device: &'static str,
    devfreq: &'static str,
    class: Option<&'static str>,
    node: Option<&'static str>,
}

const LAYOUTS: [Layout; 9] = [
    Layout {
        what: "JetPack 4, Xavier, by its class",
        board: "agx-xavier",
        device: "sys/devices/17000000.gv11b",
        devfreq: "17000000.gv11b",
        class: Some("17000000.gv11b"),
        node: Some("gv11b"),
    },
    Layout {
        what: "JetPack 4, Xavier, without the class",
        board: "xavier-nx",
        device: "sys/devices/gpu.0",
        devfreq: "17000000.gv11b",
        class: None,
        node: None,
    },
    Layout {
        what: "JetPack 5, Xavier, without the class",
        board: "agx-xavier",
        device: "sys/devices/17000000.gv11b",
        devfreq: "17000000.gv11b",
        class: None,
        node: None,
    },
    Layout {
        what: "JetPack 5, Orin, by its class",
        board: "orin-nx-16",
        device: "sys/devices/17000000.ga10b",
        devfreq: "17000000.ga10b",
        class: Some("17000000.ga10b"),
        node: Some("ga10b"),
    },
    Layout {
        what: "JetPack 5, Orin, without the class",
        board: "orin-agx",
        device: "sys/devices/17000000.ga10b",
        devfreq: "17000000.ga10b",
        class: None,
        node: None,
    },
    Layout {
        what: "JetPack 6 and 7, Orin, by its class",
        board: "orin-agx",
        device: "sys/devices/platform/bus@0/17000000.gpu",
        devfreq: "17000000.gpu",
        class: Some("17000000.gpu"),
        node: Some("gpu"),
    },
    Layout {
        what: "JetPack 6 and 7, Orin, without the class",
        board: "orin-nano-8",
        device: "sys/devices/platform/bus@0/17000000.gpu",
        devfreq: "17000000.gpu",
        class: None,
        node: None,
    },
    Layout {
        what: "JetPack 6, Orin, beside the bus",
        board: "orin-agx",
        device: "sys/devices/platform/17000000.gpu",
        devfreq: "17000000.gpu",
        class: None,
        node: None,
    },
    // No Thor is shipped; its layout is all that is imitated.
    Layout {
        what: "JetPack 7, Thor: no device-tree node",
        board: "orin-agx",
        device: "sys/devices/pci0000:00/0000:01:00.0",
        devfreq: "gpu-gpc-0",
        class: Some("gpu-gpc-0"),
        node: None,
    },
];

/// Moves the GPU of a board's folder.
fn lay_out(root: &Path, layout: &Layout) {
    let class = root.join("sys/class/devfreq");
    let link = fs::read_dir(&class)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let old = link.canonicalize().unwrap();
    let old_device = old.parent().unwrap().parent().unwrap();
    let device = root.join("moved");
    fs::rename(old_device, &device).unwrap();
    fs::remove_dir_all(&class).unwrap();
    let _ = fs::remove_dir_all(root.join("sys/devices/platform"));
    let to = root.join(layout.device);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(device, &to).unwrap();
    let devfreq = to.join("devfreq").join(layout.devfreq);
    if let Some(found) = fs::read_dir(to.join("devfreq")).unwrap().next() {
        fs::rename(found.unwrap().path(), &devfreq).unwrap();
    }
    fs::remove_dir_all(to.join("of_node")).unwrap();
    if let Some(node) = layout.node {
        fs::create_dir_all(to.join("of_node")).unwrap();
        fs::write(to.join("of_node/name"), format!("{node}\0")).unwrap();
    }
    if let Some(name) = layout.class {
        fs::create_dir_all(&class).unwrap();
        symlink(&devfreq, class.join(name)).unwrap();
        // What else is in the class is no GPU.
        for other in ["17000000.nvjpg", "bwmgr", "gpu-nvd-0"] {
            fs::create_dir_all(class.join(other)).unwrap();
            fs::write(class.join(other).join("available_frequencies"), "1\n").unwrap();
        }
    }
}

#[test]
fn the_gpu_is_found_in_the_layouts_of_jetpack_4_to_7() {
    for layout in &LAYOUTS {
        let (folder, board) = board(layout.board, JetPack::Five);
        let root = folder.path();
        lay_out(root, layout);
        let before = tree::board_files(root);
        let mut jetson =
            Jetson::discover(root).unwrap_or_else(|error| panic!("{}: {error}", layout.what));
        let topology = jetson.topology();
        assert!(board.gpu_khz.contains(&topology.gpu_khz), "{}", layout.what);
        assert_eq!(topology.gpu_masks.tpc, Some(0), "{}", layout.what);
        let device = root.join(layout.device).canonicalize().unwrap();
        let sysfs = jetson.controls();
        for (node, file) in [
            (Node::GpuMax, format!("devfreq/{}/max_freq", layout.devfreq)),
            (Node::GpuMin, format!("devfreq/{}/min_freq", layout.devfreq)),
            (Node::GpuPower, "power/control".to_owned()),
        ] {
            let path = sysfs.path(node).unwrap().canonicalize().unwrap();
            assert_eq!(path, device.join(file), "{}", layout.what);
        }
        let mode = lowest(&jetson, 2);
        assert!(jetson.apply(&mode).unwrap().is_exact(), "{}", layout.what);
        jetson.restore().unwrap();
        tree::assert_same(&tree::board_files(root), &before, layout.what);
    }
}

fn clusters(jetson: &Jetson) -> Vec<Cluster> {
    jetson.topology().clusters.iter().copied().collect()
}

fn cluster(policy: u8, cpus: u64) -> Cluster {
    Cluster { policy, cpus }
}

/// `affected_cpus` leaves out what is offline, `related_cpus` does not, and a cluster that is off as a whole
/// has neither (jetson.md 1.2).
#[test]
fn cores_that_are_offline_belong_to_their_clusters_all_the_same() {
    let (folder, _) = board("orin-agx", JetPack::Six);
    let root = folder.path();
    let all = [cluster(0, 0xf), cluster(4, 0xf0), cluster(8, 0xf00)];
    assert_eq!(clusters(&Jetson::discover(root).unwrap()), all);

    // The first core of the second cluster, and all but one of the third.
    let policies = root.join(CPUS).join("cpufreq");
    for (policy, affected, offline) in [(4, "5 6 7", &[4][..]), (8, "11", &[8, 9, 10])] {
        let affected_cpus = policies.join(format!("policy{policy}/affected_cpus"));
        fs::write(affected_cpus, format!("{affected}\n")).unwrap();
        for cpu in offline {
            fs::write(root.join(CPUS).join(format!("cpu{cpu}/online")), "0\n").unwrap();
            fs::remove_file(root.join(CPUS).join(format!("cpu{cpu}/cpufreq"))).unwrap();
        }
    }
    let mut jetson = Jetson::discover(root).unwrap();
    assert_eq!(clusters(&jetson), all);
    let before = tree::board_files(root);
    let mode = lowest(&jetson, 6);
    assert!(jetson.apply(&mode).unwrap().is_exact());
    jetson.restore().unwrap();
    tree::assert_same(&tree::board_files(root), &before, "cores offline");

    // The third as a whole.
    fs::write(root.join(CPUS).join("cpu11/online"), "0\n").unwrap();
    fs::remove_dir_all(policies.join("policy8")).unwrap();
    assert_eq!(clusters(&Jetson::discover(root).unwrap()), all);
}

#[test]
fn the_kernels_clusters_count_where_they_are_not_those_of_the_description() {
    let (folder, _) = board("orin-nx-16", JetPack::Six);
    let policies = folder.path().join(CPUS).join("cpufreq");
    fs::rename(policies.join("policy4"), policies.join("policy6")).unwrap();
    tree::copy(&policies.join("policy0"), &policies.join("policy2"));
    for (policy, cpus) in [(0, "0 1"), (2, "2 3"), (6, "6 7")] {
        let related = policies.join(format!("policy{policy}/related_cpus"));
        fs::write(related, format!("{cpus}\n")).unwrap();
    }
    let pairs = [(0, 0b11), (2, 0b1100), (4, 0b11_0000), (6, 0b1100_0000)];
    assert_eq!(
        clusters(&Jetson::discover(folder.path()).unwrap()),
        pairs.map(|(policy, cpus)| cluster(policy, cpus)),
        "4 and 5 are off: nothing tells of them, and 6 and 7 are others"
    );
}

/// The kernel names a policy after the core that came first, which is another where the lowest was offline.
#[test]
fn a_policy_may_bear_another_number_than_its_lowest_core() {
    let (folder, _) = board("orin-nx-16", JetPack::Six);
    let root = folder.path();
    let policies = root.join(CPUS).join("cpufreq");
    fs::rename(policies.join("policy4"), policies.join("policy5")).unwrap();
    for cpu in 4..8 {
        let link = root.join(CPUS).join(format!("cpu{cpu}/cpufreq"));
        fs::remove_file(&link).unwrap();
        symlink("../cpufreq/policy5", link).unwrap();
    }
    let before = tree::board_files(root);
    let mut jetson = Jetson::discover(root).unwrap();
    assert_eq!(clusters(&jetson), [cluster(0, 0xf), cluster(5, 0xf0)]);
    let mode = lowest(&jetson, 8);
    jetson.apply(&mode).unwrap();
    let max = fs::read_to_string(policies.join("policy5/scaling_max_freq")).unwrap();
    assert_eq!(max.trim(), mode.cpu_khz.0.to_string());
    drop(jetson);
    tree::assert_same(&tree::board_files(root), &before, "dropped");
}

#[test]
fn files_that_are_not_as_they_should_be_are_named_and_nothing_is_written() {
    let gpu = "sys/class/devfreq/17000000.gpu";
    let cpu = format!("{CPUS}/cpufreq/policy0");
    for (file, text) in [
        (format!("{gpu}/available_frequencies"), ""),
        (
            format!("{gpu}/available_frequencies"),
            "-306000000 408000000\n",
        ),
        (
            format!("{gpu}/available_frequencies"),
            "408000000 306000000\n",
        ),
        (format!("{cpu}/scaling_available_frequencies"), "\n"),
        (
            format!("{cpu}/scaling_available_frequencies"),
            "99999999999\n",
        ),
        (
            "sys/kernel/debug/bpmp/debug/emc/possible_rates".to_owned(),
            "",
        ),
        ("proc/device-tree/compatible".to_owned(), ""),
    ] {
        let (folder, _) = board("orin-agx", JetPack::Six);
        let path = folder.path().join(&file);
        fs::write(path, text).unwrap();
        let error = Jetson::discover(folder.path()).unwrap_err();
        match error {
            DiscoverError::BadTable { path } => assert!(path.ends_with(&file), "{path:?}"),
            DiscoverError::UnknownBoard { .. } => assert!(file.ends_with("compatible")),
            other => panic!("{file}: {other}"),
        }
    }
    // What holds no number is found when it is read, before anything is written.
    for (file, text, says) in [
        (format!("{cpu}/scaling_min_freq"), "", "holds no number"),
        (format!("{cpu}/scaling_max_freq"), "-1\n", "holds no number"),
        (
            format!("{cpu}/scaling_max_freq"),
            "+729600\n",
            "holds no number",
        ),
        (
            format!("{gpu}/max_freq"),
            "<unknown>\n",
            "the GPU's max_freq",
        ),
        (
            format!("{gpu}/device/power/control"),
            "maybe\n",
            "power/control",
        ),
        (
            "sys/kernel/nvpmodel_clk_cap/emc".to_owned(),
            "\n",
            "cap holds no number",
        ),
    ] {
        let (folder, _) = board("orin-agx", JetPack::Six);
        fs::write(folder.path().join(&file), text).unwrap();
        let before = tree::board_files(folder.path());
        let mut jetson = Jetson::discover(folder.path()).unwrap();
        let mode = lowest(&jetson, 4);
        let error = jetson.apply(&mode).unwrap_err().to_string();
        assert!(error.contains(says), "{file}: {error}");
        drop(jetson);
        tree::assert_same(&tree::board_files(folder.path()), &before, &file);
    }
}

#[test]
fn a_rail_without_a_label_or_behind_many_others_is_not_taken_for_another() {
    let (folder, _) = board("orin-nx-16", JetPack::Six);
    let root = folder.path();
    let total = Jetson::discover(root).unwrap().power();
    assert_eq!(total, Some(MilliWatt(5_024)));
    // A carrier board with three chips of its own, which the kernel lists first.
    fs::rename(
        root.join("sys/class/hwmon/hwmon0"),
        root.join("sys/class/hwmon/hwmon5"),
    )
    .unwrap();
    for chip in 2..5 {
        let chip = root.join(format!("sys/class/hwmon/hwmon{chip}"));
        fs::create_dir_all(&chip).unwrap();
        fs::write(chip.join("name"), "ina3221\n").unwrap();
        for n in 1..=3 {
            fs::write(chip.join(format!("in{n}_label")), format!("CARRIER_{n}\n")).unwrap();
            fs::write(chip.join(format!("in{n}_input")), "12000\n").unwrap();
            fs::write(chip.join(format!("curr{n}_input")), "100\n").unwrap();
        }
    }
    assert_eq!(Jetson::discover(root).unwrap().power(), total);
    for label in ["", "\n", "VDD_INX\n", "NC\n"] {
        fs::write(root.join("sys/class/hwmon/hwmon5/in1_label"), label).unwrap();
        let jetson = Jetson::discover_with(root, Options::default(), |sysfs| sysfs).unwrap();
        assert_eq!(jetson.power(), None, "{label:?}");
    }
    fs::remove_file(root.join("sys/class/hwmon/hwmon5/in1_label")).unwrap();
    assert_eq!(Jetson::discover(root).unwrap().power(), None);
}

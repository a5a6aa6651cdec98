//! `fulcrumd doctor` on folders of plain files: each defect gets its own finding and its remedy.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_runtime::board::{Jetson, Options, shipped};
use fulcrum_runtime::doctor::{Report, Verdict};
use fulcrum_tests::programs::{Answer, fulcrumd};
use fulcrum_tests::tree::{self, TemporaryFolder};
use std::fs;

fn orin() -> TemporaryFolder {
    let folder = TemporaryFolder::new();
    let board = shipped().iter().find(|board| board.name == "orin-agx");
    board_folder::create(folder.path(), board.unwrap(), JetPack::Six).unwrap();
    folder
}

fn worst<'r>(report: &'r Report, subject: &str) -> &'r fulcrum_runtime::doctor::Finding {
    let found = report.findings.iter().filter(|f| f.subject == subject);
    found.max_by_key(|finding| finding.verdict).unwrap()
}

#[test]
fn a_sound_board_has_no_bad_finding_and_is_left_alone() {
    let folder = orin();
    let before = tree::files(folder.path());
    let report = Report::examine(folder.path(), Options::default());
    assert_eq!(report.verdict(), Verdict::Good, "{report}");
    assert_eq!(report.board.as_deref(), Some("orin-agx"));
    tree::assert_same(&tree::files(folder.path()), &before, "after the doctor");

    let json: serde_json::Value = serde_json::from_str(&report.to_json().to_string()).unwrap();
    assert_eq!(json["board"], "orin-agx");
    assert_eq!(json["verdict"], "good");
    assert_eq!(json["clocks_khz"]["gpu"][0], 306_000);
    assert_eq!(json["clocks_khz"]["cpu"].as_array().unwrap().len(), 29);
    assert!(json["findings"].as_array().unwrap().len() >= 7);
    assert_eq!(json["findings"][0]["mend"], serde_json::Value::Null);
}

#[test]
fn every_defect_is_told_with_its_remedy() {
    type Damage = fn(&std::path::Path);
    let cases: [(&str, Verdict, &str, Damage); 11] = [
        (
            "memory clock",
            Verdict::Limited,
            "mount -t debugfs",
            |root| {
                fs::remove_dir_all(root.join("sys/kernel/debug")).unwrap();
            },
        ),
        ("power", Verdict::Bad, "modprobe ina3221", |root| {
            fs::remove_file(root.join("sys/class/hwmon/hwmon0/in2_label")).unwrap();
        }),
        ("rival", Verdict::Limited, "stop jtop", |root| {
            fs::create_dir_all(root.join("proc/4711")).unwrap();
            fs::write(root.join("proc/4711/comm"), "jtop\n").unwrap();
        }),
        ("rival", Verdict::Limited, "RemainAfterExit=yes", |root| {
            fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
            let unit = root.join("etc/systemd/system/nvpmodel.service");
            fs::write(unit, "[Service]\nType=oneshot\n").unwrap();
        }),
        ("temperature", Verdict::Limited, "cooled down", |root| {
            let state = root.join("sys/class/thermal/cooling_device0/cur_state");
            fs::write(state, "2\n").unwrap();
        }),
        ("clocks", Verdict::Limited, "plans/boards/*.toml", |root| {
            let table = "sys/class/devfreq/17000000.gpu/available_frequencies";
            fs::write(root.join(table), "306000000 612000000\n").unwrap();
        }),
        (
            "original clocks",
            Verdict::Bad,
            "fulcrumd restore",
            |root| {
                let mut board = Jetson::discover(root).unwrap();
                let topology = board.topology();
                let mode = fulcrum_plan::PowerMode {
                    cores: 4,
                    cpu_khz: topology.cpu_khz[0],
                    gpu_khz: topology.gpu_khz[0],
                    emc_khz: topology.emc_khz[0],
                };
                board.apply(&mode).unwrap();
                let record = root.join("run/fulcrum/original-clocks");
                let bytes = fs::read(&record).unwrap();
                drop(board);
                fs::write(record, bytes).unwrap();
            },
        ),
        ("original clocks", Verdict::Bad, "sudo reboot", |root| {
            fs::create_dir_all(root.join("run/fulcrum")).unwrap();
            fs::write(root.join("run/fulcrum/original-clocks"), "torn").unwrap();
        }),
        ("board", Verdict::Bad, "", |root| {
            fs::remove_file(root.join("proc/device-tree/compatible")).unwrap();
        }),
        ("board", Verdict::Bad, "fulcrumd capture", |root| {
            let compatible = root.join("proc/device-tree/compatible");
            fs::write(compatible, "nvidia,p9999-0000\0nvidia,tegra999\0").unwrap();
        }),
        ("board", Verdict::Bad, "power/control", |root| {
            fs::remove_dir_all(root.join("sys/class/devfreq")).unwrap();
            fs::remove_dir_all(root.join("sys/devices/platform/bus@0")).unwrap();
        }),
    ];
    for (subject, verdict, mend, damage) in cases {
        let folder = orin();
        damage(folder.path());
        let report = Report::examine(folder.path(), Options::default());
        let finding = worst(&report, subject);
        assert_eq!(finding.verdict, verdict, "{report}");
        let found = finding.mend.as_deref().unwrap_or_default();
        assert!(found.contains(mend), "{subject}: {found}");
        serde_json::from_str::<serde_json::Value>(&report.to_json().to_string()).unwrap();
    }
}

#[test]
fn the_programs_doctor_and_capture_answer() {
    let folder = orin();
    let root = folder.path();
    let before = tree::files(root);
    let mut doctor = fulcrumd();
    doctor.args([
        "doctor",
        "--json",
        "--onnxruntime",
        "/nowhere",
        "--sysfs-root",
    ]);
    // Without an engine the answer is no, and says so in both forms.
    let answer = Answer::of(doctor.arg(root)).expect(1);
    let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(json["board"], "orin-agx");
    let engine = json["findings"].as_array().unwrap().last().unwrap();
    assert_eq!(engine["subject"], "engine");
    assert_eq!(engine["verdict"], "bad");

    let to = folder.path().join("captured");
    let mut capture = fulcrumd();
    capture
        .args(["capture", "--sysfs-root"])
        .arg(root)
        .arg("--to")
        .arg(&to);
    let answer = Answer::of(&mut capture).expect(0);
    assert!(answer.contains("0 could not be read"), "{}", answer);
    assert!(to.join("CAPTURE").exists());
    fs::remove_dir_all(to).unwrap();
    tree::assert_same(&tree::files(root), &before, "after doctor and capture");
}

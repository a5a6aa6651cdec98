//! `fulcrum` as scripts use it: names, JSON, exit codes.

use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::tree::TemporaryFolder;
use fulcrum_tests::{grids, programs};
use serde_json::Value;
use std::path::Path;

/// A plan of a simulated board: training and inference, quickly.
fn synthetic_plan(out: &Path) -> Answer {
    let arguments = [
        "--board",
        "orin-agx",
        "--profiles",
        "synthetic:orin-agx",
        "--seed",
        "3",
    ];
    let workloads = [
        "--train",
        "lstm",
        "--infer",
        "mobilenetv3",
        "--strategy",
        "als:60",
    ];
    Answer::of(
        fulcrum()
            .arg("plan")
            .args(arguments)
            .args(workloads)
            .arg("--out")
            .arg(out),
    )
}

fn select(plan: &Path, options: &str) -> Answer {
    Answer::of(
        fulcrum()
            .arg("select")
            .arg(plan)
            .args(options.split_whitespace()),
    )
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn i8_the_issues_own_command_gives_the_same_bytes_twice() {
    let Some(grids) = grids::folder() else { return };
    let folder = TemporaryFolder::new();
    let plan = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        let source = format!("replay:{}", grids.display());
        let arguments = [
            "--board",
            "orin-agx",
            "--train",
            "resnet18",
            "--infer",
            "mobilenetv3",
        ];
        let search = ["--strategy", "als", "--max-profiles", "145", "--seed", seed];
        let mut command = fulcrum();
        command
            .args(["plan", "--profiles", &source])
            .args(arguments)
            .args(search);
        let _ = Answer::of(command.arg("--out").arg(&out)).expect(0);
        std::fs::read(out).unwrap()
    };
    let bytes = plan("x.plan", "7");
    assert_eq!(bytes, plan("y.plan", "7"));
    assert!(bytes.len() <= 4096, "{} bytes", bytes.len());

    let found = select(
        &folder.path().join("x.plan"),
        "--power 30 --latency-ms 500 --rate 60 --json",
    );
    let solution = &json(&found.expect(0))["solution"];
    assert!(
        solution["power_mw"].as_u64().unwrap() <= 30_000,
        "{solution}"
    );
    assert!(
        solution["latency_us"].as_u64().unwrap() <= 500_000,
        "{solution}"
    );
    assert!(
        solution["train_per_s"].as_f64().unwrap() > 0.0,
        "{solution}"
    );
}

#[test]
fn show_prints_every_mode_with_its_cells() {
    let folder = TemporaryFolder::new();
    let plan = folder.path().join("x.plan");
    let _ = synthetic_plan(&plan).expect(0);
    let shown = json(&Answer::of(fulcrum().arg("show").arg(&plan).arg("--json")).expect(0));
    assert_eq!(shown["board"], "orin-agx");
    assert_eq!(shown["train"], "lstm");
    assert_eq!(shown["infer"], serde_json::json!(["mobilenetv3"]));
    let modes = shown["modes"].as_array().unwrap();
    assert!(modes.len() > 3, "{shown}");
    for mode in modes {
        for key in ["cores", "cpu_khz", "gpu_khz", "emc_khz"] {
            assert!(mode[key].as_u64().unwrap() > 0, "{mode}");
        }
        let train = &mode["train"];
        assert!(
            train.is_null() || train["time_us"].as_u64().unwrap() > 0,
            "{mode}"
        );
        let [infer] = &mode["infer"].as_array().unwrap()[..] else {
            panic!("{mode}")
        };
        for cell in infer.as_array().unwrap() {
            assert!(cell["batch"].as_u64().unwrap() > 0 && cell["power_mw"].as_u64().unwrap() > 0);
        }
    }
    let table = Answer::of(fulcrum().arg("show").arg(&plan)).expect(0);
    assert_eq!(table.lines().count(), modes.len() + 2, "{table}");
}

#[test]
fn select_answers_in_json_and_says_no_with_exit_code_1() {
    let folder = TemporaryFolder::new();
    let plan = folder.path().join("x.plan");
    let _ = synthetic_plan(&plan).expect(0);
    let training = json(&select(&plan, "--power 40 --json").expect(0));
    assert!(training["solution"]["batch"].is_null(), "{training}");
    assert!(
        training["solution"]["train_per_s"].as_f64().unwrap() > 0.0,
        "{training}"
    );

    let none = select(&plan, "--power 1 --latency-ms 500 --rate 60 --json");
    assert_eq!(
        json(&none.expect(1)),
        serde_json::json!({ "solution": null })
    );
    assert!(select(&plan, "--power 1").expect(1).contains("no solution"));

    for (options, expected) in [
        ("--power -5", "--power"),
        ("--power nan", "--power NaN: allowed are"),
        ("--power 30 --rate 60", "--latency-ms"),
        ("--power 30 --latency-ms 500 --rate -1", "--rate"),
        (
            "--power 30 --problem two-inference --latency-ms 5 --rate 1",
            "2 inference workloads",
        ),
    ] {
        let answer = select(&plan, options);
        assert_eq!(answer.code, Some(2), "{options}: {}", answer.text());
        assert!(
            answer.stderr.contains(expected),
            "{options}: {}",
            answer.stderr
        );
    }
}

#[test]
fn i2_bad_plans_have_their_own_messages_and_exit_code_1() {
    let folder = TemporaryFolder::new();
    let plan = folder.path().join("x.plan");
    let _ = synthetic_plan(&plan).expect(0);
    let good = std::fs::read(&plan).unwrap();
    let mut flipped = good.clone();
    flipped[60] ^= 4;
    let mut newer = good.clone();
    newer[4] = 9;
    let end = newer.len() - 4;
    let crc = fulcrum_plan::wire::checksum(&newer[..end]);
    newer[end..].copy_from_slice(&crc.to_le_bytes());
    let bad = folder.path().join("bad.plan");
    for (bytes, expected) in [
        (&good[..good.len() / 2], "truncated"),
        (b"[Unit]\nDescription=something else\n", "not a plan file"),
        (&newer, "format version 9"),
        (&flipped, "checksum"),
        (b"", "no plan"),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        let said = Answer::of(fulcrum().arg("check").arg(&bad)).expect(1);
        assert!(said.contains(expected), "{said}");
        // The other commands refuse it with the same words.
        for command in [
            &["show"][..],
            &["select", "--power", "30"],
            &["flash", "--to", "nowhere"],
        ] {
            let answer = Answer::of(fulcrum().current_dir(folder.path()).args(command).arg(&bad));
            assert_eq!(answer.code, Some(1), "{command:?}: {}", answer.text());
            assert!(answer.stderr.contains(expected), "{}", answer.stderr);
        }
    }
    assert!(
        !folder.path().join("nowhere").exists(),
        "nothing is written for a bad plan"
    );

    let other = Answer::of(
        fulcrum()
            .arg("check")
            .arg(&plan)
            .args(["--board", "orin-nx-16"]),
    );
    assert!(other.expect(1).contains("for the board `orin-agx`"));
    let unknown = Answer::of(fulcrum().arg("check").arg(&plan).args(["--board", "orin"]));
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains("orin-nano-8-super"),
        "{}",
        unknown.stderr
    );
    assert_eq!(
        Answer::of(fulcrum().args(["check", "no-such-file"])).code,
        Some(2)
    );
}

#[test]
fn plan_names_what_it_does_not_have() {
    let folder = TemporaryFolder::new();
    let out = folder.path().join("x.plan");
    for (arguments, expected) in [
        (
            "--board orin-agx --profiles synthetic:orin-agx --train resnet19",
            "resnet18",
        ),
        (
            "--board orin-agz --profiles synthetic:orin-agx --train lstm",
            "orin-agx",
        ),
        (
            "--board orin-nx-16 --profiles synthetic:orin-agx --train lstm",
            "orin-nx-16",
        ),
        (
            "--board orin-agx --profiles replay:no/such/folder --train lstm",
            "no/such/folder",
        ),
        (
            "--board orin-agx --profiles measured:x --train lstm",
            "replay:DIR",
        ),
        (
            "--board orin-agx --profiles synthetic:orin-agx",
            "no workload",
        ),
        (
            "--board orin-agx --profiles synthetic:orin-agx --train lstm --strategy best",
            "als:N",
        ),
    ] {
        let mut command = fulcrum();
        command
            .arg("plan")
            .args(arguments.split(' '))
            .arg("--out")
            .arg(&out);
        let answer = Answer::of(&mut command);
        assert_eq!(answer.code, Some(2), "{arguments}: {}", answer.text());
        assert!(
            answer.stderr.contains(expected),
            "{arguments}: {}",
            answer.stderr
        );
        assert!(!out.exists());
    }
}

#[test]
fn a_plan_takes_journals_of_the_same_board_as_a_prior() {
    let folder = TemporaryFolder::new();
    let plan = |board: &str, options: &[&str]| {
        let source = format!("synthetic:{board}");
        let mut command = fulcrum();
        command
            .current_dir(folder.path())
            .args(["plan", "--board", board, "--profiles", &source])
            .args(options);
        Answer::of(&mut command)
    };
    let first = "--train lstm --strategy als:20 --out lstm.plan --journal lstm.journal";
    let _ = plan("orin-agx", &first.split(' ').collect::<Vec<_>>()).expect(0);
    let second = "--train resnet18 --strategy als:12 --out x.plan --prior lstm.journal";
    let _ = plan("orin-agx", &second.split(' ').collect::<Vec<_>>()).expect(0);
    let taught = std::fs::read(folder.path().join("x.plan")).unwrap();
    let alone = "--train resnet18 --strategy als:12 --out x.plan";
    let _ = plan("orin-agx", &alone.split(' ').collect::<Vec<_>>()).expect(0);
    assert_ne!(std::fs::read(folder.path().join("x.plan")).unwrap(), taught);

    for (board, prior, expected) in [
        (
            "orin-nx-16",
            "lstm.journal",
            "of board orin-agx, not of orin-nx-16",
        ),
        ("orin-agx", "lstm.plan", "not a journal"),
        ("orin-agx", "none.journal", "none.journal"),
    ] {
        let options = ["--train", "lstm", "--out", "y.plan", "--prior", prior];
        let answer = plan(board, &options);
        assert_eq!(answer.code, Some(2), "{}", answer.text());
        assert!(answer.stderr.contains("--prior"), "{}", answer.stderr);
        assert!(answer.stderr.contains(expected), "{}", answer.stderr);
        assert!(!folder.path().join("y.plan").exists());
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = TemporaryFolder::new();
    let plan = folder.path().join("x.plan");
    let _ = synthetic_plan(&plan).expect(0);
    let mut child = programs::fulcrum()
        .arg("show")
        .arg(&plan)
        .arg("--json")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

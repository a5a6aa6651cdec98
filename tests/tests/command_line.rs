//! `fulcrum` as scripts use it: names, JSON, exit codes.

use fulcrum_tests::grids;
use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::tree::TemporaryFolder;
use serde_json::Value;
use std::path::Path;

/// `fulcrum plan ARGUMENTS --out FILE`.
fn plan(arguments: &str, out: &Path) -> Answer {
    Answer::of(
        fulcrum()
            .arg("plan")
            .args(arguments.split_whitespace())
            .arg("--out")
            .arg(out),
    )
}

/// A plan of a simulated board: training and inference, quickly.
fn synthetic_plan(out: &Path) -> Answer {
    let source = "--board orin-agx --profiles synthetic:orin-agx --seed 3";
    let workloads = "--train lstm --infer mobilenetv3 --strategy als:60";
    plan(&format!("{source} {workloads}"), out)
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
        ("--power 30 --latency-ms 500 --rate 0", "0.001 to"),
        ("--power 30 --latency-ms 0 --rate 60", "0.001 to"),
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
        (
            "--board orin-agx --profiles synthetic:orin-agx --train lstm --faults noise=1",
            "over-current=PERCENT",
        ),
        (
            "--board orin-agx --profiles exec:true --train lstm --faults stuck=1",
            "a real board has its own",
        ),
        (
            "--board orin-agx --profiles synthetic:orin-agx --train lstm --margin 50",
            "0 to 20 percent",
        ),
        (
            "--board orin-agx --profiles synthetic:orin-agx --train lstm --strategy gmd:15",
            "use als, rnd or exhaustive",
        ),
        (
            "--board orin-agx --profiles synthetic:orin-agx --train lstm --max-profiles 0",
            "1..",
        ),
    ] {
        let answer = plan(arguments, &out);
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
fn a_plan_for_a_board_of_a_file() {
    let folder = TemporaryFolder::new();
    let description = include_str!("../../plans/boards/orin-agx.toml");
    let mine = description.replacen("name = \"orin-agx\"", "name = \"mine\"", 1);
    let (file, out) = (
        folder.path().join("mine.toml"),
        folder.path().join("x.plan"),
    );
    std::fs::write(&file, mine).unwrap();
    let file = file.display();
    let arguments =
        format!("--board {file} --profiles synthetic:{file} --train lstm --strategy rnd:5");
    let _ = plan(&arguments, &out).expect(0);
    let mut command = fulcrum();
    command
        .args(["check", "--board", &file.to_string()])
        .arg(&out);
    let answer = Answer::of(&mut command);
    assert_eq!(answer.code, Some(0), "{}", answer.text());
}

/// A small study of a simulated board that also writes its results to a file.
fn study(json: &Path) -> std::process::Command {
    let mut command = fulcrum();
    command
        .args([
            "evaluate",
            "--profiles",
            "synthetic:orin-nx-16",
            "--train",
            "lstm",
        ])
        .args([
            "--problem",
            "training",
            "--strategies",
            "maxn",
            "--seeds",
            "1",
            "--json",
        ])
        .arg(json);
    command
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
fn a_lost_board_leaves_a_plan_and_a_resumed_search_pays_the_rest() {
    let folder = TemporaryFolder::new();
    let plan = |faults: &str, more: &[&str]| {
        let source = ["--board", "orin-agx", "--profiles", "synthetic:orin-agx"];
        let mut command = fulcrum();
        command
            .current_dir(folder.path())
            .arg("plan")
            .args(source)
            .args([
                "--train",
                "lstm",
                "--strategy",
                "als:16",
                "--faults",
                faults,
            ])
            .args(more);
        let answer = Answer::of(&mut command);
        assert_eq!(answer.code, Some(0), "{}", answer.text());
        answer.text()
    };
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let journal = ["--journal", "x.journal", "--out", "x.plan"];
    let said = plan("time=0.5,stuck=30,lost=10", &journal);
    assert!(said.contains("the board was lost"), "{said}");
    let said = plan("time=0.5,stuck=30", &journal);
    assert!(said.contains("resuming: 10 profiles"), "{said}");
    assert!(said.contains("not trusted (Clocks)"), "{said}");
    let _ = plan("time=0.5,stuck=30", &["--out", "y.plan"]);
    assert_eq!(read("x.plan"), read("y.plan"));
    let _ = plan("time=0.5,stuck=30", &["--out", "y.plan", "--margin", "1"]);
    assert_ne!(read("x.plan"), read("y.plan"));
}

#[test]
fn evaluate_writes_what_it_prints_and_says_what_it_cannot() {
    let folder = TemporaryFolder::new();
    let evaluate = |options: &str| {
        let mut command = fulcrum();
        command
            .current_dir(folder.path())
            .args(["evaluate", "--profiles", "synthetic:orin-nano-8"])
            .args(options.split(' '));
        Answer::of(&mut command)
    };
    let quick = "--problem training --train lstm --strategies maxn,rnd:9 --seeds 2";
    let said = evaluate(&format!("{quick} --json x.json --markdown x.md")).expect(0);
    assert!(said.contains("41 configurations"), "{said}");
    let study = json(&std::fs::read_to_string(folder.path().join("x.json")).unwrap());
    assert_eq!(study["configurations"], 41);
    // Nothing is random in one of them.
    assert_eq!(study["judged"], 3 * 41);
    let overall = study["overall"].as_array().unwrap();
    let seeds: Vec<_> = overall.iter().map(|summary| &summary["seeds"]).collect();
    assert_eq!(seeds, [1, 2]);
    let markdown = std::fs::read_to_string(folder.path().join("x.md")).unwrap();
    assert!(markdown.contains("| training | rnd:9 |"), "{markdown}");

    for (options, expected) in [
        ("--problem train --strategies maxn", "two-inference"),
        ("--problem training --strategies als", "als:N"),
        (
            "--problem training --strategies maxn --seeds 0",
            "1 or more",
        ),
        (
            "--problem training --strategies maxn --prior gmd:15",
            "one demand",
        ),
        (
            "--problem training --strategies maxn --faults stuck=200",
            "0 to 100",
        ),
        (
            "--problem inference --grid all",
            "not in the standard study",
        ),
    ] {
        let answer = evaluate(options);
        assert_eq!(answer.code, Some(2), "{options}: {}", answer.text());
        let said = &answer.stderr;
        assert!(said.contains(expected), "{options}: {said}");
    }
}

#[test]
fn results_that_could_not_be_kept_are_refused_before_anything_is_paid() {
    let folder = TemporaryFolder::new();
    let journal = folder.path().join("x.journal");
    let long = "w".repeat(40);
    let train = folder.path().join("grids/orin-agx/train");
    std::fs::create_dir_all(&train).unwrap();
    let row = "4,422400,114750000,665600000,16,9,11";
    let grid = format!("cores,cpu_khz,gpu_hz,emc_hz,batch,time_ms,power_w\n{row}\n");
    for name in ["short", &long] {
        std::fs::write(train.join(format!("{name}.csv")), &grid).unwrap();
    }
    let _listening = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let plan = |workload: &str, out: &str| {
        let mut command = fulcrum();
        command.current_dir(folder.path()).arg("plan");
        command.args([
            "--board",
            "orin-agx",
            "--profiles",
            "replay:grids",
            "--train",
            workload,
        ]);
        let files = ["--journal", "x.journal", "--out", out];
        Answer::of(command.args(files))
    };
    for (workload, out, expected) in [
        ("short", "grids", "--out grids: is a directory"),
        ("short", "missing/x.plan", "--out missing/x.plan"),
        ("short", "socket", "not a regular file"),
        (&long, "x.plan", "at most 32 bytes"),
    ] {
        let answer = plan(workload, out);
        assert_eq!(answer.code, Some(2), "{out}: {}", answer.text());
        assert!(answer.stderr.contains(expected), "{out}: {}", answer.stderr);
        assert!(!journal.exists(), "{out}: a profile was paid");
    }
    let _ = plan("short", "x.plan").expect(0);

    let answer = Answer::of(&mut study(folder.path()));
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_and_a_full_disk_is_one() {
    let folder = TemporaryFolder::new();
    let plan = folder.path().join("x.plan");
    let _ = synthetic_plan(&plan).expect(0);
    let results = folder.path().join("results.json");
    let with = |arguments: &str| {
        let mut command = fulcrum();
        command.current_dir(folder.path());
        command.args(arguments.split(' '));
        command
    };
    let planning = "plan --board orin-agx --profiles synthetic:orin-agx --train lstm \
                    --max-profiles 5 --out y.plan";
    let commands: [&dyn Fn() -> std::process::Command; 7] = [
        &|| with("show x.plan --json"),
        &|| with("select x.plan --power 40 --json"),
        &|| with("check x.plan"),
        &|| with("flash x.plan --to device"),
        &|| with("report x.plan --out x.html"),
        &|| with(planning),
        &|| study(&results),
    ];
    for command in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut closed = command();
        let output = closed.stdout(writer).output().unwrap();
        let answer = Answer::from(output);
        assert_eq!(answer.code, Some(0), "{closed:?}: {}", answer.text());

        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let answer = Answer::from(command().stdout(full).output().unwrap());
        assert_eq!(answer.code, Some(2), "{closed:?}: {}", answer.text());
        assert!(answer.stderr.contains("No space left"), "{}", answer.stderr);
    }
    let written = std::fs::read_to_string(results).unwrap();
    assert!(json(&written).is_object(), "{written}");
}

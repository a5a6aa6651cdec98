//! The whole way: plan, flash, run on a folder that looks like an AGX Orin, and everything that can go
//! wrong on it. The board ends as it began, every time.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_plan::store::{Store, Trial};
use fulcrum_planner::boards;
use fulcrum_runtime::engine::params;
use fulcrum_tests::device::Device;
use fulcrum_tests::models::digits;
use fulcrum_tests::programs::{Answer, fulcrumd};
use fulcrum_tests::running::Running;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

fn events(stdout: &str) -> Vec<Value> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn plan_flash_run_serves_trains_and_puts_the_clocks_back() {
    let device = Device::new();
    let before = device.board();
    let events = events(&Answer::of(&mut device.run(&[])).expect(0));
    let (started, summary) = (&events[0], events.last().unwrap());
    assert_eq!(started["event"], "started");
    assert!(started["power_mw"].as_u64().unwrap() <= 30_000, "{started}");
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["restored"], true, "{summary}");
    assert_eq!(device.board(), before, "the board is as it was");
    assert_eq!(trial(&device), Trial::Confirmed);

    let count = |object: &Value, name: &str| object[name].as_u64().unwrap();
    let running = Running::start(device.run(&[("--duration-s", Path::new("600"))]));
    running.reports(|report| count(report, "served") > 60 && count(report, "steps") > 0);
    let summary = running.end();
    let parts = ["served", "rejected", "dropped", "failed", "waiting"];
    let ended: u64 = parts.iter().map(|name| count(&summary, name)).sum();
    assert_eq!(count(&summary, "arrived"), ended, "{summary}");
    assert_eq!(summary["allocations_in_loop"], 0, "{summary}");
}

/// How far the plan in use has proved itself.
fn trial(device: &Device) -> Trial {
    let store = Store::new(&device.path("plans"));
    store.pointer().unwrap().expect("a plan was flashed").trial
}

#[test]
fn i6_a_signal_puts_the_clocks_back() {
    let device = Device::new();
    let before = device.board();
    for signal in ["TERM", "INT"] {
        let mut child = device
            .run(&[("--duration-s", Path::new("60"))])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = lines.next().unwrap().unwrap();
        assert!(started.contains("\"started\""), "{started}");
        assert_ne!(device.board(), before, "the mode is applied");
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
        assert!(
            rest.last().unwrap().contains("\"restored\":true"),
            "{rest:?}"
        );
        assert_eq!(
            device.board(),
            before,
            "SIG{signal}: the board is as it was"
        );
        let trial = trial(&device);
        assert_eq!(trial, Trial::Confirmed, "SIG{signal}: nothing failed");
    }
}

#[test]
fn i6_a_kill_is_mended_by_the_next_start_and_by_restore() {
    let device = Device::new();
    let before = device.board();
    let kill_while_running = || {
        let mut child = device
            .run(&[("--duration-s", Path::new("60"))])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert!(first.contains("\"started\""), "{first}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(device.board(), before, "a kill leaves the clocks set");
    };
    kill_while_running();
    let mut restore = fulcrumd();
    restore
        .args(["restore", "--sysfs-root"])
        .arg(device.path("board"));
    let _ = Answer::of(restore.arg("--state-dir").arg(device.path("state"))).expect(0);
    assert_eq!(device.board(), before);

    kill_while_running();
    let _ = Answer::of(&mut device.run(&[])).expect(0);
    assert_eq!(
        device.board(),
        before,
        "the next start knows the clocks of before"
    );
}

#[test]
fn i9_a_kill_leaves_the_old_parameters_or_the_new_ones_whole() {
    let device = Device::new();
    let checkpoint = device.path("trained.params");
    let options = [
        ("--checkpoint", checkpoint.as_path()),
        ("--duration-s", Path::new("0.1")),
    ];
    let started = Instant::now();
    let _ = Answer::of(&mut device.run(&options)).expect(0);
    let whole_run = started.elapsed();
    let first = params::read(&checkpoint).expect("the first checkpoint");
    let mut renewed = 0;
    for tenth in 1..=20 {
        let before = fs::read(&checkpoint).unwrap();
        let mut child = device.run(&options).stdout(Stdio::null()).spawn().unwrap();
        // From the start to well beyond the usual end, where the file is replaced.
        sleep(whole_run * tenth / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = params::read(&checkpoint).expect("a whole file");
        assert_eq!(found.tensors.len(), first.tensors.len());
        renewed += usize::from(fs::read(&checkpoint).unwrap() != before);
    }
    println!("{renewed} of 20 runs got to their checkpoint");
}

#[test]
fn bad_inputs_have_their_own_errors_and_change_nothing() {
    let device = Device::new();
    let before = device.board();
    let good = fs::read(device.path("x.plan")).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(device.path(name), bytes).unwrap();
        device.path(name)
    };
    let mut flipped = good.clone();
    flipped[50] ^= 1;
    let mut newer = good.clone();
    newer[4] = 2;
    let end = newer.len() - 4;
    let crc = fulcrum_plan::wire::checksum(&newer[..end]);
    newer[end..].copy_from_slice(&crc.to_le_bytes());
    let text = b"nothing of the kind".as_slice();
    let cases: [(&str, &str, PathBuf, i32, &str); 12] = [
        (
            "truncated plan",
            "--plan",
            file("truncated", &good[..good.len() - 9]),
            1,
            "truncated",
        ),
        (
            "foreign plan",
            "--plan",
            file("foreign", text),
            1,
            "not a plan",
        ),
        (
            "newer plan",
            "--plan",
            file("newer", &newer),
            1,
            "version 2",
        ),
        (
            "flipped plan",
            "--plan",
            file("flipped", &flipped),
            1,
            "checksum",
        ),
        (
            "no plan",
            "--plan-dir",
            device.path("nowhere"),
            2,
            "no plan",
        ),
        ("impossible budget", "--power", "3".into(), 1, "no solution"),
        ("no number", "--power", "much".into(), 2, "--power"),
        (
            "no library",
            "--onnxruntime",
            device.path("no.so"),
            2,
            "no.so",
        ),
        (
            "no library of ours",
            "--onnxruntime",
            file("text.so", text),
            2,
            "text.so",
        ),
        (
            "a step as the model",
            "--infer",
            digits("train.onnx"),
            2,
            "train.onnx",
        ),
        (
            "a model as the step",
            "--train",
            digits("infer.onnx"),
            2,
            "infer.onnx",
        ),
        (
            "a checkpoint without a folder",
            "--checkpoint",
            device.path("nowhere/trained.params"),
            2,
            "--checkpoint",
        ),
    ];
    for (what, option, value, code, expected) in cases {
        let answer = Answer::of(&mut device.run(&[(option, &value)]));
        assert_eq!(answer.code, Some(code), "{what}: {}", answer.text());
        assert!(
            answer.text().contains(expected),
            "{what}: {}",
            answer.text()
        );
        assert_eq!(device.board(), before, "{what}: the board was changed");
    }
}

#[test]
fn a_start_that_fails_leaves_no_socket() {
    let device = Device::new();
    let (requests, taken) = (device.path("requests"), device.path("taken"));
    fs::write(&taken, "no socket").unwrap();
    let answer = Answer::of(&mut device.run(&[("--listen", &requests), ("--status", &taken)]));
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    assert!(answer.text().contains("--status"), "{}", answer.text());
    assert!(!requests.exists(), "nobody listens");
}

#[test]
fn a_start_on_a_board_that_is_taken_is_no_trial_of_the_plan() {
    let device = Device::new();
    let first = Running::start(device.run(&[("--duration-s", Path::new("60"))]));
    // As if a plan was flashed meanwhile.
    let current = device.path("plans/current");
    fs::write(&current, "fulcrum-store 1 slot a trial new previous none\n").unwrap();
    let second = Answer::of(&mut device.run(&[]));
    assert_eq!(second.code, Some(2), "{}", second.text());
    assert!(
        second.text().contains("another fulcrumd"),
        "{}",
        second.text()
    );
    let _ = first.end();
    assert_eq!(trial(&device), Trial::New);
}

#[test]
fn a_plan_for_another_board_is_refused() {
    let device = Device::new();
    let other = boards::named("orin-nx-16").unwrap();
    let folder = device.path("other-board");
    board_folder::create(&folder, other, JetPack::Six).unwrap();
    let answer = Answer::of(&mut device.run(&[("--sysfs-root", &folder)]));
    assert_eq!(answer.code, Some(1), "{}", answer.text());
    assert!(answer.text().contains("orin-agx"), "{}", answer.text());
    assert!(answer.text().contains("orin-nx-16"), "{}", answer.text());
}

//! What the loop's thread asks of the kernel. Goal: its wait, one message per batch to wake the server, the
//! watchdog's; nothing else, with requests that are served, rejected and fail, and steps that fail. Method:
//! strace on that thread alone (the process's first), while others serve, watch and report.

use fulcrum_runtime::client::Client;
use fulcrum_tests::device::Device;
use fulcrum_tests::models;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Of the loop's thread, in steady state. `restart_syscall` is what strace itself interrupted.
const ALLOWED: [&str; 4] = ["futex", "write", "sendto", "restart_syscall"];
/// A pixel that the model fails on.
const POISON: f32 = 1_000.5;

/// The table of `strace -c`: calls by name.
fn calls(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = *words.last()?;
        let calls = words.get(3)?.parse().ok()?;
        (name != "total").then(|| (name.to_owned(), calls))
    });
    rows.collect()
}

#[test]
fn i5_the_loop_asks_the_kernel_for_its_wait_and_the_wake_up_only() {
    let device = Device::new();
    let socket = device.path("requests");
    let train = device.path("train.onnx");
    fs::copy(models::engine("digits_train.onnx"), &train).unwrap();
    fs::copy(models::digits("train.params"), device.path("train.params")).unwrap();
    let mut child = device
        .run(&[
            ("--listen", &socket),
            ("--infer", &models::engine("digits_infer.onnx")),
            ("--train", &train),
            ("--duration-s", Path::new("60")),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let mut client = Client::connect(&socket).unwrap();
    let mut traffic = |duration: Duration| {
        let start = Instant::now();
        for round in 0.. {
            if start.elapsed() >= duration {
                break;
            }
            for id in 0..8 {
                let mut sample = vec![0.5; client.sample_len()];
                // Now and then: eight failed batches in a row would end the run.
                if id == 0 && round % 4 == 0 {
                    sample[0] = POISON;
                }
                client.send(id, &sample).unwrap();
            }
            for _ in 0..8 {
                client.receive().unwrap();
            }
            sleep(Duration::from_millis(20));
        }
    };
    traffic(Duration::from_secs(1));
    let table = device.path("strace");
    let mut strace = Command::new("strace")
        .args(["-q", "-c", "-p", &child.id().to_string(), "-o"])
        .arg(&table)
        .spawn()
        .expect("strace starts");
    traffic(Duration::from_secs(4));
    let kill = |id: u32, signal: &str| {
        let status = Command::new("kill")
            .args(["-s", signal, &id.to_string()])
            .status();
        assert!(status.unwrap().success());
    };
    kill(strace.id(), "INT");
    strace.wait().unwrap();
    kill(child.id(), "TERM");
    let last = lines.map(Result::unwrap).last().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{last}");
    let (table, summary): (_, Value) = (
        fs::read_to_string(&table).unwrap(),
        serde_json::from_str(&last).unwrap(),
    );
    println!("{table}\n{last}");
    let calls = calls(&table);
    assert!(
        calls.values().sum::<u64>() > 10,
        "strace saw the loop:\n{table}"
    );
    let others: Vec<_> = calls
        .keys()
        .filter(|name| !ALLOWED.contains(&name.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?}:\n{table}");
    for name in ["served", "failed", "steps", "steps_lost"] {
        assert!(summary[name].as_u64() > Some(0), "no {name}: {summary}");
    }
    for name in ["allocations_in_loop", "frees_in_loop"] {
        assert_eq!(summary[name], 0, "{summary}");
    }
}

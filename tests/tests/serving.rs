//! A `fulcrumd` that serves other processes, as its users see it: a load, its status, Prometheus, Python.

use fulcrum_runtime::client::Client;
use fulcrum_runtime::exchange::Status;
use fulcrum_tests::device::Device;
use fulcrum_tests::models;
use fulcrum_tests::programs::{Answer, fulcrum, fulcrumd};
use fulcrum_tests::running::{PATIENCE, Running};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn count(object: &Value, name: &str) -> u64 {
    object[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {object}"))
}

fn status(from: &Path, page: &[&str]) -> String {
    let mut command = fulcrumd();
    Answer::of(command.args(["status", "--from"]).arg(from).args(page)).expect(0)
}

/// The status once the board's power was read for the first time.
fn told_with_power(from: &Path) -> Value {
    let begun = Instant::now();
    loop {
        let told = object(&status(from, &["--json"]));
        if told["power_mw"].as_u64() > Some(0) {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "no power: {told}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A sample of the digits model by the Python client; what it prints.
fn python(socket: &Path) -> String {
    let program = "\
import sys
from fulcrum_client import Client, SharedClient
with Client(sys.argv[1]) as client:
    reply = client.infer([0.5] * client.sample_len)
    for request in range(3):
        client.send(request, [0.25] * client.sample_len)
    ids = sorted(client.receive().id for _ in range(3))
    print(reply.status, len(reply.output), any(reply.output), ids)
    with SharedClient(sys.argv[1]) as shared:
        for value in shared.sample(0), shared.sample(shared.slots - 1):
            for index in range(shared.sample_len):
                value[index] = 0.5
        statuses = [shared.infer(slot).status for slot in (0, shared.slots - 1)]
        outputs = [list(shared.output(slot)) for slot in (0, shared.slots - 1)]
        print(statuses, [any(output) for output in outputs], [len(output) for output in outputs])
";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/python");
    let mut command = Command::new("python3");
    command
        .arg("-c")
        .arg(program)
        .arg(socket)
        .env("PYTHONPATH", folder);
    Answer::of(command.env("PYTHONDONTWRITEBYTECODE", "1")).expect(0)
}

#[test]
fn a_load_is_served_and_everybody_is_told_how_it_went() {
    let device = Device::new();
    let (socket, pages) = (device.path("requests"), device.path("status"));
    let serving = Running::start(device.run(&[
        ("--listen", &socket),
        ("--status", &pages),
        // By default a request that a busy machine makes late may be rejected.
        ("--overload", Path::new("answer-late")),
        ("--duration-s", Path::new("600")),
    ]));

    // Cargo would build fulcrumd again; here it lies beside fulcrum.
    let load = |options: &[&str]| {
        let mut command = fulcrum();
        command
            .env_remove("CARGO")
            .args(["load", "--to"])
            .arg(&socket)
            .args(options);
        Answer::of(&mut command).expect(0)
    };
    let options = [
        "--rate",
        "100",
        "--arrivals",
        "poisson",
        "--duration-s",
        "2",
        "--seed",
        "7",
    ];
    let first = object(&load(
        &[&options[..], &["--latency-ms", "500", "--json"]].concat(),
    ));
    let ends = ["answered", "rejected", "dropped", "failed", "lost"];
    let ended: u64 = ends.iter().map(|name| count(&first, name)).sum();
    assert_eq!(count(&first, "sent"), ended, "{first}");
    assert!(count(&first, "sent") > 100, "{first}");
    assert!(count(&first, "answered") > 0, "{first}");
    assert_eq!(
        (count(&first, "lost"), count(&first, "seed")),
        (0, 7),
        "{first}"
    );
    let (p50, max) = (&first["latency_us"]["p50"], &first["latency_us"]["max"]);
    assert!(
        p50.as_f64() > Some(0.0) && p50.as_f64() <= max.as_f64(),
        "{first}"
    );

    fs::write(device.path("trace"), "0 # three at once\n0\n0\n0.2\n").unwrap();
    let text = load(&["--trace", device.path("trace").to_str().unwrap()]);
    for part in [
        "sent       4 requests",
        "p50 ",
        "p99.9 ",
        "seed 1",
        "behind by",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert_eq!(
        python(&socket),
        "answered 10 True [0, 1, 2]\n\
        ['answered', 'answered'] [True, True] [10, 10]\n"
    );

    let told = told_with_power(&pages);
    assert_eq!(told["board"], "orin-agx");
    assert!(
        count(&told, "arrived") >= count(&first, "sent") + 10,
        "{told}"
    );
    assert!(count(&told, "served") > count(&first, "answered"), "{told}");
    let text = status(&pages, &[]);
    for part in [
        "board      orin-agx",
        "requests   ",
        "training   ",
        "budget 500",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let metrics = status(&pages, &["--prometheus"]);
    assert!(
        metrics.contains("\nfulcrum_requests_total{outcome=\"served\"} "),
        "{metrics}"
    );

    let summary = serving.end();
    assert_eq!(count(&summary, "allocations_in_loop"), 0, "{summary}");
    let parts = ["served", "rejected", "dropped", "failed", "waiting"];
    let ended: u64 = parts.iter().map(|name| count(&summary, name)).sum();
    assert_eq!(count(&summary, "arrived"), ended, "{summary}");
    assert!(
        !socket.exists() && !pages.exists(),
        "nobody listens any more"
    );
    let mut late = fulcrumd();
    let answer = Answer::of(late.args(["status", "--from"]).arg(&pages));
    assert_eq!(answer.code, Some(2), "{}", answer.text());
    assert!(
        answer.text().contains("--status ADDRESS"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_mode_that_is_only_held_has_a_status_too() {
    let device = Device::new();
    let pages = device.path("status");
    let mut command = fulcrumd();
    command.args([
        "run",
        "--json",
        "--power",
        "30",
        "--latency-ms",
        "500",
        "--rate",
        "60",
    ]);
    for (option, path) in [
        ("--plan-dir", "plans"),
        ("--sysfs-root", "board"),
        ("--state-dir", "state"),
        ("--status", "status"),
    ] {
        command.arg(option).arg(device.path(path));
    }
    let serving = Running::start(command);
    let told = told_with_power(&pages);
    assert_eq!(count(&told, "arrived"), 0, "{told}");
    assert_eq!(serving.end()["restored"], true);
}

/// Sends a sample, and waits for the answer.
fn ask(client: &mut Client, id: u64, sample: &[f32]) -> (Status, Vec<f32>) {
    client.send(id, sample).unwrap();
    let reply = client.receive().unwrap();
    assert_eq!(reply.id, id);
    (reply.status, reply.output)
}

/// A plan for a training and two inference workloads, flashed.
fn flash_two_inferences(device: &Device) {
    let plan = device.path("two.plan");
    let mut command = fulcrum();
    command.args(["plan", "--board", "orin-agx"]);
    command.args(["--profiles", "synthetic:orin-agx", "--strategy", "als:60"]);
    command.args(["--train", "resnet18"]);
    command.args(["--infer", "mobilenetv3", "--infer", "resnet50"]);
    let _ = Answer::of(command.arg("--out").arg(&plan)).expect(0);
    let to = device.path("plans");
    let _ = Answer::of(fulcrum().arg("flash").arg(&plan).arg("--to").arg(to)).expect(0);
}

#[test]
fn two_models_are_served_at_two_sockets_and_a_failing_one_leaves_the_other_alone() {
    let device = Device::new();
    flash_two_inferences(&device);
    let (urgent, bulk) = (device.path("urgent"), device.path("bulk"));
    let pages = device.path("status");
    let mut command = device.run(&[
        ("--listen", &urgent),
        ("--status", &pages),
        // By default a request that a busy machine makes late may be rejected.
        ("--overload", Path::new("answer-late")),
        ("--duration-s", Path::new("600")),
    ]);
    // The second model is the digits model, too, but for a pixel that it fails on.
    let second = models::engine("digits_infer.onnx");
    let parameters = device.path("infer.params");
    let _ = fs::copy(models::digits("infer.params"), &parameters);
    command
        .arg("--infer")
        .arg(&second)
        .arg("--listen")
        .arg(&bulk);
    let serving = Running::start(command);

    let mut clients = [&urgent, &bulk].map(|socket| Client::connect(socket).unwrap());
    let samples = |client: &Client| vec![0.5; client.sample_len()];
    let mut outputs = Vec::new();
    for client in &mut clients {
        let sample = samples(client);
        // All at once: what is not urgent waits a second for its batch to fill.
        for id in 0..40 {
            client.send(id, &sample).unwrap();
        }
        for _ in 0..40 {
            let reply = client.receive().unwrap();
            assert_eq!(reply.status, Status::Answered);
            outputs.push(reply.output);
        }
    }
    assert!(outputs[0].iter().any(|value| *value != 0.0));
    let [urgent, bulk] = &mut clients;
    let mut poison = samples(bulk);
    poison[0] = 1_000.5;
    let mut statuses = Vec::new();
    while statuses.last() != Some(&Status::Rejected) {
        statuses.push(ask(bulk, 1_000, &poison).0);
        assert!(statuses.len() < 100, "{statuses:?}");
    }
    let failed = statuses.iter().filter(|status| **status == Status::Failed);
    assert_eq!(failed.count() + 1, statuses.len(), "{statuses:?}");
    let sample = samples(urgent);
    assert_eq!(ask(urgent, 41, &sample).0, Status::Answered);
    serving.says("inference that is not urgent failed repeatedly and was stopped");
    let told = status(&pages, &[]);
    assert!(
        told.contains("\nnot urgent 40 served, 1 rejected, "),
        "{told}"
    );
    let summary = serving.end();
    assert_eq!(count(&summary, "served"), 41, "{summary}");
    let parts = [
        "bulk_served",
        "bulk_rejected",
        "bulk_failed",
        "bulk_waiting",
    ];
    let ended: u64 = parts.iter().map(|name| count(&summary, name)).sum();
    assert_eq!(count(&summary, "bulk_arrived"), ended, "{summary}");
    assert_eq!(count(&summary, "bulk_served"), 40, "{summary}");
    assert_eq!(count(&summary, "bulk_failed") + 1, statuses.len() as u64);
    assert_eq!(count(&summary, "bulk_rejected"), 1, "{summary}");
    assert_eq!(count(&summary, "allocations_in_loop"), 0, "{summary}");
    let sockets = ["urgent", "bulk"].map(|name| device.path(name).exists());
    assert_eq!(sockets, [false; 2], "nobody listens any more");
}

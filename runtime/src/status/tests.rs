//! Pages over real sockets; Prometheus' text is read by a parser of its format that knows nothing of ours.

use super::http::{Address, Listener, Page};
use super::prometheus::{CONTENT_TYPE, page};
use super::*;
use fulcrum_plan::units::Khz;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn telemetry() -> Telemetry {
    let telemetry = Telemetry::default();
    for latency_us in [90, 900, 30_000, 7_000_000] {
        telemetry.latency.record(latency_us * 1_000);
    }
    telemetry.served.add(4);
    telemetry.bulk_served.add(2);
    telemetry.steps.add(7);
    telemetry.loss_last.set(0.25);
    telemetry
}

fn snapshot(telemetry: &Telemetry) -> Snapshot<'_> {
    Snapshot {
        board: "a \"board\" \\ of\nmine",
        mode: PowerMode {
            cores: 4,
            cpu_khz: Khz(729_600),
            gpu_khz: Khz(306_000),
            emc_khz: Khz(2_133_000),
        },
        uptime: Duration::from_millis(61_500),
        power_budget_mw: MilliWatt(30_000),
        power_mw: Some(MilliWatt(12_345)),
        latency_budget_us: Some(MicroSec(500_000)),
        arrived: 9,
        rejected: 5,
        bulk_rejected: Some(3),
        telemetry,
        per_second: Some([60.0, 512.25]),
        events: vec![Event {
            at: Duration::from_secs(12),
            text: "power above the budget".into(),
        }],
    }
}

/// A sample line: name, labels, value.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let name_end = line.find(['{', ' ']).expect("a value behind the name");
    let (name, mut rest) = line.split_at(name_end);
    let is_name = |name: &str| {
        let mut characters = name.chars();
        characters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (key, quoted) = label.split_once("=\"").expect("a label with a value");
        assert!(is_name(key), "{line}");
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next().expect("a closing quote") {
                (end, '"') => break end,
                (_, '\\') => match characters.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("escape \\{other} in {line}"),
                },
                (_, character) => value.push(character),
            }
        };
        assert!(
            labels.insert(key.into(), value).is_none(),
            "a label twice: {line}"
        );
        rest = quoted[end + 1..]
            .strip_prefix('}')
            .unwrap_or(&quoted[end + 1..]);
    }
    let value = rest.strip_prefix(' ').expect("a blank before the value");
    (name.into(), labels, value.parse().expect("a number"))
}

/// Checks a page by the rules of the format, and returns its samples as `name{label="value"}`.
fn checked(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line ends, too");
    let mut samples = BTreeMap::new();
    let mut families: Vec<(String, String)> = Vec::new();
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split(' ').next().unwrap().into();
            assert!(
                families.iter().all(|(name, _)| *name != helped),
                "{helped} twice"
            );
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(name, helped, "help and type belong together");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            families.push((name.into(), kind.into()));
        } else {
            let (name, labels, value) = sample(line);
            let (family, kind) = families.last().expect("a type before the first sample");
            let suffix = name.strip_prefix(family.as_str()).expect("its own family");
            let allowed: &[&str] = match kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let key = format!("{name}{labels:?}");
            assert!(samples.insert(key, value).is_none(), "twice: {line}");
        }
    }
    samples
}

#[test]
fn the_page_for_prometheus_keeps_the_format() {
    let telemetry = telemetry();
    let text = page(&snapshot(&telemetry));
    let samples = checked(&text);
    let value = |key: &str| {
        *samples
            .get(key)
            .unwrap_or_else(|| panic!("no {key} in {samples:#?}"))
    };
    assert_eq!(value("fulcrum_requests_total[\"outcome=served\"]"), 4.0);
    assert_eq!(value("fulcrum_requests_total[\"outcome=rejected\"]"), 5.0);
    assert_eq!(value("fulcrum_power_watts[]"), 12.345);
    assert_eq!(value("fulcrum_mode_clock_hertz[\"domain=gpu\"]"), 306e6);
    assert_eq!(value("fulcrum_training_loss[]"), 0.25);
    let info = samples
        .keys()
        .find(|key| key.starts_with("fulcrum_info"))
        .unwrap();
    assert!(info.contains(r#"board=a \"board\" \\ of\nmine"#), "{info}");
    // Buckets: cumulative, ascending, the last one is all.
    let bucket = |le: &str| {
        value(&format!(
            "fulcrum_request_latency_seconds_bucket[\"le={le}\"]"
        ))
    };
    let buckets = ["0.0001", "0.0005", "0.001", "0.05", "5", "+Inf"].map(bucket);
    assert_eq!(buckets, [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]);
    assert_eq!(value("fulcrum_request_latency_seconds_count[]"), 4.0);
    assert!((value("fulcrum_request_latency_seconds_sum[]") - 7.030_99).abs() < 1e-9);
}

#[test]
fn the_page_for_people_says_it_all_and_absent_things_are_left_out() {
    let telemetry = telemetry();
    let mut snapshot = snapshot(&telemetry);
    let text = snapshot.text();
    for part in [
        "12.3 W; budget 30.0 W",
        "max 7000.00 ms; budget 500 ms",
        "9 arrived, 60.0/s",
        "4 served (0 late)",
        "5 rejected",
        "not urgent 2 served, 3 rejected, 0 failed",
        "512.2/s",
        "loss 0.2500",
        "12 s   power above",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(
        snapshot
            .object()
            .to_string()
            .contains("\"arrived_per_s\":60,")
    );
    snapshot.power_mw = None;
    snapshot.latency_budget_us = None;
    snapshot.bulk_rejected = None;
    let text = snapshot.text();
    assert!(
        text.contains("unknown") && !text.contains("requests") && !text.contains("urgent"),
        "{text}"
    );
    let absent = checked(&page(&snapshot));
    assert!(absent.keys().all(|name| !name.contains("bulk")));
}

/// Runs a server of one page.
fn with_server(listener: &Listener, test: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let text = "served\n".to_owned();
            let page = Page {
                content_type: CONTENT_TYPE,
                text,
            };
            listener
                .serve(&done, |path| (path == "/metrics").then(|| page.clone()))
                .unwrap();
        });
        test();
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn pages_come_over_both_kinds_of_socket_and_nobody_can_stop_them() {
    let path: PathBuf = std::env::temp_dir().join(format!("fulcrum-status-{}", std::process::id()));
    let unix = Address::read(path.to_str().unwrap()).unwrap();
    with_server(&unix.listen().unwrap(), || {
        // One that says nothing, one that leaves, one that talks nonsense, one that never ends.
        let silent = UnixStream::connect(&path).unwrap();
        drop(UnixStream::connect(&path).unwrap());
        for nonsense in [
            b"\xff\xfe\r\n\r\n".to_vec(),
            b"POST / HTTP/1.0\r\n\r\n".to_vec(),
            vec![b'x'; 4096],
        ] {
            let mut stream = UnixStream::connect(&path).unwrap();
            let _ = stream.write_all(&nonsense);
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.0 400"),
                "{answer}"
            );
        }
        assert_eq!(unix.fetch("/metrics").unwrap(), "served\n");
        assert!(unix.fetch("/else").unwrap_err().to_string().contains("404"));
        drop(silent);
        // One that never gets done, longer than a reader waits.
        let mut dripping = UnixStream::connect(&path).unwrap();
        let dripping = thread::spawn(move || {
            while dripping.write_all(b"G").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(unix.fetch("/metrics").unwrap(), "served\n");
        dripping.join().unwrap();
    });
    assert!(unix.fetch("/metrics").is_err(), "nobody is there");
    let free = Address::read("127.0.0.1:0").unwrap().listen().unwrap();
    let Listener::Tcp(socket) = &free else {
        panic!("an address is a port")
    };
    let tcp = Address::Port(socket.local_addr().unwrap());
    with_server(&free, || {
        assert_eq!(tcp.fetch("/metrics").unwrap(), "served\n")
    });
}

#[test]
fn a_connection_that_is_closed_unanswered_is_not_the_last_one() {
    let path: PathBuf =
        std::env::temp_dir().join(format!("fulcrum-closing-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        for answers in [false, false, true, false, false, false] {
            let (mut stream, _) = listener.accept().unwrap();
            if answers {
                assert!(stream.read(&mut [0; 64]).unwrap() > 0);
                stream
                    .write_all(b"HTTP/1.0 200 OK\r\n\r\nserved\n")
                    .unwrap();
            }
        }
    });
    let address = Address::read(path.to_str().unwrap()).unwrap();
    assert_eq!(address.fetch("/metrics").unwrap(), "served\n");
    address.fetch("/metrics").unwrap_err();
    server.join().unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn other_machines_are_not_listened_to() {
    for text in ["0.0.0.0:9464", "192.0.2.1:80", "9464", "localhost:9464", ""] {
        assert_eq!(Address::read(text), None, "{text}");
    }
}

#[test]
fn only_the_last_events_are_remembered() {
    let recent = Recent::default();
    for second in 0..40 {
        recent.push(Duration::from_secs(second), second.to_string());
    }
    let events = recent.events();
    assert_eq!((events.len(), events[0].text.as_str()), (16, "24"));
}

//! What ONNX Runtime computes on, and how the loop's thread runs: asked for, it is had, or refused by name.

use fulcrum_tests::device::Device;
use fulcrum_tests::onnxruntime;
use fulcrum_tests::programs::{Answer, fulcrumd};
use std::path::Path;

#[test]
fn a_provider_that_does_not_work_is_refused_or_falls_back_as_asked() {
    let device = Device::new();
    let before = device.board();
    // The library of the tests was built for the CPU alone.
    for provider in ["cuda", "tensorrt", "tensorrt,cuda"] {
        let answer = Answer::of(&mut device.run(&[("--provider", Path::new(provider))]));
        assert_eq!(answer.code, Some(2), "{provider}: {}", answer.text());
        for name in provider.split(',') {
            let refusal = format!("provider {name} does not work here: ");
            assert!(answer.stderr.contains(&refusal), "{}", answer.text());
        }
        assert!(
            answer.stderr.contains("--provider cuda,cpu"),
            "{}",
            answer.text()
        );
        assert_eq!(device.board(), before, "the board was changed");
    }
    let options = [
        ("--provider", Path::new("cuda,cpu")),
        ("--duration-s", Path::new("0.2")),
    ];
    let answer = Answer::of(&mut device.run(&options));
    assert_eq!(answer.code, Some(0), "{}", answer.text());
    assert!(
        answer
            .stderr
            .contains("warning: provider cuda does not work"),
        "{}",
        answer.text()
    );
    assert!(
        answer.stderr.contains("computes on: cpu"),
        "{}",
        answer.text()
    );
    assert!(
        answer.stdout.contains("\"provider\":\"cpu\""),
        "{}",
        answer.text()
    );
}

#[test]
fn doctor_says_which_providers_a_model_ran_on() {
    let device = Device::new();
    let mut doctor = fulcrumd();
    doctor.arg("doctor").arg("--json");
    for (option, path) in [
        ("--sysfs-root", device.path("board")),
        ("--state-dir", device.path("state")),
        ("--onnxruntime", onnxruntime::library().path),
    ] {
        doctor.arg(option).arg(path);
    }
    let answer = Answer::of(&mut doctor).expect(0);
    let report: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of_providers = findings
        .iter()
        .filter(|finding| finding["subject"] == "provider");
    let said: Vec<_> = of_providers
        .map(|finding| (&finding["verdict"], finding["text"].as_str().unwrap()))
        .collect();
    // The library of the tests was built for the CPU alone.
    let expected = [
        ("good", "cpu: a model ran on it"),
        ("limited", "cuda does not work here: "),
        ("limited", "tensorrt does not work here: "),
    ];
    assert_eq!(said.len(), expected.len(), "{answer}");
    for ((verdict, text), (expected_verdict, start)) in said.iter().zip(expected) {
        assert_eq!(*verdict, expected_verdict, "{answer}");
        assert!(text.starts_with(start), "{answer}");
    }
}

#[test]
fn the_loops_thread_is_pinned_and_in_real_time_or_the_reason_is_said() {
    let device = Device::new();
    let before = device.board();
    let mut command = device.run(&[("--duration-s", Path::new("1"))]);
    let answer = Answer::of(command.args(["--pin", "--realtime"]));
    match answer.code {
        Some(0) => assert!(
            answer.stdout.contains("\"allocations_in_loop\":0"),
            "{}",
            answer.text()
        ),
        code => {
            // A machine without the right to it, such as most containers.
            assert_eq!(code, Some(2), "{}", answer.text());
            assert!(answer.stderr.contains("--realtime: "), "{}", answer.text());
            assert!(answer.stderr.contains("CAP_SYS_NICE"), "{}", answer.text());
        }
    }
    assert_eq!(device.board(), before);
    let answer = Answer::of(device.run(&[("--duration-s", Path::new("1"))]).arg("--pin"));
    assert!(!answer.stderr.contains("--pin"), "{}", answer.text());
    assert!(answer.expect(0).contains("\"allocations_in_loop\":0"));
}

//! What ONNX Runtime computes on, and how the loop's thread runs: asked for, it is had, or refused by name.

use fulcrum_tests::device::Device;
use fulcrum_tests::programs::Answer;
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

//! A limit on ONNX Runtime's memory: goal is that all sessions share one arena that is taken from the system at once,
//! that what does not fit is refused with the reason, and that results are those without a limit.

use fulcrum_runtime::engine::{
    Engine, InferenceSession, ModelError, ModelProblem, Parameters, SessionOptions, TrainingSession,
};
use fulcrum_tests::device::Device;
use fulcrum_tests::models::{digits, fill};
use fulcrum_tests::onnxruntime::engine;
use fulcrum_tests::programs::Answer;
use std::fs;
use std::path::Path;

const LIMIT_MIB: u16 = 256;

/// Pages that the process has mapped, in KiB.
fn mapped_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Losses of ten steps, and what inference then says, as bits.
fn trained(engine: &Engine) -> Vec<u32> {
    let step = digits("train.onnx");
    let (mut training, mut parameters) =
        TrainingSession::load(engine, &step, SessionOptions::default()).unwrap();
    let mut inference = infers(engine, 16, &parameters).unwrap();
    fill(&mut training, 1);
    let mut bits = Vec::new();
    for _ in 0..10 {
        bits.push(training.step(&mut parameters).unwrap().to_bits());
    }
    inference.x_mut().fill(0.5);
    inference.run(Some(&parameters)).unwrap();
    bits.extend(inference.logits().iter().map(|logit| logit.to_bits()));
    bits
}

fn infers(
    engine: &Engine,
    batch: u32,
    parameters: &Parameters,
) -> Result<InferenceSession, ModelError> {
    let options = SessionOptions::with_batch(batch);
    InferenceSession::load(engine, &digits("infer.onnx"), options, Some(parameters))
}

#[test]
fn sessions_share_one_arena_and_what_does_not_fit_is_refused() {
    let free = trained(engine());
    let before_kib = mapped_kib();
    let limited = engine().clone().within(LIMIT_MIB).unwrap();
    assert_eq!(trained(&limited), free, "the same bits");
    let first_kib = mapped_kib();
    let limit_kib = u64::from(LIMIT_MIB) << 10;
    assert!(first_kib - before_kib >= limit_kib, "taken as a whole");
    assert_eq!(trained(&limited), free);
    assert!(mapped_kib() - first_kib < limit_kib, "and once");

    // What the first layer hands to the second: 64 values of 4 bytes per sample, 256 MiB.
    let step = digits("train.onnx");
    let (_, parameters) =
        TrainingSession::load(&limited, &step, SessionOptions::default()).unwrap();
    let refused = infers(&limited, 1 << 20, &parameters).err().unwrap();
    assert!(
        matches!(refused.problem, ModelProblem::WarmUp { .. }),
        "{refused}"
    );
    let reason = refused.to_string();
    assert!(reason.contains("smaller than requested bytes"), "{reason}");
    assert_eq!(trained(&limited), free, "the others go on");
}

#[test]
fn a_run_keeps_to_its_limit() {
    let device = Device::new();
    let summary = Answer::of(&mut device.run(&[("--engine-memory-mib", Path::new("64"))]));
    let summary = summary.expect(0);
    assert!(summary.contains("\"event\":\"summary\""), "{summary}");
}

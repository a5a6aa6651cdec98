//! Models for tests with real sessions: the digits model, and the small graphs of `fixtures/engine`.

use crate::onnxruntime;
use fulcrum_runtime::engine::{Parameters, SessionOptions, Targets, TrainingSession, params};
use std::fs;
use std::path::{Path, PathBuf};

/// A file of the digits model.
#[must_use]
pub fn digits(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tools/models/digits")
        .join(file)
}

/// A graph of `fixtures/engine`.
#[must_use]
pub fn engine(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/engine")
        .join(file)
}

/// A graph of `fixtures/engine`, copied into `folder` with a parameter file of these tensors beside it.
///
/// # Panics
/// When the files cannot be written.
#[must_use]
pub fn fixture(folder: &Path, name: &str, tensors: &[&[f32]]) -> PathBuf {
    let model = folder.join(name);
    fs::copy(engine(name), &model).expect("the fixture");
    let file = model.with_extension("params");
    params::write(&file, tensors.iter().copied(), None).expect("its parameter file");
    model
}

/// A training step with the graph's own batch, on one thread.
///
/// # Panics
/// When it does not load.
#[must_use]
pub fn load(model: &Path) -> (TrainingSession, Parameters) {
    TrainingSession::load(onnxruntime::engine(), model, SessionOptions::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Fills a batch with numbers that depend on `step` alone.
pub fn fill(training: &mut TrainingSession, step: u64) {
    let (x, y) = training.x_and_y_mut();
    let mut state = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    x.fill_with(&mut next);
    match y {
        Targets::Classes(classes) => classes.fill_with(|| (next() * 10.0) as i64),
        Targets::Values(values) => values.fill_with(next),
    }
}

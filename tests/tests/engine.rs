//! The engine with the real ONNX Runtime: goal is that training and inference are right, that whatever fails
//! changes no parameter, and that a wrong model is refused with what is wrong. Method: the digits model and
//! the small graphs of `fixtures/engine`.

use fulcrum_runtime::data::{Batches, LabelKind, Records};
use fulcrum_runtime::engine::{
    Engine, InferenceSession, ModelError, ModelProblem, Parameters, RunError, SessionOptions,
    Targets, TrainingSession,
};
use fulcrum_tests::models::{digits, fill, fixture, load};
use fulcrum_tests::onnxruntime::{self, engine};
use fulcrum_tests::running::PATIENCE;
use fulcrum_tests::tree::TemporaryFolder;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

fn problem(model: &Path) -> ModelError {
    let loaded = TrainingSession::load(engine(), model, SessionOptions::default());
    loaded.err().expect("the model is wrong")
}

fn bits(parameters: &Parameters) -> Vec<Vec<u32>> {
    let tensors = parameters
        .specs()
        .iter()
        .map(|spec| parameters.tensor(&spec.name).unwrap());
    tensors
        .map(|values| values.iter().map(|value| value.to_bits()).collect())
        .collect()
}

/// Share of the samples whose largest logit is that of their class.
fn accuracy(inference: &mut InferenceSession, parameters: &Parameters, records: &Records) -> f64 {
    let (batch, sample_len) = (inference.batch(), inference.sample_len());
    let mut correct = 0;
    for first in (0..records.count()).step_by(batch as usize) {
        let samples = first..records.count().min(first + batch);
        for (index, sample) in samples
            .clone()
            .zip(inference.x_mut().chunks_mut(sample_len))
        {
            records.copy_sample(index, sample);
        }
        inference.run(Some(parameters)).unwrap();
        for (index, logits) in samples.zip(inference.logits().chunks(10)) {
            let best =
                (0..10_i64).max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]));
            correct += u32::from(best == Some(records.label(index)));
        }
    }
    f64::from(correct) / f64::from(records.count())
}

#[test]
fn training_on_digits_passes_95_percent_on_samples_it_never_saw() {
    const STEPS: u32 = 3_000;
    let files = onnxruntime::digits();
    let (mut training, mut parameters) = load(&digits("train.onnx"));
    let options = SessionOptions::with_batch(32);
    let mut inference =
        InferenceSession::load(engine(), &digits("infer.onnx"), options, Some(&parameters))
            .unwrap();
    let held_out = Records::open(&files.held_out).unwrap();
    let train = Records::open(&files.train).unwrap();
    assert_eq!(
        (train.count(), held_out.count(), train.labels()),
        (1500, 297, LabelKind::Class(10))
    );
    assert_eq!(training.classes(), Some(10));
    train
        .expect_elements(training.sample_len(), &files.train)
        .unwrap();
    let before = accuracy(&mut inference, &parameters, &held_out);
    for (rate, seed) in [(0.05, 1), (0.1, 2)] {
        parameters.restore(&digits("train.params"), None).unwrap();
        let mut batches = Batches::new(Records::open(&files.train).unwrap(), seed);
        training.set_learning_rate(rate);
        let mut losses = Vec::new();
        for _ in 0..STEPS {
            let (x, y) = training.x_and_y_mut();
            batches.fill(x, y);
            losses.push(training.step(&mut parameters).unwrap());
        }
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (mean(&losses[..50]), mean(&losses[losses.len() - 200..]));
        let after = accuracy(&mut inference, &parameters, &held_out);
        println!("rate {rate}: loss {first:.3} -> {last:.4}, accuracy {before:.3} -> {after:.4}");
        assert!(
            before < 0.3 && after > 0.95,
            "rate {rate}, seed {seed}: {before} -> {after}"
        );
        assert!(
            last < 0.1 * first,
            "rate {rate}, seed {seed}: loss {first} -> {last}"
        );
    }
}

#[test]
fn ping_pong_equals_copying_back_bit_for_bit() {
    let folder = TemporaryFolder::new();
    const STEPS: u64 = 40;
    let (mut training, mut parameters) = load(&digits("train.onnx"));
    training.set_learning_rate(0.2);
    let mut losses = Vec::new();
    for step in 0..STEPS {
        fill(&mut training, step);
        losses.push(training.step(&mut parameters).unwrap());
    }
    // The reference: every step reads the same memory, into which the result of the one before is copied.
    let carried = folder.path().join("copied-back.params");
    fs::copy(digits("train.params"), &carried).unwrap();
    let mut reference = Vec::new();
    for (step, &loss) in (0..STEPS).zip(&losses) {
        let (mut training, mut parameters) = load(&digits("train.onnx"));
        parameters.restore(&carried, None).unwrap();
        training.set_learning_rate(0.2);
        fill(&mut training, step);
        assert_eq!(
            training.step(&mut parameters).unwrap().to_bits(),
            loss.to_bits(),
            "step {step}"
        );
        parameters.save(&carried, None).unwrap();
        reference = bits(&parameters);
    }
    assert_eq!(bits(&parameters), reference);
    assert_ne!(losses.first(), losses.last());
}

#[test]
fn inference_sees_the_parameters_of_the_last_step() {
    let folder = TemporaryFolder::new();
    let (mut training, mut parameters) = load(&digits("train.onnx"));
    let mut inference = InferenceSession::load(
        engine(),
        &digits("infer.onnx"),
        SessionOptions::with_batch(16),
        Some(&parameters),
    )
    .unwrap();
    training.set_learning_rate(0.2);
    let saved = folder.path().join("live.params");
    for step in 0..5 {
        fill(&mut training, step);
        training.step(&mut parameters).unwrap();
        inference.x_mut().copy_from_slice(training.x_mut());
        inference.run(Some(&parameters)).unwrap();
        parameters.save(&saved, None).unwrap();
        let (mut frozen, own) = InferenceSession::load_with_file(
            engine(),
            &digits("infer.onnx"),
            SessionOptions::with_batch(16),
            &saved,
        )
        .unwrap();
        frozen.x_mut().copy_from_slice(training.x_mut());
        frozen.run(Some(&own)).unwrap();
        assert_eq!(inference.logits(), frozen.logits(), "after step {step}");
        assert!(inference.logits().iter().any(|&logit| logit != 0.0));
    }
}

#[test]
fn sessions_that_copy_their_tensors_compute_the_same_bits() {
    let run = |engine: &Engine| {
        let (mut training, mut parameters) =
            TrainingSession::load(engine, &digits("train.onnx"), SessionOptions::default())
                .unwrap();
        let mut inference = InferenceSession::load(
            engine,
            &digits("infer.onnx"),
            SessionOptions::with_batch(16),
            Some(&parameters),
        )
        .unwrap();
        training.set_learning_rate(0.1);
        let mut seen = Vec::new();
        for step in 0..20 {
            fill(&mut training, step);
            seen.push(training.step(&mut parameters).unwrap().to_bits());
            inference.x_mut().copy_from_slice(training.x_mut());
            inference.run(Some(&parameters)).unwrap();
            seen.extend(inference.logits().iter().map(|logit| logit.to_bits()));
        }
        (seen, bits(&parameters))
    };
    assert_eq!(run(&engine().clone().copying()), run(engine()));
}

#[test]
fn tensors_are_carried_by_name_whatever_their_order() {
    let folder = TemporaryFolder::new();
    let model = fixture(
        folder.path(),
        "several_pairs.onnx",
        &[&[0.0], &[0.0; 3], &[0.0]],
    );
    let (mut training, mut parameters) = load(&model);
    let names: Vec<&str> = parameters
        .specs()
        .iter()
        .map(|spec| spec.name.as_str())
        .collect();
    assert_eq!(names, ["t", "w", "b"], "in the order of the graph's inputs");
    training.set_learning_rate(0.1);
    let mut loss = f32::NAN;
    for _ in 0..500 {
        // y = x0 + 2 x1 + 3 x2 + 4 at two points.
        let (x, y) = training.x_and_y_mut();
        x.copy_from_slice(&[1.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
        let Targets::Values(y) = y else {
            panic!("float targets")
        };
        y.copy_from_slice(&[8.0, 9.0]);
        loss = training.step(&mut parameters).unwrap();
    }
    assert!(loss < 1e-6, "loss {loss}");
    assert_eq!(parameters.tensor("t"), Some(&[500.0][..]));
}

#[test]
fn a_model_with_its_own_weights_needs_no_parameters() {
    let folder = TemporaryFolder::new();
    let model = fixture(folder.path(), "own_weights.onnx", &[]);
    let options = SessionOptions::with_batch(2);
    let mut inference = InferenceSession::load(engine(), &model, options, None).unwrap();
    inference
        .x_mut()
        .copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    inference.run(None).unwrap();
    assert_eq!(inference.logits(), [4.0, 5.0, 10.0, 11.0]);
    assert_eq!(
        (
            inference.batch(),
            inference.sample_len(),
            inference.output_len()
        ),
        (2, 3, 2)
    );
    // Beside a training step too, on either side of its parameters.
    let (mut training, mut parameters) = load(&digits("train.onnx"));
    for _ in 0..2 {
        training.step(&mut parameters).unwrap();
        inference.run(Some(&parameters)).unwrap();
        assert_eq!(inference.logits(), [4.0, 5.0, 10.0, 11.0]);
    }
}

#[test]
fn a_failed_step_changes_nothing() {
    let folder = TemporaryFolder::new();
    let model = fixture(folder.path(), "fails.onnx", &[&[1.0, 2.0, 3.0, 4.0]]);
    let (mut training, mut parameters) = load(&model);
    training.set_learning_rate(0.5);
    training.x_mut().fill(1.0);
    let Targets::Classes(y) = training.y_mut() else {
        panic!("class targets")
    };
    y.copy_from_slice(&[0, 9]);
    let error = training.step(&mut parameters).unwrap_err();
    assert!(matches!(error, RunError::Failed { .. }), "{error:?}");
    assert!(
        training
            .last_error()
            .contains("indices element out of data bounds")
    );
    assert_eq!(parameters.tensor("theta"), Some(&[1.0, 2.0, 3.0, 4.0][..]));
    // And the session still works: theta - 0.5 * 8.
    let Targets::Classes(y) = training.y_mut() else {
        panic!("class targets")
    };
    y.fill(0);
    assert_eq!(training.step(&mut parameters), Ok(-6.0));
    assert_eq!(
        parameters.tensor("theta"),
        Some(&[-3.0, -2.0, -1.0, 0.0][..])
    );
}

#[test]
fn a_cancelled_step_changes_nothing() {
    let folder = TemporaryFolder::new();
    let start: Vec<f32> = (0..384 * 384)
        .map(|i| ((i * 7919) % 1000) as f32 / 20_000.0)
        .collect();
    let model = fixture(folder.path(), "slow.onnx", &[&start]);
    let (mut training, mut parameters) = load(&model);
    training.x_mut().fill(0.01);
    training.set_learning_rate(0.001);
    // A cancel without a running step does nothing.
    let handle = training.cancel_handle();
    handle.cancel();
    // Until one that is cancelled ends early: on a busy machine not every cancel comes in time.
    let patience = Instant::now();
    let before = loop {
        assert!(patience.elapsed() < PATIENCE, "no step ended early");
        parameters
            .restore(&model.with_extension("params"), None)
            .unwrap();
        let began = Instant::now();
        training.step(&mut parameters).unwrap();
        let whole = began.elapsed();
        let before = bits(&parameters);
        let canceller = thread::spawn({
            let handle = handle.clone();
            move || {
                thread::sleep(whole / 4);
                handle.cancel();
            }
        });
        let began = Instant::now();
        let result = training.step(&mut parameters);
        let took = began.elapsed();
        canceller.join().unwrap();
        if result == Err(RunError::Cancelled) {
            assert_eq!(bits(&parameters), before);
            if took < whole {
                break before;
            }
        }
    };
    training.step(&mut parameters).unwrap();
    assert_ne!(
        bits(&parameters),
        before,
        "the session works after a cancelled step"
    );
}

#[test]
fn parameters_of_another_session_are_refused() {
    let (mut training, mut parameters) = load(&digits("train.onnx"));
    let (_, mut others) = load(&digits("train.onnx"));
    let options = SessionOptions::with_batch(4);
    let mut inference =
        InferenceSession::load(engine(), &digits("infer.onnx"), options, Some(&parameters))
            .unwrap();
    assert_eq!(training.step(&mut others), Err(RunError::ForeignParameters));
    assert_eq!(
        inference.run(Some(&others)),
        Err(RunError::ForeignParameters)
    );
    assert_eq!(inference.run(None), Err(RunError::ForeignParameters));
    assert_eq!(inference.run(Some(&parameters)), Ok(()));
    assert!(training.step(&mut parameters).is_ok());
}

#[test]
fn a_wrong_training_step_is_refused_with_what_is_wrong() {
    let folder = TemporaryFolder::new();
    let says = |name: &str, expected: &[&str]| {
        let model = fixture(folder.path(), name, &[&[0.0; 4]]);
        let error = problem(&model).to_string();
        let expected = expected.iter().chain([&name]);
        for &part in expected {
            assert!(error.contains(part), "{name}: no `{part}` in: {error}");
        }
    };
    says("no_lr.onnx", &["input `lr` is missing", "float32 scalar"]);
    says("no_loss.onnx", &["output `loss` is missing"]);
    says("no_new.onnx", &["input `theta`", "`theta.new`"]);
    says("no_input.onnx", &["output `phi.new` has no input `phi`"]);
    says("other_shape.onnx", &["`phi.new` has shape []", "[4]"]);
    says("double.onnx", &["`phi` holds", "expected float32"]);
    says("dynamic.onnx", &["dimension 0 of `phi`", "symbol `length`"]);
    says("own_weights.onnx", &["dimension 0 of `x`", "symbol `n`"]);
}

#[test]
fn a_batch_the_graph_does_not_have_is_refused() {
    let options = SessionOptions::with_batch(32);
    let error = TrainingSession::load(engine(), &digits("train.onnx"), options)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("`x` has shape [16,1,8,8], expected [32,...]"),
        "{error}"
    );
}

#[test]
fn a_wrong_inference_model_is_refused_with_what_is_wrong() {
    let folder = TemporaryFolder::new();
    let options = SessionOptions::with_batch(4);
    let infer = digits("infer.onnx");
    let error = |parameters: Option<&Parameters>| {
        let loaded = InferenceSession::load(engine(), &infer, options, parameters);
        loaded.err().expect("refused").to_string()
    };
    let without = error(None);
    assert!(
        without.contains("input `theta`") && without.contains("no training step"),
        "{without}"
    );
    let (_, other) = load(&fixture(
        folder.path(),
        "several_pairs.onnx",
        &[&[0.0], &[0.0; 3], &[0.0]],
    ));
    let foreign = error(Some(&other));
    assert!(
        foreign.contains("input `theta`") && foreign.contains("`t`, `w`, `b`"),
        "{foreign}"
    );
    let (_, smaller) = load(&fixture(folder.path(), "plain.onnx", &[&[0.0; 4]]));
    let shape = error(Some(&smaller));
    assert!(
        shape.contains("`theta` has shape [1898], expected [4]"),
        "{shape}"
    );
}

#[test]
fn a_missing_or_foreign_file_is_refused_by_name() {
    let folder = TemporaryFolder::new();
    let missing = problem(Path::new("no/such/step.onnx")).to_string();
    assert!(missing.contains("no/such/step.onnx"), "{missing}");

    let text = fixture(folder.path(), "plain.onnx", &[&[0.0; 4]]);
    fs::write(&text, "no model").unwrap();
    assert!(matches!(problem(&text).problem, ModelProblem::Load { .. }));

    let no_params = fixture(folder.path(), "plain.onnx", &[&[0.0; 4]]);
    fs::remove_file(no_params.with_extension("params")).unwrap();
    let error = problem(&no_params).to_string();
    assert!(error.contains("plain.params: not found"), "{error}");

    let others = problem(&fixture(folder.path(), "plain.onnx", &[&[0.0; 5]])).to_string();
    assert!(
        others.contains("5 elements for `theta`, the model has 4"),
        "{others}"
    );
    let more = problem(&fixture(folder.path(), "plain.onnx", &[&[0.0; 4], &[0.0]])).to_string();
    assert!(
        more.contains("holds 2 tensors, the model carries 1"),
        "{more}"
    );
}

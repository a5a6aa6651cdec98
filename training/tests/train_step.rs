//! Whole training steps, evaluated in float64: contract, optimizers, layouts, fine-tuning, files.

use fulcrum_training::evaluator::{Array, run_model};
use fulcrum_training::flat::Entry;
use fulcrum_training::onnx::{Attributes, Data, Dimension, Element, Node, Tensor, ValueInfo};
use fulcrum_training::{
    BuildError, Files, Layout, Loss, Model, Optimizer, Options, TrainStep, build, params,
};
use std::collections::BTreeMap;

/// Deterministic numbers between −0.5 and 0.5.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn tensor(shape: &[usize], seed: u32) -> Tensor {
    let data = numbers(shape.iter().product(), seed);
    Tensor::new(shape.to_vec(), Data::F32(data)).unwrap()
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: Attributes) -> Node {
    Node {
        name: format!("the {output} node"),
        operator: operator.to_owned(),
        domain: String::new(),
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        outputs: vec![output.to_owned()],
        attributes,
    }
}

fn model(shape: &[usize], initializers: Vec<(&str, Tensor)>, nodes: Vec<Node>) -> Model {
    let batch = Dimension::Symbol("batch".to_owned());
    let inner = shape.iter().map(|size| Dimension::Fixed(*size));
    let output = nodes.last().unwrap().outputs[0].clone();
    Model {
        name: "forward".to_owned(),
        opset: 17,
        inputs: vec![ValueInfo {
            name: "input".to_owned(),
            element: Element::F32,
            shape: Some(std::iter::once(batch).chain(inner).collect()),
        }],
        outputs: vec![ValueInfo {
            name: output,
            element: Element::F32,
            shape: None,
        }],
        initializers: initializers
            .into_iter()
            .map(|(name, t)| (name.to_owned(), t))
            .collect(),
        nodes,
    }
}

/// Two dense layers: 4 → 5 → 3.
fn perceptron() -> Model {
    model(
        &[4],
        vec![
            ("first.weight", tensor(&[4, 5], 1)),
            ("first.bias", tensor(&[5], 2)),
            ("second.weight", tensor(&[3, 5], 3)),
            ("second.bias", tensor(&[3], 4)),
        ],
        vec![
            node(
                "Gemm",
                &["input", "first.weight", "first.bias"],
                "hidden",
                Attributes::new(),
            ),
            node("Tanh", &["hidden"], "active", Attributes::new()),
            node(
                "Gemm",
                &["active", "second.weight", "second.bias"],
                "scores",
                Attributes::new().int("transB", 1),
            ),
        ],
    )
}

/// Convolution, batch normalization, mean over space.
fn normalized() -> Model {
    model(
        &[1, 4, 4],
        vec![
            ("conv.weight", tensor(&[3, 1, 3, 3], 5)),
            ("bn.scale", tensor(&[3], 6)),
            ("bn.bias", tensor(&[3], 7)),
            (
                "bn.mean",
                Tensor::new(vec![3], Data::F32(vec![0.0; 3])).unwrap(),
            ),
            (
                "bn.var",
                Tensor::new(vec![3], Data::F32(vec![1.0; 3])).unwrap(),
            ),
        ],
        vec![
            node("Conv", &["input", "conv.weight"], "conv", Attributes::new()),
            node(
                "BatchNormalization",
                &["conv", "bn.scale", "bn.bias", "bn.mean", "bn.var"],
                "bn",
                Attributes::new()
                    .float("momentum", 0.75)
                    .int("training_mode", 1),
            ),
            node("GlobalAveragePool", &["bn"], "pooled", Attributes::new()),
            node("Flatten", &["pooled"], "scores", Attributes::new()),
        ],
    )
}

fn options(optimizer: Optimizer, batch: usize) -> Options {
    Options::new(Loss::CrossEntropy, optimizer, batch)
}

fn floats(shape: &[usize], values: &[f32]) -> Array {
    Array::new(
        Element::F32,
        shape,
        values.iter().map(|v| f64::from(*v)).collect(),
    )
}

/// A training run in the evaluator: vectors `theta` and `state`, and the losses.
struct Training {
    step: TrainStep,
    theta: Array,
    state: Array,
    losses: Vec<f64>,
}

impl Training {
    fn new(step: TrainStep) -> Training {
        let (theta, state) = (step.parameters.initial(), step.state.initial());
        Training {
            theta: floats(&[theta.len()], theta),
            state: floats(&[state.len()], state),
            step,
            losses: Vec::new(),
        }
    }

    fn run(&mut self, x: &Array, labels: &[f64], rate: f32) {
        let y = Array::new(Element::I64, &[labels.len()], labels.to_vec());
        let inputs = BTreeMap::from([
            ("x", x.clone()),
            ("y", y),
            ("lr", floats(&[], &[rate])),
            ("theta", self.theta.clone()),
            ("state", self.state.clone()),
        ]);
        let mut outputs = run_model(&self.step.step, &inputs).unwrap();
        self.theta = outputs.remove("theta.new").unwrap();
        self.state = outputs.remove("state.new").unwrap();
        self.losses.push(outputs["loss"].data[0]);
    }

    fn state_of(&self, name: &str) -> Vec<f64> {
        let entry = self
            .step
            .state
            .entries()
            .iter()
            .find(|entry| entry.name == name)
            .unwrap();
        self.state.data[entry.offset..entry.offset + entry.count()].to_vec()
    }
}

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

fn batch(rows: usize) -> (Array, Vec<f64>) {
    let labels = (0..rows).map(|row| (row % 3) as f64).collect();
    (floats(&[rows, 4], &numbers(rows * 4, 9)), labels)
}

#[test]
fn the_flat_contract_has_the_same_names_for_every_model_and_optimizer() {
    for model in [perceptron(), normalized()] {
        for optimizer in [
            Optimizer::Sgd,
            Optimizer::Momentum,
            Optimizer::Adam,
            Optimizer::AdamW,
        ] {
            let step = build(&model, &options(optimizer, 6)).unwrap().step;
            let inputs: Vec<&str> = step
                .inputs
                .iter()
                .map(|input| input.name.as_str())
                .collect();
            let outputs: Vec<&str> = step
                .outputs
                .iter()
                .map(|output| output.name.as_str())
                .collect();
            assert_eq!(inputs, ["x", "y", "lr", "theta", "state"]);
            assert_eq!(outputs, ["theta.new", "state.new", "loss"]);
        }
    }
}

#[test]
fn a_written_step_reads_back_as_it_was_built() {
    let built = build(&normalized(), &options(Optimizer::Adam, 6)).unwrap();
    assert_eq!(
        Model::decode(&built.step.encode(&[]), None).unwrap(),
        built.step
    );
    assert_eq!(
        Model::decode(&built.inference.encode(&[]), None).unwrap(),
        built.inference
    );
}

#[test]
fn every_optimizer_lowers_the_loss() {
    for optimizer in [
        Optimizer::Sgd,
        Optimizer::Momentum,
        Optimizer::Adam,
        Optimizer::AdamW,
    ] {
        let mut training = Training::new(build(&perceptron(), &options(optimizer, 6)).unwrap());
        let (x, y) = batch(6);
        for _ in 0..60 {
            training.run(&x, &y, 0.1);
        }
        let (first, last) = (training.losses[0], training.losses[59]);
        assert!(last < 0.9 * first, "{optimizer}: {first} to {last}");
    }
}

/// Gradients of the perceptron's first batch: what plain descent with rate 1 subtracts.
fn gradients() -> Vec<f64> {
    let mut training = Training::new(build(&perceptron(), &options(Optimizer::Sgd, 6)).unwrap());
    let before = training.theta.data.clone();
    let (x, y) = batch(6);
    training.run(&x, &y, 1.0);
    before
        .iter()
        .zip(&training.theta.data)
        .map(|(old, new)| old - new)
        .collect()
}

/// `f(θ, g)` for every parameter.
fn expected(f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let step = build(&perceptron(), &options(Optimizer::Sgd, 6)).unwrap();
    let theta = step.parameters.initial();
    theta
        .iter()
        .zip(gradients())
        .map(|(theta, g)| f(f64::from(*theta), g))
        .collect()
}

fn after_one_step(options: &Options, rate: f32) -> Vec<f64> {
    let mut training = Training::new(build(&perceptron(), options).unwrap());
    let (x, y) = batch(6);
    training.run(&x, &y, rate);
    training.theta.data
}

#[test]
fn momentum_moves_by_its_velocity() {
    let mut training =
        Training::new(build(&perceptron(), &options(Optimizer::Momentum, 6)).unwrap());
    let (x, y) = batch(6);
    let before = training.theta.data.clone();
    training.run(&x, &y, 0.0);
    assert_eq!(training.theta.data, before, "a rate of zero moves nothing");
    assert!(close(&training.state_of("velocity"), &gradients(), 1e-12));
    training.run(&x, &y, 0.0);
    let twice: Vec<f64> = gradients()
        .iter()
        .map(|g| g + f64::from(0.9_f32) * g)
        .collect();
    assert!(close(&training.state_of("velocity"), &twice, 1e-12));
}

#[test]
fn dampened_momentum_is_a_running_mean() {
    let mut with = options(Optimizer::Momentum, 6);
    with.dampening = 0.75;
    let found = after_one_step(&with, 1.0);
    assert!(close(&found, &expected(|theta, g| theta - 0.25 * g), 1e-9));
}

#[test]
fn the_first_step_of_adam_is_the_sign_of_the_gradient() {
    // m/c₁ = g and √(v/c₂) = |g|.
    let found = after_one_step(&options(Optimizer::Adam, 6), 0.01);
    let rate = f64::from(0.01_f32);
    let sign = expected(|theta, g| theta - rate * g / (g.abs() + 1e-8));
    assert!(close(&found, &sign, 1e-6));
}

#[test]
fn weight_decay_is_added_to_the_gradient_except_by_adamw() {
    let mut with = options(Optimizer::Sgd, 6);
    with.weight_decay = Some(0.5);
    let pulled = expected(|theta, g| theta - 0.25 * (g + 0.5 * theta));
    assert!(close(&after_one_step(&with, 0.25), &pulled, 1e-9));

    let mut with = options(Optimizer::AdamW, 6);
    with.weight_decay = Some(0.5);
    let decoupled = expected(|theta, g| theta - 0.25 * 0.5 * theta - 0.25 * g / (g.abs() + 1e-8));
    assert!(close(&after_one_step(&with, 0.25), &decoupled, 1e-5));
}

#[test]
fn parameters_spared_from_decay_move_as_without() {
    for optimizer in [Optimizer::Sgd, Optimizer::AdamW] {
        let decayed = |no_decay: Option<&str>, layout: Layout, decay: f32| {
            let mut options = options(optimizer, 6);
            options.weight_decay = Some(decay);
            options.no_decay = no_decay.map(|expression| expression.parse().unwrap());
            options.layout = layout;
            let made = build(&perceptron(), &options).unwrap();
            let names: Vec<String> = made
                .parameters
                .entries()
                .iter()
                .map(|entry| entry.name.clone())
                .collect();
            (names, parameters_after(&made, layout, 0.25))
        };
        let (names, all) = decayed(None, Layout::Flat, 0.5);
        let (_, none) = decayed(None, Layout::Flat, 0.0);
        for layout in [Layout::Flat, Layout::Named] {
            let (_, spared) = decayed(Some("bias$"), layout, 0.5);
            assert!(names.iter().any(|name| name.ends_with("bias")));
            assert!(names.iter().any(|name| !name.ends_with("bias")));
            for (position, name) in names.iter().enumerate() {
                let expected = if name.ends_with("bias") { &none } else { &all };
                assert!(
                    close(&spared[position], &expected[position], 1e-12),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn an_expression_that_matches_nothing_is_refused_with_the_names() {
    for option in ["--freeze", "--no-decay"] {
        let mut options = options(Optimizer::Sgd, 4);
        let expression = Some("backbone".parse().unwrap());
        if option == "--freeze" {
            options.freeze = expression;
        } else {
            options.no_decay = expression;
        }
        let error = build(&perceptron(), &options).unwrap_err().to_string();
        let first = &build(&perceptron(), &self::options(Optimizer::Sgd, 4)).unwrap();
        let name = &first.parameters.entries()[0].name;
        for part in [option, "backbone", name] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn clipping_scales_the_whole_gradient_to_the_norm_and_never_up() {
    let norm = gradients().iter().map(|g| g * g).sum::<f64>().sqrt();
    let mut with = options(Optimizer::Sgd, 6);
    with.clip_norm = Some((norm / 2.0) as f32);
    let halved = expected(|theta, g| theta - 0.5 * g);
    assert!(close(&after_one_step(&with, 1.0), &halved, 1e-5));
    with.clip_norm = Some((norm * 2.0) as f32);
    assert!(close(
        &after_one_step(&with, 1.0),
        &expected(|theta, g| theta - g),
        1e-9
    ));
}

#[test]
fn accumulated_micro_batches_move_like_one_large_batch() {
    for optimizer in [Optimizer::Momentum, Optimizer::Adam] {
        let mut whole = Training::new(build(&perceptron(), &options(optimizer, 6)).unwrap());
        let mut parts = options(optimizer, 2);
        parts.accumulate = 3;
        let mut parts = Training::new(build(&perceptron(), &parts).unwrap());
        let (x, y) = batch(6);
        for _ in 0..2 {
            whole.run(&x, &y, 0.1);
            for part in 0..3 {
                let rows = Array::new(Element::F32, &[2, 4], x.data[part * 8..][..8].to_vec());
                let before = parts.theta.data.clone();
                parts.run(&rows, &y[part * 2..][..2], 0.1);
                assert_eq!(
                    parts.theta.data == before,
                    part < 2,
                    "only the last run updates"
                );
            }
            assert!(
                close(&whole.theta.data, &parts.theta.data, 1e-6),
                "{optimizer}"
            );
        }
        assert_eq!(parts.state_of("step"), [6.0]);
        assert!(parts.state_of("gradient").iter().all(|sum| *sum == 0.0));
    }
}

/// Outputs of the first step of the named layout.
fn named_outputs(made: &TrainStep, rate: f32) -> BTreeMap<String, Array> {
    let (x, y) = batch(6);
    let mut inputs = BTreeMap::from([
        ("x", x),
        ("y", Array::new(Element::I64, &[6], y)),
        ("lr", floats(&[], &[rate])),
    ]);
    for layout in [&made.parameters, &made.state] {
        for entry in layout.entries() {
            let values = &layout.initial()[entry.offset..entry.offset + entry.count()];
            inputs.insert(&entry.name, floats(&entry.shape, values));
        }
    }
    run_model(&made.step, &inputs).unwrap()
}

/// Every parameter after the first step.
fn parameters_after(made: &TrainStep, layout: Layout, rate: f32) -> Vec<Vec<f64>> {
    let entries = made.parameters.entries();
    if layout == Layout::Named {
        let mut outputs = named_outputs(made, rate);
        let each = entries.iter().map(|entry| format!("{}.new", entry.name));
        return each
            .map(|name| outputs.remove(&name).unwrap().data)
            .collect();
    }
    let mut training = Training::new(made.clone());
    let (x, y) = batch(6);
    training.run(&x, &y, rate);
    let cut = |entry: &Entry| training.theta.data[entry.offset..][..entry.count()].to_vec();
    entries.iter().map(cut).collect()
}

#[test]
fn the_named_layout_computes_what_the_flat_one_does() {
    let mut named = options(Optimizer::Adam, 6);
    named.layout = Layout::Named;
    let named = build(&perceptron(), &named).unwrap();
    assert!(close(
        &parameters_after(&named, Layout::Named, 0.1).concat(),
        &after_one_step(&options(Optimizer::Adam, 6), 0.1),
        1e-12
    ));
    let outputs = named_outputs(&named, 0.1);
    for entry in named.state.entries() {
        assert!(
            outputs.contains_key(&format!("{}.new", entry.name)),
            "{}",
            entry.name
        );
    }
}

#[test]
fn frozen_parameters_cost_no_gradient_and_no_state() {
    let whole = build(&perceptron(), &options(Optimizer::Adam, 6)).unwrap();
    let mut tuned = options(Optimizer::Adam, 6);
    tuned.freeze = Some("^first".parse().unwrap());
    let tuned = build(&perceptron(), &tuned).unwrap();
    let names: Vec<&str> = tuned
        .parameters
        .entries()
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(names, ["second.weight", "second.bias"]);
    assert_eq!(tuned.state.initial().len(), 2 * 18 + 3);
    let count = |model: &Model, operator: &str| {
        model
            .nodes
            .iter()
            .filter(|node| node.operator == operator)
            .count()
    };
    // Forward 2; backward two of the weights and one between the layers, against one of the weights.
    assert_eq!(count(&whole.step, "Gemm"), 5);
    assert_eq!(count(&tuned.step, "Gemm"), 3);
    assert!(tuned.step.initializer("first.weight").is_some());
    assert!(tuned.inference.initializer("first.weight").is_some());
}

#[test]
fn freezing_everything_is_refused() {
    let mut frozen = options(Optimizer::Sgd, 6);
    frozen.freeze = Some(".".parse().unwrap());
    let error = build(&perceptron(), &frozen).unwrap_err();
    assert!(
        matches!(
            error,
            BuildError::NothingToTrain {
                trainable_before_freezing: 4
            }
        ),
        "{error}"
    );
}

#[test]
fn running_statistics_follow_the_batch_and_serve_inference() {
    let built = build(&normalized(), &options(Optimizer::Sgd, 5)).unwrap();
    let inference = built.inference.clone();
    let x = floats(&[5, 1, 4, 4], &numbers(80, 11));
    let mut training = Training::new(built);
    training.run(&x, &[0.0, 1.0, 2.0, 0.0, 1.0], 0.0);

    // The batch's own mean and unbiased variance of the convolution's output, per channel.
    let mut forward = normalized();
    forward.nodes.truncate(1);
    forward.outputs[0].name = "conv".to_owned();
    let conv = run_model(&forward, &BTreeMap::from([("input", x.clone())])).unwrap();
    let conv = &conv["conv"];
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    for channel in 0..3 {
        let values: Vec<f64> = (0..5)
            .flat_map(|b| conv.data[(b * 3 + channel) * 4..][..4].to_vec())
            .collect();
        let mean = values.iter().sum::<f64>() / 20.0;
        means.push(0.25 * mean);
        let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 19.0;
        variances.push(0.75 + 0.25 * spread);
    }
    assert!(close(&training.state_of("bn.mean"), &means, 1e-7));
    assert!(close(&training.state_of("bn.var"), &variances, 1e-7));

    // The inference graph reads them from the state vector.
    let names: Vec<&str> = inference
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert_eq!(names, ["x", "theta", "state"]);
    let mut plain = normalized();
    for (name, tensor) in &mut plain.initializers {
        let statistics = [("bn.mean", &means), ("bn.var", &variances)];
        if let Some((_, values)) = statistics.iter().find(|(n, _)| *n == name.as_str()) {
            let values = values.iter().map(|v| *v as f32).collect();
            *tensor = Tensor::new(vec![3], Data::F32(values)).unwrap();
        }
    }
    let expected = run_model(&plain, &BTreeMap::from([("input", x.clone())])).unwrap();
    let live = BTreeMap::from([
        ("x", x),
        ("theta", training.theta.clone()),
        ("state", training.state.clone()),
    ]);
    let found = run_model(&inference, &live).unwrap();
    assert!(close(&found["logits"].data, &expected["scores"].data, 1e-6));
}

#[test]
fn a_batch_normalization_with_frozen_scale_and_bias_keeps_its_statistics() {
    let mut frozen = options(Optimizer::Sgd, 5);
    frozen.freeze = Some(r"^bn\.".parse().unwrap());
    let built = build(&normalized(), &frozen).unwrap();
    let state: Vec<&str> = built
        .state
        .entries()
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(state, ["step"]);
    let names: Vec<&str> = built
        .inference
        .inputs
        .iter()
        .map(|i| i.name.as_str())
        .collect();
    assert_eq!(names, ["x", "theta"]);
}

#[test]
fn a_final_softmax_is_part_of_cross_entropy_and_stays_in_inference() {
    let mut with = perceptron();
    with.nodes.push(node(
        "Softmax",
        &["scores"],
        "probabilities",
        Attributes::new(),
    ));
    with.outputs[0].name = "probabilities".to_owned();
    let built = build(&with, &options(Optimizer::Sgd, 6)).unwrap();
    assert!(
        built
            .step
            .nodes
            .iter()
            .all(|node| node.operator != "Softmax")
    );
    assert!(
        built
            .inference
            .nodes
            .iter()
            .any(|node| node.operator == "Softmax")
    );
    let mut training = Training::new(built);
    let (x, y) = batch(6);
    training.run(&x, &y, 1.0);
    let plain = after_one_step(&options(Optimizer::Sgd, 6), 1.0);
    assert!(close(&training.theta.data, &plain, 1e-12));
}

fn with_dropout() -> Model {
    let mut model = perceptron();
    let ratio = Tensor::scalar(0.25);
    model.initializers.push(("ratio".to_owned(), ratio));
    model.nodes[2].inputs[0] = "dropped".to_owned();
    let dropout = node(
        "Dropout",
        &["active", "ratio"],
        "dropped",
        Attributes::new(),
    );
    model.nodes.insert(2, dropout);
    model
}

#[test]
fn dropout_draws_another_mask_every_step_and_the_same_after_a_restart() {
    let losses = |seed: u64| {
        let mut options = options(Optimizer::Sgd, 6);
        options.dropout_seed = Some(seed);
        let mut training = Training::new(build(&with_dropout(), &options).unwrap());
        let (x, y) = batch(6);
        for _ in 0..4 {
            training.run(&x, &y, 0.0);
        }
        training.losses
    };
    let first = losses(1);
    assert_eq!(first, losses(1));
    assert_ne!(first, losses(2));
    for (position, loss) in first.iter().enumerate() {
        assert!(!first[..position].contains(loss), "{first:?}");
    }
    let mut off = options(Optimizer::Sgd, 6);
    off.dropout_seed = None;
    let plain = build(&with_dropout(), &off).unwrap();
    assert!(plain.step.nodes.iter().all(|node| node.operator != "Range"));
    let inference = build(&with_dropout(), &options(Optimizer::Sgd, 6))
        .unwrap()
        .inference;
    assert!(
        inference
            .nodes
            .iter()
            .all(|node| node.operator != "Dropout")
    );
}

#[test]
fn dropout_keeps_its_share_of_elements_and_their_mean() {
    // With the identity below it and a mean over 4 000 elements as the loss, the loss is the mean of the mask.
    let ratio = Tensor::scalar(0.25);
    let ones = Tensor::new(vec![1], Data::F32(vec![1.0])).unwrap();
    let nodes = vec![
        node("Mul", &["input", "ones"], "scaled", Attributes::new()),
        node(
            "Dropout",
            &["scaled", "ratio"],
            "dropped",
            Attributes::new(),
        ),
    ];
    let model = model(&[400], vec![("ones", ones), ("ratio", ratio)], nodes);
    let built = build(
        &model,
        &Options::new(Loss::MeanSquaredError, Optimizer::Sgd, 10),
    )
    .unwrap();
    let mut means = Vec::new();
    for step in 0..20 {
        let inputs = BTreeMap::from([
            ("x", floats(&[10, 400], &[1.0; 4000])),
            ("y", floats(&[10, 400], &[0.0; 4000])),
            ("lr", floats(&[], &[0.0])),
            ("theta", floats(&[1], &[1.0])),
            ("state", floats(&[1], &[step as f32])),
        ]);
        // The mean of (mask/0.75)² is P(kept)/0.75².
        let loss = run_model(&built.step, &inputs).unwrap()["loss"].data[0];
        means.push(loss * 0.75 * 0.75);
    }
    // The standard deviation of one mean is √(0.75·0.25/4000) = 0.007.
    assert!(
        means.iter().all(|mean| (mean - 0.75).abs() < 0.03),
        "{means:?}"
    );
    let total = means.iter().sum::<f64>() / 20.0;
    assert!((total - 0.75).abs() < 0.006, "{total}");
}

#[test]
fn bce_and_mse_lower_their_loss() {
    for loss in [Loss::BinaryCrossEntropy, Loss::MeanSquaredError] {
        let built = build(&perceptron(), &Options::new(loss, Optimizer::Adam, 6)).unwrap();
        let mut theta = floats(
            &[built.parameters.initial().len()],
            built.parameters.initial(),
        );
        let mut state = floats(&[built.state.initial().len()], built.state.initial());
        let targets: Vec<f32> = (0..18).map(|position| (position % 2) as f32).collect();
        let mut losses = Vec::new();
        for _ in 0..40 {
            let inputs = BTreeMap::from([
                ("x", batch(6).0),
                ("y", floats(&[6, 3], &targets)),
                ("lr", floats(&[], &[0.05])),
                ("theta", theta),
                ("state", state),
            ]);
            let mut outputs = run_model(&built.step, &inputs).unwrap();
            theta = outputs.remove("theta.new").unwrap();
            state = outputs.remove("state.new").unwrap();
            losses.push(outputs["loss"].data[0]);
        }
        assert!(losses[39] < 0.7 * losses[0], "{loss}: {losses:?}");
    }
}

#[test]
fn the_same_model_gives_the_same_files() {
    let names = Files::beside(std::path::Path::new("step.onnx"));
    let encode = || {
        build(&normalized(), &options(Optimizer::Adam, 6))
            .unwrap()
            .encode(&names)
            .unwrap()
    };
    assert_eq!(encode(), encode());
}

#[test]
fn the_files_hold_the_parameters_and_the_manifest_their_hashes() {
    let folder = std::env::temp_dir().join(format!("fulcrum-training-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let built = build(&perceptron(), &options(Optimizer::Momentum, 6)).unwrap();
    let files = Files::beside(&folder.join("step.onnx"));
    let encoded = built.encode(&files).unwrap();
    assert_eq!(encoded.last().unwrap().0, files.manifest);
    for (path, bytes) in encoded {
        std::fs::write(path, bytes).unwrap();
    }
    let content = params::decode(&std::fs::read(&files.params).unwrap()).unwrap();
    let tensors = content.tensors;
    assert_eq!(
        tensors,
        [
            built.parameters.initial().to_vec(),
            built.state.initial().to_vec()
        ]
    );
    assert_eq!(Model::read(&files.step).unwrap(), built.step);
    assert_eq!(Model::read(&files.inference).unwrap(), built.inference);
    let manifest = std::fs::read_to_string(&files.manifest).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["parameters"][2]["name"], "second.weight");
    assert_eq!(manifest["parameters"][2]["offset"], 25);
    assert_eq!(manifest["files"].as_array().unwrap().len(), 3);
    assert_eq!(manifest["classes"], 3);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn options_outside_of_their_range_are_refused_by_name() {
    type Change = fn(&mut Options);
    let changes: [(&str, Change); 5] = [
        ("--batch", |o| o.batch = 0),
        ("--accumulate", |o| o.accumulate = 0),
        ("--momentum", |o| o.momentum = 1.0),
        ("--clip-norm", |o| o.clip_norm = Some(0.0)),
        ("--weight-decay", |o| o.weight_decay = Some(-0.1)),
    ];
    for (name, change) in changes {
        let mut options = options(Optimizer::Sgd, 6);
        change(&mut options);
        let error = build(&perceptron(), &options).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

#[test]
fn an_unknown_operator_is_refused_with_its_node() {
    let mut model = perceptron();
    model.nodes[1].operator = "Cosmic".to_owned();
    let error = build(&model, &options(Optimizer::Sgd, 6)).unwrap_err();
    let BuildError::Node { node, problem } = error else {
        panic!("{error}");
    };
    assert_eq!(node, "the active node");
    assert!(problem.to_string().starts_with("Cosmic"), "{problem}");
}

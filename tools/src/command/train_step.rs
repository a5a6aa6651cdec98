//! `fulcrum train-step`: from a forward ONNX model to a training step that any ONNX Runtime runs.

use crate::progress;
use crate::verdict::Verdict;
use anyhow::{Context, ensure};
use fulcrum_plan::durable::replace_file;
use fulcrum_training::{Files, Layout, Loss, Model, Optimizer, Options, train_step};
use regex::Regex;
use std::io::{self, Write};
use std::path::PathBuf;

/// Options of `fulcrum train-step`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The forward model, opset 13 to 22
    model: PathBuf,
    /// What is minimized: cross-entropy, mse or bce
    #[arg(long, value_name = "LOSS")]
    loss: Loss,
    /// How parameters follow their gradient: sgd, momentum, adam or adamw
    #[arg(long, value_name = "OPTIMIZER")]
    optimizer: Optimizer,
    /// Samples per step
    #[arg(long, value_name = "N")]
    batch: usize,
    /// Initializers whose name matches stay as they are, without gradient and state
    #[arg(long, value_name = "REGEX")]
    freeze: Option<Regex>,
    /// One vector each for parameters and state (flat), or every tensor by itself (named)
    #[arg(long, value_name = "LAYOUT", default_value = "flat")]
    layout: Layout,
    /// Momentum's share of the velocity before [default: 0.9]
    #[arg(long, value_name = "X")]
    momentum: Option<f32>,
    /// Share of a gradient that does not reach the velocity: equal to the momentum, it makes a running mean
    /// [default: 0]
    #[arg(long, value_name = "X")]
    dampening: Option<f32>,
    /// Adam's shares of both moments before [default: 0.9,0.999]
    #[arg(long, value_name = "B1,B2", value_parser = betas)]
    betas: Option<(f64, f64)>,
    /// What Adam adds to the root that it divides by [default: 1e-8]
    #[arg(long, value_name = "X")]
    epsilon: Option<f32>,
    /// Weight decay [default: 0.01 for adamw, else 0]
    #[arg(long, value_name = "X")]
    weight_decay: Option<f32>,
    /// Parameters whose name matches are not decayed: biases and normalizations, by custom
    #[arg(long, value_name = "REGEX")]
    no_decay: Option<Regex>,
    /// Scale gradients down to this global norm
    #[arg(long, value_name = "X")]
    clip_norm: Option<f32>,
    /// Runs of the step per update; their gradients are averaged
    #[arg(long, value_name = "N", default_value_t = 1)]
    accumulate: u32,
    /// Axis of the classes, negative from the end; -1 for a language model's [batch, time, words]
    #[arg(
        long,
        value_name = "AXIS",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    class_axis: i64,
    /// Samples per run of the inference graph [default: the model's own batch]
    #[arg(long, value_name = "N")]
    inference_batch: Option<usize>,
    /// The model's output that the loss takes, or a value within it [default: the first output of floats]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Size of a symbolic dimension other than the batch; may be given several times
    #[arg(long = "dimension", value_name = "NAME=SIZE", value_parser = dimension)]
    dimensions: Vec<(String, usize)>,
    /// Seed of dropout's masks
    #[arg(long, value_name = "N", default_value_t = 0)]
    dropout_seed: u64,
    /// Turn dropout off
    #[arg(long, conflicts_with = "dropout_seed")]
    no_dropout: bool,
    /// The step's graph; its companions are written beside it [default: MODEL.train.onnx]
    #[arg(long, value_name = "STEP.onnx")]
    out: Option<PathBuf>,
}

fn betas(text: &str) -> Result<(f64, f64), String> {
    let parsed = text.split_once(',').and_then(|(first, second)| {
        Some((first.trim().parse().ok()?, second.trim().parse().ok()?))
    });
    parsed.ok_or_else(|| "allowed is two numbers, such as 0.9,0.999".to_owned())
}

fn dimension(text: &str) -> Result<(String, usize), String> {
    let parsed = text.split_once('=').and_then(|(name, size)| {
        let size = size.parse().ok().filter(|size| *size > 0)?;
        (!name.is_empty()).then(|| (name.to_owned(), size))
    });
    parsed.ok_or_else(|| "allowed is NAME=SIZE, with a size from 1".to_owned())
}

impl Arguments {
    fn options(&self) -> anyhow::Result<Options> {
        let of_adam = matches!(self.optimizer, Optimizer::Adam | Optimizer::AdamW);
        let of_momentum = self.optimizer == Optimizer::Momentum;
        for (option, given, applies, allowed) in [
            (
                "--momentum",
                self.momentum.is_some(),
                of_momentum,
                "momentum",
            ),
            (
                "--dampening",
                self.dampening.is_some(),
                of_momentum,
                "momentum",
            ),
            ("--betas", self.betas.is_some(), of_adam, "adam and adamw"),
            (
                "--epsilon",
                self.epsilon.is_some(),
                of_adam,
                "adam and adamw",
            ),
        ] {
            ensure!(
                applies || !given,
                "{option}: {} does not have it; allowed with --optimizer {allowed}",
                self.optimizer
            );
        }
        let standard = Options::new(self.loss, self.optimizer, self.batch);
        Ok(Options {
            freeze: self.freeze.clone(),
            layout: self.layout,
            momentum: self.momentum.unwrap_or(standard.momentum),
            dampening: self.dampening.unwrap_or(standard.dampening),
            betas: self.betas.unwrap_or(standard.betas),
            epsilon: self.epsilon.unwrap_or(standard.epsilon),
            weight_decay: self.weight_decay,
            no_decay: self.no_decay.clone(),
            clip_norm: self.clip_norm,
            accumulate: self.accumulate,
            class_axis: self.class_axis,
            inference_batch: self.inference_batch,
            output: self.output.clone(),
            dimensions: self.dimensions.iter().cloned().collect(),
            dropout_seed: (!self.no_dropout).then_some(self.dropout_seed),
            ..standard
        })
    }
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be read or differentiated (the message names the node, and what helps), an option
/// out of its range, or a file that cannot be written; no file is then half-written.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let path = &arguments.model;
    let options = arguments.options()?;
    let model = Model::read(path).with_context(|| path.display().to_string())?;
    let step = train_step::build(&model, &options).with_context(|| path.display().to_string())?;
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| path.with_extension("train.onnx"));
    let files = Files::beside(&out);
    for (path, bytes) in step.encode(&files).context("--out")? {
        replace_file(&path, &bytes).with_context(|| path.display().to_string())?;
    }
    // tf2onnx writes the 3 of a hard swish as [1, 1, 1, 1].
    for one in step.parameters.entries() {
        if one.count() == 1 && one.shape.len() > 1 {
            progress::say(&format!(
                "warning: '{}' {:?} is a single number and is trained; if the model means a constant, name it (--freeze)",
                one.name, one.shape
            ));
        }
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} parameters in {} tensors are trained; {} numbers of state",
        step.parameters.initial().len(),
        step.parameters.entries().len(),
        step.state.initial().len()
    )?;
    for (what, file) in [
        ("training step", &files.step),
        ("inference", &files.inference),
        ("first parameters", &files.params),
        ("manifest", &files.manifest),
    ] {
        writeln!(out, "{what:<17} {}", file.display())?;
    }
    Ok(Verdict::Done)
}

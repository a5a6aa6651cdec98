//! Builds a training step: forward pass, loss, gradients and update in one graph.
//!
//! # Contract
//! The step is an ordinary ONNX graph (opset 17, IR 8, static shapes) that any ONNX Runtime from 1.17 on
//! runs. Inputs, in order: `x` (the model's first input under this name; further inputs keep theirs), `y`,
//! `lr` (float scalar), then what is carried from step to step. Every carried tensor `N` is an input of which
//! `N.new` is an output of the same shape; the last output is `loss`, the mean loss of this run's samples
//! before the update.
//!
//! - Flat layout: `theta` (all trained parameters, in the order of the model's initializers) and `state`
//!   (optimizer moments, Adam's bias corrections, the step counter, running statistics). `state` always has
//!   at least the step counter, so that the arity is the same for every model.
//! - Named layout: every parameter and state tensor by its own name.
//!
//! The step counter counts runs from 0 and starts again below 2²⁴, at a multiple of the runs per update.

use crate::error::BuildError;
use crate::flat::{FlatVector, pack};
use crate::gradient::backward;
use crate::graph::{Graph, Value};
use crate::import::parameters::{Census, RunningStatistics, census};
use crate::import::{DropoutSource, Import, Statistics};
use crate::inference;
use crate::manifest::{self, Manifest, Port};
use crate::onnx::{Dimension, Element, Model, ValueInfo};
use crate::optimizer::{self, Scalars, Tensor, Updated};
use crate::options::{Layout, Options};
use std::collections::{BTreeMap, BTreeSet};

/// Whole numbers are exact in a 32-bit float below this.
const STEPS_MAX: u32 = 1 << 24;

/// A training step and what belongs to it, in memory.
#[derive(Debug, Clone)]
pub struct TrainStep {
    /// The step's graph.
    pub step: Model,
    /// The inference graph that takes the same parameters.
    pub inference: Model,
    /// Trained parameters, their places in `theta` and their initial values.
    pub parameters: FlatVector,
    /// State, its places in `state` and its initial values.
    pub state: FlatVector,
    pub(crate) layout: Layout,
    pub(crate) manifest: Manifest,
}

/// Builds the training step of a forward model.
///
/// # Errors
/// [`BuildError`]: an option outside of its range; a symbolic dimension without a size; an operator that
/// is not supported or, above a trained parameter, has no gradient rule; nothing to train; a parameter the
/// loss does not depend on; an output the loss does not fit.
pub fn build(model: &Model, options: &Options) -> Result<TrainStep, BuildError> {
    options.check()?;
    let census = census(model, options.freeze.as_ref());
    if census.trainable.is_empty() {
        return Err(BuildError::NothingToTrain {
            trainable_before_freezing: census.frozen.len(),
        });
    }
    let carried = Carried::of(&census, options);
    let mut graph = Graph::new();
    let mut values = inputs(&mut graph, model, options)?;

    // `y` belongs before `lr` and the carried tensors, but its shape is known only after the forward
    // pass: inputs are put in order at the end.
    let rate = graph.input("lr", Element::F32, &[]);
    let live = carried.place(&mut graph, options)?;
    for ((name, _), value) in census.trainable.iter().zip(&live.parameters) {
        values.insert(name.clone(), *value);
    }
    let step_counter = live.state[carried.step];
    let mut import = Import {
        graph: &mut graph,
        values,
        statistics: carried.statistics(&census.statistics, &live),
        dropout: options.dropout_seed.map(|seed| DropoutSource {
            counter: step_counter,
            seed,
            placed: 0,
        }),
        steps: Vec::new(),
    };
    import.run(model)?;
    let has_dropout = import.dropout.is_some_and(|source| source.placed > 0);
    let (steps, statistics) = (import.steps, import.statistics);
    let output_name = output_name(model, options)?;
    let output = import.values[&output_name];

    let loss = crate::loss::place(&mut graph, options.loss, output, &steps, options.class_axis)?;
    let found = backward(&mut graph, &steps, loss.of, loss.gradient, &live.parameters)?;
    let gradients = census
        .trainable
        .iter()
        .zip(&live.parameters)
        .map(|((name, _), value)| {
            found
                .get(value)
                .copied()
                .ok_or_else(|| BuildError::NoGradient {
                    parameter: name.clone(),
                })
        })
        .collect::<Result<Vec<_>, _>>()?;
    carried.finish(&mut graph, options, &live, &gradients, &statistics, rate)?;
    graph.output("loss", loss.loss);
    graph.order_inputs("y", "lr");

    let step = graph.finish("training step");
    let inference = inference::graph(
        model,
        &inference::Sources {
            theta: &carried.theta,
            state: &carried.state,
            statistics: &census.statistics,
            flat: options.layout == Layout::Flat,
            batch: options.inference_batch,
            output: &output_name,
        },
    );
    let manifest = describe(model, options, &census, &carried, &step, has_dropout);
    Ok(TrainStep {
        step,
        inference,
        parameters: carried.theta,
        state: carried.state,
        layout: options.layout,
        manifest,
    })
}

/// What is carried from step to step: the layout of both vectors, and where things are in `state`.
struct Carried {
    theta: FlatVector,
    state: FlatVector,
    /// Positions in `state` of an optimized tensor's moments, tensor after tensor.
    moments: Vec<Vec<usize>>,
    scalars: Vec<usize>,
    step: usize,
    /// Positions of mean and variance.
    statistics: Vec<[usize; 2]>,
}

/// Carried tensors in a graph.
struct Live {
    /// What the optimizer works on: `theta`, or every parameter.
    optimized: Vec<Value>,
    /// Every parameter.
    parameters: Vec<Value>,
    /// Every tensor of the state.
    state: Vec<Value>,
}

impl Carried {
    fn of(census: &Census, options: &Options) -> Carried {
        let mut theta = FlatVector::new();
        for (name, tensor) in &census.trainable {
            theta.push(name, tensor.shape(), tensor.floats().unwrap_or(&[]));
        }
        let mut state = FlatVector::new();
        let optimized: Vec<(String, Vec<usize>)> = match options.layout {
            Layout::Flat => vec![(String::new(), vec![theta.initial().len()])],
            Layout::Named => theta
                .entries()
                .iter()
                .map(|entry| (format!(".{}", entry.name), entry.shape.clone()))
                .collect(),
        };
        let moments = optimized
            .iter()
            .map(|(suffix, shape)| {
                optimizer::moments(options)
                    .iter()
                    .map(|moment| state.push_zeros(&format!("{moment}{suffix}"), shape))
                    .collect()
            })
            .collect();
        let scalars = optimizer::scalars(options)
            .iter()
            .map(|name| state.push_zeros(name, &[]))
            .collect();
        let step = state.push_zeros("step", &[]);
        let statistics = census
            .statistics
            .iter()
            .map(|statistics| {
                [&statistics.mean, &statistics.variance].map(|(name, tensor)| {
                    state.push(name, tensor.shape(), tensor.floats().unwrap_or(&[]))
                })
            })
            .collect();
        Carried {
            theta,
            state,
            moments,
            scalars,
            step,
            statistics,
        }
    }

    /// Adds the inputs of the carried tensors.
    fn place(&self, graph: &mut Graph, options: &Options) -> Result<Live, BuildError> {
        let each = |graph: &mut Graph, vector: &FlatVector| -> Vec<Value> {
            vector
                .entries()
                .iter()
                .map(|entry| graph.input(&entry.name, Element::F32, &entry.shape))
                .collect()
        };
        if options.layout == Layout::Named {
            let parameters = each(graph, &self.theta);
            let state = each(graph, &self.state);
            return Ok(Live {
                optimized: parameters.clone(),
                parameters,
                state,
            });
        }
        let theta = graph.input("theta", Element::F32, &[self.theta.initial().len()]);
        let state = graph.input("state", Element::F32, &[self.state.initial().len()]);
        let live = Live {
            optimized: vec![theta],
            parameters: self.theta.unpack(graph, theta)?,
            state: self.state.unpack(graph, state)?,
        };
        for (entry, value) in self.theta.entries().iter().zip(&live.parameters) {
            if !live.optimized.contains(value) {
                graph.rename(*value, &entry.name);
            }
        }
        Ok(live)
    }

    fn statistics(&self, found: &[RunningStatistics], live: &Live) -> BTreeMap<usize, Statistics> {
        found
            .iter()
            .zip(&self.statistics)
            .map(|(statistics, [mean, variance])| {
                let placed = Statistics {
                    mean: live.state[*mean],
                    variance: live.state[*variance],
                    new_mean: None,
                    new_variance: None,
                };
                (statistics.node, placed)
            })
            .collect()
    }

    /// Adds the update and the outputs.
    fn finish(
        &self,
        graph: &mut Graph,
        options: &Options,
        live: &Live,
        gradients: &[Value],
        statistics: &BTreeMap<usize, Statistics>,
        rate: Value,
    ) -> Result<(), BuildError> {
        let gradients = match options.layout {
            Layout::Flat => vec![pack(graph, gradients)?],
            Layout::Named => gradients.to_vec(),
        };
        let tensors: Vec<Tensor> = live
            .optimized
            .iter()
            .zip(gradients)
            .zip(&self.moments)
            .map(|((value, gradient), moments)| Tensor {
                value: *value,
                gradient,
                moments: moments
                    .iter()
                    .map(|position| live.state[*position])
                    .collect(),
            })
            .collect();
        let scalars = Scalars {
            rate,
            kept: self
                .scalars
                .iter()
                .map(|position| live.state[*position])
                .collect(),
            step: live.state[self.step],
        };
        let (updated, new_scalars) = optimizer::update(graph, options, &tensors, &scalars)?;

        let mut new_state = live.state.clone();
        for (Updated { moments, .. }, positions) in updated.iter().zip(&self.moments) {
            for (position, moment) in positions.iter().zip(moments) {
                new_state[*position] = *moment;
            }
        }
        for (position, scalar) in self.scalars.iter().zip(new_scalars) {
            new_state[*position] = scalar;
        }
        new_state[self.step] = next_step(graph, live.state[self.step], options.accumulate)?;
        for (placed, [mean, variance]) in statistics.values().zip(&self.statistics) {
            new_state[*mean] = placed.new_mean.unwrap_or(placed.mean);
            new_state[*variance] = placed.new_variance.unwrap_or(placed.variance);
        }

        if options.layout == Layout::Flat {
            graph.output("theta.new", updated[0].value);
            let packed = pack(graph, &new_state)?;
            graph.output("state.new", packed);
        } else {
            for (entry, updated) in self.theta.entries().iter().zip(&updated) {
                graph.output(&format!("{}.new", entry.name), updated.value);
            }
            for (entry, value) in self.state.entries().iter().zip(new_state) {
                graph.output(&format!("{}.new", entry.name), value);
            }
        }
        Ok(())
    }
}

/// The counter after this run: one more, or 0 at the largest multiple of `accumulate` up to 2²⁴.
fn next_step(graph: &mut Graph, step: Value, accumulate: u32) -> Result<Value, BuildError> {
    let end = STEPS_MAX / accumulate * accumulate;
    let next = graph.shift(step, 1.0)?;
    let end = graph.scalar(end as f32);
    let going_on = graph.apply("Less", &[next, end])?;
    Ok(graph.keep_where(going_on, next)?)
}

/// Adds the model's inputs, with every dimension a number: `x` is the first.
fn inputs(
    graph: &mut Graph,
    model: &Model,
    options: &Options,
) -> Result<BTreeMap<String, Value>, BuildError> {
    const RESERVED: [&str; 6] = ["x", "y", "lr", "theta", "state", "loss"];
    let mut values = BTreeMap::new();
    for (position, input) in model.inputs.iter().enumerate() {
        let name = if position == 0 {
            "x"
        } else {
            input.name.as_str()
        };
        if position > 0 && RESERVED.contains(&name) {
            return Err(BuildError::Interface {
                what: format!("input '{name}' of the model"),
                reason: "this name is the step's own; rename the input".to_owned(),
            });
        }
        let shape = static_shape(model, input, options)?;
        values.insert(input.name.clone(), graph.input(name, input.element, &shape));
    }
    if values.is_empty() {
        return Err(BuildError::Interface {
            what: "the model".to_owned(),
            reason: "has no input".to_owned(),
        });
    }
    Ok(values)
}

/// The first dimension of every input is the batch, and so is every dimension of the same symbol.
fn static_shape(
    model: &Model,
    input: &ValueInfo,
    options: &Options,
) -> Result<Vec<usize>, BuildError> {
    let interface = |reason: String| BuildError::Interface {
        what: format!("input '{}' of the model", input.name),
        reason,
    };
    let batch_symbols: BTreeSet<&str> = model
        .inputs
        .iter()
        .filter_map(|input| match input.shape.as_ref()?.first()? {
            Dimension::Symbol(symbol) if !symbol.is_empty() => Some(symbol.as_str()),
            _ => None,
        })
        .collect();
    let shape = input
        .shape
        .as_ref()
        .ok_or_else(|| interface("has no shape, not even a rank; export it with one".to_owned()))?;
    shape
        .iter()
        .enumerate()
        .map(|(axis, dimension)| match dimension {
            Dimension::Symbol(symbol) if options.dimensions.contains_key(symbol) => {
                Ok(options.dimensions[symbol])
            }
            Dimension::Symbol(symbol) if axis == 0 || batch_symbols.contains(symbol.as_str()) => {
                Ok(options.batch)
            }
            Dimension::Fixed(_) if axis == 0 => Ok(options.batch),
            Dimension::Fixed(size) => Ok(*size),
            Dimension::Symbol(symbol) => Err(interface(format!(
                "dimension {axis} is the symbol '{symbol}'; give its size (--dimension {symbol}=N)"
            ))),
        })
        .collect()
}

fn output_name(model: &Model, options: &Options) -> Result<String, BuildError> {
    let found = match &options.output {
        None => model.outputs.first(),
        Some(name) => model.outputs.iter().find(|output| output.name == *name),
    };
    found.map(|output| output.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = model
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        BuildError::Interface {
            what: format!("output '{}'", options.output.as_deref().unwrap_or("")),
            reason: format!("the model has the outputs {}", names.join(", ")),
        }
    })
}

fn describe(
    model: &Model,
    options: &Options,
    census: &Census,
    carried: &Carried,
    step: &Model,
    has_dropout: bool,
) -> Manifest {
    let port = |value: &ValueInfo| Port {
        name: value.name.clone(),
        element: value.element.name(),
        shape: value
            .shape
            .iter()
            .flatten()
            .map(|dimension| match dimension {
                Dimension::Fixed(size) => *size,
                Dimension::Symbol(_) => 0,
            })
            .collect(),
    };
    let [loss, optimizer, layout] = manifest::names(options);
    Manifest {
        version: manifest::VERSION,
        producer: format!("fulcrum {}", env!("CARGO_PKG_VERSION")),
        model: model.name.clone(),
        model_sha256: manifest::sha256(&model.encode(&[])),
        loss,
        optimizer,
        layout,
        batch: options.batch,
        accumulate: options.accumulate,
        weight_decay: options.decay(),
        clip_norm: options.clip_norm,
        dropout_seed: options.dropout_seed.filter(|_| has_dropout),
        inputs: step.inputs.iter().map(port).collect(),
        outputs: step.outputs.iter().map(port).collect(),
        parameters: carried.theta.entries().to_vec(),
        state: carried.state.entries().to_vec(),
        frozen: census.frozen.clone(),
        files: Vec::new(),
    }
}

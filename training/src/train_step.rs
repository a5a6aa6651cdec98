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
use crate::flat::{Entry, FlatVector, pack};
use crate::gradient::backward;
use crate::graph::{Graph, Value};
use crate::import::parameters::{Census, RunningStatistics, census};
use crate::import::{DropoutSource, Import, Statistics};
use crate::inference;
use crate::interface::{inputs, output};
use crate::manifest::{self, Manifest, Port};
use crate::onnx::{Dimension, Element, Model, ValueInfo};
use crate::optimizer::{self, Scalars, Tensor, Updated};
use crate::options::{Layout, Options};
use std::collections::BTreeMap;

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
    let whole = model;
    let output = output(model, options)?;
    let output_name = output.name.clone();
    let model = &model.only(output);
    let census = census(model, options.freeze.as_ref());
    census.check(options)?;
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
    let output = import
        .values
        .get(&output_name)
        .copied()
        .ok_or_else(|| BuildError::Interface {
            what: format!("output '{output_name}'"),
            reason: "is a second output that is not computed here; name another".to_owned(),
        })?;

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
    let mut manifest = describe(whole, options, &census, &carried, &step, has_dropout);
    manifest.classes = loss.classes;
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

    /// Weight decay of every optimized tensor. Where parameters of one vector differ in it, it is a vector
    /// too, put together from runs of equal numbers: ONNX Runtime does that once, when it loads the step.
    fn decays(
        &self,
        graph: &mut Graph,
        options: &Options,
    ) -> Result<Vec<Option<Value>>, BuildError> {
        let entries = self.theta.entries();
        let decay_of = |entry: &Entry| {
            if options.spares(&entry.name) {
                0.0
            } else {
                options.decay()
            }
        };
        let single = |graph: &mut Graph, decay: f32| (decay > 0.0).then(|| graph.scalar(decay));
        if options.layout == Layout::Named {
            return Ok(entries
                .iter()
                .map(|entry| single(graph, decay_of(entry)))
                .collect());
        }
        let mut runs: Vec<(f32, usize)> = Vec::new();
        for entry in entries {
            match runs.last_mut() {
                Some((decay, count)) if *decay == decay_of(entry) => *count += entry.count(),
                _ => runs.push((decay_of(entry), entry.count())),
            }
        }
        if let [(decay, _)] = runs.as_slice() {
            return Ok(vec![single(graph, *decay)]);
        }
        let parts = runs
            .iter()
            .map(|(decay, count)| graph.filled(*decay, &[*count]))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(vec![Some(graph.concat(&parts, 0)?)])
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
        let decays = self.decays(graph, options)?;
        let tensors: Vec<Tensor> = live
            .optimized
            .iter()
            .zip(gradients)
            .zip(&self.moments)
            .zip(decays)
            .map(|(((value, gradient), moments), decay)| Tensor {
                value: *value,
                gradient,
                moments: moments
                    .iter()
                    .map(|position| live.state[*position])
                    .collect(),
                decay,
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
        classes: None,
        optimizer,
        layout,
        batch: options.batch,
        accumulate: options.accumulate,
        weight_decay: options.decay(),
        not_decayed: carried
            .theta
            .entries()
            .iter()
            .filter(|entry| options.spares(&entry.name))
            .map(|entry| entry.name.clone())
            .collect(),
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

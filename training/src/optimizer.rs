//! Optimizers: new parameters and new state from gradients, in ordinary operators.
//!
//! An optimizer works on a list of tensors and does not care whether that is one flat vector or every
//! parameter by itself. Definitions and defaults are PyTorch's.

use crate::error::OperatorError;
use crate::graph::{Graph, Value};
use crate::options::{Optimizer, Options};

type Emitted = Result<Value, OperatorError>;

/// State an optimizer keeps per tensor, in order: names used in the manifest.
pub(crate) fn moments(options: &Options) -> Vec<&'static str> {
    let mut names = match options.optimizer {
        Optimizer::Sgd => vec![],
        Optimizer::Momentum => vec!["velocity"],
        Optimizer::Adam | Optimizer::AdamW => vec!["moment1", "moment2"],
    };
    if options.accumulate > 1 {
        names.push("gradient");
    }
    names
}

/// Scalars an optimizer keeps, all zero at first.
///
/// Adam's bias corrections `1 − βᵗ` are state rather than computed from a step counter: in 32-bit floats
/// `1 − 0.999` has lost four digits, while `c ← β·c + (1 − β)` has all of them at every step.
pub(crate) fn scalars(options: &Options) -> &'static [&'static str] {
    match options.optimizer {
        Optimizer::Sgd | Optimizer::Momentum => &[],
        Optimizer::Adam | Optimizer::AdamW => &["correction1", "correction2"],
    }
}

/// One tensor of parameters, with what the optimizer keeps for it.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) value: Value,
    pub(crate) gradient: Value,
    /// In the order of [`moments`].
    pub(crate) moments: Vec<Value>,
    /// Weight decay λ: one number, or one for every element; `None` is no decay.
    pub(crate) decay: Option<Value>,
}

/// A tensor after the step.
#[derive(Debug, Clone)]
pub(crate) struct Updated {
    pub(crate) value: Value,
    pub(crate) moments: Vec<Value>,
}

/// Scalars an update works with.
#[derive(Debug, Clone)]
pub(crate) struct Scalars {
    /// Learning rate.
    pub(crate) rate: Value,
    /// In the order of [`scalars`].
    pub(crate) kept: Vec<Value>,
    /// Number of the run, counted from 0.
    pub(crate) step: Value,
}

/// Adds the update of all tensors; returns them and the new scalars.
///
/// With accumulation, a run adds `gradient / accumulate` to what it keeps. Every `accumulate`-th run
/// clips the sum, updates the parameters and starts again from zero; the other runs return parameters,
/// moments and scalars as they were.
///
/// # Errors
/// [`OperatorError`] only for a defect of this crate.
pub(crate) fn update(
    graph: &mut Graph,
    options: &Options,
    tensors: &[Tensor],
    scalars: &Scalars,
) -> Result<(Vec<Updated>, Vec<Value>), OperatorError> {
    let mut tensors = tensors.to_vec();
    let due = match options.accumulate {
        1 => None,
        runs => Some(accumulate(graph, &mut tensors, scalars.step, runs)?),
    };
    let sums: Vec<Value> = tensors.iter().map(|tensor| tensor.gradient).collect();
    if let Some(norm) = options.clip_norm {
        clip(graph, &mut tensors, norm)?;
    }
    let kept = corrections(graph, options, &scalars.kept)?;
    let mut results = Vec::with_capacity(tensors.len());
    for (tensor, sum) in tensors.iter().zip(sums) {
        let mut updated = follow(graph, options, tensor, scalars.rate, &kept)?;
        if let Some(due) = due {
            let shape = graph.shape(sum).to_vec();
            let zeros = graph.zeros(&shape)?;
            updated.value = graph.apply("Where", &[due, updated.value, tensor.value])?;
            for (new, old) in updated.moments.iter_mut().zip(&tensor.moments) {
                *new = graph.apply("Where", &[due, *new, *old])?;
            }
            updated
                .moments
                .push(graph.apply("Where", &[due, zeros, sum])?);
        }
        results.push(updated);
    }
    let mut new_scalars = kept;
    if let Some(due) = due {
        for (new, old) in new_scalars.iter_mut().zip(&scalars.kept) {
            *new = graph.apply("Where", &[due, *new, *old])?;
        }
    }
    Ok((results, new_scalars))
}

/// Replaces every gradient by the sum so far and takes the sum off the moments; returns whether this run
/// completes one.
fn accumulate(graph: &mut Graph, tensors: &mut [Tensor], step: Value, runs: u32) -> Emitted {
    for tensor in tensors {
        let share = graph.scale(tensor.gradient, 1.0 / runs as f32)?;
        if let Some(sum) = tensor.moments.pop() {
            tensor.gradient = graph.plus(sum, share)?;
        }
    }
    let next = graph.shift(step, 1.0)?;
    let runs = graph.scalar(runs as f32);
    let quotient = graph.over(next, runs)?;
    let whole = graph.apply("Floor", &[quotient])?;
    graph.apply("Equal", &[quotient, whole])
}

/// Scales gradients by `min(1, limit / (‖g‖ + 1e-6))`, the norm taken over all tensors together, as
/// PyTorch's `clip_grad_norm_`.
fn clip(graph: &mut Graph, tensors: &mut [Tensor], limit: f32) -> Result<(), OperatorError> {
    let mut total: Option<Value> = None;
    for tensor in tensors.iter() {
        let square = graph.times(tensor.gradient, tensor.gradient)?;
        let axes: Vec<usize> = (0..graph.shape(square).len()).collect();
        let sum = graph.sum(square, &axes, false)?;
        total = Some(match total {
            Some(total) => graph.plus(total, sum)?,
            None => sum,
        });
    }
    let Some(total) = total else {
        return Ok(());
    };
    let norm = graph.apply("Sqrt", &[total])?;
    let norm = graph.shift(norm, 1e-6)?;
    let limit = graph.scalar(limit);
    let factor = graph.over(limit, norm)?;
    let one = graph.scalar(1.0);
    let factor = graph.apply("Min", &[factor, one])?;
    for tensor in tensors {
        tensor.gradient = graph.times(tensor.gradient, factor)?;
    }
    Ok(())
}

/// `c ← β·c + (1 − β)` for both of Adam's β: c is `1 − βᵗ`.
fn corrections(
    graph: &mut Graph,
    options: &Options,
    kept: &[Value],
) -> Result<Vec<Value>, OperatorError> {
    kept.iter()
        .zip([options.betas.0, options.betas.1])
        .map(|(correction, beta)| {
            let decayed = graph.scale(*correction, beta as f32)?;
            graph.shift(decayed, (1.0 - beta) as f32)
        })
        .collect()
}

/// One tensor's update.
fn follow(
    graph: &mut Graph,
    options: &Options,
    tensor: &Tensor,
    rate: Value,
    corrections: &[Value],
) -> Result<Updated, OperatorError> {
    let mut gradient = tensor.gradient;
    let mut value = tensor.value;
    if let Some(decay) = tensor.decay {
        if options.optimizer == Optimizer::AdamW {
            // θ ← θ − lr·λ·θ
            let scaled = graph.times(rate, decay)?;
            let loss = graph.times(value, scaled)?;
            value = graph.minus(value, loss)?;
        } else {
            let pull = graph.times(value, decay)?;
            gradient = graph.plus(gradient, pull)?;
        }
    }
    match (options.optimizer, tensor.moments.as_slice(), corrections) {
        (Optimizer::Momentum, [velocity], _) => {
            let kept = graph.scale(*velocity, options.momentum)?;
            let added = match options.dampening {
                0.0 => gradient,
                dampening => graph.scale(gradient, 1.0 - dampening)?,
            };
            let velocity = graph.plus(kept, added)?;
            let move_by = graph.times(velocity, rate)?;
            Ok(Updated {
                value: graph.minus(value, move_by)?,
                moments: vec![velocity],
            })
        }
        (Optimizer::Adam | Optimizer::AdamW, [first, second], [correction1, correction2]) => {
            let (beta1, beta2) = options.betas;
            let first = mix(graph, *first, gradient, beta1)?;
            let square = graph.times(gradient, gradient)?;
            let second = mix(graph, *second, square, beta2)?;
            // θ ← θ − (lr/c₁)·m / (√v/√c₂ + ε)
            let root = graph.apply("Sqrt", &[second])?;
            let root_correction = graph.apply("Sqrt", &[*correction2])?;
            let deviation = graph.over(root, root_correction)?;
            let deviation = graph.shift(deviation, options.epsilon)?;
            let direction = graph.over(first, deviation)?;
            let rate = graph.over(rate, *correction1)?;
            let move_by = graph.times(direction, rate)?;
            Ok(Updated {
                value: graph.minus(value, move_by)?,
                moments: vec![first, second],
            })
        }
        _ => {
            let move_by = graph.times(gradient, rate)?;
            Ok(Updated {
                value: graph.minus(value, move_by)?,
                moments: Vec::new(),
            })
        }
    }
}

/// `β·a + (1 − β)·b`
fn mix(graph: &mut Graph, a: Value, b: Value, beta: f64) -> Emitted {
    let kept = graph.scale(a, beta as f32)?;
    let added = graph.scale(b, (1.0 - beta) as f32)?;
    graph.plus(kept, added)
}

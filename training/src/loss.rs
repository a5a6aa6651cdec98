//! Losses: the value, and the gradient with respect to the model's output.

use crate::error::{BuildError, OperatorError};
use crate::graph::{Graph, Value};
use crate::import::Step;
use crate::onnx::{Attributes, Data, Element, Tensor};
use crate::options::Loss;

/// A loss in a graph.
pub(crate) struct Placed {
    /// The loss, a float scalar.
    pub(crate) loss: Value,
    /// Value the gradient is taken of: the output, or what its last activation was applied to.
    pub(crate) of: Value,
    /// Gradient of the loss with respect to `of`.
    pub(crate) gradient: Value,
    /// Labels are classes below this number, if they are classes.
    pub(crate) classes: Option<usize>,
}

/// Adds a loss and its target, the input `y`.
///
/// A model that ends in the activation the loss holds already (Softmax under cross-entropy, Sigmoid
/// under binary cross-entropy, as Keras exports it) is trained on what that activation is applied to:
/// the same loss, without rounding a probability to 0.
///
/// # Errors
/// [`BuildError::Interface`] if the output does not fit the loss.
pub(crate) fn place(
    graph: &mut Graph,
    loss: Loss,
    output: Value,
    steps: &[Step],
    class_axis: i64,
) -> Result<Placed, BuildError> {
    if graph.kind(output).element != Element::F32 {
        return Err(interface(
            "the model's output",
            "must hold 32-bit floats to have a loss",
        ));
    }
    match loss {
        Loss::CrossEntropy => {
            let of = below(steps, output, "Softmax");
            let rank = graph.shape(of).len() as i64;
            let axis = if class_axis < 0 {
                class_axis + rank
            } else {
                class_axis
            };
            if axis < 1 || axis >= rank {
                let reason = format!(
                    "has {rank} axes, and --class-axis is {class_axis}; cross-entropy needs [batch, classes] \
                     or the axis of the classes, which is not the first"
                );
                return Err(interface("the model's output", reason));
            }
            Ok(cross_entropy(graph, of, axis as usize)?)
        }
        Loss::MeanSquaredError => Ok(mean_squared_error(graph, output)?),
        Loss::BinaryCrossEntropy => {
            let of = below(steps, output, "Sigmoid");
            Ok(binary_cross_entropy(graph, of)?)
        }
    }
}

fn interface(what: &str, reason: impl Into<String>) -> BuildError {
    BuildError::Interface {
        what: what.to_owned(),
        reason: reason.into(),
    }
}

/// Input of the step that gives `output`, if that is the activation.
fn below(steps: &[Step], output: Value, activation: &str) -> Value {
    steps
        .iter()
        .find(|step| step.operator == activation && step.outputs == [output])
        .and_then(|step| step.inputs.first().copied().flatten())
        .unwrap_or(output)
}

/// `L = −mean ln softmax(z)[y]`, `dL/dz = (softmax(z) − onehot(y)) / labels`.
/// `y`: int64 labels, the shape of `z` without its class axis, each in `0..classes`.
fn cross_entropy(graph: &mut Graph, z: Value, axis: usize) -> Result<Placed, OperatorError> {
    let shape = graph.shape(z).to_vec();
    let classes = shape[axis];
    let mut labels = shape.clone();
    labels.remove(axis);
    let count: usize = labels.iter().product();
    let y = graph.input("y", Element::I64, &labels);

    let depth = graph.integers(&[classes as i64]);
    let off_on = Tensor::new(vec![2], Data::F32(vec![0.0, 1.0]))
        .ok_or_else(|| OperatorError::new("OneHot", "two values"))?;
    let off_on = graph.constant(off_on);
    let along = Attributes::new().int("axis", axis as i64);
    let onehot = graph.op("OneHot", &[y, depth, off_on], along.clone())?;
    let logarithm = graph.op("LogSoftmax", &[z], along)?;
    let picked = graph.times(logarithm, onehot)?;
    let axes: Vec<usize> = (0..shape.len()).collect();
    let total = graph.sum(picked, &axes, false)?;
    let loss = graph.scale(total, -1.0 / count as f32)?;

    let probability = graph.apply("Exp", &[logarithm])?;
    let difference = graph.minus(probability, onehot)?;
    let gradient = graph.scale(difference, 1.0 / count as f32)?;
    Ok(Placed {
        loss,
        of: z,
        gradient,
        classes: Some(classes),
    })
}

/// `L = mean (z − y)²`, `dL/dz = 2·(z − y)/n`. `y`: floats, the shape of `z`.
fn mean_squared_error(graph: &mut Graph, z: Value) -> Result<Placed, OperatorError> {
    let shape = graph.shape(z).to_vec();
    let count: usize = shape.iter().product();
    let y = graph.input("y", Element::F32, &shape);
    let difference = graph.minus(z, y)?;
    let square = graph.times(difference, difference)?;
    let axes: Vec<usize> = (0..shape.len()).collect();
    let loss = graph.mean(square, &axes, false)?;
    let gradient = graph.scale(difference, 2.0 / count as f32)?;
    Ok(Placed {
        loss,
        of: z,
        gradient,
        classes: None,
    })
}

/// `L = mean (max(z, 0) − z·y + ln(1 + e^(−|z|)))`, `dL/dz = (σ(z) − y)/n`.
/// `y`: floats in 0…1, the shape of `z`.
fn binary_cross_entropy(graph: &mut Graph, z: Value) -> Result<Placed, OperatorError> {
    let shape = graph.shape(z).to_vec();
    let count: usize = shape.iter().product();
    let y = graph.input("y", Element::F32, &shape);
    let positive = graph.apply("Relu", &[z])?;
    let product = graph.times(z, y)?;
    let magnitude = graph.apply("Abs", &[z])?;
    let negated = graph.apply("Neg", &[magnitude])?;
    let exponential = graph.apply("Exp", &[negated])?;
    let shifted = graph.shift(exponential, 1.0)?;
    let logarithm = graph.apply("Log", &[shifted])?;
    let linear = graph.minus(positive, product)?;
    let terms = graph.plus(linear, logarithm)?;
    let axes: Vec<usize> = (0..shape.len()).collect();
    let loss = graph.mean(terms, &axes, false)?;

    let probability = graph.apply("Sigmoid", &[z])?;
    let difference = graph.minus(probability, y)?;
    let gradient = graph.scale(difference, 1.0 / count as f32)?;
    Ok(Placed {
        loss,
        of: z,
        gradient,
        classes: None,
    })
}

//! Sums, means and softmax.

use super::Context;
use crate::error::OperatorError;
use crate::graph::Value;
use crate::onnx::{Attributes, Data};

type Done = Result<(), OperatorError>;

/// y = Σ x over axes: dx = dy, copied along them
pub(super) fn sum(c: &mut Context<'_>) -> Done {
    let gradient = spread(c)?;
    c.give(0, gradient)
}

/// y = mean of x over axes: dx = dy/n, copied along them
pub(super) fn mean(c: &mut Context<'_>) -> Done {
    let (x, y) = (c.x(0)?, c.y(0)?);
    let count = c.graph.kind(x).count() / c.graph.kind(y).count();
    let dy = c.dy()?;
    c.incoming[0] = Some(c.graph.scale(dy, 1.0 / count as f32)?);
    let gradient = spread(c)?;
    c.give(0, gradient)
}

/// `dy` with the reduced axes back, copied along them.
fn spread(c: &mut Context<'_>) -> Result<Value, OperatorError> {
    let (x, dy) = (c.x(0)?, c.dy()?);
    let shape = c.shape(x);
    let rank = shape.len();
    let axes = match (c.x(1).ok(), c.step.attributes.ints_of("axes")) {
        (Some(axes), _) => match c.graph.constant_of(axes).map(|axes| axes.data()) {
            Some(Data::I64(axes)) => axes.clone(),
            _ => return Err(c.error("the axes must be known while building")),
        },
        (None, Some(axes)) => axes.to_vec(),
        (None, None) => Vec::new(),
    };
    let reduced = |axis: usize| {
        let from_start = |a: &i64| (if *a < 0 { *a + rank as i64 } else { *a }) as usize;
        axes.is_empty() || axes.iter().any(|a| from_start(a) == axis)
    };
    let kept: Vec<usize> = (0..rank)
        .map(|axis| if reduced(axis) { 1 } else { shape[axis] })
        .collect();
    let kept = c.graph.reshape(dy, &kept)?;
    c.graph.expand(kept, &shape)
}

/// y = softmax x along an axis: dx = y·(dy − Σ dy·y)
pub(super) fn softmax(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let axis = c.axis(-1, c.shape(y).len());
    let product = c.graph.times(dy, y)?;
    let total = c.graph.sum(product, &[axis], true)?;
    let rest = c.graph.minus(dy, total)?;
    let gradient = c.graph.times(y, rest)?;
    c.give(0, gradient)
}

/// y = ln softmax x along an axis: dx = dy − eʸ·Σ dy
pub(super) fn log_softmax(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let axis = c.axis(-1, c.shape(y).len());
    let probability = c.graph.op("Exp", &[y], Attributes::new())?;
    let total = c.graph.sum(dy, &[axis], true)?;
    let share = c.graph.times(probability, total)?;
    let gradient = c.graph.minus(dy, share)?;
    c.give(0, gradient)
}

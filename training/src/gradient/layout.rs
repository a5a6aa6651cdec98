//! Operators that move elements: their gradient moves them back.

use super::Context;
use crate::error::OperatorError;
use crate::graph::shape::{Call, slice_axes};
use crate::onnx::{Attributes, Data};

type Done = Result<(), OperatorError>;

/// y = x in another shape: dx = dy in x's shape
pub(super) fn same_order(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    let shape = c.shape(c.x(0)?);
    let gradient = c.graph.reshape(dy, &shape)?;
    c.give(0, gradient)
}

/// y = x with its axes in another order: dx = dy with the order undone
pub(super) fn transpose(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    let rank = c.shape(dy).len();
    let order: Vec<usize> = match c.step.attributes.ints_of("perm") {
        Some(order) => order.iter().map(|axis| *axis as usize).collect(),
        None => (0..rank).rev().collect(),
    };
    let mut inverse = vec![0; rank];
    for (position, axis) in order.iter().enumerate() {
        inverse[*axis] = position;
    }
    let gradient = c.graph.permute(dy, &inverse)?;
    c.give(0, gradient)
}

/// y = parts one after another: every part's gradient is its share of dy
pub(super) fn concat(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    let axis = c.axis(0, c.shape(dy).len());
    let sizes = (0..c.step.inputs.len())
        .map(|index| Ok(c.shape(c.x(index)?)[axis]))
        .collect::<Result<Vec<usize>, OperatorError>>()?;
    let parts = c.graph.split(dy, axis, &sizes)?;
    for (index, part) in parts.into_iter().enumerate() {
        if c.wants(index) {
            c.give(index, part)?;
        }
    }
    Ok(())
}

/// y₀, y₁, … = x cut into parts: dx = the parts' gradients one after another, zero for unused parts
pub(super) fn split(c: &mut Context<'_>) -> Done {
    let axis = c.axis(0, c.shape(c.x(0)?).len());
    let mut parts = Vec::with_capacity(c.step.outputs.len());
    for (position, output) in c.step.outputs.clone().into_iter().enumerate() {
        parts.push(match c.incoming[position] {
            Some(gradient) => gradient,
            None => {
                let shape = c.shape(output);
                c.graph.zeros(&shape)?
            }
        });
    }
    let gradient = c.graph.concat(&parts, axis)?;
    c.give(0, gradient)
}

/// y = part of x: dx = dy where the part was, zero elsewhere.
///
/// A negative step is turned around first; between the elements of a step of more than one go zeros.
pub(super) fn slice(c: &mut Context<'_>) -> Done {
    let shape = c.shape(c.x(0)?);
    let slices = slice_axes(&Call {
        graph: c.graph,
        operator: "Slice",
        inputs: &c.step.inputs,
        attributes: &c.step.attributes,
        output_count: 1,
    })?;
    let mut gradient = c.dy()?;
    let (mut before, mut after) = (vec![0; shape.len()], vec![0; shape.len()]);
    for slice in &slices {
        if slice.count == 0 {
            let gradient = c.graph.zeros(&shape)?;
            return c.give(0, gradient);
        }
        let step = slice.step.unsigned_abs() as usize;
        if slice.step < 0 {
            let backwards: Vec<i64> = (0..slice.count as i64).rev().collect();
            let backwards = c.graph.integers(&backwards);
            let along = Attributes::new().int("axis", slice.axis as i64);
            gradient = c.graph.op("Gather", &[gradient, backwards], along)?;
        }
        if step > 1 {
            // [.., n, ..] → [.., n, step, ..] → [.., n·step, ..], one element and step − 1 zeros.
            let mut wide = c.shape(gradient);
            wide.insert(slice.axis + 1, 1);
            gradient = c.graph.reshape(gradient, &wide)?;
            let none = vec![0; wide.len()];
            let mut fill = none.clone();
            fill[slice.axis + 1] = step - 1;
            gradient = c.graph.pad(gradient, &none, &fill)?;
            wide.remove(slice.axis + 1);
            wide[slice.axis] *= step;
            gradient = c.graph.reshape(gradient, &wide)?;
            let spread = (slice.count - 1) * step + 1;
            gradient = c.graph.slice(gradient, slice.axis, 0, spread)?;
        }
        let spread = (slice.count - 1) * step + 1;
        let first = if slice.step > 0 {
            slice.start as usize
        } else {
            slice.start as usize + 1 - spread
        };
        before[slice.axis] = first;
        after[slice.axis] = shape[slice.axis] - first - spread;
    }
    let gradient = c.graph.pad(gradient, &before, &after)?;
    c.give(0, gradient)
}

/// y = x with a constant around it (the import leaves no other pad): dx = the inner part of dy
pub(super) fn pad(c: &mut Context<'_>) -> Done {
    let amounts = match c.graph.constant_of(c.x(1)?).map(|amounts| amounts.data()) {
        Some(Data::I64(amounts)) => amounts.clone(),
        _ => return Err(c.error("pads must be known while building")),
    };
    let shape = c.shape(c.x(0)?);
    let mut gradient = c.dy()?;
    for (axis, size) in shape.iter().enumerate() {
        let first = amounts[axis] as usize;
        gradient = c.graph.slice(gradient, axis, first, first + size)?;
    }
    c.give(0, gradient)
}

/// y = x copied along axes: dx = Σ dy over the copies
pub(super) fn expand(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    c.give(0, dy)
}

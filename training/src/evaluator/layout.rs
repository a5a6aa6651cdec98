//! Operators that move elements without changing them.

use super::array::Array;
use super::{Evaluated, Node};
use crate::graph::shape::Call;
use crate::graph::shape::slice_axes;

/// Same elements in the same order, another shape.
pub(crate) fn same_order(node: &Node<'_>) -> Evaluated {
    let kind = node.kind(0);
    Ok(vec![Array::new(
        kind.element,
        &kind.shape,
        node.input(0)?.data.clone(),
    )])
}

pub(crate) fn transpose(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let order: Vec<usize> = match node.operation.attributes.ints_of("perm") {
        Some(order) => order.iter().map(|axis| *axis as usize).collect(),
        None => (0..x.shape.len()).rev().collect(),
    };
    node.fill(|index| {
        let mut from = vec![0; index.len()];
        for (axis, source) in order.iter().enumerate() {
            from[*source] = index[axis];
        }
        x.at(&from)
    })
}

pub(crate) fn concat(node: &Node<'_>) -> Evaluated {
    let axis = node.axis(0, node.kind(0).shape.len());
    node.fill(|index| {
        let mut at = index.to_vec();
        let mut value = f64::NAN;
        for part in node.inputs.iter().flatten() {
            if at[axis] < part.shape[axis] {
                value = part.at(&at);
                break;
            }
            at[axis] -= part.shape[axis];
        }
        value
    })
}

pub(crate) fn split(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let axis = node.axis(0, x.shape.len());
    let mut first = 0;
    let mut parts = Vec::with_capacity(node.operation.outputs.len());
    for output in 0..node.operation.outputs.len() {
        let kind = node.kind(output);
        let mut data = Vec::with_capacity(kind.count());
        super::array::for_each_index(&kind.shape, |index| {
            let mut at = index.to_vec();
            at[axis] += first;
            data.push(x.at(&at));
        });
        parts.push(Array::new(kind.element, &kind.shape, data));
        first += kind.shape[axis];
    }
    Ok(parts)
}

pub(crate) fn slice(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let slices = slice_axes(&Call {
        graph: node.graph,
        operator: &node.operation.operator,
        inputs: &node.operation.inputs,
        attributes: &node.operation.attributes,
        output_count: 1,
    })?;
    node.fill(|index| {
        let mut at = index.to_vec();
        for slice in &slices {
            at[slice.axis] = (slice.start + slice.step * index[slice.axis] as i64) as usize;
        }
        x.at(&at)
    })
}

pub(crate) fn pad(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    if node.operation.attributes.string_or("mode", "constant") != "constant" {
        return Err(node.unsupported("a mode other than constant"));
    }
    let pads = node.input(1)?.integers();
    let value = node.optional(2).map_or(0.0, |value| value.data[0]);
    node.fill(|index| {
        let at: Option<Vec<usize>> = (0..index.len())
            .map(|axis| {
                let from = index[axis] as i64 - pads[axis];
                usize::try_from(from)
                    .ok()
                    .filter(|from| *from < x.shape[axis])
            })
            .collect();
        at.map_or(value, |at| x.at(&at))
    })
}

pub(crate) fn expand(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    node.fill(|index| x.broadcast_at(index))
}

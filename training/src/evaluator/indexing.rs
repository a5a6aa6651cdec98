//! Operators that read or write by index, and those that make tensors of a shape.

use super::array::{Array, for_each_index, offset};
use super::{Evaluated, Node};
use crate::graph::shape::shape_range;
use crate::onnx::Attribute;

/// Negative indices count from the end.
fn from_start(index: f64, size: usize) -> usize {
    (if index < 0.0 {
        index + size as f64
    } else {
        index
    }) as usize
}

pub(crate) fn shape(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let (start, end) = shape_range(&node.operation.attributes, x.shape.len());
    node.fill(|index| x.shape[start..end][index[0]] as f64)
}

pub(crate) fn constant_of_shape(node: &Node<'_>) -> Evaluated {
    let value = match node.operation.attributes.get("value") {
        Some(Attribute::Tensor(value)) => Array::from(value).data[0],
        _ => 0.0,
    };
    node.fill(|_| value)
}

pub(crate) fn range(node: &Node<'_>) -> Evaluated {
    let (start, step) = (node.input(0)?.data[0], node.input(2)?.data[0]);
    node.fill(|index| start + step * index[0] as f64)
}

pub(crate) fn gather(node: &Node<'_>) -> Evaluated {
    let (x, indices) = (node.input(0)?, node.input(1)?);
    let axis = node.axis(0, x.shape.len());
    let end = axis + indices.shape.len();
    node.fill(|index| {
        let chosen = from_start(indices.at(&index[axis..end]), x.shape[axis]);
        x.at(&[&index[..axis], &[chosen], &index[end..]].concat())
    })
}

pub(crate) fn scatter_elements(node: &Node<'_>) -> Evaluated {
    let (indices, updates) = (node.input(1)?, node.input(2)?);
    let mut result = node.input(0)?.clone();
    let axis = node.axis(0, result.shape.len());
    let adds = node.operation.attributes.string_or("reduction", "none") == "add";
    for_each_index(&updates.shape, |index| {
        let mut at = index.to_vec();
        at[axis] = from_start(indices.at(index), result.shape[axis]);
        let slot = offset(&result.shape, &at);
        result.data[slot] = updates.at(index) + if adds { result.data[slot] } else { 0.0 };
    });
    Ok(vec![result])
}

pub(crate) fn scatter_nd(node: &Node<'_>) -> Evaluated {
    let (indices, updates) = (node.input(1)?, node.input(2)?);
    let mut result = node.input(0)?.clone();
    let adds = node.operation.attributes.string_or("reduction", "none") == "add";
    let depth = indices.shape[indices.shape.len() - 1];
    let block: usize = result.shape[depth..].iter().product();
    for (row, tuple) in indices.data.chunks(depth).enumerate() {
        let at: Vec<usize> = tuple
            .iter()
            .zip(&result.shape)
            .map(|(i, size)| from_start(*i, *size))
            .collect();
        let first = offset(&result.shape[..depth], &at) * block;
        for position in 0..block {
            let old = if adds {
                result.data[first + position]
            } else {
                0.0
            };
            result.data[first + position] = old + updates.data[row * block + position];
        }
    }
    Ok(vec![result])
}

pub(crate) fn one_hot(node: &Node<'_>) -> Evaluated {
    let (indices, values) = (node.input(0)?, node.input(2)?);
    let axis = node.axis(-1, node.kind(0).shape.len());
    let depth = node.kind(0).shape[axis];
    node.fill(|index| {
        let mut at = index.to_vec();
        let class = at.remove(axis);
        values.data[usize::from(from_start(indices.at(&at), depth) == class)]
    })
}

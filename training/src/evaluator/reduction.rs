//! Reductions, softmax and normalizations.

use super::array::{Array, for_each_index, offset};
use super::{Evaluated, Node};
use crate::onnx::Element;

pub(crate) fn reduce(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let rank = x.shape.len();
    let axes = match node.optional(1) {
        Some(axes) => Some(axes.integers()),
        None => node
            .operation
            .attributes
            .ints_of("axes")
            .map(<[i64]>::to_vec),
    };
    let reduced = |axis: usize| match &axes {
        Some(axes) if !axes.is_empty() => axes
            .iter()
            .any(|a| (if *a < 0 { *a + rank as i64 } else { *a }) as usize == axis),
        _ => true,
    };
    let kept: Vec<usize> = (0..rank)
        .map(|axis| if reduced(axis) { 1 } else { x.shape[axis] })
        .collect();
    let count: usize = kept.iter().product();
    let largest = node.operation.operator == "ReduceMax";
    let mut data = vec![if largest { f64::NEG_INFINITY } else { 0.0 }; count];
    for_each_index(&x.shape, |index| {
        let target: Vec<usize> = (0..rank)
            .map(|axis| if reduced(axis) { 0 } else { index[axis] })
            .collect();
        let slot = &mut data[offset(&kept, &target)];
        *slot = if largest {
            slot.max(x.at(index))
        } else {
            *slot + x.at(index)
        };
    });
    if node.operation.operator == "ReduceMean" {
        let elements = (x.data.len() / count) as f64;
        data.iter_mut().for_each(|value| *value /= elements);
    }
    let kind = node.kind(0);
    Ok(vec![Array::new(kind.element, &kind.shape, data)])
}

pub(crate) fn arg_max(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let axis = node.axis(0, x.shape.len());
    let keep = node.int("keepdims", 1) != 0;
    node.fill(|index| {
        let mut at = index.to_vec();
        if !keep {
            at.insert(axis, 0);
        }
        let mut best = (f64::NEG_INFINITY, 0);
        for candidate in 0..x.shape[axis] {
            at[axis] = candidate;
            if x.at(&at) > best.0 {
                best = (x.at(&at), candidate);
            }
        }
        best.1 as f64
    })
}

pub(crate) fn softmax(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let axis = node.axis(-1, x.shape.len());
    let logarithm = node.operation.operator == "LogSoftmax";
    node.fill(|index| {
        let along = |position: usize| {
            let mut at = index.to_vec();
            at[axis] = position;
            x.at(&at)
        };
        let largest = (0..x.shape[axis])
            .map(along)
            .fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..x.shape[axis])
            .map(|position| (along(position) - largest).exp())
            .sum();
        let shifted = x.at(index) - largest;
        if logarithm {
            shifted - sum.ln()
        } else {
            shifted.exp() / sum
        }
    })
}

/// scale · (x − mean) / √(variance + ε) + bias, per channel (axis 1).
pub(crate) fn batch_normalization(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let epsilon = node.float("epsilon", 1e-5);
    let per_channel = [
        node.input(1)?,
        node.input(2)?,
        node.input(3)?,
        node.input(4)?,
    ];
    node.fill(|index| {
        let channel = index.get(1).copied().unwrap_or(0);
        let [scale, bias, mean, variance] = per_channel.map(|array| array.data[channel]);
        scale * (x.at(index) - mean) / (variance + epsilon).sqrt() + bias
    })
}

/// Like batch normalization, over the axes from `axis` on of every sample.
pub(crate) fn layer_normalization(node: &Node<'_>) -> Evaluated {
    let (x, scale) = (node.input(0)?, node.input(1)?);
    let axis = node.axis(-1, x.shape.len());
    let epsilon = node.float("epsilon", 1e-5);
    let count: usize = x.shape[axis..].iter().product();
    let (mut y, mut means, mut inverses) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.data.chunks(count) {
        let mean = row.iter().sum::<f64>() / count as f64;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        y.extend(row.iter().enumerate().map(|(position, value)| {
            let bias = node.optional(2).map_or(0.0, |bias| bias.data[position]);
            (value - mean) * inverse * scale.data[position] + bias
        }));
        means.push(mean);
        inverses.push(inverse);
    }
    let mut statistics = x.shape.clone();
    statistics[axis..].fill(1);
    Ok(vec![
        Array::new(x.element, &x.shape, y),
        Array::new(Element::F32, &statistics, means),
        Array::new(Element::F32, &statistics, inverses),
    ])
}

//! Convolutions, pooling, resizing: tensors `[batch, channels, spatial…]`.

use super::array::{Array, for_each_index, offset};
use super::{Evaluated, Node};
use crate::error::OperatorError;
use crate::graph::window::Window;
use crate::onnx::Element;

impl Node<'_> {
    fn window(&self, kernel: Option<&[usize]>) -> Result<Window, OperatorError> {
        let spatial = &self.input(0)?.shape[2..];
        Window::of(
            &self.operation.operator,
            &self.operation.attributes,
            kernel,
            spatial,
        )
    }
}

/// Where an element of a window lies, or `None` if it lies in the pads.
fn position(
    window: &Window,
    input: &[usize],
    at: &[usize],
    within: &[usize],
) -> Option<Vec<usize>> {
    (0..input.len())
        .map(|axis| {
            (at[axis] * window.strides[axis] + within[axis] * window.dilations[axis])
                .checked_sub(window.pads_begin[axis])
                .filter(|index| *index < input[axis])
        })
        .collect()
}

pub(crate) fn conv(node: &Node<'_>) -> Evaluated {
    let (x, w) = (node.input(0)?, node.input(1)?);
    let window = node.window(Some(&w.shape[2..]))?;
    let outputs_per_group = w.shape[0] / node.int("group", 1) as usize;
    node.fill(|index| {
        let (batch, channel) = (index[0], index[1]);
        let first = channel / outputs_per_group * w.shape[1];
        let mut sum = node.optional(2).map_or(0.0, |bias| bias.data[channel]);
        for_each_index(&w.shape[1..], |tap| {
            if let Some(at) = position(&window, &x.shape[2..], &index[2..], &tap[1..]) {
                sum += x.at(&[&[batch, first + tap[0]], at.as_slice()].concat())
                    * w.at(&[&[channel], tap].concat());
            }
        });
        sum
    })
}

/// The transpose of a convolution: scatters every input element over a window of the output.
pub(crate) fn conv_transpose(node: &Node<'_>) -> Evaluated {
    let (x, w) = (node.input(0)?, node.input(1)?);
    let window = node.window(Some(&w.shape[2..]))?;
    let kind = node.kind(0).clone();
    let inputs_per_group = w.shape[0] / node.int("group", 1) as usize;
    let mut data = vec![0.0; kind.count()];
    if let Some(bias) = node.optional(2) {
        let area: usize = kind.shape[2..].iter().product();
        for (position, value) in data.iter_mut().enumerate() {
            *value = bias.data[position / area % kind.shape[1]];
        }
    }
    for_each_index(&x.shape, |index| {
        let first = index[1] / inputs_per_group * w.shape[1];
        for_each_index(&w.shape[1..], |tap| {
            if let Some(at) = position(&window, &kind.shape[2..], &index[2..], &tap[1..]) {
                let target = [&[index[0], first + tap[0]], at.as_slice()].concat();
                data[offset(&kind.shape, &target)] +=
                    x.at(index) * w.at(&[&[index[1]], tap].concat());
            }
        });
    });
    Ok(vec![Array::new(kind.element, &kind.shape, data)])
}

/// Largest element of every window, the first of equal ones, and its position in the input.
pub(crate) fn max_pool(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let window = node.window(None)?;
    let kind = node.kind(0);
    let (mut largest, mut positions) = (Vec::new(), Vec::new());
    for_each_index(&kind.shape, |index| {
        let (mut best, mut best_at) = (f64::NEG_INFINITY, 0);
        for_each_index(&window.kernel, |tap| {
            if let Some(at) = position(&window, &x.shape[2..], &index[2..], tap) {
                let at = offset(&x.shape, &[&index[..2], at.as_slice()].concat());
                if x.data[at] > best {
                    (best, best_at) = (x.data[at], at);
                }
            }
        });
        largest.push(best);
        positions.push(best_at as f64);
    });
    Ok(vec![
        Array::new(kind.element, &kind.shape, largest),
        Array::new(Element::I64, &kind.shape, positions),
    ])
}

pub(crate) fn average_pool(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let window = node.window(None)?;
    if window.ceil_mode {
        return Err(node.unsupported("ceil_mode"));
    }
    let count_pads = node.int("count_include_pad", 0) != 0;
    let area: usize = window.kernel.iter().product();
    node.fill(|index| {
        let (mut sum, mut count) = (0.0, 0);
        for_each_index(&window.kernel, |tap| {
            if let Some(at) = position(&window, &x.shape[2..], &index[2..], tap) {
                sum += x.at(&[&index[..2], at.as_slice()].concat());
                count += 1;
            }
        });
        sum / (if count_pads { area } else { count }) as f64
    })
}

pub(crate) fn global_average_pool(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let area: usize = x.shape[2..].iter().product();
    node.fill(|index| {
        let first = (index[0] * x.shape[1] + index[1]) * area;
        x.data[first..first + area].iter().sum::<f64>() / area as f64
    })
}

/// Nearest neighbour, `asymmetric` coordinates, rounded down: the only form the import lets through.
pub(crate) fn resize_nearest(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let shape = &node.kind(0).shape;
    node.fill(|index| {
        let from: Vec<usize> = (0..shape.len())
            .map(|axis| index[axis] * x.shape[axis] / shape[axis])
            .collect();
        x.at(&from)
    })
}

//! Convolutions and their transposes, strided, dilated, padded, grouped, in any number of spatial axes.

use super::Context;
use crate::error::OperatorError;
use crate::graph::window::Window;
use crate::graph::{Graph, Value};
use crate::onnx::Attributes;

/// y = Conv(x, w) + b.
/// dx = ConvTranspose(dy, w) with the same geometry, `output_padding` restoring what no window touched;
/// dw = correlation of x with dy (see [`kernel_gradient`]); db = Σ dy over batch and space.
pub(super) fn conv(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let (x, w, dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let (shape_x, shape_w, shape_y) = (c.shape(x), c.shape(w), c.shape(dy));
    let groups = c.step.attributes.int_or("group", 1) as usize;
    let window = Window::of(
        "Conv",
        &c.step.attributes,
        Some(&shape_w[2..]),
        &shape_x[2..],
    )?;
    if c.wants(0) {
        let rest: Vec<i64> = window
            .remainder(&shape_x[2..], &shape_y[2..])
            .iter()
            .map(|untouched| *untouched as i64)
            .collect();
        let attributes = window
            .attributes()
            .int("group", groups as i64)
            .ints("output_padding", &rest);
        let gradient = c.graph.op("ConvTranspose", &[dy, w], attributes)?;
        c.give(0, gradient)?;
    }
    if c.wants(1) {
        let gradient = kernel_gradient(c.graph, x, dy, &window, groups)?;
        c.give(1, gradient)?;
    }
    if c.wants(2) {
        give_bias(c, 2)?;
    }
    Ok(())
}

/// y = ConvTranspose(x, w) + b: the adjoint of a convolution, so that its gradient is that convolution.
/// dx = Conv(dy, w); dw = correlation of dy with x; db = Σ dy over batch and space.
pub(super) fn conv_transpose(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let (x, w, dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let (shape_x, shape_w) = (c.shape(x), c.shape(w));
    let groups = c.step.attributes.int_or("group", 1) as usize;
    let window = Window::of(
        "ConvTranspose",
        &c.step.attributes,
        Some(&shape_w[2..]),
        &shape_x[2..],
    )?;
    if c.wants(0) {
        let attributes = window.attributes().int("group", groups as i64);
        let mut gradient = c.graph.op("Conv", &[dy, w], attributes)?;
        // An output_padding of at least the stride makes room for windows that x does not have.
        for (axis, size) in shape_x.iter().enumerate().skip(2) {
            gradient = c.graph.slice(gradient, axis, 0, *size)?;
        }
        c.give(0, gradient)?;
    }
    if c.wants(1) {
        let gradient = kernel_gradient(c.graph, dy, x, &window, groups)?;
        c.give(1, gradient)?;
    }
    if c.wants(2) {
        give_bias(c, 2)?;
    }
    Ok(())
}

fn give_bias(c: &mut Context<'_>, index: usize) -> Result<(), OperatorError> {
    let dy = c.dy()?;
    let axes: Vec<usize> = (0..c.shape(dy).len()).filter(|axis| *axis != 1).collect();
    let gradient = c.graph.sum(dy, &axes, false)?;
    c.give(index, gradient)
}

/// Gradient of the kernel of `small = Conv(large, kernel)`:
/// `dw[m, c, k] = Σ_{b,o} large[b, c, o·stride + k·dilation − pad] · d_small[b, m, o]`.
///
/// That is itself a convolution with batch and channels exchanged, strides and dilations exchanged, and
/// `d_small` as the kernel. With groups, the batch of every group becomes the channels of that group:
/// input `[c, group·batch, …]`, kernel `[m, batch, …]`, as many groups.
fn kernel_gradient(
    graph: &mut Graph,
    large: Value,
    d_small: Value,
    window: &Window,
    groups: usize,
) -> Result<Value, OperatorError> {
    let shape = graph.shape(large).to_vec();
    let (batch, channels, spatial) = (shape[0], shape[1], &shape[2..]);
    let each = channels / groups;
    let axes: Vec<usize> = (2..shape.len()).collect();
    let exchanged = [vec![1, 0], axes.clone()].concat();

    let input = if groups == 1 {
        graph.permute(large, &exchanged)?
    } else {
        let parts = graph.reshape(large, &[&[batch, groups, each], spatial].concat())?;
        let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..shape.len() + 1).collect();
        let turned = graph.permute(parts, &order)?;
        graph.reshape(turned, &[&[each, groups * batch], spatial].concat())?
    };
    let kernel = graph.permute(d_small, &exchanged)?;
    let turned_window = Window {
        kernel: graph.shape(kernel)[2..].to_vec(),
        strides: window.dilations.clone(),
        dilations: window.strides.clone(),
        ..window.clone()
    };
    let attributes: Attributes = turned_window.attributes().int("group", groups as i64);
    let mut gradient = graph.op("Conv", &[input, kernel], attributes)?;
    // What no window touched may look like one more tap.
    for (axis, size) in axes.iter().zip(&window.kernel) {
        gradient = graph.slice(gradient, *axis, 0, *size)?;
    }
    graph.permute(gradient, &exchanged)
}

//! Convolutions and their transposes, strided, dilated, padded, grouped, in any number of spatial axes.

use super::Context;
use crate::error::OperatorError;
use crate::graph::window::Window;
use crate::graph::{Graph, Value};
use crate::onnx::Attributes;

/// From this many channels of the convolution's input on, its gradients are written for wide matrix kernels:
/// with fewer, most of a tile stays empty and the number of nodes counts (measured on ONNX Runtime 1.23.2,
/// x86-64).
const WIDE_CHANNELS_MIN: usize = 16;

/// y = Conv(x, w) + b.
/// dx: see [`input_gradient`]; dw = correlation of x with dy: see [`kernel_gradient`];
/// db = Σ dy over batch and space.
pub(super) fn conv(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let (x, w, dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let (shape_x, shape_w) = (c.shape(x), c.shape(w));
    let groups = c.step.attributes.int_or("group", 1) as usize;
    let window = Window::of(
        "Conv",
        &c.step.attributes,
        Some(&shape_w[2..]),
        &shape_x[2..],
    )?;
    if c.wants(0) {
        let gradient = input_gradient(c.graph, dy, w, &shape_x, &window, groups)?;
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

/// Gradient of the input of a convolution: ConvTranspose(dy, w) with the same geometry ([`spread`]).
///
/// With stride 1, one group and many channels that is a convolution of dy with the kernel turned around, its channels
/// exchanged, and pads `extent − 1 − pad`; ONNX Runtime's CPU kernel for it is the faster one (measured:
/// 10 to 30 % over the layers of ResNet-18). Turning both dy and the result around is the same as turning the
/// kernel; the smaller of them is turned.
fn input_gradient(
    graph: &mut Graph,
    dy: Value,
    w: Value,
    shape_x: &[usize],
    window: &Window,
    groups: usize,
) -> Result<Value, OperatorError> {
    let turned_pads = |pads: &[usize]| -> Option<Vec<usize>> {
        (0..pads.len())
            .map(|axis| (window.extent(axis) - 1).checked_sub(pads[axis]))
            .collect()
    };
    let pads = (
        turned_pads(&window.pads_begin),
        turned_pads(&window.pads_end),
    );
    if let ((Some(pads_begin), Some(pads_end)), 1) = (pads, groups)
        && window.strides.iter().all(|stride| *stride == 1)
        && shape_x[1] >= WIDE_CHANNELS_MIN
    {
        let order = [vec![1, 0], (2..shape_x.len()).collect()].concat();
        let kernel = graph.permute(w, &order)?;
        let axes: Vec<usize> = (0..window.kernel.len())
            .filter(|axis| window.kernel[*axis] > 1)
            .map(|axis| axis + 2)
            .collect();
        let data = graph.kind(dy).count() + shape_x.iter().product::<usize>();
        let turned_window = Window {
            pads_begin,
            pads_end,
            ..window.clone()
        };
        if graph.kind(w).count() <= data {
            let kernel = graph.reverse(kernel, &axes)?;
            return graph.op("Conv", &[dy, kernel], turned_window.attributes());
        }
        let mirrored = Window {
            pads_begin: turned_window.pads_end,
            pads_end: turned_window.pads_begin,
            ..turned_window
        };
        let dy = graph.reverse(dy, &axes)?;
        let gradient = graph.op("Conv", &[dy, kernel], mirrored.attributes())?;
        return graph.reverse(gradient, &axes);
    }
    spread(graph, dy, w, &shape_x[2..], window, groups)
}

/// ConvTranspose(dy, w) onto an input of this size, `output_padding` restoring what no window touched.
///
/// cuDNN has the same pads on both sides, and ONNX Runtime's CUDA provider leaves others to the CPU: so the smaller ones
/// are taken, and what is too much on the other side is cut off.
pub(super) fn spread(
    graph: &mut Graph,
    dy: Value,
    w: Value,
    size: &[usize],
    window: &Window,
    groups: usize,
) -> Result<Value, OperatorError> {
    let rest: Vec<i64> = window
        .remainder(size, &graph.shape(dy)[2..])
        .iter()
        .map(|untouched| *untouched as i64)
        .collect();
    let both = window.pads_begin.iter().zip(&window.pads_end);
    let pads: Vec<usize> = both.map(|(begin, end)| *begin.min(end)).collect();
    let even = Window {
        pads_begin: pads.clone(),
        pads_end: pads.clone(),
        ..window.clone()
    };
    let attributes = even
        .attributes()
        .int("group", groups as i64)
        .ints("output_padding", &rest);
    let mut gradient = graph.op("ConvTranspose", &[dy, w], attributes)?;
    for (axis, size) in size.iter().enumerate() {
        let first = window.pads_begin[axis] - pads[axis];
        gradient = graph.slice(gradient, axis + 2, first, first + size)?;
    }
    Ok(gradient)
}

/// Gradient of the kernel of `small = Conv(large, kernel)`:
/// `dw[m, c, k] = Σ_{b,o} large[b, c, o·stride + k·dilation − pad] · d_small[b, m, o]`.
fn kernel_gradient(
    graph: &mut Graph,
    large: Value,
    d_small: Value,
    window: &Window,
    groups: usize,
) -> Result<Value, OperatorError> {
    let wide = graph.shape(large)[1] >= WIDE_CHANNELS_MIN;
    if groups == 1 && wide {
        by_products(graph, large, d_small, window)
    } else {
        by_convolution(graph, large, d_small, window, groups)
    }
}

/// Kernel gradient as matrix products `[m, b·o] · [c, b·o]ᵀ`, one for every tap `k`: the elements of
/// `large` that the tap meets are a slice with the stride as its step. Twice as fast on the CPU as
/// [`by_convolution`] (measured over the layers of ResNet-18), whose products are only as wide as the kernel
/// has taps.
///
/// With more maps `m` than positions `b·o` it is cheaper to put the slices together than the products: one product
/// `[m, b·o] · [c·k, b·o]ᵀ`.
fn by_products(
    graph: &mut Graph,
    large: Value,
    d_small: Value,
    window: &Window,
) -> Result<Value, OperatorError> {
    let shape = graph.shape(large).to_vec();
    let shape_small = graph.shape(d_small).to_vec();
    let (channels, maps) = (shape[1], shape_small[1]);
    let positions = shape_small.iter().product::<usize>() / maps;
    let exchanged = [vec![1, 0], (2..shape.len()).collect()].concat();

    let rows = graph.permute(d_small, &exchanged)?;
    let rows = graph.reshape(rows, &[maps, positions])?;
    let padded = graph.permute(large, &exchanged)?;
    let padded = graph.pad(
        padded,
        &[&[0, 0], window.pads_begin.as_slice()].concat(),
        &[&[0, 0], window.pads_end.as_slice()].concat(),
    )?;
    let taps = taps(&window.kernel);
    let columns = taps
        .iter()
        .map(|tap| met_by(graph, padded, tap, window, &shape_small[2..]))
        .collect::<Result<Vec<_>, _>>()?;
    let turned = Attributes::new().int("transB", 1);
    let product = if positions < maps {
        let columns = columns
            .into_iter()
            .map(|part| graph.reshape(part, &[channels, 1, positions]))
            .collect::<Result<Vec<_>, _>>()?;
        let all = graph.concat(&columns, 1)?;
        let all = graph.reshape(all, &[channels * taps.len(), positions])?;
        graph.op("Gemm", &[rows, all], turned)?
    } else {
        let products = columns
            .into_iter()
            .map(|part| {
                let part = graph.reshape(part, &[channels, positions])?;
                let product = graph.op("Gemm", &[rows, part], turned.clone())?;
                graph.reshape(product, &[maps, channels, 1])
            })
            .collect::<Result<Vec<_>, _>>()?;
        graph.concat(&products, 2)?
    };
    graph.reshape(
        product,
        &[&[maps, channels], window.kernel.as_slice()].concat(),
    )
}

/// Every index within a kernel, in row-major order.
fn taps(kernel: &[usize]) -> Vec<Vec<usize>> {
    kernel.iter().fold(vec![Vec::new()], |taps, size| {
        taps.iter()
            .flat_map(|tap| (0..*size).map(move |i| [tap.as_slice(), &[i]].concat()))
            .collect()
    })
}

/// The elements that one tap meets, one per window: `[…, …, output…]`.
fn met_by(
    graph: &mut Graph,
    padded: Value,
    tap: &[usize],
    window: &Window,
    output: &[usize],
) -> Result<Value, OperatorError> {
    let per_axis = |value: &dyn Fn(usize) -> usize| -> Vec<i64> {
        (0..tap.len()).map(|axis| value(axis) as i64).collect()
    };
    let starts = per_axis(&|axis| tap[axis] * window.dilations[axis]);
    let ends = per_axis(&|axis| {
        tap[axis] * window.dilations[axis] + (output[axis] - 1) * window.strides[axis] + 1
    });
    if graph.shape(padded)[2..]
        .iter()
        .zip(&ends)
        .all(|(size, end)| *size as i64 == *end)
        && starts.iter().all(|start| *start == 0)
        && window.strides.iter().all(|stride| *stride == 1)
    {
        return Ok(padded);
    }
    let arguments = [
        padded,
        graph.integers(&starts),
        graph.integers(&ends),
        graph.integers(&per_axis(&|axis| axis + 2)),
        graph.integers(&per_axis(&|axis| window.strides[axis])),
    ];
    graph.apply("Slice", &arguments)
}

/// Kernel gradient as a convolution with batch and channels exchanged, strides and dilations exchanged, and
/// `d_small` as the kernel. The batch of every group becomes the channels of that group: input
/// `[c, group·batch, …]`, kernel `[m, batch, …]`, as many groups.
fn by_convolution(
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

    let parts = graph.reshape(large, &[&[batch, groups, each], spatial].concat())?;
    let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..shape.len() + 1).collect();
    let turned = graph.permute(parts, &order)?;
    let input = graph.reshape(turned, &[&[each, groups * batch], spatial].concat())?;
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

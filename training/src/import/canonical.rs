//! One form for what opsets 13 to 22 write differently: that of opset 17, with explicit pads, axes
//! and lengths.

use super::Arrival;
use crate::error::OperatorError;
use crate::graph::window::Window;
use crate::graph::{Graph, Value};
use crate::onnx::{Attributes, Data};

/// A node as opset 17 writes it.
pub(super) struct Form {
    pub(super) inputs: Vec<Option<Value>>,
    pub(super) attributes: Attributes,
    pub(super) output_count: usize,
}

impl Form {
    fn of(arrival: &Arrival<'_>) -> Form {
        Form {
            inputs: arrival.inputs.clone(),
            attributes: arrival.node.attributes.clone(),
            output_count: arrival.node.outputs.len(),
        }
    }
}

/// The form of a node; the operator keeps its name.
pub(super) fn form(graph: &mut Graph, arrival: &Arrival<'_>) -> Result<Form, OperatorError> {
    let mut form = Form::of(arrival);
    match arrival.node.operator.as_str() {
        "Conv" | "MaxPool" | "AveragePool" => explicit_pads(graph, arrival, &mut form)?,
        "ReduceMean" | "ReduceMax" => axes_to_attribute(graph, arrival, &mut form)?,
        "Split" => explicit_lengths(graph, arrival, &mut form)?,
        "ConvTranspose" => transposed_pads(graph, arrival, &mut form)?,
        "Cast" => form.attributes = form.attributes.without("saturate"),
        // Further outputs are for gradients; a model that uses them is refused at the node that does.
        "LayerNormalization" => form.output_count = 1,
        _ => {}
    }
    Ok(form)
}

fn explicit_pads(
    graph: &mut Graph,
    arrival: &Arrival<'_>,
    form: &mut Form,
) -> Result<(), OperatorError> {
    let operator = &arrival.node.operator;
    let spatial = spatial(graph, arrival)?;
    let kernel = arrival
        .optional(1)
        .map(|kernel| kernel_sizes(graph, arrival, kernel, spatial.len()))
        .transpose()?;
    let mut window = Window::of(operator, &form.attributes, kernel.as_deref(), &spatial)?;
    match operator.as_str() {
        "Conv" => {
            let groups = form.attributes.int_or("group", 1);
            if let Some(kernel) = arrival.optional(1) {
                form.inputs[1] = Some(without_idle_taps(graph, kernel, &mut window, &spatial)?);
            }
            form.attributes = window.attributes().int("group", groups);
        }
        "AveragePool" => {
            // Dilations came with opset 19; in this one they are all 1.
            if window.dilations.iter().any(|step| *step != 1) {
                return Err(
                    arrival.error("dilations are not supported; use a depthwise convolution")
                );
            }
            let mut count = form.attributes.int_or("count_include_pad", 0);
            let pads_end = window.pads_end.clone();
            let beyond = window.without_ceil_mode(&spatial);
            if count != 0 && beyond.iter().any(|more| *more > 0) {
                if arrival.opset < 19 {
                    return Err(arrival.error(
                        "what a window beyond the pads is divided by is open before opset 19; export with \
                         opset 19, or without count_include_pad",
                    ));
                }
                // The pads count, what lies beyond them does not: the pads become elements.
                let around = |pads: &[usize]| [&[0, 0], pads].concat();
                let padded = graph.pad(
                    arrival.input(0)?,
                    &around(&window.pads_begin),
                    &around(&pads_end),
                )?;
                form.inputs = vec![Some(padded)];
                window.pads_begin.fill(0);
                window.pads_end = beyond;
                count = 0;
            }
            form.attributes = window
                .attributes()
                .without("dilations")
                .int("count_include_pad", count);
        }
        _ => {
            window.without_ceil_mode(&spatial);
            form.attributes = window.attributes();
            // The indices are not given to the model; the gradient asks for them itself.
            form.output_count = 1;
        }
    }
    Ok(())
}

/// A kernel without the outer taps that only ever meet pads, as those of a 5x5 kernel on a 2x2 image: they cost
/// time, and their gradient is zero.
fn without_idle_taps(
    graph: &mut Graph,
    mut kernel: Value,
    window: &mut Window,
    input: &[usize],
) -> Result<Value, OperatorError> {
    let Some(output) = window.output(input) else {
        return Ok(kernel);
    };
    for (axis, size) in input.iter().enumerate() {
        let (taps, dilation) = (window.kernel[axis], window.dilations[axis]);
        let meets = |tap: &usize| {
            (0..output[axis]).any(|at| {
                let position = at * window.strides[axis] + tap * dilation;
                (window.pads_begin[axis]..window.pads_begin[axis] + size).contains(&position)
            })
        };
        let first = (0..taps).find(meets).unwrap_or(0);
        let last = (0..taps).rfind(meets).unwrap_or(taps - 1);
        // Pads are not negative.
        let first = first.min(window.pads_begin[axis] / dilation);
        let idle = (taps - 1 - last).min(window.pads_end[axis] / dilation);
        kernel = graph.slice(kernel, axis + 2, first, taps - idle)?;
        window.kernel[axis] = taps - idle - first;
        window.pads_begin[axis] -= first * dilation;
        window.pads_end[axis] -= idle * dilation;
    }
    Ok(kernel)
}

/// Sizes of a kernel along the spatial axes.
fn kernel_sizes(
    graph: &Graph,
    arrival: &Arrival<'_>,
    kernel: Value,
    axes: usize,
) -> Result<Vec<usize>, OperatorError> {
    match graph.shape(kernel) {
        [_, _, sizes @ ..] if sizes.len() == axes => Ok(sizes.to_vec()),
        other => Err(arrival.error(format!(
            "a kernel of shape {other:?} for {axes} spatial axes; it needs two more"
        ))),
    }
}

fn spatial(graph: &Graph, arrival: &Arrival<'_>) -> Result<Vec<usize>, OperatorError> {
    let shape = graph.shape(arrival.input(0)?);
    match shape.get(2..) {
        Some(spatial) if !spatial.is_empty() => Ok(spatial.to_vec()),
        _ => Err(arrival.error(format!("needs [batch, channels, spatial…], not {shape:?}"))),
    }
}

/// `output_shape` and `auto_pad` of a transposed convolution as pads: what is too much, the odd one first or,
/// for SAME_UPPER, last.
fn transposed_pads(
    graph: &Graph,
    arrival: &Arrival<'_>,
    form: &mut Form,
) -> Result<(), OperatorError> {
    let spatial = spatial(graph, arrival)?;
    let attributes = &form.attributes;
    let mode = attributes.string_or("auto_pad", "NOTSET").to_owned();
    let wanted: Vec<usize> = match attributes.ints_of("output_shape") {
        Some(shape) => shape[shape.len().saturating_sub(spatial.len())..]
            .iter()
            .map(|size| *size as usize)
            .collect(),
        None if mode.starts_with("SAME") => Vec::new(),
        None => {
            form.attributes = form.attributes.clone().without("auto_pad");
            return Ok(());
        }
    };
    let kernel = kernel_sizes(graph, arrival, arrival.input(1)?, spatial.len())?;
    let plain = attributes.clone().without("auto_pad").without("pads");
    let mut window = Window::of("ConvTranspose", &plain, Some(&kernel), &spatial)?;
    let extra = attributes.ints_of("output_padding").unwrap_or(&[]);
    for (axis, size) in spatial.iter().enumerate() {
        let full = window.strides[axis] * (size - 1)
            + window.extent(axis)
            + extra.get(axis).map_or(0, |extra| *extra as usize);
        let target = wanted
            .get(axis)
            .copied()
            .unwrap_or(size * window.strides[axis]);
        let total = full.checked_sub(target).ok_or_else(|| {
            arrival.error(format!(
                "axis {axis} gives at most {full} elements, not {target}"
            ))
        })?;
        let small = total / 2;
        window.pads_begin[axis] = if mode == "SAME_UPPER" {
            small
        } else {
            total - small
        };
        window.pads_end[axis] = total - window.pads_begin[axis];
    }
    let groups = attributes.int_or("group", 1);
    let extra = extra.to_vec();
    form.attributes = window.attributes().int("group", groups);
    if !extra.is_empty() {
        form.attributes = form.attributes.clone().ints("output_padding", &extra);
    }
    Ok(())
}

/// Opset 18 made the axes of most reductions an input.
fn axes_to_attribute(
    graph: &Graph,
    arrival: &Arrival<'_>,
    form: &mut Form,
) -> Result<(), OperatorError> {
    if arrival.opset < 18 {
        return Ok(());
    }
    if let Some(axes) = arrival.optional(1) {
        let axes = integers(graph, arrival, Some(axes))?;
        form.attributes = form.attributes.clone().ints("axes", &axes);
    } else if form.attributes.int_or("noop_with_empty_axes", 0) != 0 {
        return Err(arrival.error("noop_with_empty_axes is not supported"));
    }
    form.attributes = form.attributes.clone().without("noop_with_empty_axes");
    form.inputs.truncate(1);
    Ok(())
}

/// Without lengths a split is into equal parts, the last one smaller (opset 18).
fn explicit_lengths(
    graph: &mut Graph,
    arrival: &Arrival<'_>,
    form: &mut Form,
) -> Result<(), OperatorError> {
    form.attributes = form.attributes.clone().without("num_outputs");
    if arrival.optional(1).is_some() {
        return Ok(());
    }
    let input = arrival.input(0)?;
    let rank = graph.shape(input).len();
    let axis = axis_of(form.attributes.int_or("axis", 0), rank, arrival)?;
    let size = graph.shape(input)[axis];
    let each = size.div_ceil(form.output_count);
    let lengths: Vec<i64> = (0..form.output_count)
        .map(|part| each.min(size.saturating_sub(part * each)) as i64)
        .collect();
    form.inputs = vec![Some(input), Some(graph.integers(&lengths))];
    Ok(())
}

/// Opset 18 lets a pad name its axes.
pub(super) fn full_pads(graph: &mut Graph, arrival: &Arrival<'_>) -> Result<Form, OperatorError> {
    let mut form = Form::of(arrival);
    let Some(axes) = arrival.optional(3) else {
        return Ok(form);
    };
    let rank = graph.shape(arrival.input(0)?).len();
    let axes = integers(graph, arrival, Some(axes))?;
    let given = integers(graph, arrival, arrival.optional(1))?;
    let mut pads = vec![0; 2 * rank];
    if given.len() != 2 * axes.len() {
        return Err(arrival.error(format!("{} pads for {} axes", given.len(), axes.len())));
    }
    for (position, axis) in axes.iter().enumerate() {
        let axis = axis_of(*axis, rank, arrival)?;
        pads[axis] = given[position];
        pads[rank + axis] = given[axes.len() + position];
    }
    form.inputs[1] = Some(graph.integers(&pads));
    form.inputs.truncate(3);
    Ok(form)
}

/// The axes an attribute `axes` names, or all of them.
pub(super) fn axes_of(
    attributes: &Attributes,
    rank: usize,
    arrival: &Arrival<'_>,
) -> Result<Vec<usize>, OperatorError> {
    match attributes.ints_of("axes") {
        None => Ok((0..rank).collect()),
        Some(axes) => axes
            .iter()
            .map(|axis| axis_of(*axis, rank, arrival))
            .collect(),
    }
}

fn axis_of(axis: i64, rank: usize, arrival: &Arrival<'_>) -> Result<usize, OperatorError> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| arrival.error(format!("axis {axis} of a tensor with {rank} axes")))
}

/// Integers that must be known while building.
pub(super) fn integers(
    graph: &Graph,
    arrival: &Arrival<'_>,
    value: Option<Value>,
) -> Result<Vec<i64>, OperatorError> {
    let known = value.and_then(|value| graph.constant_of(value));
    match known.map(|tensor| tensor.data()) {
        Some(Data::I64(values)) => Ok(values.clone()),
        _ => Err(arrival.error("axes, pads and sizes must be known while building")),
    }
}

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

/// The form of a node; the operator keeps its name.
pub(super) fn form(graph: &mut Graph, arrival: &Arrival<'_>) -> Result<Form, OperatorError> {
    let mut form = Form {
        inputs: arrival.inputs.clone(),
        attributes: arrival.node.attributes.clone(),
        output_count: arrival.node.outputs.len(),
    };
    match arrival.node.operator.as_str() {
        "Conv" | "MaxPool" | "AveragePool" => explicit_pads(graph, arrival, &mut form)?,
        "ReduceMean" | "ReduceMax" => axes_to_attribute(graph, arrival, &mut form)?,
        "Split" => explicit_lengths(graph, arrival, &mut form)?,
        "Pad" => full_pads(graph, arrival, &mut form)?,
        "Resize" => integer_sizes(graph, arrival, &mut form)?,
        "Cast" => form.attributes = form.attributes.without("saturate"),
        // Further outputs are for gradients; a model that uses them is refused at the node that does.
        "LayerNormalization" => form.output_count = 1,
        _ => {}
    }
    Ok(form)
}

fn explicit_pads(
    graph: &Graph,
    arrival: &Arrival<'_>,
    form: &mut Form,
) -> Result<(), OperatorError> {
    let operator = &arrival.node.operator;
    let shape = graph.shape(arrival.input(0)?);
    let spatial = shape
        .get(2..)
        .filter(|spatial| !spatial.is_empty())
        .ok_or_else(|| {
            arrival.error(format!("needs [batch, channels, spatial…], not {shape:?}"))
        })?;
    let kernel = arrival
        .optional(1)
        .map(|kernel| graph.shape(kernel)[2..].to_vec());
    let window = Window::of(operator, &form.attributes, kernel.as_deref(), spatial)?;
    let mut attributes = window.attributes();
    match operator.as_str() {
        "Conv" => attributes = attributes.int("group", form.attributes.int_or("group", 1)),
        "AveragePool" => {
            // Dilations came with opset 19; in this one they are all 1.
            if window.dilations.iter().any(|step| *step != 1) {
                return Err(arrival.error("dilations are not supported"));
            }
            let count = form.attributes.int_or("count_include_pad", 0);
            attributes = attributes
                .without("dilations")
                .int("count_include_pad", count);
        }
        _ => {
            // The indices are not given to the model; the gradient asks for them itself.
            form.output_count = 1;
        }
    }
    if operator != "Conv" {
        attributes = attributes.int("ceil_mode", i64::from(window.ceil_mode));
    }
    form.attributes = attributes;
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
        let axes = integers(graph, arrival, axes)?;
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
    let axis = form.attributes.int_or("axis", 0);
    let axis = if axis < 0 { axis + rank as i64 } else { axis } as usize;
    let size = *graph
        .shape(input)
        .get(axis)
        .ok_or_else(|| arrival.error("axis out of range"))?;
    let each = size.div_ceil(form.output_count);
    let lengths: Vec<i64> = (0..form.output_count)
        .map(|part| each.min(size.saturating_sub(part * each)) as i64)
        .collect();
    form.inputs = vec![Some(input), Some(graph.integers(&lengths))];
    Ok(())
}

/// Opset 18 lets a pad name its axes; modes other than constant have no rule.
fn full_pads(
    graph: &mut Graph,
    arrival: &Arrival<'_>,
    form: &mut Form,
) -> Result<(), OperatorError> {
    let Some(axes) = arrival.optional(3) else {
        return Ok(());
    };
    let rank = graph.shape(arrival.input(0)?).len();
    let axes = integers(graph, arrival, axes)?;
    let given = integers(graph, arrival, arrival.input(1)?)?;
    let mut pads = vec![0; 2 * rank];
    if given.len() != 2 * axes.len() {
        return Err(arrival.error(format!("{} pads for {} axes", given.len(), axes.len())));
    }
    for (position, axis) in axes.iter().enumerate() {
        let axis = if *axis < 0 { axis + rank as i64 } else { *axis } as usize;
        if axis >= rank {
            return Err(arrival.error(format!("axis {axis} of a tensor with {rank} axes")));
        }
        pads[axis] = given[position];
        pads[rank + axis] = given[axes.len() + position];
    }
    form.inputs[1] = Some(graph.integers(&pads));
    form.inputs.truncate(3);
    Ok(())
}

/// Nearest neighbour by whole factors: there every coordinate mode says the same.
fn integer_sizes(
    graph: &mut Graph,
    arrival: &Arrival<'_>,
    form: &mut Form,
) -> Result<(), OperatorError> {
    let input = arrival.input(0)?;
    let from = graph.shape(input).to_vec();
    let attributes = &form.attributes;
    if attributes.string_or("mode", "nearest") != "nearest"
        || attributes.string_or("coordinate_transformation_mode", "half_pixel") == "align_corners"
        || attributes.get("axes").is_some()
        || attributes.int_or("antialias", 0) != 0
    {
        return Err(arrival.error(
            "only mode 'nearest' over all axes has a rule; use nearest-neighbour upsampling",
        ));
    }
    let sizes: Vec<i64> = match (arrival.optional(3), arrival.optional(2)) {
        (Some(sizes), _) => integers(graph, arrival, sizes)?,
        (None, Some(scales)) => {
            match graph.constant_of(scales).and_then(|scales| scales.floats()) {
                Some(scales) if scales.len() == from.len() => from
                    .iter()
                    .zip(scales)
                    .map(|(size, scale)| (*size as f64 * f64::from(*scale)).floor() as i64)
                    .collect(),
                _ => return Err(arrival.error("the scales must be known while building")),
            }
        }
        (None, None) => return Err(arrival.error("has neither sizes nor scales")),
    };
    let whole = sizes.len() == from.len()
        && sizes
            .iter()
            .zip(&from)
            .all(|(to, from)| *to > 0 && *to % *from as i64 == 0);
    if !whole {
        return Err(arrival.error(format!(
            "from {from:?} to {sizes:?} is not by whole factors, the only ones with a rule"
        )));
    }
    form.inputs = vec![Some(input), None, None, Some(graph.integers(&sizes))];
    form.attributes = nearest();
    Ok(())
}

/// Attributes of the only resize that is written.
pub(super) fn nearest() -> Attributes {
    Attributes::new()
        .string("mode", "nearest")
        .string("coordinate_transformation_mode", "asymmetric")
        .string("nearest_mode", "floor")
}

/// Integers that must be known while building.
fn integers(graph: &Graph, arrival: &Arrival<'_>, value: Value) -> Result<Vec<i64>, OperatorError> {
    match graph.constant_of(value).map(|tensor| tensor.data()) {
        Some(Data::I64(values)) => Ok(values.clone()),
        _ => Err(arrival.error("axes, pads and sizes must be known while building")),
    }
}

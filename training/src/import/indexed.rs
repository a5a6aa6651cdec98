//! Operators that only choose elements: padding by reflection or repetition, and nearest-neighbour resizing, as
//! one `Gather` per axis with known indices.

use super::canonical::{self, Form, integers};
use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::{Graph, Value};
use crate::onnx::Attributes;

impl Import<'_> {
    /// Pad with zeros or another constant stays what it is; negative amounts cut. In the modes `edge`, `reflect`
    /// and `wrap` every axis gathers.
    pub(super) fn pad(&mut self, arrival: &Arrival<'_>) -> Placed {
        let form = canonical::full_pads(self.graph, arrival)?;
        let x = arrival.input(0)?;
        let shape = self.graph.shape(x).to_vec();
        let amounts = integers(self.graph, arrival, form.inputs[1])?;
        if amounts.len() != 2 * shape.len() {
            return Err(arrival.error(format!("pads {amounts:?} for a tensor of shape {shape:?}")));
        }
        let mode = form.attributes.string_or("mode", "constant").to_owned();
        if mode == "constant" && amounts.iter().all(|amount| *amount >= 0) {
            return self.add("Pad", form);
        }
        let graph = &mut *self.graph;
        let mut result = x;
        for (axis, size) in shape.iter().enumerate() {
            let (before, after) = (amounts[axis], amounts[shape.len() + axis]);
            let (first, end) = ((-before).max(0), *size as i64 + after.min(0));
            if first >= end {
                return Err(arrival.error(format!("nothing is left of axis {axis} of {shape:?}")));
            }
            result = graph.slice(result, axis, first as usize, end as usize)?;
        }
        let amounts: Vec<i64> = amounts.iter().map(|amount| (*amount).max(0)).collect();
        if mode == "constant" {
            let fill = form.inputs.get(2).copied().flatten();
            let amounts = graph.integers(&amounts);
            let inputs = [Some(result), Some(amounts), fill];
            let inputs = if fill.is_some() {
                &inputs
            } else {
                &inputs[..2]
            };
            return Ok(vec![graph.op_optional("Pad", inputs, Attributes::new())?]);
        }
        for axis in 0..shape.len() {
            let size = graph.shape(result)[axis] as i64;
            let (before, after) = (amounts[axis], amounts[shape.len() + axis]);
            let indices = (-before..size + after)
                .map(|position| beyond(&mode, position, size))
                .collect::<Option<Vec<i64>>>()
                .ok_or_else(|| {
                    arrival.error(format!(
                        "mode '{mode}' with {before} and {after} around {size} elements of axis {axis}; \
                         modes are constant, edge, reflect and wrap, reflect by less than the size"
                    ))
                })?;
            result = gather(graph, result, axis, &indices)?;
        }
        Ok(vec![result])
    }

    /// Nearest neighbour. Where every element is repeated equally often it stays a `Resize`; otherwise every
    /// axis gathers.
    pub(super) fn resize(&mut self, arrival: &Arrival<'_>) -> Placed {
        let x = arrival.input(0)?;
        let shape = self.graph.shape(x).to_vec();
        let attributes = &arrival.node.attributes;
        if attributes.string_or("mode", "nearest") != "nearest" {
            return Err(arrival.error(
                "only mode 'nearest' has a rule; use nearest-neighbour resizing, or a transposed convolution",
            ));
        }
        let axes = canonical::axes_of(attributes, shape.len(), arrival)?;
        let targets = Targets::of(self.graph, arrival, &shape, &axes)?;
        let indices = axes
            .iter()
            .zip(&targets.0)
            .map(|(axis, (size, scale))| nearest(arrival, shape[*axis], *size, *scale))
            .collect::<Result<Vec<_>, _>>()?;
        let repeated = |size: usize, indices: &[i64]| {
            let each = indices.len() / size.max(1);
            indices.len() == each * size
                && indices
                    .iter()
                    .enumerate()
                    .all(|(to, from)| *from == (to / each) as i64)
        };
        let graph = &mut *self.graph;
        if axes
            .iter()
            .zip(&indices)
            .all(|(axis, indices)| repeated(shape[*axis], indices))
        {
            let mut sizes: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
            for (axis, indices) in axes.iter().zip(&indices) {
                sizes[*axis] = indices.len() as i64;
            }
            let sizes = graph.integers(&sizes);
            let form = Form {
                inputs: vec![Some(x), None, None, Some(sizes)],
                attributes: asymmetric_floor(),
                output_count: 1,
            };
            return self.add("Resize", form);
        }
        let mut result = x;
        for (axis, indices) in axes.iter().zip(&indices) {
            result = gather(graph, result, *axis, indices)?;
        }
        Ok(vec![result])
    }
}

/// New size and scale of every axis that is resized.
struct Targets(Vec<(usize, f32)>);

impl Targets {
    fn of(
        graph: &Graph,
        arrival: &Arrival<'_>,
        shape: &[usize],
        axes: &[usize],
    ) -> Result<Targets, OperatorError> {
        let policy = arrival
            .node
            .attributes
            .string_or("keep_aspect_ratio_policy", "stretch");
        if policy != "stretch" {
            return Err(arrival.error(format!(
                "keep_aspect_ratio_policy '{policy}' is not supported; give the sizes"
            )));
        }
        // An empty tensor stands for an input left out.
        let given = |index: usize| {
            arrival
                .optional(index)
                .filter(|value| graph.kind(*value).count() > 0)
        };
        let fit = |count: usize| {
            if count == axes.len() {
                return Ok(());
            }
            Err(arrival.error(format!("{count} sizes or scales for {} axes", axes.len())))
        };
        if let Some(sizes) = given(3) {
            let sizes = integers(graph, arrival, Some(sizes))?;
            fit(sizes.len())?;
            return sizes
                .iter()
                .zip(axes)
                .map(|(size, axis)| match usize::try_from(*size) {
                    Ok(size) if size > 0 => Ok((size, size as f32 / shape[*axis] as f32)),
                    _ => Err(arrival.error(format!("sizes {sizes:?}"))),
                })
                .collect::<Result<_, _>>()
                .map(Targets);
        }
        let scales = given(2)
            .and_then(|scales| graph.constant_of(scales))
            .and_then(|scales| scales.floats())
            .ok_or_else(|| arrival.error("sizes or scales must be known while building"))?;
        fit(scales.len())?;
        let sized = scales.iter().zip(axes).map(|(scale, axis)| {
            let size = (f64::from(*scale) * shape[*axis] as f64).floor();
            if size >= 1.0 {
                Ok((size as usize, *scale))
            } else {
                Err(arrival.error(format!("scale {scale} leaves nothing of axis {axis}")))
            }
        });
        sized.collect::<Result<_, _>>().map(Targets)
    }
}

/// For every element of a resized axis the element it is taken from, after ONNX's definition.
fn nearest(
    arrival: &Arrival<'_>,
    from: usize,
    to: usize,
    scale: f32,
) -> Result<Vec<i64>, OperatorError> {
    let attributes = &arrival.node.attributes;
    let mode = attributes.string_or("coordinate_transformation_mode", "half_pixel");
    let rounding = attributes.string_or("nearest_mode", "round_prefer_floor");
    (0..to)
        .map(|position| {
            let x = position as f32;
            let original = match mode {
                _ if from == to && scale == 1.0 => x,
                "half_pixel" => (x + 0.5) / scale - 0.5,
                "pytorch_half_pixel" if to > 1 => (x + 0.5) / scale - 0.5,
                "pytorch_half_pixel" => 0.0,
                "asymmetric" => x / scale,
                "align_corners" if to > 1 => x * (from - 1) as f32 / (to - 1) as f32,
                "align_corners" => 0.0,
                other => {
                    return Err(arrival.error(format!(
                        "coordinate_transformation_mode '{other}' is not supported"
                    )));
                }
            };
            let rounded = match rounding {
                "round_prefer_floor" => (original - 0.5).ceil(),
                "round_prefer_ceil" => (original + 0.5).floor(),
                "floor" => original.floor(),
                "ceil" => original.ceil(),
                other => return Err(arrival.error(format!("nearest_mode '{other}'"))),
            };
            Ok((rounded as i64).clamp(0, from as i64 - 1))
        })
        .collect()
}

/// Which element stands at a position before or behind an axis.
fn beyond(mode: &str, position: i64, size: i64) -> Option<i64> {
    match mode {
        "edge" => Some(position.clamp(0, size - 1)),
        "wrap" => Some(position.rem_euclid(size)),
        "reflect" => {
            let from_start = position.abs();
            let index = (size - 1) - (size - 1 - from_start).abs();
            (0..size).contains(&index).then_some(index)
        }
        _ => None,
    }
}

fn gather(
    graph: &mut Graph,
    x: Value,
    axis: usize,
    indices: &[i64],
) -> Result<Value, OperatorError> {
    let same = indices.len() == graph.shape(x)[axis]
        && indices
            .iter()
            .enumerate()
            .all(|(to, from)| to as i64 == *from);
    if same {
        return Ok(x);
    }
    let indices = graph.integers(indices);
    graph.op(
        "Gather",
        &[x, indices],
        Attributes::new().int("axis", axis as i64),
    )
}

/// Attributes of the only resize that is written.
fn asymmetric_floor() -> Attributes {
    Attributes::new()
        .string("mode", "nearest")
        .string("coordinate_transformation_mode", "asymmetric")
        .string("nearest_mode", "floor")
}

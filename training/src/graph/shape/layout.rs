//! Operators that move elements without changing them.

use super::{Call, Inferred, broadcast};
use crate::error::OperatorError;
use crate::graph::TensorType;

pub(crate) fn reshape(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let target = call.integers(1)?;
    let fail = || call.error(format!("{:?} cannot be reshaped to {target:?}", x.shape));
    let zero_is_zero = call.attributes.int_or("allowzero", 0) != 0;
    let mut shape = Vec::with_capacity(target.len());
    let mut free = None;
    for (axis, size) in target.iter().enumerate() {
        shape.push(match *size {
            0 if !zero_is_zero => *x.shape.get(axis).ok_or_else(fail)?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            size => usize::try_from(size).map_err(|_| fail())?,
        });
    }
    let known: usize = shape.iter().product();
    if let Some(axis) = free {
        if known == 0 || x.count() % known != 0 {
            return Err(fail());
        }
        shape[axis] = x.count() / known;
    } else if known != x.count() {
        return Err(fail());
    }
    call.one(x.element, shape)
}

pub(crate) fn flatten(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let rank = x.shape.len();
    let axis = call.attributes.int_or("axis", 1);
    let axis = if axis == rank as i64 {
        rank
    } else {
        call.axis(axis, rank)?
    };
    let rows = x.shape[..axis].iter().product();
    let columns = x.shape[axis..].iter().product();
    call.one(x.element, vec![rows, columns])
}

pub(crate) fn transpose(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let rank = x.shape.len();
    let order = match call.attributes.ints_of("perm") {
        Some(order) => call.axes(order, rank)?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(call.error(format!("perm {order:?} of a tensor of shape {:?}", x.shape)));
    }
    call.one(x.element, order.iter().map(|axis| x.shape[*axis]).collect())
}

pub(crate) fn squeeze(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let rank = x.shape.len();
    let axes = match call.integers_if_any(1)? {
        Some(axes) => call.axes(&axes, rank)?,
        None => (0..rank).filter(|axis| x.shape[*axis] == 1).collect(),
    };
    if axes.iter().any(|axis| x.shape[*axis] != 1) {
        return Err(call.error(format!(
            "axes {axes:?} of shape {:?} are not all 1",
            x.shape
        )));
    }
    let shape = (0..rank)
        .filter(|axis| !axes.contains(axis))
        .map(|axis| x.shape[axis])
        .collect();
    call.one(x.element, shape)
}

pub(crate) fn unsqueeze(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let axes = call.integers(1)?;
    let rank = x.shape.len() + axes.len();
    let axes = call.axes(&axes, rank)?;
    let mut rest = x.shape.iter();
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..rank {
        let size = if axes.contains(&axis) {
            Some(&1)
        } else {
            rest.next()
        };
        shape
            .push(*size.ok_or_else(|| call.error(format!("axes {axes:?} are not all different")))?);
    }
    call.one(x.element, shape)
}

pub(crate) fn concat(call: &Call<'_>) -> Inferred {
    let first = call.kind(0)?;
    let axis = call.axis(call.attributes.int_or("axis", 0), first.shape.len())?;
    let mut shape = first.shape.clone();
    for index in 1..call.inputs.len() {
        let other = call.kind(index)?;
        let fits = other.shape.len() == shape.len()
            && other.element == first.element
            && (0..shape.len()).all(|a| a == axis || shape[a] == other.shape[a]);
        if !fits {
            return Err(call.error(format!(
                "{:?} and {:?} do not join along axis {axis}",
                first.shape, other.shape
            )));
        }
        shape[axis] += other.shape[axis];
    }
    call.one(first.element, shape)
}

/// Input 1 holds the lengths; the import adds it where a model leaves it out.
pub(crate) fn split(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let axis = call.axis(call.attributes.int_or("axis", 0), x.shape.len())?;
    let lengths = call.integers(1)?;
    let total: i64 = lengths.iter().sum();
    if total != x.shape[axis] as i64
        || lengths.len() != call.output_count
        || lengths.iter().any(|length| *length < 0)
    {
        return Err(call.error(format!(
            "lengths {lengths:?} for {} outputs of axis {axis} of {:?}",
            call.output_count, x.shape
        )));
    }
    Ok(lengths
        .iter()
        .map(|length| {
            let mut shape = x.shape.clone();
            shape[axis] = *length as usize;
            TensorType::new(x.element, &shape)
        })
        .collect())
}

/// One axis of a slice: first index, step, number of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceAxis {
    pub(crate) axis: usize,
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

/// Reads a slice: starts, ends, axes, steps, with negative indices from the end and everything
/// clamped, as ONNX defines it.
///
/// # Errors
/// [`OperatorError`] if they are not constants, or a step is zero.
pub(crate) fn slice_axes(call: &Call<'_>) -> Result<Vec<SliceAxis>, OperatorError> {
    let x = call.shape(0)?;
    let (starts, ends) = (call.integers(1)?, call.integers(2)?);
    let axes = match call.integers_if_any(3)? {
        Some(axes) => call.axes(&axes, x.len())?,
        None => (0..starts.len()).collect(),
    };
    let steps = call
        .integers_if_any(4)?
        .unwrap_or_else(|| vec![1; starts.len()]);
    if starts.len() != ends.len() || starts.len() != axes.len() || starts.len() != steps.len() {
        return Err(call.error("starts, ends, axes and steps differ in length"));
    }
    let mut slices = Vec::with_capacity(axes.len());
    for (position, axis) in axes.into_iter().enumerate() {
        let (size, step) = (x[axis] as i64, steps[position]);
        if step == 0 {
            return Err(call.error("a step of zero"));
        }
        let from_start = |index: i64| {
            if index < 0 {
                index.saturating_add(size)
            } else {
                index
            }
        };
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_start(starts[position]).clamp(low.max(0), high);
        let end = from_start(ends[position]).clamp(low, high);
        let length = if step > 0 { end - start } else { start - end }.max(0) as usize;
        slices.push(SliceAxis {
            axis,
            start,
            step,
            count: length.div_ceil(step.unsigned_abs() as usize),
        });
    }
    Ok(slices)
}

pub(crate) fn slice(call: &Call<'_>) -> Inferred {
    let mut shape = call.shape(0)?.to_vec();
    for slice in slice_axes(call)? {
        shape[slice.axis] = slice.count;
    }
    call.one(call.kind(0)?.element, shape)
}

pub(crate) fn pad(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let rank = x.shape.len();
    let pads = call.integers(1)?;
    if pads.len() != 2 * rank {
        return Err(call.error(format!("pads {pads:?} for a tensor with {rank} axes")));
    }
    let shape = (0..rank)
        .map(|axis| usize::try_from(x.shape[axis] as i64 + pads[axis] + pads[rank + axis]))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| call.error("negative pads remove more than there is"))?;
    call.one(x.element, shape)
}

pub(crate) fn expand(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let target: Vec<usize> = call
        .integers(1)?
        .iter()
        .map(|size| *size as usize)
        .collect();
    let shape = broadcast(&x.shape, &target)
        .ok_or_else(|| call.error(format!("{:?} does not broadcast to {target:?}", x.shape)))?;
    call.one(x.element, shape)
}

//! Reductions, softmax and normalizations.

use super::{Call, Inferred};
use crate::graph::TensorType;
use crate::onnx::Element;

/// Axes of a reduction: an input of ReduceSum, an attribute of the others (opset 17).
pub(crate) fn reduce(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let rank = x.shape.len();
    let axes = if call.operator == "ReduceSum" {
        call.integers_if_any(1)?
    } else {
        call.attributes.ints_of("axes").map(<[i64]>::to_vec)
    };
    let axes = match axes {
        Some(axes) if !axes.is_empty() => call.axes(&axes, rank)?,
        _ => (0..rank).collect(),
    };
    let keep = call.attributes.int_or("keepdims", 1) != 0;
    let shape = (0..rank)
        .filter(|axis| keep || !axes.contains(axis))
        .map(|axis| {
            if axes.contains(&axis) {
                1
            } else {
                x.shape[axis]
            }
        })
        .collect();
    call.one(x.element, shape)
}

pub(crate) fn arg_max(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let axis = call.axis(call.attributes.int_or("axis", 0), x.shape.len())?;
    let mut shape = x.shape.clone();
    if call.attributes.int_or("keepdims", 1) != 0 {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    call.one(Element::I64, shape)
}

pub(crate) fn softmax(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    call.axis(call.attributes.int_or("axis", -1), x.shape.len())?;
    Ok(vec![x.clone()])
}

/// Inference form only: the import writes the training form in simpler operators.
pub(crate) fn batch_normalization(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let channels = x.shape.get(1).copied().unwrap_or(1);
    for index in 1..5 {
        let shape = call.shape(index)?;
        if shape != [channels] {
            return Err(call.error(format!(
                "input {index} has shape {shape:?}; one number for each of {channels} channels is needed"
            )));
        }
    }
    Ok(vec![x.clone()])
}

/// Outputs: normalized tensor, mean, inverse standard deviation.
pub(crate) fn layer_normalization(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let axis = call.axis(call.attributes.int_or("axis", -1), x.shape.len())?;
    let scale = call.shape(1)?;
    if scale != &x.shape[axis..] {
        return Err(call.error(format!(
            "the scale has shape {scale:?}; {:?} is needed",
            &x.shape[axis..]
        )));
    }
    let mut statistics = x.shape.clone();
    statistics[axis..].fill(1);
    let statistics = TensorType::new(Element::F32, &statistics);
    let mut kinds = vec![x.clone(), statistics.clone(), statistics];
    kinds.truncate(call.output_count.max(1));
    Ok(kinds)
}

//! Operators that read or write by index, and those that make tensors of a shape.

use super::{Call, Inferred};
use crate::onnx::{Attribute, Element};

pub(crate) fn shape(call: &Call<'_>) -> Inferred {
    let rank = call.shape(0)?.len();
    let (start, end) = shape_range(call.attributes, rank);
    call.one(Element::I64, vec![end - start])
}

/// `start` and `end` of Shape (opset 15), clamped to the rank.
pub(crate) fn shape_range(attributes: &crate::onnx::Attributes, rank: usize) -> (usize, usize) {
    let clamp = |axis: i64| {
        let from_start = if axis < 0 { axis + rank as i64 } else { axis };
        from_start.clamp(0, rank as i64) as usize
    };
    let start = clamp(attributes.int_or("start", 0));
    let end = clamp(attributes.int_or("end", rank as i64));
    (start, end.max(start))
}

pub(crate) fn constant_of_shape(call: &Call<'_>) -> Inferred {
    let shape = call
        .integers(0)?
        .iter()
        .map(|size| *size as usize)
        .collect();
    let element = match call.attributes.get("value") {
        Some(Attribute::Tensor(value)) => value.element(),
        _ => Element::F32,
    };
    call.one(element, shape)
}

pub(crate) fn range(call: &Call<'_>) -> Inferred {
    let mut bounds = Vec::with_capacity(3);
    for index in 0..3 {
        bounds.extend(call.integers(index)?);
    }
    let [start, limit, step] = bounds.as_slice() else {
        return Err(call.error("start, limit and delta must each be one integer"));
    };
    if *step == 0 {
        return Err(call.error("a delta of zero"));
    }
    let length = if *step > 0 {
        limit - start
    } else {
        start - limit
    }
    .max(0) as u64;
    call.one(
        Element::I64,
        vec![length.div_ceil(step.unsigned_abs()) as usize],
    )
}

pub(crate) fn gather(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let axis = call.axis(call.attributes.int_or("axis", 0), x.shape.len())?;
    let indices = call.shape(1)?;
    let shape = [&x.shape[..axis], indices, &x.shape[axis + 1..]].concat();
    call.one(x.element, shape)
}

pub(crate) fn scatter_elements(call: &Call<'_>) -> Inferred {
    let (indices, updates) = (call.shape(1)?, call.shape(2)?);
    if indices != updates || call.shape(0)?.len() != indices.len() {
        return Err(call.error(format!("indices {indices:?} and updates {updates:?}")));
    }
    Ok(vec![call.kind(0)?.clone()])
}

/// Indices `[…, k]` address slices of the first `k` axes.
pub(crate) fn scatter_nd(call: &Call<'_>) -> Inferred {
    let (data, indices, updates) = (call.shape(0)?, call.shape(1)?, call.shape(2)?);
    let fits = indices.split_last().is_some_and(|(depth, outer)| {
        *depth <= data.len() && [outer, &data[*depth..]].concat() == updates
    });
    if !fits {
        return Err(call.error(format!(
            "data {data:?}, indices {indices:?}, updates {updates:?}"
        )));
    }
    Ok(vec![call.kind(0)?.clone()])
}

pub(crate) fn one_hot(call: &Call<'_>) -> Inferred {
    let indices = call.shape(0)?;
    let depth = call.integers(1)?;
    let [depth] = depth.as_slice() else {
        return Err(call.error("the depth must be one number"));
    };
    let rank = indices.len() + 1;
    let axis = call.axis(call.attributes.int_or("axis", -1), rank)?;
    let mut shape = indices.to_vec();
    shape.insert(axis, *depth as usize);
    call.one(call.kind(2)?.element, shape)
}

//! Convolutions, pooling, resizing: tensors `[batch, channels, spatial…]`.

use super::{Call, Inferred};
use crate::error::OperatorError;
use crate::graph::TensorType;
use crate::graph::window::Window;
use crate::onnx::Element;

fn spatial<'a>(call: &'a Call<'_>) -> Result<&'a [usize], OperatorError> {
    let shape = call.shape(0)?;
    shape
        .get(2..)
        .filter(|spatial| !spatial.is_empty())
        .ok_or_else(|| call.error(format!("needs [batch, channels, spatial…], not {shape:?}")))
}

pub(crate) fn conv(call: &Call<'_>) -> Inferred {
    let (x, w) = (call.shape(0)?, call.shape(1)?);
    let spatial = spatial(call)?;
    let groups = call.attributes.int_or("group", 1);
    if w.len() != x.len()
        || groups < 1
        || x[1] != w[1] * groups as usize
        || !w[0].is_multiple_of(groups as usize)
    {
        return Err(call.error(format!("input {x:?}, kernel {w:?}, {groups} groups")));
    }
    let window = Window::of(call.operator, call.attributes, Some(&w[2..]), spatial)?;
    let output = window
        .output(spatial)
        .ok_or_else(|| call.error(format!("the kernel {w:?} is larger than the input {x:?}")))?;
    call.one(call.kind(0)?.element, [vec![x[0], w[0]], output].concat())
}

pub(crate) fn conv_transpose(call: &Call<'_>) -> Inferred {
    let (x, w) = (call.shape(0)?, call.shape(1)?);
    let spatial = spatial(call)?;
    let groups = call.attributes.int_or("group", 1);
    if w.len() != x.len() || groups < 1 || x[1] != w[0] || !x[1].is_multiple_of(groups as usize) {
        return Err(call.error(format!("input {x:?}, kernel {w:?}, {groups} groups")));
    }
    if call.attributes.get("output_shape").is_some()
        || call.attributes.string_or("auto_pad", "NOTSET") != "NOTSET"
    {
        return Err(call.error("output_shape and auto_pad are not supported; give pads"));
    }
    let window = Window::of(call.operator, call.attributes, Some(&w[2..]), spatial)?;
    let extra = call.attributes.ints_of("output_padding").unwrap_or(&[]);
    let mut shape = vec![x[0], w[1] * groups as usize];
    for (axis, size) in spatial.iter().enumerate() {
        let full = window.strides[axis] * (size - 1)
            + window.extent(axis)
            + extra.get(axis).map_or(0, |extra| *extra as usize);
        let pads = window.pads_begin[axis] + window.pads_end[axis];
        shape.push(
            full.checked_sub(pads)
                .ok_or_else(|| call.error("pads exceed the output"))?,
        );
    }
    call.one(call.kind(0)?.element, shape)
}

pub(crate) fn pool(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let spatial = spatial(call)?;
    let window = Window::of(call.operator, call.attributes, None, spatial)?;
    let output = window.output(spatial).ok_or_else(|| {
        call.error(format!(
            "the window {:?} is larger than {:?}",
            window.kernel, x.shape
        ))
    })?;
    let shape = [x.shape[..2].to_vec(), output].concat();
    let mut kinds = vec![TensorType::new(x.element, &shape)];
    if call.output_count > 1 {
        kinds.push(TensorType::new(Element::I64, &shape));
    }
    Ok(kinds)
}

pub(crate) fn global_pool(call: &Call<'_>) -> Inferred {
    let spatial_axes = spatial(call)?.len();
    let x = call.kind(0)?;
    call.one(
        x.element,
        [x.shape[..2].to_vec(), vec![1; spatial_axes]].concat(),
    )
}

/// Input 3 is `sizes`; the import turns `scales` into it.
pub(crate) fn resize(call: &Call<'_>) -> Inferred {
    let x = call.kind(0)?;
    let sizes = call.integers(3)?;
    if sizes.len() != x.shape.len() || sizes.iter().any(|size| *size < 1) {
        return Err(call.error(format!(
            "sizes {sizes:?} for an input of shape {:?}",
            x.shape
        )));
    }
    call.one(x.element, sizes.iter().map(|size| *size as usize).collect())
}

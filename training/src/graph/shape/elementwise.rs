//! Operators that work element by element.

use super::{Call, Inferred, broadcast};
use crate::onnx::{Element, read::decode_element};

/// Same type as the first input.
pub(crate) fn same(call: &Call<'_>) -> Inferred {
    Ok(vec![call.kind(0)?.clone()])
}

pub(crate) fn not(call: &Call<'_>) -> Inferred {
    if call.kind(0)?.element != Element::Bool {
        return Err(call.error("needs truth values"));
    }
    same(call)
}

fn broadcast_all(
    call: &Call<'_>,
    inputs: std::ops::Range<usize>,
) -> Result<Vec<usize>, crate::OperatorError> {
    let mut shape = Vec::new();
    for index in inputs {
        let other = call.shape(index)?;
        shape = broadcast(&shape, other).ok_or_else(|| {
            call.error(format!("shapes {shape:?} and {other:?} do not broadcast"))
        })?;
    }
    Ok(shape)
}

pub(crate) fn arithmetic(call: &Call<'_>) -> Inferred {
    let element = call.kind(0)?.element;
    for index in 1..call.inputs.len() {
        let other = call.kind(index)?.element;
        // The exponent alone may have another type.
        if other != element && call.operator != "Pow" {
            return Err(call.error(format!(
                "inputs of types {} and {}",
                element.name(),
                other.name()
            )));
        }
    }
    call.one(element, broadcast_all(call, 0..call.inputs.len())?)
}

pub(crate) fn comparison(call: &Call<'_>) -> Inferred {
    call.one(Element::Bool, broadcast_all(call, 0..2)?)
}

pub(crate) fn choose(call: &Call<'_>) -> Inferred {
    if call.kind(0)?.element != Element::Bool || call.kind(1)?.element != call.kind(2)?.element {
        return Err(call.error("needs truth values and two tensors of one type"));
    }
    call.one(call.kind(1)?.element, broadcast_all(call, 0..3)?)
}

pub(crate) fn cast(call: &Call<'_>) -> Inferred {
    let code = call.attributes.int_or("to", 0);
    let element = i32::try_from(code)
        .ok()
        .and_then(decode_element)
        .ok_or_else(|| call.error(format!("to element type {code}, which is not supported")))?;
    call.one(element, call.shape(0)?.to_vec())
}

//! Computes nodes whose inputs are all known, while a model is imported.
//!
//! Exporters write shapes as arithmetic (`Shape`, `Gather`, `Concat`, `Reshape`). With the batch
//! fixed all of it is known, and must be: the shapes of a training step are static.

use super::Graph;
use super::shape::{Call, infer};
use crate::error::OperatorError;
use crate::evaluator::{Array, evaluate};
use crate::onnx::{Attributes, Tensor};

/// Larger results are left to ONNX Runtime: a file should not grow by what a node can make.
const FOLDED_ELEMENTS_MAX: usize = 4096;

/// The constants an operator gives for known inputs, or `None` if an input is not known, the result
/// is large, or the operator is not evaluated.
///
/// # Errors
/// [`OperatorError`] if the inputs do not fit the operator.
pub(crate) fn fold(
    graph: &Graph,
    operator: &str,
    inputs: &[Option<super::Value>],
    attributes: &Attributes,
    output_count: usize,
) -> Result<Option<Vec<Tensor>>, OperatorError> {
    // A shape is known even if the tensor is not.
    let shape_only = operator == "Shape";
    let known = inputs
        .iter()
        .flatten()
        .all(|value| graph.constant_of(*value).is_some());
    if !known && !shape_only {
        return Ok(None);
    }
    let kinds = infer(&Call {
        graph,
        operator,
        inputs,
        attributes,
        output_count,
    })?;
    if kinds.iter().any(|kind| kind.count() > FOLDED_ELEMENTS_MAX) {
        return Ok(None);
    }
    // The node is evaluated in a graph of its own: constants in, results out.
    let mut scratch = Graph::new();
    let mut arguments = Vec::with_capacity(inputs.len());
    let mut arrays = Vec::with_capacity(inputs.len());
    for input in inputs {
        let Some(value) = input else {
            arguments.push(None);
            arrays.push(None);
            continue;
        };
        match graph.constant_of(*value) {
            Some(tensor) if !shape_only => {
                arguments.push(Some(scratch.constant(tensor.clone())));
                arrays.push(Some(Array::from(tensor)));
            }
            _ => {
                let kind = graph.kind(*value);
                arguments.push(Some(scratch.input("shape", kind.element, &kind.shape)));
                let zeros = vec![0.0; kind.count()];
                arrays.push(Some(Array::new(kind.element, &kind.shape, zeros)));
            }
        }
    }
    scratch.add(operator, &arguments, attributes.clone(), output_count)?;
    let Some(operation) = scratch.operations().last() else {
        return Ok(None);
    };
    let arrays = arrays.iter().map(Option::as_ref).collect();
    match evaluate(&scratch, operation, arrays) {
        Ok(results) => Ok(results.iter().map(Array::to_tensor).collect()),
        Err(_) => Ok(None),
    }
}

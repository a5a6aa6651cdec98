//! Running a node, and a graph of them.

use super::{Array, Evaluated, Node};
use crate::error::OperatorError;
use crate::graph::{Graph, Operation, Value};
use crate::operator::operator;
use std::collections::BTreeMap;

/// Outputs of one node.
///
/// # Errors
/// [`OperatorError`] if the operator or its mode is not evaluated here.
pub(crate) fn evaluate(
    graph: &Graph,
    operation: &Operation,
    inputs: Vec<Option<&Array>>,
) -> Evaluated {
    (operator(&operation.operator)?.evaluate)(&Node {
        graph,
        operation,
        inputs,
    })
}

/// Values of a whole graph, from those of its inputs.
///
/// # Errors
/// [`OperatorError`] if an input is missing or a node cannot be evaluated.
pub fn run(
    graph: &Graph,
    inputs: &BTreeMap<Value, Array>,
) -> Result<BTreeMap<Value, Array>, OperatorError> {
    let mut values = inputs.clone();
    for operation in graph.operations() {
        for input in operation.inputs.iter().flatten() {
            if let Some(tensor) = graph.constant_of(*input) {
                values.entry(*input).or_insert_with(|| Array::from(tensor));
            }
        }
        let arguments = operation
            .inputs
            .iter()
            .map(|input| match input {
                None => Ok(None),
                Some(value) => values.get(value).map(Some).ok_or_else(|| {
                    OperatorError::new(&operation.operator, "an input of the graph is missing")
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let results = evaluate(graph, operation, arguments)?;
        for (output, result) in operation.outputs.iter().zip(results) {
            values.insert(*output, result);
        }
    }
    Ok(values)
}

//! A reference evaluator in float64: what a graph means, slowly and plainly.
//!
//! It serves two purposes. Gradient rules are tested against central finite differences, which needs
//! more digits than 32-bit floats have; and while a model is imported, nodes whose inputs are all
//! known (shape arithmetic, mostly) are computed with it. It follows the definitions of opset 17 and
//! nothing else: no blocking, no threads, one loop per definition.
//!
//! Every element is held as `f64`, integers and truth values too: integers are exact up to 2⁵³.

mod array;
pub(crate) mod elementwise;
pub(crate) mod indexing;
pub(crate) mod layout;
pub(crate) mod matrix;
mod model;
pub(crate) mod reduction;
pub(crate) mod spatial;

pub use array::Array;
pub use model::run_model;

use crate::error::OperatorError;
use crate::graph::{Graph, Operation, TensorType, Value};
use crate::operator::operator;
use std::collections::BTreeMap;

/// One node with its inputs at hand.
pub(crate) struct Node<'a> {
    graph: &'a Graph,
    operation: &'a Operation,
    inputs: Vec<Option<&'a Array>>,
}

pub(crate) type Evaluated = Result<Vec<Array>, OperatorError>;

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

impl Node<'_> {
    fn input(&self, index: usize) -> Result<&Array, OperatorError> {
        self.optional(index)
            .ok_or_else(|| OperatorError::new(&self.operation.operator, "an input is missing"))
    }

    fn optional(&self, index: usize) -> Option<&Array> {
        self.inputs.get(index).copied().flatten()
    }

    fn kind(&self, output: usize) -> &TensorType {
        self.graph.kind(self.operation.outputs[output])
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.operation.attributes.int_or(name, default)
    }

    fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.operation.attributes.float_or(name, default))
    }

    /// An attribute that counts axes, negative from the end.
    fn axis(&self, default: i64, rank: usize) -> usize {
        let axis = self.int("axis", default);
        (if axis < 0 { axis + rank as i64 } else { axis }) as usize
    }

    fn unsupported(&self, what: &str) -> OperatorError {
        OperatorError::new(&self.operation.operator, format!("{what} is not evaluated"))
    }

    /// One output of the inferred type, element by element of its index.
    fn fill(&self, mut element: impl FnMut(&[usize]) -> f64) -> Evaluated {
        let kind = self.kind(0);
        let mut data = Vec::with_capacity(kind.count());
        array::for_each_index(&kind.shape, |index| data.push(element(index)));
        Ok(vec![Array::new(kind.element, &kind.shape, data)])
    }
}

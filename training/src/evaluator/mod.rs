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
mod run;
pub(crate) mod spatial;

pub use array::Array;
pub use model::run_model;
pub(crate) use run::evaluate;
pub use run::run;

use crate::error::OperatorError;
use crate::graph::{Graph, Operation, TensorType};

/// One node with its inputs at hand.
pub(crate) struct Node<'a> {
    graph: &'a Graph,
    operation: &'a Operation,
    inputs: Vec<Option<&'a Array>>,
}

pub(crate) type Evaluated = Result<Vec<Array>, OperatorError>;

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

//! Shape inference: the types of an operator's outputs from those of its inputs.
//!
//! Operators are read as opset 17 defines them; [`operator`](crate::operator) says which function types
//! which of them. The functions are grouped by what the operators do.

pub(crate) mod elementwise;
pub(crate) mod indexing;
mod infer;
pub(crate) mod layout;
pub(crate) mod matrix;
pub(crate) mod reduction;
pub(crate) mod spatial;

pub(crate) use indexing::shape_range;
pub(crate) use infer::infer;
pub(crate) use layout::slice_axes;

use super::{Graph, TensorType, Value};
use crate::error::OperatorError;
use crate::onnx::{Attributes, Data, Element};

/// One use of an operator whose outputs are to be typed.
pub(crate) struct Call<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) operator: &'a str,
    pub(crate) inputs: &'a [Option<Value>],
    pub(crate) attributes: &'a Attributes,
    pub(crate) output_count: usize,
}

pub(crate) type Inferred = Result<Vec<TensorType>, OperatorError>;

impl Call<'_> {
    pub(crate) fn error(&self, reason: impl Into<String>) -> OperatorError {
        OperatorError::new(self.operator, reason)
    }

    /// Type of an input that must be there.
    fn kind(&self, index: usize) -> Result<&TensorType, OperatorError> {
        self.inputs
            .get(index)
            .copied()
            .flatten()
            .map(|value| self.graph.kind(value))
            .ok_or_else(|| self.error(format!("input {index} is missing")))
    }

    fn shape(&self, index: usize) -> Result<&[usize], OperatorError> {
        self.kind(index).map(|kind| kind.shape.as_slice())
    }

    /// Integers of an input that must be known while building: a shape, axes, starts.
    fn integers(&self, index: usize) -> Result<Vec<i64>, OperatorError> {
        self.integers_if_any(index)?
            .ok_or_else(|| self.error(format!("input {index} is missing")))
    }

    fn integers_if_any(&self, index: usize) -> Result<Option<Vec<i64>>, OperatorError> {
        let Some(value) = self.inputs.get(index).copied().flatten() else {
            return Ok(None);
        };
        match self.graph.constant_of(value).map(|tensor| tensor.data()) {
            Some(Data::I64(values)) => Ok(Some(values.clone())),
            Some(Data::I32(values)) => Ok(Some(values.iter().map(|v| i64::from(*v)).collect())),
            _ => Err(self.error(format!(
                "input {index} must be known while building, but it depends on data; shapes are static"
            ))),
        }
    }

    /// An axis of a tensor of a rank; negative axes count from the end.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize, OperatorError> {
        let from_start = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_start)
            .ok()
            .filter(|axis| *axis < rank)
            .ok_or_else(|| self.error(format!("axis {axis} of a tensor with {rank} axes")))
    }

    fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, OperatorError> {
        axes.iter().map(|axis| self.axis(*axis, rank)).collect()
    }

    fn one(&self, element: Element, shape: Vec<usize>) -> Inferred {
        Ok(vec![TensorType { element, shape }])
    }
}

/// The shape two shapes broadcast to, after ONNX's multidirectional broadcasting.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        let missing = rank - shape.len();
        if axis < missing {
            1
        } else {
            shape[axis - missing]
        }
    };
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

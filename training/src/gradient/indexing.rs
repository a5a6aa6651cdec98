//! Operators that read by index.

use super::Context;
use crate::error::OperatorError;
use crate::onnx::{Attributes, Element};

/// y = elements of x at indices along an axis (an embedding): dx = zero, with dy added at the indices.
///
/// Written with ScatterElements and not ScatterND, whose CPU kernel may add to one element from several
/// threads.
pub(super) fn gather(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let (x, indices, dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let (shape, index_shape) = (c.shape(x), c.shape(indices));
    let axis = c.axis(0, shape.len());
    let before: usize = shape[..axis].iter().product();
    let after: usize = shape[axis + 1..].iter().product();
    let count: usize = index_shape.iter().product();

    let updates = c.graph.reshape(dy, &[before, count, after])?;
    let indices = c.graph.cast(indices, Element::I64)?;
    let indices = c.graph.reshape(indices, &[1, count, 1])?;
    let indices = c.graph.expand(indices, &[before, count, after])?;
    let zeros = c.graph.zeros(&[before, shape[axis], after])?;
    let attributes = Attributes::new().int("axis", 1).string("reduction", "add");
    let scattered = c
        .graph
        .op("ScatterElements", &[zeros, indices, updates], attributes)?;
    let gradient = c.graph.reshape(scattered, &shape)?;
    c.give(0, gradient)
}

//! Matrix products.

use super::Context;
use crate::error::OperatorError;
use crate::graph::Value;
use crate::onnx::Attributes;

/// Y = A·B, batched and broadcast: dA = dY·Bᵀ, dB = Aᵀ·dY, summed over broadcast batches.
///
/// With a matrix on the right (a dense layer on a sequence) all leading axes are rows of one product.
/// A vector counts as a matrix of one row on the left, of one column on the right.
pub(super) fn matmul(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let (a, b, mut dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let (shape_a, shape_b) = (c.shape(a), c.shape(b));
    if let ([.., inner], [_, columns]) = (shape_a.as_slice(), shape_b.as_slice()) {
        let rows = shape_a.iter().product::<usize>() / inner;
        return dense(c, a, b, [rows, *inner, *columns]);
    }
    let mut matrix_a = a;
    let mut matrix_b = b;
    let mut shape_y = c.shape(dy);
    if let [size] = shape_a.as_slice() {
        matrix_a = c.graph.reshape(a, &[1, *size])?;
        shape_y.insert(shape_y.len() - usize::from(shape_b.len() > 1), 1);
    }
    if let [size] = shape_b.as_slice() {
        matrix_b = c.graph.reshape(b, &[*size, 1])?;
        shape_y.push(1);
    }
    dy = c.graph.reshape(dy, &shape_y)?;
    if c.wants(0) {
        let turned = c.graph.transpose_matrix(matrix_b)?;
        let product = c.graph.apply("MatMul", &[dy, turned])?;
        let shape = c.shape(matrix_a);
        let summed = c.graph.unbroadcast(product, &shape)?;
        let gradient = c.graph.reshape(summed, &shape_a)?;
        c.give(0, gradient)?;
    }
    if c.wants(1) {
        let turned = c.graph.transpose_matrix(matrix_a)?;
        let product = c.graph.apply("MatMul", &[turned, dy])?;
        let shape = c.shape(matrix_b);
        let summed = c.graph.unbroadcast(product, &shape)?;
        let gradient = c.graph.reshape(summed, &shape_b)?;
        c.give(1, gradient)?;
    }
    Ok(())
}

/// A `[…, inner]` times a matrix `[inner, columns]`, as one product of `rows` rows.
fn dense(
    c: &mut Context<'_>,
    a: Value,
    b: Value,
    [rows, inner, columns]: [usize; 3],
) -> Result<(), OperatorError> {
    let dy = c.dy()?;
    let dy = c.graph.reshape(dy, &[rows, columns])?;
    if c.wants(0) {
        let product = c
            .graph
            .op("Gemm", &[dy, b], Attributes::new().int("transB", 1))?;
        let shape = c.shape(a);
        let gradient = c.graph.reshape(product, &shape)?;
        c.give(0, gradient)?;
    }
    if c.wants(1) {
        let a = c.graph.reshape(a, &[rows, inner])?;
        let gradient = c
            .graph
            .op("Gemm", &[a, dy], Attributes::new().int("transA", 1))?;
        c.give(1, gradient)?;
    }
    Ok(())
}

/// Y = α·A'·B' + β·C, where ' is the transpose if transA or transB is set:
/// dA' = α·dY·B'ᵀ, dB' = α·A'ᵀ·dY, dC = β·dY
pub(super) fn gemm(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let attributes = &c.step.attributes;
    let (turn_a, turn_b) = (
        attributes.int_or("transA", 0),
        attributes.int_or("transB", 0),
    );
    let (alpha, beta) = (
        attributes.float_or("alpha", 1.0),
        attributes.float_or("beta", 1.0),
    );
    let (a, b, dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let form = |turn_first: i64, turn_second: i64| {
        Attributes::new()
            .float("alpha", alpha)
            .int("transA", turn_first)
            .int("transB", turn_second)
    };
    if c.wants(0) {
        let gradient = if turn_a == 0 {
            c.graph.op("Gemm", &[dy, b], form(0, 1 - turn_b))?
        } else {
            c.graph.op("Gemm", &[b, dy], form(turn_b, 1))?
        };
        c.give(0, gradient)?;
    }
    if c.wants(1) {
        let gradient = if turn_b == 0 {
            c.graph.op("Gemm", &[a, dy], form(1 - turn_a, 0))?
        } else {
            c.graph.op("Gemm", &[dy, a], form(1, turn_a))?
        };
        c.give(1, gradient)?;
    }
    if c.wants(2) {
        let shape = c.shape(c.x(2)?);
        let summed = c.graph.unbroadcast(dy, &shape)?;
        let gradient = if beta == 1.0 {
            summed
        } else {
            c.graph.scale(summed, beta)?
        };
        c.give(2, gradient)?;
    }
    Ok(())
}

//! Matrix products.

use super::{Call, Inferred, broadcast};

pub(crate) fn matmul(call: &Call<'_>) -> Inferred {
    let (a, b) = (call.shape(0)?, call.shape(1)?);
    let fail = || call.error(format!("shapes {a:?} and {b:?} do not multiply"));
    if a.is_empty() || b.is_empty() {
        return Err(fail());
    }
    let (vector_a, vector_b) = (a.len() == 1, b.len() == 1);
    let left = if vector_a { vec![1, a[0]] } else { a.to_vec() };
    let right = if vector_b { vec![b[0], 1] } else { b.to_vec() };
    let (batch_a, matrix_a) = left.split_at(left.len() - 2);
    let (batch_b, matrix_b) = right.split_at(right.len() - 2);
    if matrix_a[1] != matrix_b[0] {
        return Err(fail());
    }
    let mut shape = broadcast(batch_a, batch_b).ok_or_else(fail)?;
    if !vector_a {
        shape.push(matrix_a[0]);
    }
    if !vector_b {
        shape.push(matrix_b[1]);
    }
    call.one(call.kind(0)?.element, shape)
}

pub(crate) fn gemm(call: &Call<'_>) -> Inferred {
    let (a, b) = (call.shape(0)?, call.shape(1)?);
    let fail = || call.error(format!("shapes {a:?} and {b:?} do not multiply"));
    let ([a0, a1], [b0, b1]) = (a, b) else {
        return Err(fail());
    };
    let (rows, inner_a) = if call.attributes.int_or("transA", 0) == 0 {
        (a0, a1)
    } else {
        (a1, a0)
    };
    let (inner_b, columns) = if call.attributes.int_or("transB", 0) == 0 {
        (b0, b1)
    } else {
        (b1, b0)
    };
    if inner_a != inner_b {
        return Err(fail());
    }
    let shape = vec![*rows, *columns];
    if let Some(Some(_)) = call.inputs.get(2) {
        let bias = call.shape(2)?;
        if broadcast(bias, &shape).as_deref() != Some(&shape) {
            return Err(call.error(format!("bias {bias:?} does not broadcast to {shape:?}")));
        }
    }
    call.one(call.kind(0)?.element, shape)
}

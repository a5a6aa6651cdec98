//! Matrix products.

use super::{Evaluated, Node};

pub(crate) fn matmul(node: &Node<'_>) -> Evaluated {
    let (a, b) = (node.input(0)?, node.input(1)?);
    // A vector counts as a matrix of one row on the left, of one column on the right.
    let mut left = a.clone();
    let mut right = b.clone();
    if left.shape.len() == 1 {
        left.shape.insert(0, 1);
    }
    if right.shape.len() == 1 {
        right.shape.push(1);
    }
    let inner = right.shape[right.shape.len() - 2];
    node.fill(|index| {
        let columns = usize::from(b.shape.len() > 1);
        let rows = usize::from(a.shape.len() > 1);
        let batch = &index[..index.len() - columns - rows];
        let row = if rows == 1 {
            index[index.len() - columns - 1]
        } else {
            0
        };
        let column = if columns == 1 {
            index[index.len() - 1]
        } else {
            0
        };
        (0..inner)
            .map(|k| {
                let at_left = [batch, &[row, k]].concat();
                let at_right = [batch, &[k, column]].concat();
                let skip_left = at_left.len() - left.shape.len();
                let skip_right = at_right.len() - right.shape.len();
                left.broadcast_at(&at_left[skip_left..])
                    * right.broadcast_at(&at_right[skip_right..])
            })
            .sum()
    })
}

pub(crate) fn gemm(node: &Node<'_>) -> Evaluated {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let (turn_a, turn_b) = (node.int("transA", 0) != 0, node.int("transB", 0) != 0);
    let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
    let inner = a.shape[usize::from(!turn_a)];
    node.fill(|index| {
        let product: f64 = (0..inner)
            .map(|k| {
                let left = if turn_a { [k, index[0]] } else { [index[0], k] };
                let right = if turn_b { [index[1], k] } else { [k, index[1]] };
                a.at(&left) * b.at(&right)
            })
            .sum();
        let bias = node
            .optional(2)
            .map_or(0.0, |bias| bias.broadcast_at(index));
        alpha * product + beta * bias
    })
}

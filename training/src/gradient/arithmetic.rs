//! Arithmetic, element by element, with broadcasting.

use super::Context;
use crate::error::OperatorError;

type Done = Result<(), OperatorError>;

/// y = a + b: da = dy, db = dy
pub(super) fn add(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    for index in 0..2 {
        if c.wants(index) {
            c.give(index, dy)?;
        }
    }
    Ok(())
}

/// y = a − b: da = dy, db = −dy
pub(super) fn sub(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    if c.wants(0) {
        c.give(0, dy)?;
    }
    if c.wants(1) {
        // Summed before the sign is turned: the smaller tensor is negated.
        let shape = c.shape(c.x(1)?);
        let summed = c.graph.unbroadcast(dy, &shape)?;
        let negated = c.graph.apply("Neg", &[summed])?;
        c.give(1, negated)?;
    }
    Ok(())
}

/// y = a·b: da = dy·b, db = dy·a
pub(super) fn mul(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    for (index, other) in [(0, 1), (1, 0)] {
        if c.wants(index) {
            let other = c.x(other)?;
            let gradient = c.graph.times(dy, other)?;
            // The same tensor twice: both gradients meet at one input.
            c.give(index, gradient)?;
        }
    }
    Ok(())
}

/// y = a/b: da = dy/b, db = −dy·y/b
pub(super) fn div(c: &mut Context<'_>) -> Done {
    let (dy, b, y) = (c.dy()?, c.x(1)?, c.y(0)?);
    let quotient = c.graph.over(dy, b)?;
    if c.wants(0) {
        c.give(0, quotient)?;
    }
    if c.wants(1) {
        let product = c.graph.times(quotient, y)?;
        let negated = c.graph.apply("Neg", &[product])?;
        c.give(1, negated)?;
    }
    Ok(())
}

/// y = aᵇ: da = dy·b·aᵇ⁻¹, db = dy·y·ln a
pub(super) fn pow(c: &mut Context<'_>) -> Done {
    let (dy, a, b) = (c.dy()?, c.x(0)?, c.x(1)?);
    if c.wants(0) {
        let exponent = c
            .graph
            .constant_of(b)
            .and_then(|b| b.floats())
            .and_then(|b| match b {
                [exponent] => Some(*exponent),
                _ => None,
            });
        let slope = match exponent {
            // Squares are by far the most frequent, and need no power.
            Some(2.0) => c.graph.scale(a, 2.0)?,
            _ => {
                let element = c.graph.kind(a).element;
                let exponent = c.graph.cast(b, element)?;
                let lower = c.graph.shift(exponent, -1.0)?;
                let power = c.graph.apply("Pow", &[a, lower])?;
                c.graph.times(power, exponent)?
            }
        };
        let gradient = c.graph.times(dy, slope)?;
        c.give(0, gradient)?;
    }
    if c.wants(1) {
        let y = c.y(0)?;
        let logarithm = c.graph.apply("Log", &[a])?;
        let slope = c.graph.times(y, logarithm)?;
        let gradient = c.graph.times(dy, slope)?;
        c.give(1, gradient)?;
    }
    Ok(())
}

/// y = √x: dx = dy/(2y)
pub(super) fn sqrt(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let double = c.graph.scale(y, 2.0)?;
    let gradient = c.graph.over(dy, double)?;
    c.give(0, gradient)
}

/// y = eˣ: dx = dy·y
pub(super) fn exp(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let gradient = c.graph.times(dy, y)?;
    c.give(0, gradient)
}

/// y = ln x: dx = dy/x
pub(super) fn log(c: &mut Context<'_>) -> Done {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let gradient = c.graph.over(dy, x)?;
    c.give(0, gradient)
}

/// y = −x: dx = −dy
pub(super) fn neg(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    let gradient = c.graph.apply("Neg", &[dy])?;
    c.give(0, gradient)
}

/// y = 1/x: dx = −dy·y²
pub(super) fn reciprocal(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let square = c.graph.times(y, y)?;
    let product = c.graph.times(dy, square)?;
    let gradient = c.graph.apply("Neg", &[product])?;
    c.give(0, gradient)
}

/// y = |x|: dx = dy·sign(x)
pub(super) fn abs(c: &mut Context<'_>) -> Done {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let sign = c.graph.apply("Sign", &[x])?;
    let gradient = c.graph.times(dy, sign)?;
    c.give(0, gradient)
}

/// y = max(a, b): da = dy where a ≥ b, db = dy where b > a
pub(super) fn max(c: &mut Context<'_>) -> Done {
    let (a, b) = (c.x(0)?, c.x(1)?);
    let first = c.graph.apply("GreaterOrEqual", &[a, b])?;
    pick(c, first)
}

/// y = min(a, b): da = dy where a ≤ b, db = dy where b < a
pub(super) fn min(c: &mut Context<'_>) -> Done {
    let (a, b) = (c.x(0)?, c.x(1)?);
    let first = c.graph.apply("LessOrEqual", &[a, b])?;
    pick(c, first)
}

/// The gradient goes to the first input where `first`, to the second elsewhere.
fn pick(c: &mut Context<'_>, first: crate::graph::Value) -> Done {
    let dy = c.dy()?;
    if c.wants(0) {
        let gradient = c.graph.keep_where(first, dy)?;
        c.give(0, gradient)?;
    }
    if c.wants(1) {
        let zero = c.graph.scalar(0.0);
        let gradient = c.graph.apply("Where", &[first, zero, dy])?;
        c.give(1, gradient)?;
    }
    Ok(())
}

/// y = a where the condition holds, else b: da = dy where it holds, db = dy elsewhere
pub(super) fn choose(c: &mut Context<'_>) -> Done {
    let (dy, condition) = (c.dy()?, c.x(0)?);
    if c.wants(1) {
        let gradient = c.graph.keep_where(condition, dy)?;
        c.give(1, gradient)?;
    }
    if c.wants(2) {
        let zero = c.graph.scalar(0.0);
        let gradient = c.graph.apply("Where", &[condition, zero, dy])?;
        c.give(2, gradient)?;
    }
    Ok(())
}

/// y = x in another float type: dx = dy in x's type
pub(super) fn cast(c: &mut Context<'_>) -> Done {
    let dy = c.dy()?;
    let element = c.graph.kind(c.x(0)?).element;
    let gradient = c.graph.cast(dy, element)?;
    c.give(0, gradient)
}

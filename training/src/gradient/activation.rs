//! Activation functions.

use super::Context;
use crate::error::OperatorError;
use crate::onnx::Attributes;

type Done = Result<(), OperatorError>;

/// y = max(x, 0): dx = dy where y > 0
pub(super) fn relu(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let positive = c.graph.with_number("Greater", y, 0.0)?;
    let gradient = c.graph.keep_if(positive, dy)?;
    c.give(0, gradient)
}

/// y = x where x > 0, α·x elsewhere: dx = dy where x > 0, α·dy elsewhere
pub(super) fn leaky_relu(c: &mut Context<'_>) -> Done {
    let alpha = c.step.attributes.float_or("alpha", 0.01);
    let (dy, x) = (c.dy()?, c.x(0)?);
    let positive = c.graph.with_number("Greater", x, 0.0)?;
    let small = c.graph.scale(dy, alpha)?;
    let gradient = c.graph.apply("Where", &[positive, dy, small])?;
    c.give(0, gradient)
}

/// y = x where x > 0, α·(eˣ − 1) elsewhere: dx = dy where x > 0, dy·(y + α) elsewhere
pub(super) fn elu(c: &mut Context<'_>) -> Done {
    let alpha = c.step.attributes.float_or("alpha", 1.0);
    let (dy, x, y) = (c.dy()?, c.x(0)?, c.y(0)?);
    let positive = c.graph.with_number("Greater", x, 0.0)?;
    let slope = c.graph.shift(y, alpha)?;
    let small = c.graph.times(dy, slope)?;
    let gradient = c.graph.apply("Where", &[positive, dy, small])?;
    c.give(0, gradient)
}

/// y = 1/(1 + e⁻ˣ): dx = dy·y·(1 − y)
pub(super) fn sigmoid(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let one = c.graph.scalar(1.0);
    let rest = c.graph.minus(one, y)?;
    let slope = c.graph.times(y, rest)?;
    let gradient = c.graph.times(dy, slope)?;
    c.give(0, gradient)
}

/// y = tanh x: dx = dy·(1 − y²)
pub(super) fn tanh(c: &mut Context<'_>) -> Done {
    let (dy, y) = (c.dy()?, c.y(0)?);
    let square = c.graph.times(y, y)?;
    let one = c.graph.scalar(1.0);
    let slope = c.graph.minus(one, square)?;
    let gradient = c.graph.times(dy, slope)?;
    c.give(0, gradient)
}

/// y = min(max(α·x + β, 0), 1): dx = α·dy where 0 < y < 1
pub(super) fn hard_sigmoid(c: &mut Context<'_>) -> Done {
    let alpha = c.step.attributes.float_or("alpha", 0.2);
    let (dy, y) = (c.dy()?, c.y(0)?);
    let above = c.graph.with_number("Greater", y, 0.0)?;
    let below = c.graph.with_number("Less", y, 1.0)?;
    let inside = c.graph.apply("And", &[above, below])?;
    let scaled = c.graph.scale(dy, alpha)?;
    let gradient = c.graph.keep_if(inside, scaled)?;
    c.give(0, gradient)
}

/// y = x·h with h = min(max(x/6 + 1/2, 0), 1): dx = dy·(h + x/6 where |x| < 3)
pub(super) fn hard_swish(c: &mut Context<'_>) -> Done {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let form = Attributes::new()
        .float("alpha", 1.0 / 6.0)
        .float("beta", 0.5);
    let gate = c.graph.op("HardSigmoid", &[x], form)?;
    let magnitude = c.graph.apply("Abs", &[x])?;
    let inside = c.graph.with_number("Less", magnitude, 3.0)?;
    let sixth = c.graph.scale(x, 1.0 / 6.0)?;
    let rising = c.graph.keep_if(inside, sixth)?;
    let slope = c.graph.plus(gate, rising)?;
    let gradient = c.graph.times(dy, slope)?;
    c.give(0, gradient)
}

/// y = ln(1 + eˣ): dx = dy·σ(x)
pub(super) fn softplus(c: &mut Context<'_>) -> Done {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let slope = c.graph.apply("Sigmoid", &[x])?;
    let gradient = c.graph.times(dy, slope)?;
    c.give(0, gradient)
}

/// y = erf x: dx = dy·2/√π·e^(−x²)
pub(super) fn erf(c: &mut Context<'_>) -> Done {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let square = c.graph.times(x, x)?;
    let negated = c.graph.apply("Neg", &[square])?;
    let bell = c.graph.apply("Exp", &[negated])?;
    let slope = c.graph.scale(bell, std::f32::consts::FRAC_2_SQRT_PI)?;
    let gradient = c.graph.times(dy, slope)?;
    c.give(0, gradient)
}

/// y = min(max(x, low), high): dx = dy where low ≤ x ≤ high
pub(super) fn clip(c: &mut Context<'_>) -> Done {
    let (mut gradient, x) = (c.dy()?, c.x(0)?);
    for (index, operator) in [(1, "GreaterOrEqual"), (2, "LessOrEqual")] {
        if let Ok(bound) = c.x(index) {
            if c.wants(index) {
                return Err(c.error("bounds that are trained are not supported"));
            }
            let inside = c.graph.apply(operator, &[x, bound])?;
            gradient = c.graph.keep_if(inside, gradient)?;
        }
    }
    c.give(0, gradient)
}

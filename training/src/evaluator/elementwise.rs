//! Operators that work element by element.

use super::{Evaluated, Node};
use crate::onnx::Element;

pub(crate) fn unary(node: &Node<'_>) -> Evaluated {
    let x = node.input(0)?;
    let alpha = |default: f32| node.float("alpha", default);
    let hard_sigmoid = |v: f64, alpha: f64, beta: f64| (alpha * v + beta).clamp(0.0, 1.0);
    let function: Box<dyn Fn(f64) -> f64> = match node.operation.operator.as_str() {
        "Abs" => Box::new(f64::abs),
        "Ceil" => Box::new(f64::ceil),
        "Clip" => {
            let low = node
                .optional(1)
                .map_or(f64::NEG_INFINITY, |low| low.data[0]);
            let high = node.optional(2).map_or(f64::INFINITY, |high| high.data[0]);
            Box::new(move |v| v.max(low).min(high))
        }
        "Elu" => {
            let alpha = alpha(1.0);
            Box::new(move |v| if v < 0.0 { alpha * v.exp_m1() } else { v })
        }
        "Erf" => Box::new(libm::erf),
        "Exp" => Box::new(f64::exp),
        "Floor" => Box::new(f64::floor),
        "HardSigmoid" => {
            let (alpha, beta) = (alpha(0.2), node.float("beta", 0.5));
            Box::new(move |v| hard_sigmoid(v, alpha, beta))
        }
        "HardSwish" => Box::new(move |v| v * hard_sigmoid(v, 1.0 / 6.0, 0.5)),
        "Identity" => Box::new(|v| v),
        "LeakyRelu" => {
            let alpha = alpha(0.01);
            Box::new(move |v| if v < 0.0 { alpha * v } else { v })
        }
        "Log" => Box::new(f64::ln),
        "Neg" => Box::new(|v| -v),
        "Not" => Box::new(|v| if v == 0.0 { 1.0 } else { 0.0 }),
        "Reciprocal" => Box::new(f64::recip),
        "Relu" => Box::new(|v| v.max(0.0)),
        "Round" => Box::new(f64::round_ties_even),
        "Sigmoid" => Box::new(|v| 1.0 / (1.0 + (-v).exp())),
        "Sign" => Box::new(|v| if v == 0.0 { 0.0 } else { v.signum() }),
        "Softplus" => Box::new(|v| v.max(0.0) + (-v.abs()).exp().ln_1p()),
        "Sqrt" => Box::new(f64::sqrt),
        "Tanh" => Box::new(f64::tanh),
        "Cast" => match node.kind(0).element {
            Element::F32 | Element::F64 => Box::new(|v| v),
            Element::Bool => Box::new(|v| f64::from(v != 0.0)),
            Element::I64 | Element::I32 | Element::U8 => Box::new(f64::trunc),
        },
        _ => return Err(node.unsupported("this operator")),
    };
    node.fill(|index| function(x.at(index)))
}

pub(crate) fn binary(node: &Node<'_>) -> Evaluated {
    let whole = !node.input(0)?.element.is_float();
    let truth = f64::from;
    let function: Box<dyn Fn(f64, f64) -> f64> = match node.operation.operator.as_str() {
        "Add" => Box::new(|a, b| a + b),
        "Sub" => Box::new(|a, b| a - b),
        "Mul" => Box::new(|a, b| a * b),
        "Div" if whole => Box::new(|a, b| (a / b).trunc()),
        "Div" => Box::new(|a, b| a / b),
        "Pow" => Box::new(f64::powf),
        "Mod" if node.int("fmod", 0) != 0 => Box::new(|a, b| a % b),
        "Mod" => Box::new(|a, b| a - b * (a / b).floor()),
        "Max" => Box::new(f64::max),
        "Min" => Box::new(f64::min),
        "Equal" => Box::new(move |a, b| truth(a == b)),
        "Greater" => Box::new(move |a, b| truth(a > b)),
        "GreaterOrEqual" => Box::new(move |a, b| truth(a >= b)),
        "Less" => Box::new(move |a, b| truth(a < b)),
        "LessOrEqual" => Box::new(move |a, b| truth(a <= b)),
        "And" => Box::new(move |a, b| truth(a != 0.0 && b != 0.0)),
        "Or" => Box::new(move |a, b| truth(a != 0.0 || b != 0.0)),
        _ => return Err(node.unsupported("this operator")),
    };
    if node.inputs.len() > 2 {
        return Err(node.unsupported("more than two inputs"));
    }
    let (a, b) = (node.input(0)?, node.input(1)?);
    node.fill(|index| function(a.broadcast_at(index), b.broadcast_at(index)))
}

pub(crate) fn choose(node: &Node<'_>) -> Evaluated {
    let (condition, a, b) = (node.input(0)?, node.input(1)?, node.input(2)?);
    node.fill(|index| {
        let chosen = if condition.broadcast_at(index) != 0.0 {
            a
        } else {
            b
        };
        chosen.broadcast_at(index)
    })
}

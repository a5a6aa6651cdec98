//! Operators that are a formula of simpler ones.

use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::{Graph, Value};
use crate::onnx::Attributes;

impl Import<'_> {
    /// Operators of one input, and PRelu.
    pub(super) fn formula(&mut self, arrival: &Arrival<'_>) -> Placed {
        let x = arrival.input(0)?;
        let graph = &mut *self.graph;
        let y = match arrival.node.operator.as_str() {
            "Gelu" => gelu(graph, arrival, x)?,
            // The largest element over space: one window.
            "GlobalMaxPool" => {
                let spatial: Vec<i64> = graph
                    .shape(x)
                    .iter()
                    .skip(2)
                    .map(|size| *size as i64)
                    .collect();
                let window = Attributes::new().ints("kernel_shape", &spatial);
                graph.op("MaxPool", &[x], window)?
            }
            // x·tanh(ln(1 + eˣ))
            "Mish" => {
                let soft = graph.apply("Softplus", &[x])?;
                let gate = graph.apply("Tanh", &[soft])?;
                graph.times(x, gate)?
            }
            // x where x > 0, slope·x elsewhere
            "PRelu" => {
                let zero = graph.scalar(0.0);
                let positive = graph.apply("Greater", &[x, zero])?;
                let small = graph.times(x, arrival.input(1)?)?;
                graph.apply("Where", &[positive, x, small])?
            }
            // γ·x where x > 0, γ·α·(eˣ − 1) elsewhere
            "Selu" => {
                let attributes = &arrival.node.attributes;
                let alpha = attributes.float_or("alpha", 1.673_263_2);
                let inner = graph.op("Elu", &[x], Attributes::new().float("alpha", alpha))?;
                graph.scale(inner, attributes.float_or("gamma", 1.050_701))?
            }
            // x/(1 + |x|)
            _ => {
                let magnitude = graph.apply("Abs", &[x])?;
                let magnitude = graph.shift(magnitude, 1.0)?;
                graph.over(x, magnitude)?
            }
        };
        Ok(vec![y])
    }
}

/// Gelu (opset 20): `x·(1 + erf(x/√2))/2`, or with `approximate = tanh`
/// `x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`.
fn gelu(graph: &mut Graph, arrival: &Arrival<'_>, x: Value) -> Result<Value, OperatorError> {
    let inner = match arrival.node.attributes.string_or("approximate", "none") {
        "tanh" => {
            let square = graph.times(x, x)?;
            let cube = graph.times(square, x)?;
            let cube = graph.scale(cube, 0.044_715)?;
            let sum = graph.plus(x, cube)?;
            let scaled = graph.scale(sum, (2.0 / std::f64::consts::PI).sqrt() as f32)?;
            graph.apply("Tanh", &[scaled])?
        }
        _ => {
            let scaled = graph.scale(x, std::f32::consts::FRAC_1_SQRT_2)?;
            graph.apply("Erf", &[scaled])?
        }
    };
    let inner = graph.shift(inner, 1.0)?;
    let half = graph.scale(x, 0.5)?;
    graph.times(half, inner)
}

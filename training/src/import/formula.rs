//! Operators that are a formula of simpler ones.

use super::{Arrival, Import, Placed};

impl Import<'_> {
    /// Gelu (opset 20): `x·(1 + erf(x/√2))/2`, or with `approximate = tanh`
    /// `x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`.
    pub(super) fn gelu(&mut self, arrival: &Arrival<'_>) -> Placed {
        let x = arrival.input(0)?;
        let graph = &mut *self.graph;
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
        Ok(vec![graph.times(half, inner)?])
    }
}

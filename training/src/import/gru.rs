//! GRU.

use super::recurrent::{Cell, Direction, Kind, product};
use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::{Graph, Value};

const KIND: Kind = Kind {
    gates: 3,
    activations: &["Sigmoid", "Tanh"],
    states: &[5],
};

/// One direction; gates in the order update, reset, hidden.
struct Gru {
    width: usize,
    input: Value,
    recurrent: Value,
    /// Biases of the products with the input and with the hidden state.
    biases: [Option<Value>; 2],
    /// Whether the reset gate is applied to the product with the hidden state rather than to that state
    /// (`linear_before_reset`; PyTorch and cuDNN).
    reset_after: bool,
}

impl Import<'_> {
    /// `z, r = σ(W·x + R·h + b)`, `h̃ = tanh(W·x + r∘(R·h + b_R) + b_W)` or `tanh(W·x + R·(r∘h) + b)`,
    /// `h ← h̃ + z·(h − h̃)`.
    pub(super) fn gru(&mut self, arrival: &Arrival<'_>) -> Placed {
        let reset_after = arrival.node.attributes.int_or("linear_before_reset", 0) != 0;
        self.recurrent(arrival, &KIND, |graph, direction| {
            read(graph, direction, reset_after)
        })
    }
}

fn read(
    graph: &mut Graph,
    direction: &Direction<'_>,
    reset_after: bool,
) -> Result<Gru, OperatorError> {
    let width = direction.sizes.hidden;
    let need =
        |value: Option<Value>| value.ok_or_else(|| OperatorError::new("GRU", "needs W and R"));
    let biases = match direction.part(graph, 3, &[6 * width])? {
        None => [None; 2],
        Some(both) => {
            let parts = graph.split(both, 0, &[3 * width; 2])?;
            [Some(parts[0]), Some(parts[1])]
        }
    };
    Ok(Gru {
        width,
        input: need(direction.part(graph, 1, &[3 * width, direction.sizes.input])?)?,
        recurrent: need(direction.part(graph, 2, &[3 * width, width])?)?,
        biases,
        reset_after,
    })
}

impl Cell for Gru {
    fn projected(&self, graph: &mut Graph, rows: Value) -> Result<Value, OperatorError> {
        product(graph, rows, self.input, self.biases[0])
    }

    fn step(
        &self,
        graph: &mut Graph,
        projected: Value,
        states: &[Value],
    ) -> Result<Vec<Value>, OperatorError> {
        let (width, hidden) = (self.width, states[0]);
        let outside = graph.split(projected, 1, &[2 * width, width])?;
        let (inside, candidate) = if self.reset_after {
            let all = product(graph, hidden, self.recurrent, self.biases[1])?;
            let parts = graph.split(all, 1, &[2 * width, width])?;
            (parts[0], Some(parts[1]))
        } else {
            let (weight, bias) = self.recurrent_part(graph, 0, 2)?;
            (product(graph, hidden, weight, bias)?, None)
        };
        let sum = graph.plus(outside[0], inside)?;
        let open = graph.apply("Sigmoid", &[sum])?;
        let open = graph.split(open, 1, &[width; 2])?;
        let (update, reset) = (open[0], open[1]);
        let candidate = match candidate {
            Some(candidate) => graph.times(reset, candidate)?,
            None => {
                let kept = graph.times(reset, hidden)?;
                let (weight, bias) = self.recurrent_part(graph, 2, 3)?;
                product(graph, kept, weight, bias)?
            }
        };
        let sum = graph.plus(outside[1], candidate)?;
        let candidate = graph.apply("Tanh", &[sum])?;
        let difference = graph.minus(hidden, candidate)?;
        let kept = graph.times(update, difference)?;
        Ok(vec![graph.plus(candidate, kept)?])
    }
}

impl Gru {
    /// Recurrent weight and bias of the gates `first..end`.
    fn recurrent_part(
        &self,
        graph: &mut Graph,
        first: usize,
        end: usize,
    ) -> Result<(Value, Option<Value>), OperatorError> {
        let (first, end) = (first * self.width, end * self.width);
        let weight = graph.slice(self.recurrent, 0, first, end)?;
        let bias = self.biases[1]
            .map(|bias| graph.slice(bias, 0, first, end))
            .transpose()?;
        Ok((weight, bias))
    }
}

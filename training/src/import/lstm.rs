//! LSTM.

use super::recurrent::{Cell, Direction, Kind, product};
use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::{Graph, Value};

const KIND: Kind = Kind {
    gates: 4,
    activations: &["Sigmoid", "Tanh", "Tanh"],
    states: &[5, 6],
};

/// One direction; gates in the order input, output, forget, cell.
struct Lstm {
    width: usize,
    input: Value,
    recurrent: Value,
    /// The sum of both biases.
    bias: Option<Value>,
    /// Peepholes `[3·hidden]` of the gates input, output, forget.
    peepholes: Option<Vec<Value>>,
}

impl Import<'_> {
    /// `i, f = σ(W·x + R·h + P∘c + b)`, `c̃ = tanh(…)`, `c ← f·c + i·c̃`, `o = σ(… + P∘c)`, `h ← o·tanh(c)`.
    pub(super) fn lstm(&mut self, arrival: &Arrival<'_>) -> Placed {
        self.recurrent(arrival, &KIND, read)
    }
}

fn read(graph: &mut Graph, direction: &Direction<'_>) -> Result<Lstm, OperatorError> {
    let width = direction.sizes.hidden;
    let need =
        |value: Option<Value>| value.ok_or_else(|| OperatorError::new("LSTM", "needs W and R"));
    let biases = direction.part(graph, 3, &[2, 4 * width])?;
    let peepholes = direction
        .part(graph, 7, &[3 * width])?
        .map(|all| graph.split(all, 0, &[width; 3]))
        .transpose()?;
    Ok(Lstm {
        width,
        input: need(direction.part(graph, 1, &[4 * width, direction.sizes.input])?)?,
        recurrent: need(direction.part(graph, 2, &[4 * width, width])?)?,
        bias: biases
            .map(|biases| graph.sum(biases, &[0], false))
            .transpose()?,
        peepholes,
    })
}

impl Cell for Lstm {
    fn projected(&self, graph: &mut Graph, rows: Value) -> Result<Value, OperatorError> {
        product(graph, rows, self.input, self.bias)
    }

    fn step(
        &self,
        graph: &mut Graph,
        projected: Value,
        states: &[Value],
    ) -> Result<Vec<Value>, OperatorError> {
        let (width, cell) = (self.width, states[1]);
        let gates = product(graph, states[0], self.recurrent, Some(projected))?;
        let Some(peepholes) = &self.peepholes else {
            let parts = graph.split(gates, 1, &[3 * width, width])?;
            let open = graph.apply("Sigmoid", &[parts[0]])?;
            let open = graph.split(open, 1, &[width; 3])?;
            let cell = next_cell(graph, [open[0], open[2], parts[1]], cell)?;
            return Ok(vec![output(graph, open[1], cell)?, cell]);
        };
        let parts = graph.split(gates, 1, &[width; 4])?;
        let mut open = |gate: usize, cell: Value| {
            let seen = graph.times(peepholes[gate], cell)?;
            let sum = graph.plus(parts[gate], seen)?;
            graph.apply("Sigmoid", &[sum])
        };
        let (input, forget) = (open(0, cell)?, open(2, cell)?);
        let cell = next_cell(graph, [input, forget, parts[3]], cell)?;
        let seen = graph.times(peepholes[1], cell)?;
        let sum = graph.plus(parts[1], seen)?;
        let open = graph.apply("Sigmoid", &[sum])?;
        Ok(vec![output(graph, open, cell)?, cell])
    }
}

/// `f·c + i·tanh(g)`
fn next_cell(
    graph: &mut Graph,
    [input, forget, candidate]: [Value; 3],
    cell: Value,
) -> Result<Value, OperatorError> {
    let candidate = graph.apply("Tanh", &[candidate])?;
    let kept = graph.times(forget, cell)?;
    let added = graph.times(input, candidate)?;
    graph.plus(kept, added)
}

/// `o·tanh(c)`
fn output(graph: &mut Graph, open: Value, cell: Value) -> Result<Value, OperatorError> {
    let squashed = graph.apply("Tanh", &[cell])?;
    graph.times(open, squashed)
}

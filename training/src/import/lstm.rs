//! LSTM, unrolled over its time steps.
//!
//! ONNX's operator gives no gate values back, so its gradient cannot be written with it. Unrolled it is
//! made of operators that have rules. The products with the input are one matrix product for all time
//! steps; ten nodes per time step remain.

use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::{Graph, Value};
use crate::onnx::Attributes;

/// Sizes of one LSTM.
struct Sizes {
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
}

/// Parameters of one direction.
struct Weights {
    /// `[4·hidden, input]`, gates in the order input, output, forget, cell.
    input: Value,
    /// `[4·hidden, hidden]`
    recurrent: Value,
    /// `[4·hidden]`, the sum of both biases.
    bias: Option<Value>,
    hidden: Value,
    cell: Value,
}

impl Import<'_> {
    /// `i, o, f = σ(W·x + R·h + b)`, `c̃ = tanh(…)`, `c ← f·c + i·c̃`, `h ← o·tanh(c)`.
    ///
    /// Inputs X `[time, batch, input]`, W `[directions, 4·hidden, input]`, R, B, initial h and c;
    /// outputs Y `[time, directions, batch, hidden]`, Y_h and Y_c `[directions, batch, hidden]`.
    pub(super) fn lstm(&mut self, arrival: &Arrival<'_>) -> Placed {
        let attributes = &arrival.node.attributes;
        for (index, what) in [(4, "sequence_lens"), (7, "peepholes")] {
            if arrival.optional(index).is_some() {
                return Err(arrival.error(format!("{what} are not supported; leave them out")));
            }
        }
        for what in ["activations", "clip", "input_forget"] {
            if attributes.get(what).is_some() && attributes.int_or(what, 1) != 0 {
                return Err(arrival.error(format!("the attribute {what} is not supported")));
            }
        }
        if attributes.int_or("layout", 0) != 0 {
            return Err(arrival.error("layout 1 is not supported; transpose to [time, batch, …]"));
        }
        let graph = &mut *self.graph;
        let x = arrival.input(0)?;
        let ([time, batch, input], [directions, gates, _]) =
            (graph.shape(x), graph.shape(arrival.input(1)?))
        else {
            return Err(
                arrival.error("needs X [time, batch, input] and W [directions, 4·hidden, input]")
            );
        };
        let sizes = Sizes {
            time: *time,
            batch: *batch,
            input: *input,
            hidden: gates / 4,
            directions: *directions,
        };
        let reversed: &[bool] = match attributes.string_or("direction", "forward") {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            other => return Err(arrival.error(format!("direction '{other}'"))),
        };
        if reversed.len() != sizes.directions {
            return Err(arrival.error(format!("{} directions in W", sizes.directions)));
        }
        let (mut outputs, mut hiddens, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (direction, reversed) in reversed.iter().enumerate() {
            let weights = weights(graph, arrival, &sizes, direction)?;
            let (sequence, hidden, cell) = unroll(graph, x, &sizes, &weights, *reversed)?;
            outputs.push(sequence);
            hiddens.push(hidden);
            cells.push(cell);
        }
        Ok(vec![
            graph.concat(&outputs, 1)?,
            graph.concat(&hiddens, 0)?,
            graph.concat(&cells, 0)?,
        ])
    }
}

/// Cuts the parameters of one direction out.
fn weights(
    graph: &mut Graph,
    arrival: &Arrival<'_>,
    sizes: &Sizes,
    direction: usize,
) -> Result<Weights, OperatorError> {
    let mut part = |value: Value, shape: &[usize]| -> Result<Value, OperatorError> {
        let cut = graph.slice(value, 0, direction, direction + 1)?;
        graph.reshape(cut, shape)
    };
    let (hidden, gates) = (sizes.hidden, 4 * sizes.hidden);
    let input = part(arrival.input(1)?, &[gates, sizes.input])?;
    let recurrent = part(arrival.input(2)?, &[gates, hidden])?;
    let biases = arrival
        .optional(3)
        .map(|bias| part(bias, &[2, gates]))
        .transpose()?;
    let state_shape = [sizes.batch, hidden];
    let mut first = |index: usize| {
        arrival
            .optional(index)
            .map(|v| part(v, &state_shape))
            .transpose()
    };
    let (first_hidden, first_cell) = (first(5)?, first(6)?);
    let bias = biases
        .map(|biases| graph.sum(biases, &[0], false))
        .transpose()?;
    let zeros = graph.zeros(&state_shape)?;
    Ok(Weights {
        input,
        recurrent,
        bias,
        hidden: first_hidden.unwrap_or(zeros),
        cell: first_cell.unwrap_or(zeros),
    })
}

/// All time steps of one direction: Y `[time, 1, batch, hidden]`, Y_h and Y_c `[1, batch, hidden]`.
fn unroll(
    graph: &mut Graph,
    x: Value,
    sizes: &Sizes,
    weights: &Weights,
    reversed: bool,
) -> Result<(Value, Value, Value), OperatorError> {
    let &Sizes {
        time,
        batch,
        input,
        hidden: width,
        ..
    } = sizes;
    let turned = Attributes::new().int("transB", 1);
    let rows = graph.reshape(x, &[time * batch, input])?;
    let mut arguments = vec![rows, weights.input];
    arguments.extend(weights.bias);
    let projected = graph.op("Gemm", &arguments, turned.clone())?;
    let per_step = graph.split(projected, 0, &vec![batch; time])?;

    let (mut hidden, mut cell) = (weights.hidden, weights.cell);
    let mut sequence = vec![hidden; time];
    for position in 0..time {
        let at = if reversed {
            time - 1 - position
        } else {
            position
        };
        let gates = graph.op(
            "Gemm",
            &[hidden, weights.recurrent, per_step[at]],
            turned.clone(),
        )?;
        let parts = graph.split(gates, 1, &[3 * width, width])?;
        let open = graph.apply("Sigmoid", &[parts[0]])?;
        let open = graph.split(open, 1, &[width; 3])?;
        let candidate = graph.apply("Tanh", &[parts[1]])?;
        let kept = graph.times(open[2], cell)?;
        let added = graph.times(open[0], candidate)?;
        cell = graph.plus(kept, added)?;
        let squashed = graph.apply("Tanh", &[cell])?;
        hidden = graph.times(open[1], squashed)?;
        sequence[at] = graph.reshape(hidden, &[1, 1, batch, width])?;
    }
    let sequence = graph.concat(&sequence, 0)?;
    let last = graph.reshape(hidden, &[1, batch, width])?;
    let last_cell = graph.reshape(cell, &[1, batch, width])?;
    Ok((sequence, last, last_cell))
}

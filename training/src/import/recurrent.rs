//! Recurrent layers, unrolled over their time steps: what LSTM and GRU have in common.
//!
//! ONNX's operators give no gate values back, so their gradient cannot be written with them. Unrolled they are
//! made of operators that have rules. The products with the input are one matrix product for all time steps;
//! ten nodes or so per time step remain.
//!
//! Inputs X `[time, batch, input]`, W `[directions, gates·hidden, input]`, R `[directions, gates·hidden, hidden]`,
//! B `[directions, 2·gates·hidden]`, initial states `[directions, batch, hidden]`; outputs
//! Y `[time, directions, batch, hidden]` and the last states `[directions, batch, hidden]`. With `layout = 1`
//! the batch comes first everywhere.

use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::{Graph, Value};
use crate::onnx::{Attribute, Attributes, Data};

/// What is special about a kind of recurrent layer.
pub(super) struct Kind {
    /// Gates per hidden unit.
    pub(super) gates: usize,
    /// Names of the activation functions, the only ones supported.
    pub(super) activations: &'static [&'static str],
    /// Positions of the initial states among the inputs.
    pub(super) states: &'static [usize],
}

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) time: usize,
    pub(super) batch: usize,
    pub(super) input: usize,
    pub(super) hidden: usize,
}

/// Parameters of one direction.
pub(super) struct Direction<'a> {
    index: usize,
    arrival: &'a Arrival<'a>,
    pub(super) sizes: Sizes,
}

impl Direction<'_> {
    /// This direction's part of an input, in a shape.
    pub(super) fn part(
        &self,
        graph: &mut Graph,
        input: usize,
        shape: &[usize],
    ) -> Result<Option<Value>, OperatorError> {
        let Some(value) = self.arrival.optional(input) else {
            return Ok(None);
        };
        let cut = graph.slice(value, 0, self.index, self.index + 1)?;
        Ok(Some(graph.reshape(cut, shape)?))
    }
}

/// One direction on its way through time.
pub(super) trait Cell {
    /// Products with the input at every time step, with their bias: `[time·batch, gates·hidden]`.
    fn projected(&self, graph: &mut Graph, rows: Value) -> Result<Value, OperatorError>;
    /// The states after one time step; the first is the output.
    fn step(
        &self,
        graph: &mut Graph,
        projected: Value,
        states: &[Value],
    ) -> Result<Vec<Value>, OperatorError>;
}

impl Import<'_> {
    /// Places a recurrent layer whose directions `make` reads.
    pub(super) fn recurrent<C: Cell>(
        &mut self,
        arrival: &Arrival<'_>,
        kind: &Kind,
        make: impl Fn(&mut Graph, &Direction<'_>) -> Result<C, OperatorError>,
    ) -> Placed {
        let graph = &mut *self.graph;
        check_attributes(arrival, kind)?;
        let batch_first = arrival.node.attributes.int_or("layout", 0) != 0;
        let x = match (arrival.input(0)?, batch_first) {
            (x, false) => x,
            (x, true) => graph.permute(x, &[1, 0, 2])?,
        };
        let ([time, batch, input], [directions, rows, _]) =
            (graph.shape(x), graph.shape(arrival.input(1)?))
        else {
            return Err(arrival
                .error("needs X [time, batch, input] and W [directions, gates·hidden, input]"));
        };
        let (directions, sizes) = (
            *directions,
            Sizes {
                time: *time,
                batch: *batch,
                input: *input,
                hidden: rows / kind.gates,
            },
        );
        check_lengths(graph, arrival, &sizes)?;
        let reversed: &[bool] = match arrival.node.attributes.string_or("direction", "forward") {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            other => return Err(arrival.error(format!("direction '{other}'"))),
        };
        if reversed.len() != directions {
            return Err(arrival.error(format!("{directions} directions in W")));
        }
        let mut sequences = Vec::new();
        let mut last: Vec<Vec<Value>> = vec![Vec::new(); kind.states.len()];
        for (index, reversed) in reversed.iter().enumerate() {
            let direction = Direction {
                index,
                arrival,
                sizes,
            };
            let cell = make(graph, &direction)?;
            let states = first_states(graph, &direction, kind, batch_first)?;
            let (sequence, states) = unroll(graph, x, &sizes, &cell, states, *reversed)?;
            sequences.push(sequence);
            for (last, state) in last.iter_mut().zip(states) {
                last.push(graph.reshape(state, &[1, sizes.batch, sizes.hidden])?);
            }
        }
        let mut outputs = vec![graph.concat(&sequences, 1)?];
        for states in &last {
            outputs.push(graph.concat(states, 0)?);
        }
        if batch_first {
            outputs[0] = graph.permute(outputs[0], &[2, 0, 1, 3])?;
            for state in &mut outputs[1..] {
                *state = graph.permute(*state, &[1, 0, 2])?;
            }
        }
        Ok(outputs)
    }
}

fn check_attributes(arrival: &Arrival<'_>, kind: &Kind) -> Result<(), OperatorError> {
    let attributes = &arrival.node.attributes;
    if let Some(Attribute::Strings(names)) = attributes.get("activations")
        && names
            .chunks(kind.activations.len())
            .any(|names| names != kind.activations)
    {
        return Err(arrival.error(format!(
            "the activations {names:?} are not supported, only {:?}",
            kind.activations
        )));
    }
    for what in ["clip", "input_forget"] {
        if attributes.get(what).is_some() && attributes.int_or(what, 1) != 0 {
            return Err(arrival.error(format!("the attribute {what} is not supported")));
        }
    }
    Ok(())
}

/// Lengths of the sequences may be given if they are all the whole length.
fn check_lengths(graph: &Graph, arrival: &Arrival<'_>, sizes: &Sizes) -> Result<(), OperatorError> {
    let Some(lengths) = arrival.optional(4) else {
        return Ok(());
    };
    match graph.constant_of(lengths).map(|tensor| tensor.data()) {
        Some(Data::I32(lengths)) if lengths.iter().all(|l| *l as usize == sizes.time) => Ok(()),
        _ => Err(arrival.error(
            "sequence_lens other than the whole length are not supported; pad the sequences and mask the loss",
        )),
    }
}

/// Initial states, zero where there is none.
fn first_states(
    graph: &mut Graph,
    direction: &Direction<'_>,
    kind: &Kind,
    batch_first: bool,
) -> Result<Vec<Value>, OperatorError> {
    let Sizes { batch, hidden, .. } = direction.sizes;
    kind.states
        .iter()
        .map(|input| match direction.arrival.optional(*input) {
            None => graph.zeros(&[batch, hidden]),
            Some(given) => {
                let axis = usize::from(batch_first);
                let cut = graph.slice(given, axis, direction.index, direction.index + 1)?;
                graph.reshape(cut, &[batch, hidden])
            }
        })
        .collect()
}

/// All time steps of one direction: Y `[time, 1, batch, hidden]` and the last states.
fn unroll(
    graph: &mut Graph,
    x: Value,
    sizes: &Sizes,
    cell: &impl Cell,
    mut states: Vec<Value>,
    reversed: bool,
) -> Result<(Value, Vec<Value>), OperatorError> {
    let &Sizes {
        time,
        batch,
        input,
        hidden,
    } = sizes;
    let rows = graph.reshape(x, &[time * batch, input])?;
    let projected = cell.projected(graph, rows)?;
    let per_step = graph.split(projected, 0, &vec![batch; time])?;
    let mut sequence = vec![x; time];
    for position in 0..time {
        let at = if reversed {
            time - 1 - position
        } else {
            position
        };
        states = cell.step(graph, per_step[at], &states)?;
        sequence[at] = graph.reshape(states[0], &[1, 1, batch, hidden])?;
    }
    Ok((graph.concat(&sequence, 0)?, states))
}

/// `x·Wᵀ`, with a bias if there is one.
pub(super) fn product(
    graph: &mut Graph,
    x: Value,
    weight: Value,
    bias: Option<Value>,
) -> Result<Value, OperatorError> {
    let mut arguments = vec![x, weight];
    arguments.extend(bias);
    graph.op("Gemm", &arguments, Attributes::new().int("transB", 1))
}

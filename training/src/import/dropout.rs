//! Dropout without a random operator: masks computed from a seed, a counter and the position.
//!
//! ONNX's random operators keep their state inside the session, where no checkpoint reaches it. Here
//! the mask is a function of the step's number, which is part of the state vector: a resumed run draws
//! the same masks. The function is three rounds of a quadratic map modulo the largest prime below
//! 2²⁶, in int64, with kernels on every execution provider; all products stay below 2⁵³.

use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::{Graph, Value};
use crate::onnx::{Attributes, Data, Element, Tensor};

/// Largest prime below 2²⁶.
const PRIME: i64 = 67_108_859;
/// Odd constants without a common factor with the prime; digits of the golden ratio and of √2, √3.
const MULTIPLIERS: [i64; 3] = [41_475_557, 27_797_357, 49_127_633];

/// Where dropout draws its masks from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// Number of the step, a float scalar of the state.
    pub(crate) counter: Value,
    /// Seed of the whole graph.
    pub(crate) seed: u64,
    /// Dropout nodes placed so far: each draws masks of its own.
    pub(crate) placed: i64,
}

impl Import<'_> {
    /// Training form: `x · mask / (1 − ratio)`; nothing if the ratio is 0. The second output, the mask,
    /// is not given.
    pub(super) fn dropout(&mut self, arrival: &Arrival<'_>) -> Placed {
        let x = arrival.input(0)?;
        let ratio = match arrival.optional(1) {
            None => 0.5,
            Some(ratio) => match self
                .graph
                .constant_of(ratio)
                .and_then(|ratio| ratio.floats())
            {
                Some([ratio]) => *ratio,
                _ => return Err(arrival.error("the ratio must be known while building")),
            },
        };
        if !(0.0..1.0).contains(&ratio) {
            return Err(arrival.error(format!("ratio {ratio}; at least 0 and below 1 is needed")));
        }
        let Some(source) = &mut self.dropout else {
            return Ok(vec![x]);
        };
        if ratio == 0.0 {
            return Ok(vec![x]);
        }
        source.placed += 1;
        let source = *source;
        let shape = self.graph.shape(x).to_vec();
        let mask = mask(self.graph, source, &shape, ratio)?;
        Ok(vec![self.graph.times(x, mask)?])
    }
}

/// A tensor of `1/(1 − ratio)` with probability `1 − ratio`, and 0 otherwise.
fn mask(
    graph: &mut Graph,
    source: Source,
    shape: &[usize],
    ratio: f32,
) -> Result<Value, OperatorError> {
    let integer = |graph: &mut Graph, value: i64| -> Result<Value, OperatorError> {
        Tensor::new(Vec::new(), Data::I64(vec![value]))
            .map(|tensor| graph.constant(tensor))
            .ok_or_else(|| OperatorError::new("Dropout", "one integer"))
    };
    let prime = integer(graph, PRIME)?;
    let count: usize = shape.iter().product();
    let (zero, one) = (integer(graph, 0)?, integer(graph, 1)?);
    let end = integer(graph, count as i64)?;
    let position = graph.apply("Range", &[zero, end, one])?;

    // The stream of this node in this step: one number.
    let counter = graph.cast(source.counter, Element::I64)?;
    let stride = integer(graph, MULTIPLIERS[0])?;
    let counted = graph.times(counter, stride)?;
    let offset = (source.seed % PRIME as u64) as i64 + source.placed * MULTIPLIERS[1] % PRIME;
    let offset = integer(graph, offset)?;
    let stream = graph.plus(counted, offset)?;
    let stream = graph.apply("Mod", &[stream, prime])?;

    let stride = integer(graph, MULTIPLIERS[2])?;
    let spread = graph.times(position, stride)?;
    let mut hash = graph.plus(spread, stream)?;
    hash = graph.apply("Mod", &[hash, prime])?;
    for multiplier in MULTIPLIERS {
        // h ← h·(h + m) + stream (mod p)
        let multiplier = integer(graph, multiplier)?;
        let shifted = graph.plus(hash, multiplier)?;
        let product = graph.times(hash, shifted)?;
        let sum = graph.plus(product, stream)?;
        hash = graph.apply("Mod", &[sum, prime])?;
    }
    let threshold = (f64::from(1.0 - ratio) * PRIME as f64).round() as i64;
    let threshold = integer(graph, threshold)?;
    let kept = graph.op("Less", &[hash, threshold], Attributes::new())?;
    let kept = graph.reshape(kept, shape)?;
    let (factor, nothing) = (graph.scalar(1.0 / (1.0 - ratio)), graph.scalar(0.0));
    graph.apply("Where", &[kept, factor, nothing])
}

//! Batch normalization as training needs it, and the normalizations that are formulas.

use super::{Arrival, Import, Placed, Step};
use crate::error::OperatorError;
use crate::graph::Graph;
use crate::onnx::Attributes;

impl Import<'_> {
    /// With running statistics among the state: mean `μ` and variance `σ²` of the batch over all axes
    /// but the channels', `y = γ·(x − μ)/√(σ² + ε) + β`, and
    /// `running ← momentum·running + (1 − momentum)·batch`.
    ///
    /// The running variance takes the unbiased estimate `σ²·n/(n − 1)`, as PyTorch and cuDNN do; ONNX's
    /// own definition takes `σ²`. Without statistics in the state (scale and bias frozen) the node
    /// works as in inference.
    pub(super) fn batch_normalization(&mut self, arrival: &Arrival<'_>) -> Placed {
        let attributes = &arrival.node.attributes;
        let x = arrival.input(0)?;
        let (scale, bias) = (arrival.input(1)?, arrival.input(2)?);
        let epsilon = attributes.float_or("epsilon", 1e-5);
        let momentum = attributes.float_or("momentum", 0.9);
        let form = Attributes::new().float("epsilon", epsilon);
        let graph = &mut *self.graph;
        let Some(statistics) = self.statistics.get_mut(&arrival.index) else {
            let inputs = [x, scale, bias, arrival.input(3)?, arrival.input(4)?];
            return Ok(vec![graph.op("BatchNormalization", &inputs, form)?]);
        };

        let shape = graph.shape(x).to_vec();
        if shape.len() < 2 {
            return Err(arrival.error(format!("needs [batch, channels, …], not {shape:?}")));
        }
        let axes: Vec<usize> = (0..shape.len()).filter(|axis| *axis != 1).collect();
        let count: usize = axes.iter().map(|axis| shape[*axis]).product();
        if count < 2 {
            return Err(arrival.error("needs more than one value per channel; use a larger batch"));
        }
        let mut per_channel = vec![1; shape.len()];
        per_channel[1] = shape[1];

        let mean = graph.mean(x, &axes, false)?;
        let mean_wide = graph.reshape(mean, &per_channel)?;
        let centered = graph.minus(x, mean_wide)?;
        let square = graph.times(centered, centered)?;
        let variance = graph.mean(square, &axes, false)?;
        let y = graph.op(
            "BatchNormalization",
            &[x, scale, bias, mean, variance],
            form,
        )?;
        let shifted = graph.shift(variance, epsilon)?;
        let deviation = graph.apply("Sqrt", &[shifted])?;
        let inverse = graph.apply("Reciprocal", &[deviation])?;

        let unbiased = graph.scale(variance, count as f32 / (count - 1) as f32)?;
        for (now, batch, slot) in [
            (statistics.mean, mean, &mut statistics.new_mean),
            (statistics.variance, unbiased, &mut statistics.new_variance),
        ] {
            let kept = graph.scale(now, momentum)?;
            let added = graph.scale(batch, 1.0 - momentum)?;
            *slot = Some(graph.plus(kept, added)?);
        }
        self.steps.push(Step {
            node: arrival.node.name.clone(),
            operator: "BatchNormalization".to_owned(),
            inputs: vec![Some(x), Some(scale), Some(bias)],
            outputs: vec![y],
            attributes: attributes.clone(),
            operation: None,
            saved: vec![centered, variance, inverse],
        });
        Ok(vec![y])
    }
}

impl Import<'_> {
    /// Every channel of every sample by itself: `γ·(x − μ)/√(σ² + ε) + β`.
    pub(super) fn instance_normalization(&mut self, arrival: &Arrival<'_>) -> Placed {
        let channels = channels(self.graph, arrival)?;
        normalize_groups(self.graph, arrival, channels, channels)
    }

    /// Groups of channels of every sample: `γ·(x − μ)/√(σ² + ε) + β`. Up to opset 20 γ and β are numbers per
    /// group, from 21 on per channel.
    pub(super) fn group_normalization(&mut self, arrival: &Arrival<'_>) -> Placed {
        let channels = channels(self.graph, arrival)?;
        let groups = arrival.node.attributes.int_or("num_groups", 0);
        let groups = usize::try_from(groups)
            .ok()
            .filter(|groups| *groups > 0 && channels.is_multiple_of(*groups))
            .ok_or_else(|| arrival.error(format!("{groups} groups of {channels} channels")))?;
        let scaled = if arrival.opset < 21 { groups } else { channels };
        normalize_groups(self.graph, arrival, groups, scaled)
    }
}

fn channels(graph: &Graph, arrival: &Arrival<'_>) -> Result<usize, OperatorError> {
    match graph.shape(arrival.input(0)?) {
        [_, channels, _, ..] => Ok(*channels),
        other => Err(arrival.error(format!("needs [batch, channels, spatial…], not {other:?}"))),
    }
}

/// Normalizes `groups` of channels; scale and bias have `scaled` elements.
fn normalize_groups(
    graph: &mut Graph,
    arrival: &Arrival<'_>,
    groups: usize,
    scaled: usize,
) -> Placed {
    let x = arrival.input(0)?;
    let shape = graph.shape(x).to_vec();
    let each = shape.iter().product::<usize>() / (shape[0] * groups);
    let rows = graph.reshape(x, &[shape[0], groups, each])?;
    let mean = graph.mean(rows, &[2], true)?;
    let centered = graph.minus(rows, mean)?;
    let square = graph.times(centered, centered)?;
    let variance = graph.mean(square, &[2], true)?;
    let epsilon = arrival.node.attributes.float_or("epsilon", 1e-5);
    let shifted = graph.shift(variance, epsilon)?;
    let deviation = graph.apply("Sqrt", &[shifted])?;
    let normalized = graph.over(centered, deviation)?;
    let normalized = graph.reshape(normalized, &[shape[0], scaled, each * groups / scaled])?;
    let scale = graph.reshape(arrival.input(1)?, &[scaled, 1])?;
    let bias = graph.reshape(arrival.input(2)?, &[scaled, 1])?;
    let product = graph.times(normalized, scale)?;
    let sum = graph.plus(product, bias)?;
    Ok(vec![graph.reshape(sum, &shape)?])
}

//! Normalizations.

use super::Context;
use crate::error::OperatorError;
use crate::graph::{TensorType, Value};
use crate::onnx::{Attributes, Element};

/// y = γ·x̂ + β per channel.
///
/// In training, with x̂ = (x − μ)·s, s = 1/√(σ² + ε) and n values per channel:
/// dβ = Σ dy, dγ = Σ dy·x̂, dx = γ·s·(dy − dβ/n − x̂·dγ/n).
/// With fixed statistics, scale and bias: dx = γ·s·dy.
pub(super) fn batch_normalization(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let (x, scale, dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let shape = c.shape(x);
    let axes: Vec<usize> = (0..shape.len()).filter(|axis| *axis != 1).collect();

    let [centered, variance, inverse] = match c.step.saved.as_slice() {
        [centered, variance, inverse] => [*centered, *variance, *inverse],
        _ => {
            let variance = c.x(4)?;
            let gradient = per_channel(c, dy, scale, None, variance)?;
            return c.give(0, gradient);
        }
    };
    let d_bias = c.graph.sum(dy, &axes, false)?;
    let product = c.graph.times(dy, centered)?;
    let projected = c.graph.sum(product, &axes, false)?;
    let d_scale = c.graph.times(projected, inverse)?;
    if c.wants(1) {
        c.give(1, d_scale)?;
    }
    if c.wants(2) {
        c.give(2, d_bias)?;
    }
    if c.wants(0) {
        let share = -1.0 / axes.iter().map(|axis| shape[*axis]).product::<usize>() as f32;
        let factor = c.graph.times(scale, inverse)?;
        let factor = c.graph.scale(factor, share)?;
        let offset = c.graph.times(factor, d_bias)?;
        let direct = per_channel(c, dy, scale, Some(offset), variance)?;
        let slope = c.graph.times(factor, d_scale)?;
        let through_variance = per_channel(c, centered, slope, None, variance)?;
        let gradient = c.graph.plus(direct, through_variance)?;
        c.give(0, gradient)?;
    }
    Ok(())
}

/// `scale·a/√(σ² + ε) + bias`, with numbers per channel: ONNX Runtime's kernel for it takes one pass, where a product and
/// a sum that are broadcast take two, and four times as long on small images.
fn per_channel(
    c: &mut Context<'_>,
    a: Value,
    scale: Value,
    bias: Option<Value>,
    variance: Value,
) -> Result<Value, OperatorError> {
    let channels = c.shape(scale);
    let zeros = c.graph.zeros(&channels)?;
    let form = Attributes::new().float("epsilon", c.step.attributes.float_or("epsilon", 1e-5));
    let inputs = [a, scale, bias.unwrap_or(zeros), zeros, variance];
    c.graph.op("BatchNormalization", &inputs, form)
}

/// y = γ·x̂ + β, x̂ = (x − μ)·s over the axes from `axis` on, mean and s of every sample:
/// dβ = Σ dy, dγ = Σ dy·x̂, dx = s·(g − mean(g) − x̂·mean(g·x̂)) with g = γ·dy.
///
/// The forward node is asked for mean and inverse standard deviation, its second and third output.
pub(super) fn layer_normalization(c: &mut Context<'_>) -> Result<(), OperatorError> {
    let (x, scale, dy) = (c.x(0)?, c.x(1)?, c.dy()?);
    let shape = c.shape(x);
    let axis = c.axis(-1, shape.len());
    let axes: Vec<usize> = (axis..shape.len()).collect();
    let mut statistics = shape.clone();
    statistics[axis..].fill(1);
    let statistics = TensorType::new(Element::F32, &statistics);
    let mean = c.extra_output(1, statistics.clone())?;
    let inverse = c.extra_output(2, statistics)?;
    if c.wants(2) {
        c.give(2, dy)?;
    }
    if !c.wants(0) && !c.wants(1) {
        return Ok(());
    }
    let centered = c.graph.minus(x, mean)?;
    let normalized = c.graph.times(centered, inverse)?;
    if c.wants(1) {
        let gradient = c.graph.times(dy, normalized)?;
        c.give(1, gradient)?;
    }
    if c.wants(0) {
        let g = c.graph.times(dy, scale)?;
        let g_mean = c.graph.mean(g, &axes, true)?;
        let product = c.graph.times(g, normalized)?;
        let product_mean = c.graph.mean(product, &axes, true)?;
        let along = c.graph.times(normalized, product_mean)?;
        let rest = c.graph.minus(g, g_mean)?;
        let rest = c.graph.minus(rest, along)?;
        let gradient = c.graph.times(rest, inverse)?;
        c.give(0, gradient)?;
    }
    Ok(())
}

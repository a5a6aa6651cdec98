//! Reverse-mode differentiation: a walk back over the steps of the forward pass, and a table of rules.
//!
//! A rule is written for one operator: given the gradient of the loss with respect to the operator's
//! outputs (`dy`), it adds nodes that compute the gradient with respect to those inputs that are wanted.
//! Every rule states its formula, uses only operators that have kernels on the CPU and the CUDA
//! execution provider of ONNX Runtime, and is tested against central finite differences in float64.

mod activation;
mod arithmetic;
mod convolution;
mod indexing;
mod layout;
mod matrix;
mod normalization;
mod pooling;
mod reduction;
#[cfg(test)]
mod tests;

use crate::error::{BuildError, OperatorError};
use crate::graph::{Graph, TensorType, Value};
use crate::import::Step;
use std::collections::BTreeMap;

type Backward = fn(&mut Context<'_>) -> Result<(), OperatorError>;

/// The table: one operator, one function.
const RULES: &[(&str, Backward)] = &[
    ("Abs", arithmetic::abs),
    ("Add", arithmetic::add),
    ("AveragePool", pooling::average_pool),
    ("BatchNormalization", normalization::batch_normalization),
    ("Cast", arithmetic::cast),
    ("Clip", activation::clip),
    ("Concat", layout::concat),
    ("Conv", convolution::conv),
    ("ConvTranspose", convolution::conv_transpose),
    ("Div", arithmetic::div),
    ("Elu", activation::elu),
    ("Erf", activation::erf),
    ("Exp", arithmetic::exp),
    ("Expand", layout::expand),
    ("Flatten", layout::same_order),
    ("Gather", indexing::gather),
    ("Gemm", matrix::gemm),
    ("GlobalAveragePool", pooling::global_average_pool),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", activation::hard_swish),
    ("LayerNormalization", normalization::layer_normalization),
    ("LeakyRelu", activation::leaky_relu),
    ("Log", arithmetic::log),
    ("LogSoftmax", reduction::log_softmax),
    ("MatMul", matrix::matmul),
    ("Max", arithmetic::max),
    ("MaxPool", pooling::max_pool),
    ("Min", arithmetic::min),
    ("Mul", arithmetic::mul),
    ("Neg", arithmetic::neg),
    ("Pad", layout::pad),
    ("Pow", arithmetic::pow),
    ("Reciprocal", arithmetic::reciprocal),
    ("ReduceMean", reduction::mean),
    ("ReduceSum", reduction::sum),
    ("Relu", activation::relu),
    ("Reshape", layout::same_order),
    ("Resize", pooling::resize),
    ("Sigmoid", activation::sigmoid),
    ("Slice", layout::slice),
    ("Softmax", reduction::softmax),
    ("Softplus", activation::softplus),
    ("Split", layout::split),
    ("Sqrt", arithmetic::sqrt),
    ("Squeeze", layout::same_order),
    ("Sub", arithmetic::sub),
    ("Tanh", activation::tanh),
    ("Transpose", layout::transpose),
    ("Unsqueeze", layout::same_order),
    ("Where", arithmetic::choose),
];

/// Operators that can be differentiated, in alphabetical order.
pub fn operators() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(operator, _)| *operator)
}

/// What a rule sees: the step, the gradients of its outputs, and which inputs want a gradient.
struct Context<'a> {
    graph: &'a mut Graph,
    step: &'a Step,
    incoming: Vec<Option<Value>>,
    wanted: Vec<bool>,
    given: Vec<Option<Value>>,
}

impl Context<'_> {
    /// Input `index` of the forward operator.
    fn x(&self, index: usize) -> Result<Value, OperatorError> {
        self.step
            .inputs
            .get(index)
            .copied()
            .flatten()
            .ok_or_else(|| self.error(format!("input {index} is missing")))
    }

    /// Output `index` of the forward operator.
    fn y(&self, index: usize) -> Result<Value, OperatorError> {
        self.step
            .outputs
            .get(index)
            .copied()
            .ok_or_else(|| self.error(format!("output {index} is missing")))
    }

    /// Gradient of the first output.
    fn dy(&self) -> Result<Value, OperatorError> {
        self.incoming
            .first()
            .copied()
            .flatten()
            .ok_or_else(|| self.error("only its first output can be differentiated"))
    }

    /// Whether input `index` wants a gradient.
    fn wants(&self, index: usize) -> bool {
        self.wanted.get(index).copied().unwrap_or(false)
    }

    /// The gradient of input `index`; summed over axes along which the input was broadcast.
    fn give(&mut self, index: usize, gradient: Value) -> Result<(), OperatorError> {
        let shape = self.graph.shape(self.x(index)?).to_vec();
        self.given[index] = Some(self.graph.unbroadcast(gradient, &shape)?);
        Ok(())
    }

    fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.shape(value).to_vec()
    }

    /// An attribute that counts axes of a tensor of a rank.
    fn axis(&self, default: i64, rank: usize) -> usize {
        let axis = self.step.attributes.int_or("axis", default);
        (if axis < 0 { axis + rank as i64 } else { axis }) as usize
    }

    /// A further output of the forward node.
    fn extra_output(&mut self, position: usize, kind: TensorType) -> Result<Value, OperatorError> {
        match self.step.operation {
            Some(node) => Ok(self.graph.extend_outputs(node, position, kind)),
            None => Err(self.error("has no node of its own")),
        }
    }

    fn error(&self, reason: impl Into<String>) -> OperatorError {
        OperatorError::new(&self.step.operator, reason)
    }
}

/// Adds the nodes that compute the gradient of a loss with respect to `targets`.
///
/// `seed` is the gradient of the loss with respect to `of`. Steps that no target lies below, and steps
/// that the loss does not depend on, are not visited. A target the loss does not depend on is missing in
/// the result.
///
/// # Errors
/// [`BuildError::NoGradientRule`] for an operator between a target and the loss that has no rule, and
/// [`BuildError::Node`] if a rule does not cover how a node uses its operator.
pub(crate) fn backward(
    graph: &mut Graph,
    steps: &[Step],
    of: Value,
    seed: Value,
    targets: &[Value],
) -> Result<BTreeMap<Value, Value>, BuildError> {
    let depends = depends_on(graph, steps, targets);
    let mut gradients: BTreeMap<Value, Value> = BTreeMap::from([(of, seed)]);
    for step in steps.iter().rev() {
        let incoming: Vec<Option<Value>> = step
            .outputs
            .iter()
            .map(|output| gradients.get(output).copied())
            .collect();
        let wanted: Vec<bool> = step
            .inputs
            .iter()
            .map(|input| input.is_some_and(|input| depends[input.index()]))
            .collect();
        if !incoming.iter().any(Option::is_some) || !wanted.contains(&true) {
            continue;
        }
        let rule = rule(step, graph, steps, targets)?;
        let mut context = Context {
            graph,
            step,
            incoming,
            wanted,
            given: vec![None; step.inputs.len()],
        };
        let place = |problem| BuildError::Node {
            node: step.node.clone(),
            problem,
        };
        rule(&mut context).map_err(place)?;
        let given = context.given;
        for (input, gradient) in step.inputs.iter().zip(given) {
            let (Some(input), Some(gradient)) = (input, gradient) else {
                continue;
            };
            if !depends[input.index()] {
                continue;
            }
            let total = match gradients.get(input) {
                Some(earlier) => graph.plus(*earlier, gradient).map_err(place)?,
                None => gradient,
            };
            gradients.insert(*input, total);
        }
    }
    gradients.retain(|value, _| targets.contains(value));
    Ok(gradients)
}

fn rule(
    step: &Step,
    graph: &Graph,
    steps: &[Step],
    targets: &[Value],
) -> Result<Backward, BuildError> {
    let found = RULES
        .iter()
        .find(|(operator, _)| *operator == step.operator);
    found.map(|(_, rule)| *rule).ok_or_else(|| {
        const NAMED_MAX: usize = 3;
        let below: Vec<&str> = targets
            .iter()
            .filter(|target| {
                let depends = depends_on(graph, steps, &[**target]);
                step.inputs
                    .iter()
                    .flatten()
                    .any(|input| depends[input.index()])
            })
            .map(|target| graph.name(*target).unwrap_or("a parameter"))
            .collect();
        let mut text = below[..below.len().min(NAMED_MAX)].join(", ");
        if below.len() > NAMED_MAX {
            text += &format!(" and {} more", below.len() - NAMED_MAX);
        }
        BuildError::NoGradientRule {
            node: step.node.clone(),
            operator: step.operator.clone(),
            below: text,
        }
    })
}

/// For every value, by index: whether it depends on a target through floating-point values.
fn depends_on(graph: &Graph, steps: &[Step], targets: &[Value]) -> Vec<bool> {
    let mut depends = vec![false; graph.value_count()];
    for target in targets {
        depends[target.index()] = true;
    }
    for step in steps {
        if step
            .inputs
            .iter()
            .flatten()
            .any(|input| depends[input.index()])
        {
            for output in &step.outputs {
                depends[output.index()] = graph.kind(*output).element.is_float();
            }
        }
    }
    depends
}

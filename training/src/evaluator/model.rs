//! Evaluates a model by the names of its inputs and outputs.

use super::{Array, run};
use crate::error::OperatorError;
use crate::graph::Graph;
use crate::onnx::Model;
use std::collections::BTreeMap;

/// Outputs of a model of opset 17, by name, from its inputs, whose shapes are those of the arrays.
///
/// # Errors
/// [`OperatorError`] if an input is missing, or a node cannot be placed or evaluated.
pub fn run_model(
    model: &Model,
    inputs: &BTreeMap<&str, Array>,
) -> Result<BTreeMap<String, Array>, OperatorError> {
    let mut graph = Graph::new();
    let mut values = BTreeMap::new();
    let mut arrays = BTreeMap::new();
    for input in &model.inputs {
        let array = inputs
            .get(input.name.as_str())
            .ok_or_else(|| OperatorError::new("model", format!("no input '{}'", input.name)))?;
        let value = graph.input(&input.name, input.element, &array.shape);
        arrays.insert(value, array.clone());
        values.insert(input.name.clone(), value);
    }
    for (name, tensor) in &model.initializers {
        values.insert(name.clone(), graph.constant(tensor.clone()));
    }
    for node in &model.nodes {
        let arguments: Vec<_> = node
            .inputs
            .iter()
            .map(|name| values.get(name).copied())
            .collect();
        let count = node.outputs.len();
        let outputs = graph.add(&node.operator, &arguments, node.attributes.clone(), count)?;
        values.extend(node.outputs.iter().cloned().zip(outputs));
    }
    let mut results = run(&graph, &arrays)?;
    model
        .outputs
        .iter()
        .map(|output| {
            let result = values
                .get(&output.name)
                .and_then(|value| results.remove(value));
            let missing = || OperatorError::new("model", format!("no output '{}'", output.name));
            Ok((output.name.clone(), result.ok_or_else(missing)?))
        })
        .collect()
}

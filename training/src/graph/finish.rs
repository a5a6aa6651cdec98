//! Turns a graph under construction into a model: names for values, nothing that no output needs.

use super::{Graph, OPSET, Value};
use crate::onnx::{Dimension, Model, Node, ValueInfo};
use std::collections::{BTreeMap, BTreeSet};

impl Graph {
    /// The model of this graph: nodes and constants that an output needs, in the order they were
    /// added, all inputs, and names that are the same every time.
    ///
    /// Inputs and outputs keep their names. A value of the forward model keeps its name unless it is
    /// taken; other values are named after their operator.
    #[must_use]
    pub fn finish(&self, name: &str) -> Model {
        let needed = self.needed();
        let names = self.names();
        let value_name = |value: &Option<Value>| match value {
            Some(value) => names[value.index()].clone(),
            None => String::new(),
        };
        let info = |name: &str, value: Value| ValueInfo {
            name: name.to_owned(),
            element: self.kind(value).element,
            shape: Some(
                self.shape(value)
                    .iter()
                    .map(|size| Dimension::Fixed(*size))
                    .collect(),
            ),
        };

        let mut nodes = Vec::new();
        let mut used = BTreeSet::new();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (operation, _) in self
            .operations
            .iter()
            .zip(&needed)
            .filter(|(_, needed)| **needed)
        {
            let count = counts.entry(&operation.operator).or_default();
            nodes.push(Node {
                name: format!("{}_{count}", operation.operator),
                operator: operation.operator.clone(),
                domain: String::new(),
                inputs: operation.inputs.iter().map(value_name).collect(),
                outputs: operation
                    .outputs
                    .iter()
                    .map(|value| value_name(&Some(*value)))
                    .collect(),
                attributes: operation.attributes.clone(),
            });
            *count += 1;
            used.extend(operation.inputs.iter().flatten().copied());
        }
        // An output that is an input, a constant, or another output too, is given by a node.
        let mut outputs = Vec::new();
        for (name, value) in &self.outputs {
            if names[value.index()] != *name {
                nodes.push(Node {
                    name: format!("output {name}"),
                    operator: "Identity".to_owned(),
                    domain: String::new(),
                    inputs: vec![names[value.index()].clone()],
                    outputs: vec![name.clone()],
                    attributes: crate::onnx::Attributes::new(),
                });
                used.insert(*value);
            }
            outputs.push(info(name, *value));
        }
        let initializers = used
            .iter()
            .filter_map(|value| {
                let tensor = self.constant_of(*value)?;
                Some((names[value.index()].clone(), tensor.clone()))
            })
            .collect();
        Model {
            name: name.to_owned(),
            opset: OPSET,
            inputs: self
                .inputs
                .iter()
                .map(|input| info(&names[input.index()], *input))
                .collect(),
            outputs,
            initializers,
            nodes,
        }
    }

    /// Which nodes an output depends on.
    pub(crate) fn needed(&self) -> Vec<bool> {
        let mut wanted = vec![false; self.values.len()];
        for (_, value) in &self.outputs {
            wanted[value.index()] = true;
        }
        let mut needed = vec![false; self.operations.len()];
        for (index, operation) in self.operations.iter().enumerate().rev() {
            needed[index] = operation
                .outputs
                .iter()
                .any(|output| wanted[output.index()]);
            if needed[index] {
                for input in operation.inputs.iter().flatten() {
                    wanted[input.index()] = true;
                }
            }
        }
        needed
    }

    /// A name for every value, each its own.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<Option<String>> = vec![None; self.values.len()];
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for input in &self.inputs {
            names[input.index()] = self.values[input.index()].name.clone();
            taken.extend(self.values[input.index()].name.clone());
        }
        // The value behind an output bears the output's name, if a node gives it.
        let given: BTreeSet<Value> = self
            .operations
            .iter()
            .flat_map(|operation| operation.outputs.clone())
            .collect();
        for (name, value) in &self.outputs {
            if given.contains(value) && names[value.index()].is_none() {
                names[value.index()] = Some(name.clone());
            }
            taken.insert(name.clone());
        }
        let mut origin = vec!["constant"; self.values.len()];
        for operation in &self.operations {
            for output in &operation.outputs {
                origin[output.index()] = &operation.operator;
            }
        }
        for (index, entry) in self.values.iter().enumerate() {
            if names[index].is_none() {
                let wanted = match &entry.name {
                    Some(name) => name.clone(),
                    None => format!("{}.{index}", origin[index]),
                };
                let mut name = wanted.clone();
                let mut attempt = 1;
                while !taken.insert(name.clone()) {
                    attempt += 1;
                    name = format!("{wanted}.{attempt}");
                }
                names[index] = Some(name);
            }
        }
        names.into_iter().map(Option::unwrap_or_default).collect()
    }
}

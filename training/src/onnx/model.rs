//! A model in memory: a graph of nodes between named values, checked and free of protobuf.

use super::attributes::Attributes;
use super::tensor::{Element, Tensor};
use std::collections::BTreeSet;

/// One dimension of a value's declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// Known.
    Fixed(usize),
    /// A symbol; empty if not even that is known.
    Symbol(String),
}

/// Name and type of an input or output.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueInfo {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Its shape; `None` if even the rank is unknown.
    pub shape: Option<Vec<Dimension>>,
}

/// One application of an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name for people; never empty: the reader names nameless nodes after operator and position.
    pub name: String,
    /// The operator, for example `Conv`.
    pub operator: String,
    /// Its domain; empty for the standard operators.
    pub domain: String,
    /// Names of the inputs; an empty name is an input left out.
    pub inputs: Vec<String>,
    /// Names of the outputs; an empty name is an output not wanted.
    pub outputs: Vec<String>,
    /// Its attributes.
    pub attributes: Attributes,
}

/// A forward model, or a generated graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Name of the graph.
    pub name: String,
    /// Version of the standard operator set.
    pub opset: i64,
    /// Inputs that are not initializers, in order.
    pub inputs: Vec<ValueInfo>,
    /// Outputs, in order.
    pub outputs: Vec<ValueInfo>,
    /// Constant tensors by name, in the file's order. Trainable parameters keep this order.
    pub initializers: Vec<(String, Tensor)>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
}

impl Model {
    /// The initializer of a name.
    #[must_use]
    pub fn initializer(&self, name: &str) -> Option<&Tensor> {
        self.initializers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, tensor)| tensor)
    }

    /// The part of the model that gives one output, which becomes its only one.
    #[must_use]
    pub fn only(&self, output: ValueInfo) -> Model {
        let mut part = self.clone();
        part.outputs = vec![output];
        part.drop_unused();
        part
    }

    /// Removes nodes and initializers that no output needs.
    pub(crate) fn drop_unused(&mut self) {
        let mut needed: BTreeSet<String> = self
            .outputs
            .iter()
            .map(|output| output.name.clone())
            .collect();
        let mut kept = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            kept[index] = node.outputs.iter().any(|output| needed.contains(output));
            if kept[index] {
                needed.extend(node.inputs.iter().cloned());
            }
        }
        let mut flags = kept.into_iter();
        self.nodes.retain(|_| flags.next().unwrap_or(true));
        self.initializers.retain(|(name, _)| needed.contains(name));
    }
}

//! A graph under construction: standard operators of opset 17 between typed values of static shape.
//!
//! Every node is checked as it is added: [`Graph::add`] infers the types of its outputs, so that a
//! wrong shape is found where it is made and not by ONNX Runtime later. Values are small numbers, not
//! names; names are given when the graph is turned into a [`Model`](crate::onnx::Model) by
//! [`Graph::finish`], which also drops what no output needs.

pub mod emit;
pub(crate) mod finish;
pub(crate) mod fold;
pub(crate) mod shape;
pub mod window;

use crate::error::OperatorError;
use crate::onnx::{Attributes, Element, Tensor};
use std::rc::Rc;

/// Operator set of every graph that is built.
pub const OPSET: i64 = 17;

/// A value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(usize);

/// Element type and static shape of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// Type of the elements.
    pub element: Element,
    /// Size of every dimension.
    pub shape: Vec<usize>,
}

impl TensorType {
    /// A type.
    #[must_use]
    pub fn new(element: Element, shape: &[usize]) -> TensorType {
        TensorType {
            element,
            shape: shape.to_vec(),
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

#[derive(Debug, Clone)]
struct ValueEntry {
    name: Option<String>,
    kind: TensorType,
    constant: Option<Rc<Tensor>>,
}

/// A node of a graph under construction.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The operator.
    pub operator: String,
    /// Inputs; `None` is an input left out.
    pub inputs: Vec<Option<Value>>,
    /// Outputs.
    pub outputs: Vec<Value>,
    /// Attributes.
    pub attributes: Attributes,
}

/// A graph under construction.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    values: Vec<ValueEntry>,
    inputs: Vec<Value>,
    outputs: Vec<(String, Value)>,
    operations: Vec<Operation>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Graph {
        Graph::default()
    }

    /// A new input.
    pub fn input(&mut self, name: &str, element: Element, shape: &[usize]) -> Value {
        let value = self.value(TensorType::new(element, shape), None);
        self.values[value.0].name = Some(name.to_owned());
        self.inputs.push(value);
        value
    }

    /// Puts input `first` directly before input `second`.
    pub(crate) fn order_inputs(&mut self, first: &str, second: &str) {
        let find = |graph: &Graph, name: &str| {
            graph
                .inputs
                .iter()
                .position(|input| graph.name(*input) == Some(name))
        };
        if let Some(from) = find(self, first) {
            let value = self.inputs.remove(from);
            let to = find(self, second).unwrap_or(self.inputs.len());
            self.inputs.insert(to, value);
        }
    }

    /// Makes a value an output of the graph under a name.
    pub fn output(&mut self, name: &str, value: Value) {
        self.outputs.push((name.to_owned(), value));
    }

    /// A constant. Small equal constants are one value.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        const SHARED_ELEMENTS_MAX: usize = 32;
        if tensor.len() <= SHARED_ELEMENTS_MAX
            && let Some(index) = self.values.iter().position(|entry| {
                entry.name.is_none() && entry.constant.as_deref() == Some(&tensor)
            })
        {
            return Value(index);
        }
        let kind = TensorType::new(tensor.element(), tensor.shape());
        self.value(kind, Some(Rc::new(tensor)))
    }

    /// A constant with a name of its own.
    pub fn named_constant(&mut self, name: &str, tensor: Tensor) -> Value {
        let kind = TensorType::new(tensor.element(), tensor.shape());
        let value = self.value(kind, Some(Rc::new(tensor)));
        self.values[value.0].name = Some(name.to_owned());
        value
    }

    /// Adds a node with as many outputs as its operator gives, at least `output_count`.
    ///
    /// # Errors
    /// [`OperatorError`] if the operator is not known or its inputs do not fit it.
    pub fn add(
        &mut self,
        operator: &str,
        inputs: &[Option<Value>],
        attributes: Attributes,
        output_count: usize,
    ) -> Result<Vec<Value>, OperatorError> {
        let kinds = shape::infer(&shape::Call {
            graph: self,
            operator,
            inputs,
            attributes: &attributes,
            output_count,
        })?;
        let outputs: Vec<Value> = kinds
            .into_iter()
            .map(|kind| self.value(kind, None))
            .collect();
        self.operations.push(Operation {
            operator: operator.to_owned(),
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            attributes,
        });
        Ok(outputs)
    }

    /// Asks an existing node for one output more, of a type: MaxPool's indices, for example.
    pub(crate) fn extend_outputs(
        &mut self,
        node: usize,
        position: usize,
        kind: TensorType,
    ) -> Value {
        if let Some(value) = self.operations[node].outputs.get(position) {
            return *value;
        }
        let value = self.value(kind, None);
        self.operations[node].outputs.push(value);
        value
    }

    /// Gives a value the name it has in the forward model.
    pub(crate) fn rename(&mut self, value: Value, name: &str) {
        self.values[value.0].name = Some(name.to_owned());
    }

    fn value(&mut self, kind: TensorType, constant: Option<Rc<Tensor>>) -> Value {
        self.values.push(ValueEntry {
            name: None,
            kind,
            constant,
        });
        Value(self.values.len() - 1)
    }

    /// Type of a value.
    #[must_use]
    pub fn kind(&self, value: Value) -> &TensorType {
        &self.values[value.0].kind
    }

    /// Shape of a value.
    #[must_use]
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.values[value.0].kind.shape
    }

    /// The tensor of a constant.
    #[must_use]
    pub fn constant_of(&self, value: Value) -> Option<&Tensor> {
        self.values[value.0].constant.as_deref()
    }

    /// Nodes in the order they were added.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Inputs in the order they were added.
    #[must_use]
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// Name of a value, if it has one.
    #[must_use]
    pub fn name(&self, value: Value) -> Option<&str> {
        self.values[value.0].name.as_deref()
    }

    /// Number of values: every value's index is below it.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.len()
    }
}

impl Value {
    /// Its index in its graph, for tables by value.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

//! Forward models into a graph under construction: any supported opset in, opset 17 out.
//!
//! Names become values, shapes become static, what is known is computed, operators that are a formula
//! of simpler ones become that formula ([`recurrent`] layers, [`indexed`] choices, [`depthwise`]
//! convolutions, [`formula`]), and what differs between opsets 13 and 22 is brought to one form
//! ([`canonical`]). What is left is the list of [`Step`]s that the gradient walks back.

mod canonical;
mod depthwise;
mod dropout;
mod formula;
mod gru;
mod indexed;
mod lstm;
mod normalization;
pub(crate) mod parameters;
mod recurrent;

use crate::error::{BuildError, OperatorError};
use crate::graph::{Graph, Operation, Value, fold::fold};
use crate::onnx::{self, Attribute, Attributes, Model};
use std::collections::BTreeMap;

/// One differentiable operation of the forward pass.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Name of the model's node it comes from.
    pub(crate) node: String,
    /// Operator whose gradient rule applies.
    pub(crate) operator: String,
    pub(crate) inputs: Vec<Option<Value>>,
    pub(crate) outputs: Vec<Value>,
    pub(crate) attributes: Attributes,
    /// Its node in the graph, which a rule may ask for further outputs.
    pub(crate) operation: Option<usize>,
    /// Values computed on the way forward that the gradient needs again.
    pub(crate) saved: Vec<Value>,
}

impl Step {
    fn of(node: &str, index: usize, operation: &Operation) -> Step {
        Step {
            node: node.to_owned(),
            operator: operation.operator.clone(),
            inputs: operation.inputs.clone(),
            outputs: operation.outputs.clone(),
            attributes: operation.attributes.clone(),
            operation: Some(index),
            saved: Vec::new(),
        }
    }
}

/// Running mean and variance of one batch normalization: their values now, and after the step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics {
    pub(crate) mean: Value,
    pub(crate) variance: Value,
    pub(crate) new_mean: Option<Value>,
    pub(crate) new_variance: Option<Value>,
}

/// A model on its way into a graph.
pub(crate) struct Import<'a> {
    pub(crate) graph: &'a mut Graph,
    /// Values by their name in the model: inputs and parameters first, then every node's outputs.
    pub(crate) values: BTreeMap<String, Value>,
    /// Running statistics by the index of their node; nodes not listed work as in inference.
    pub(crate) statistics: BTreeMap<usize, Statistics>,
    /// Counter of the steps, from which dropout draws its masks; `None` turns dropout off.
    pub(crate) dropout: Option<dropout::Source>,
    pub(crate) steps: Vec<Step>,
}

pub(crate) use dropout::Source as DropoutSource;

/// One node on its way into a graph.
struct Arrival<'n> {
    index: usize,
    node: &'n onnx::Node,
    opset: i64,
    inputs: Vec<Option<Value>>,
}

/// What became of a node's outputs: nodes that were added are steps, unless one step says it all.
type Placed = Result<Vec<Value>, OperatorError>;

impl Import<'_> {
    /// Places every node of a model.
    ///
    /// # Errors
    /// [`BuildError::Node`] with the first node that cannot be placed.
    pub(crate) fn run(&mut self, model: &Model) -> Result<(), BuildError> {
        for (name, tensor) in &model.initializers {
            if !self.values.contains_key(name) {
                let value = self.graph.named_constant(name, tensor.clone());
                self.values.insert(name.clone(), value);
            }
        }
        for (index, node) in model.nodes.iter().enumerate() {
            self.place(index, node, model.opset)
                .map_err(|problem| BuildError::Node {
                    node: node.name.clone(),
                    problem,
                })?;
        }
        Ok(())
    }

    fn place(&mut self, index: usize, node: &onnx::Node, opset: i64) -> Result<(), OperatorError> {
        let fail = |reason: String| OperatorError::new(&node.operator, reason);
        if !node.domain.is_empty() {
            return Err(fail(format!(
                "the domain {} is not supported; export standard operators only",
                node.domain
            )));
        }
        let inputs = node
            .inputs
            .iter()
            .map(|name| match self.values.get(name) {
                _ if name.is_empty() => Ok(None),
                Some(value) => Ok(Some(*value)),
                None => Err(fail(format!(
                    "input '{name}' is an output that is not computed"
                ))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let arrival = Arrival {
            index,
            node,
            opset,
            inputs,
        };
        let before = self.graph.operations().len();
        let steps_before = self.steps.len();
        let outputs = self.dispatch(&arrival)?;
        if self.steps.len() == steps_before {
            for position in before..self.graph.operations().len() {
                let operation = &self.graph.operations()[position];
                self.steps.push(Step::of(&node.name, position, operation));
            }
        }
        for (name, value) in node.outputs.iter().zip(outputs) {
            if !name.is_empty() {
                if self.graph.name(value).is_none() {
                    self.graph.rename(value, name);
                }
                self.values.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, arrival: &Arrival<'_>) -> Placed {
        match arrival.node.operator.as_str() {
            "Identity" => Ok(vec![arrival.input(0)?]),
            "Constant" => self.constant(arrival),
            "Dropout" => self.dropout(arrival),
            "BatchNormalization" => self.batch_normalization(arrival),
            "Conv" => {
                let form = canonical::form(self.graph, arrival)?;
                self.convolution(arrival, form)
            }
            "LSTM" => self.lstm(arrival),
            "GRU" => self.gru(arrival),
            "Pad" => self.pad(arrival),
            "Resize" => self.resize(arrival),
            "GroupNormalization" => self.group_normalization(arrival),
            "InstanceNormalization" => self.instance_normalization(arrival),
            "Gelu" | "GlobalMaxPool" | "Mish" | "PRelu" | "Selu" | "Softsign" => {
                self.formula(arrival)
            }
            "CastLike" => self.cast_like(arrival),
            "ReduceProd" => self.product(arrival),
            "Sum" => self.fold_pairs(arrival, "Add"),
            "Max" | "Min" => self.fold_pairs(arrival, &arrival.node.operator),
            _ => {
                let canonical = canonical::form(self.graph, arrival)?;
                self.add(&arrival.node.operator, canonical)
            }
        }
    }

    /// Adds a node, or its value if that is known already.
    fn add(&mut self, operator: &str, form: canonical::Form) -> Placed {
        let folded = fold(
            self.graph,
            operator,
            &form.inputs,
            &form.attributes,
            form.output_count,
        )?;
        if let Some(tensors) = folded {
            return Ok(tensors
                .into_iter()
                .map(|tensor| self.graph.constant(tensor))
                .collect());
        }
        self.graph
            .add(operator, &form.inputs, form.attributes, form.output_count)
    }

    fn constant(&mut self, arrival: &Arrival<'_>) -> Placed {
        let attributes = &arrival.node.attributes;
        let tensor = match (
            attributes.get("value"),
            attributes.get("value_float"),
            attributes.get("value_floats"),
            attributes.get("value_int"),
            attributes.get("value_ints"),
        ) {
            (Some(Attribute::Tensor(tensor)), ..) => Some(tensor.clone()),
            (_, Some(Attribute::Float(value)), ..) => Some(onnx::Tensor::scalar(*value)),
            (_, _, Some(Attribute::Floats(values)), ..) => {
                onnx::Tensor::new(vec![values.len()], onnx::Data::F32(values.clone()))
            }
            (_, _, _, Some(Attribute::Int(value)), _) => {
                onnx::Tensor::new(Vec::new(), onnx::Data::I64(vec![*value]))
            }
            (.., Some(Attribute::Ints(values))) => Some(onnx::Tensor::integers(values)),
            _ => None,
        };
        let tensor = tensor.ok_or_else(|| arrival.error("holds neither floats nor integers"))?;
        Ok(vec![self.graph.constant(tensor)])
    }

    /// A cast to the type of another value.
    fn cast_like(&mut self, arrival: &Arrival<'_>) -> Placed {
        let element = self.graph.kind(arrival.input(1)?).element;
        let code = i64::from(onnx::write::encode_element(element));
        let form = canonical::Form {
            inputs: vec![Some(arrival.input(0)?)],
            attributes: Attributes::new().int("to", code),
            output_count: 1,
        };
        self.add("Cast", form)
    }

    /// The product of known whole numbers: how an exporter writes the size of several axes.
    fn product(&mut self, arrival: &Arrival<'_>) -> Placed {
        let numbers = self.graph.constant_of(arrival.input(0)?);
        let product = match numbers.map(|numbers| (numbers.shape(), numbers.data())) {
            Some(([_], onnx::Data::I64(numbers))) => numbers
                .iter()
                .try_fold(1_i64, |product, number| product.checked_mul(*number)),
            _ => None,
        }
        .ok_or_else(|| {
            arrival.error(
                "only products of a row of known whole numbers, such as a shape, are supported",
            )
        })?;
        let shape = match arrival.node.attributes.int_or("keepdims", 1) {
            0 => Vec::new(),
            _ => vec![1],
        };
        let product = onnx::Tensor::new(shape, onnx::Data::I64(vec![product]))
            .ok_or_else(|| arrival.error("one product"))?;
        Ok(vec![self.graph.constant(product)])
    }

    /// An operator of many inputs as one of two inputs, from the left.
    fn fold_pairs(&mut self, arrival: &Arrival<'_>, operator: &str) -> Placed {
        let mut total = arrival.input(0)?;
        for index in 1..arrival.inputs.len() {
            let form = canonical::Form {
                inputs: vec![Some(total), Some(arrival.input(index)?)],
                attributes: Attributes::new(),
                output_count: 1,
            };
            total = self
                .add(operator, form)?
                .pop()
                .ok_or_else(|| arrival.error("gives no output"))?;
        }
        Ok(vec![total])
    }
}

impl Arrival<'_> {
    fn input(&self, index: usize) -> Result<Value, OperatorError> {
        self.optional(index)
            .ok_or_else(|| self.error(format!("input {index} is missing")))
    }

    fn optional(&self, index: usize) -> Option<Value> {
        self.inputs.get(index).copied().flatten()
    }

    fn error(&self, reason: impl Into<String>) -> OperatorError {
        OperatorError::new(&self.node.operator, reason)
    }
}

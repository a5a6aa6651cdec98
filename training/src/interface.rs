//! What a step takes from its model: the inputs with static shapes, and the output the loss is of.

use crate::error::BuildError;
use crate::graph::{Graph, Value};
use crate::onnx::{Dimension, Element, Model, ValueInfo};
use crate::options::Options;
use std::collections::{BTreeMap, BTreeSet};

/// Adds the model's inputs, with every dimension a number: `x` is the first. Where the model takes whole numbers
/// there (words, say), `x` still holds floats, as every sample does, and is cast: exact below 2²⁴.
pub(crate) fn inputs(
    graph: &mut Graph,
    model: &Model,
    options: &Options,
) -> Result<BTreeMap<String, Value>, BuildError> {
    const RESERVED: [&str; 6] = ["x", "y", "lr", "theta", "state", "loss"];
    let mut values = BTreeMap::new();
    for (position, input) in model.inputs.iter().enumerate() {
        let name = if position == 0 {
            "x"
        } else {
            input.name.as_str()
        };
        if position > 0 && RESERVED.contains(&name) {
            return Err(BuildError::Interface {
                what: format!("input '{name}' of the model"),
                reason: "this name is the step's own; rename the input".to_owned(),
            });
        }
        let shape = static_shape(model, input, options)?;
        let value = if position == 0 && !input.element.is_float() {
            let floats = graph.input(name, Element::F32, &shape);
            graph.cast(floats, input.element)?
        } else {
            graph.input(name, input.element, &shape)
        };
        values.insert(input.name.clone(), value);
    }
    if values.is_empty() {
        return Err(BuildError::Interface {
            what: "the model".to_owned(),
            reason: "has no input".to_owned(),
        });
    }
    Ok(values)
}

/// The first dimension of every input is the batch, and so is every dimension of the same symbol.
fn static_shape(
    model: &Model,
    input: &ValueInfo,
    options: &Options,
) -> Result<Vec<usize>, BuildError> {
    let interface = |reason: String| BuildError::Interface {
        what: format!("input '{}' of the model", input.name),
        reason,
    };
    let batch_symbols: BTreeSet<&str> = model
        .inputs
        .iter()
        .filter_map(|input| match input.shape.as_ref()?.first()? {
            Dimension::Symbol(symbol) if !symbol.is_empty() => Some(symbol.as_str()),
            _ => None,
        })
        .collect();
    let shape = input
        .shape
        .as_ref()
        .ok_or_else(|| interface("has no shape, not even a rank; export it with one".to_owned()))?;
    shape
        .iter()
        .enumerate()
        .map(|(axis, dimension)| match dimension {
            Dimension::Symbol(symbol) if options.dimensions.contains_key(symbol) => {
                Ok(options.dimensions[symbol])
            }
            Dimension::Symbol(symbol) if axis == 0 || batch_symbols.contains(symbol.as_str()) => {
                Ok(options.batch)
            }
            Dimension::Fixed(_) if axis == 0 => Ok(options.batch),
            Dimension::Fixed(size) => Ok(*size),
            Dimension::Symbol(symbol) => Err(interface(format!(
                "dimension {axis} is the symbol '{symbol}'; give its size (--dimension {symbol}=N)"
            ))),
        })
        .collect()
}

/// The output the loss takes: the one of that name (a value within the model will do), or the first that
/// holds 32-bit floats; scikit-learn's classifiers give a label before the probabilities.
pub(crate) fn output(model: &Model, options: &Options) -> Result<ValueInfo, BuildError> {
    let declared = |name: &str| model.outputs.iter().find(|output| output.name == name);
    let within = |name: &str| {
        let given = model
            .nodes
            .iter()
            .any(|node| node.outputs.iter().any(|o| o == name));
        given.then(|| ValueInfo {
            name: name.to_owned(),
            element: Element::F32,
            shape: None,
        })
    };
    let found = match &options.output {
        Some(name) => declared(name).cloned().or_else(|| within(name)),
        None => model
            .outputs
            .iter()
            .find(|output| output.element == Element::F32)
            .cloned(),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = model
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        let names = names.join(", ");
        let (what, reason) = match &options.output {
            Some(name) => (
                format!("output '{name}'"),
                format!("no node gives it; the model has the outputs {names}"),
            ),
            None if names.is_empty() => (
                "the model".to_owned(),
                "none of its outputs is a tensor of numbers; name a value within it (--output NAME)"
                    .to_owned(),
            ),
            None => (
                "the model".to_owned(),
                format!(
                    "no output of 32-bit floats among {names}; name a value within it (--output NAME)"
                ),
            ),
        };
        BuildError::Interface { what, reason }
    })
}

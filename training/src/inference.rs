//! The inference graph that takes the parameters a training step works on.
//!
//! It is the forward model itself, node by node in its own opset, with two changes: initializers that are
//! trained come out of the vector `theta` (running statistics out of `state`), and what only training
//! needs is turned off. The runtime binds it to the very buffers the step writes: trained weights serve
//! without a copy and without a restart.

use crate::flat::{Entry, FlatVector};
use crate::import::parameters::RunningStatistics;
use crate::onnx::write::encode_element;
use crate::onnx::{Attributes, Dimension, Element, Model, Node, Tensor, ValueInfo};
use std::collections::{BTreeMap, BTreeSet};

/// Where an inference graph takes its parameters from.
pub(crate) struct Sources<'a> {
    pub(crate) theta: &'a FlatVector,
    /// The state vector, and the statistics in it.
    pub(crate) state: &'a FlatVector,
    pub(crate) statistics: &'a [RunningStatistics],
    /// Flat vectors, or every tensor as an input of its own.
    pub(crate) flat: bool,
    /// Samples per run; `None` leaves the model's own batch.
    pub(crate) batch: Option<usize>,
    /// Name of the output to serve.
    pub(crate) output: &'a str,
}

/// The inference graph of a model: input `x` (and the model's further inputs), output `logits`.
pub(crate) fn graph(model: &Model, sources: &Sources<'_>) -> Model {
    let mut result = model.clone();
    let mut names = Names::of(model);
    let trained: BTreeSet<&str> = sources
        .theta
        .entries()
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    result
        .initializers
        .retain(|(name, _)| !trained.contains(name.as_str()));
    for node in &mut result.nodes {
        without_training(node);
    }
    for statistics in sources.statistics {
        let inputs = &mut result.nodes[statistics.node].inputs;
        inputs[3].clone_from(&statistics.mean.0);
        inputs[4].clone_from(&statistics.variance.0);
        let own = [&statistics.mean.0, &statistics.variance.0];
        result.initializers.retain(|(name, _)| !own.contains(&name));
    }
    let statistic_names: BTreeSet<&str> = sources
        .statistics
        .iter()
        .flat_map(|statistics| [statistics.mean.0.as_str(), statistics.variance.0.as_str()])
        .collect();

    rename_interface(&mut result, sources, &mut names);
    let wanted = |entry: &Entry| trained.contains(entry.name.as_str());
    feed(
        &mut result,
        sources,
        "theta",
        sources.theta,
        &wanted,
        &mut names,
    );
    if !statistic_names.is_empty() {
        let wanted = |entry: &Entry| statistic_names.contains(entry.name.as_str());
        feed(
            &mut result,
            sources,
            "state",
            sources.state,
            &wanted,
            &mut names,
        );
    }
    result.drop_unused();
    result
}

/// Batch normalization with its statistics, no dropout.
fn without_training(node: &mut Node) {
    match node.operator.as_str() {
        "BatchNormalization" => {
            node.outputs.truncate(1);
            node.attributes = std::mem::take(&mut node.attributes)
                .without("training_mode")
                .without("momentum");
        }
        "Dropout" => {
            node.operator = "Identity".to_owned();
            node.inputs.truncate(1);
            node.outputs.truncate(1);
            node.attributes = Attributes::new();
        }
        _ => {}
    }
}

/// The first input becomes `x`, the output served becomes `logits` and the only one.
fn rename_interface(model: &mut Model, sources: &Sources<'_>, names: &mut Names) {
    let first = model
        .inputs
        .first()
        .map(|input| input.name.clone())
        .unwrap_or_default();
    for reserved in ["x", "theta", "state", "logits"] {
        if reserved != first && reserved != sources.output {
            let fresh = names.fresh(reserved);
            rename(model, reserved, &fresh);
        }
    }
    rename(model, &first, "x");
    take_floats(model, names);
    rename(model, sources.output, "logits");
    model.outputs.retain(|output| output.name == "logits");
    if model.inputs.iter().any(|input| input.name == "logits") {
        model.nodes.push(Node {
            name: "logits".to_owned(),
            operator: "Identity".to_owned(),
            domain: String::new(),
            inputs: vec!["x".to_owned()],
            outputs: vec!["logits".to_owned()],
            attributes: Attributes::new(),
        });
    }
    match sources.batch {
        Some(batch) => fix_batch(model, batch),
        None => name_batch(model),
    }
}

/// Where the model takes whole numbers, `x` holds them as floats, as in the step.
fn take_floats(model: &mut Model, names: &mut Names) {
    let Some(input) = model.inputs.first() else {
        return;
    };
    let element = input.element;
    if element.is_float() {
        return;
    }
    let whole = names.fresh("x.whole");
    rename(model, "x", &whole);
    let input = &mut model.inputs[0];
    "x".clone_into(&mut input.name);
    input.element = Element::F32;
    let cast = Node {
        name: "Cast of x".to_owned(),
        operator: "Cast".to_owned(),
        domain: String::new(),
        inputs: vec!["x".to_owned()],
        outputs: vec![whole],
        attributes: Attributes::new().int("to", i64::from(encode_element(element))),
    };
    model.nodes.insert(0, cast);
}

/// A batch without a name, as scikit-learn's exports have it, is called so: by a name it can be set when a session begins.
fn name_batch(model: &mut Model) {
    for value in model.inputs.iter_mut().chain(&mut model.outputs) {
        if let Some(Dimension::Symbol(symbol)) = value.shape.as_mut().and_then(|s| s.first_mut())
            && symbol.is_empty()
        {
            "batch".clone_into(symbol);
        }
    }
}

/// The first dimension of every input and output, and every dimension of the same symbol, is `batch`.
fn fix_batch(model: &mut Model, batch: usize) {
    let mut symbols = BTreeSet::new();
    for input in &model.inputs {
        if let Some(Dimension::Symbol(symbol)) = input.shape.as_ref().and_then(|s| s.first()) {
            symbols.insert(symbol.clone());
        }
    }
    symbols.remove("");
    for value in model.inputs.iter_mut().chain(&mut model.outputs) {
        for (axis, dimension) in value.shape.iter_mut().flatten().enumerate() {
            let same = matches!(dimension, Dimension::Symbol(symbol) if symbols.contains(symbol));
            if axis == 0 || same {
                *dimension = Dimension::Fixed(batch);
            }
        }
    }
}

fn rename(model: &mut Model, from: &str, to: &str) {
    if from == to {
        return;
    }
    let swap = |name: &mut String| {
        if name == from {
            to.clone_into(name);
        }
    };
    model
        .inputs
        .iter_mut()
        .for_each(|input| swap(&mut input.name));
    model
        .outputs
        .iter_mut()
        .for_each(|output| swap(&mut output.name));
    model
        .initializers
        .iter_mut()
        .for_each(|(name, _)| swap(name));
    for node in &mut model.nodes {
        node.inputs.iter_mut().for_each(swap);
        node.outputs.iter_mut().for_each(swap);
    }
}

/// Adds an input for a vector and the nodes that cut the wanted tensors out of it; or, in the named layout,
/// an input for each of them.
fn feed(
    model: &mut Model,
    sources: &Sources<'_>,
    vector: &str,
    layout: &FlatVector,
    wanted: &dyn Fn(&Entry) -> bool,
    names: &mut Names,
) {
    let input = |name: &str, shape: &[usize]| ValueInfo {
        name: name.to_owned(),
        element: Element::F32,
        shape: Some(shape.iter().map(|size| Dimension::Fixed(*size)).collect()),
    };
    let node = |operator: &str, inputs: Vec<String>, outputs: Vec<String>| Node {
        name: format!(
            "{operator} of {}",
            outputs.first().map_or("", String::as_str)
        ),
        operator: operator.to_owned(),
        domain: String::new(),
        inputs,
        outputs,
        attributes: Attributes::new(),
    };
    if !sources.flat {
        for entry in layout.entries().iter().filter(|entry| wanted(entry)) {
            model.inputs.push(input(&entry.name, &entry.shape));
        }
        return;
    }
    model.inputs.push(input(vector, &[layout.initial().len()]));
    let mut added = Vec::new();
    let lengths: Vec<i64> = layout
        .entries()
        .iter()
        .map(|entry| entry.count() as i64)
        .collect();
    let mut parts = vec![vector.to_owned()];
    if lengths.len() > 1 {
        let lengths_name = names.fresh(&format!("{vector}.lengths"));
        model
            .initializers
            .push((lengths_name.clone(), Tensor::integers(&lengths)));
        parts = layout
            .entries()
            .iter()
            .map(|entry| names.fresh(&format!("{}.flat", entry.name)))
            .collect();
        added.push(node(
            "Split",
            vec![vector.to_owned(), lengths_name],
            parts.clone(),
        ));
    }
    for (entry, part) in layout
        .entries()
        .iter()
        .zip(parts)
        .filter(|(entry, _)| wanted(entry))
    {
        let shape: Vec<i64> = entry.shape.iter().map(|size| *size as i64).collect();
        let shape_name = names.fresh(&format!("{}.shape", entry.name));
        model
            .initializers
            .push((shape_name.clone(), Tensor::integers(&shape)));
        added.push(node(
            "Reshape",
            vec![part, shape_name],
            vec![entry.name.clone()],
        ));
    }
    model.nodes.splice(0..0, added);
}

/// Names in use.
struct Names(BTreeMap<String, usize>);

impl Names {
    fn of(model: &Model) -> Names {
        let nodes = model.nodes.iter().flat_map(|node| node.outputs.iter());
        let inputs = model.inputs.iter().map(|input| &input.name);
        let initializers = model.initializers.iter().map(|(name, _)| name);
        Names(
            nodes
                .chain(inputs)
                .chain(initializers)
                .map(|name| (name.clone(), 1))
                .collect(),
        )
    }

    /// A name that is not in use: the wanted one, or with a number.
    fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut attempt = 1;
        while self.0.contains_key(&name) {
            attempt += 1;
            name = format!("{wanted}.{attempt}");
        }
        self.0.insert(name.clone(), 1);
        name
    }
}

//! Operators that the import writes as others: the gradients of what it makes of one node.

use super::{Probe, compare};
use crate::graph::Value;
use crate::import::{Import, Statistics};
use crate::onnx::{Attribute, Attributes, Data, Model, Node, Tensor};
use std::collections::BTreeMap;

/// The training form, as the import writes it.
pub(super) fn trained_statistics(shape: &[usize]) {
    let channels = shape[1];
    let mut probe = Probe::default();
    let values = BTreeMap::from([
        ("x".to_owned(), probe.float(shape)),
        ("scale".to_owned(), probe.between(0.5, 1.5, &[channels])),
        ("bias".to_owned(), probe.float(&[channels])),
    ]);
    let zeros = || Tensor::new(vec![channels], Data::F32(vec![0.0; channels])).unwrap();
    let statistics = Statistics {
        mean: probe.graph.constant(zeros()),
        variance: probe.graph.constant(zeros()),
        new_mean: None,
        new_variance: None,
    };
    let node = (
        "BatchNormalization",
        vec!["x", "scale", "bias", "mean", "var"],
        vec!["y"],
    );
    let initializers = vec![("mean".to_owned(), zeros()), ("var".to_owned(), zeros())];
    imported(
        probe,
        values,
        BTreeMap::from([(0, statistics)]),
        node,
        Attributes::new(),
        initializers,
        17,
    );
}

type NamedNode = (&'static str, Vec<&'static str>, Vec<&'static str>);

/// Imports a model of one node and compares the gradients of its outputs.
fn imported(
    mut probe: Probe,
    values: BTreeMap<String, Value>,
    statistics: BTreeMap<usize, Statistics>,
    (operator, inputs, outputs): NamedNode,
    attributes: Attributes,
    initializers: Vec<(String, Tensor)>,
    opset: i64,
) {
    let model = Model {
        name: String::new(),
        opset,
        inputs: Vec::new(),
        outputs: Vec::new(),
        initializers,
        nodes: vec![Node {
            name: "node".to_owned(),
            operator: operator.to_owned(),
            domain: String::new(),
            inputs: inputs.into_iter().map(str::to_owned).collect(),
            outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
            attributes,
        }],
    };
    let mut graph = std::mem::take(&mut probe.graph);
    let mut import = Import {
        graph: &mut graph,
        values,
        statistics,
        dropout: None,
        steps: Vec::new(),
    };
    import.run(&model).unwrap();
    let named: Vec<Value> = outputs.iter().map(|name| import.values[*name]).collect();
    let steps = import.steps;
    probe.graph = graph;
    compare(&probe, &steps, &named);
}

/// A node of one opset with inputs between two numbers, known integers and outputs.
struct Case {
    opset: i64,
    operator: &'static str,
    /// Name and shape; the name is empty for an input left out.
    inputs: Vec<(&'static str, Vec<usize>)>,
    /// Known inputs, which come after the others.
    known: Vec<(&'static str, Tensor)>,
    outputs: usize,
    attributes: Attributes,
}

impl Case {
    fn new(operator: &'static str, shape: &[usize], attributes: Attributes) -> Case {
        Case {
            opset: 20,
            operator,
            inputs: vec![("x", shape.to_vec())],
            known: Vec::new(),
            outputs: 1,
            attributes,
        }
    }

    fn input(mut self, name: &'static str, shape: &[usize]) -> Case {
        self.inputs.push((name, shape.to_vec()));
        self
    }

    fn known(mut self, name: &'static str, tensor: Tensor) -> Case {
        self.known.push((name, tensor));
        self
    }

    fn check(self) {
        const OUTPUTS: [&str; 3] = ["y", "last", "cell"];
        let mut probe = Probe::default();
        let mut values = BTreeMap::new();
        let mut names = Vec::new();
        for (name, shape) in &self.inputs {
            names.push(*name);
            if !name.is_empty() {
                values.insert((*name).to_owned(), probe.between(-0.9, 0.8, shape));
            }
        }
        names.extend(self.known.iter().map(|(name, _)| *name));
        let initializers = self
            .known
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect();
        let node = (self.operator, names, OUTPUTS[..self.outputs].to_vec());
        imported(
            probe,
            values,
            BTreeMap::new(),
            node,
            self.attributes,
            initializers,
            self.opset,
        );
    }
}

fn window(kernel: &[i64], strides: &[i64], pads: &[i64]) -> Attributes {
    Attributes::new()
        .ints("kernel_shape", kernel)
        .ints("strides", strides)
        .ints("pads", pads)
}

#[test]
fn activations_as_their_formulas() {
    for approximate in ["none", "tanh"] {
        let attributes = Attributes::new().string("approximate", approximate);
        Case::new("Gelu", &[7], attributes).check();
    }
    for operator in ["Mish", "Selu", "Softsign"] {
        Case::new(operator, &[2, 4], Attributes::new()).check();
    }
    Case::new("PRelu", &[2, 3, 4], Attributes::new())
        .input("slope", &[3, 1])
        .check();
}

#[test]
fn pooling_with_ceil_mode() {
    for operator in ["MaxPool", "AveragePool"] {
        let attributes = window(&[3, 2], &[2, 3], &[1, 0, 0, 1]).int("ceil_mode", 1);
        Case::new(operator, &[2, 2, 6, 6], attributes).check();
    }
    let counted = window(&[3], &[2], &[1, 1])
        .int("ceil_mode", 1)
        .int("count_include_pad", 1);
    Case::new("AveragePool", &[1, 2, 6], counted).check();
    let dilated = window(&[2], &[2], &[0, 0])
        .ints("dilations", &[2])
        .int("ceil_mode", 1);
    Case::new("MaxPool", &[1, 2, 6], dilated).check();
    Case::new("GlobalMaxPool", &[2, 2, 3, 2], Attributes::new()).check();
}

#[test]
fn padding_of_every_mode() {
    for mode in ["constant", "edge", "reflect", "wrap"] {
        for pads in [[0, 2, 1, 1], [-1, 1, 0, -2]] {
            let attributes = Attributes::new().string("mode", mode);
            Case::new("Pad", &[3, 4], attributes)
                .known("pads", Tensor::integers(&pads))
                .check();
        }
    }
}

#[test]
fn nearest_resizing_by_any_factor() {
    for (transformation, sizes) in [
        ("asymmetric", [1, 2, 4, 9]),
        ("half_pixel", [1, 2, 5, 4]),
        ("align_corners", [1, 2, 3, 5]),
        ("pytorch_half_pixel", [1, 2, 1, 2]),
    ] {
        let attributes = Attributes::new().string("coordinate_transformation_mode", transformation);
        let none = || Tensor::new(vec![0], Data::F32(Vec::new())).unwrap();
        Case::new("Resize", &[1, 2, 2, 3], attributes)
            .known("", none())
            .known("", none())
            .known("sizes", Tensor::integers(&sizes))
            .check();
    }
}

#[test]
fn kernels_whose_outer_taps_meet_only_pads() {
    let attributes = window(&[5, 3], &[1, 2], &[2, 1, 2, 1]).int("group", 2);
    Case::new("Conv", &[1, 2, 2, 1], attributes)
        .input("w", &[2, 1, 5, 3])
        .check();
    let dilated = window(&[3], &[3], &[4, 4]).ints("dilations", &[4]);
    Case::new("Conv", &[1, 1, 3], dilated)
        .input("w", &[1, 1, 3])
        .check();
}

#[test]
fn depthwise_convolutions_of_small_images() {
    let uneven = window(&[3, 2], &[2, 1], &[1, 0, 2, 1]).int("group", 3);
    Case::new("Conv", &[2, 3, 5, 4], uneven)
        .input("w", &[3, 1, 3, 2])
        .input("b", &[3])
        .check();
    let dilated = window(&[3], &[2], &[2, 1])
        .ints("dilations", &[2])
        .int("group", 2);
    Case::new("Conv", &[3, 2, 7], dilated)
        .input("w", &[2, 1, 3])
        .check();
    let same = Attributes::new()
        .string("auto_pad", "SAME_LOWER")
        .int("group", 2);
    Case::new("Conv", &[2, 2, 3, 4], same)
        .input("w", &[2, 1, 2, 2])
        .check();
}

#[test]
fn transposed_convolutions_of_a_given_size() {
    let sized = Attributes::new()
        .ints("strides", &[2, 2])
        .ints("output_shape", &[5, 6]);
    let same = Attributes::new()
        .ints("strides", &[2, 1])
        .string("auto_pad", "SAME_UPPER");
    for attributes in [sized, same] {
        Case::new("ConvTranspose", &[1, 2, 3, 3], attributes)
            .input("w", &[2, 3, 3, 3])
            .check();
    }
}

#[test]
fn normalizations_of_groups() {
    let shape = [2, 4, 3];
    Case::new("InstanceNormalization", &shape, Attributes::new())
        .input("scale", &[4])
        .input("bias", &[4])
        .check();
    for (opset, scaled) in [(18, 2), (21, 4)] {
        let attributes = Attributes::new().int("num_groups", 2);
        let mut case = Case::new("GroupNormalization", &shape, attributes)
            .input("scale", &[scaled])
            .input("bias", &[scaled]);
        case.opset = opset;
        case.check();
    }
}

const TIME: usize = 3;
const BATCH: usize = 2;
const INPUT: usize = 2;
const HIDDEN: usize = 2;

/// A recurrent layer with everything it can have: gates per unit and initial states as given.
fn recurrent(
    operator: &'static str,
    gates: usize,
    states: &[&'static str],
    attributes: Attributes,
) -> Case {
    let directions = match attributes.string_or("direction", "forward") {
        "bidirectional" => 2,
        _ => 1,
    };
    let batch_first = attributes.int_or("layout", 0) != 0;
    let (x, state) = if batch_first {
        ([BATCH, TIME, INPUT], [BATCH, directions, HIDDEN])
    } else {
        ([TIME, BATCH, INPUT], [directions, BATCH, HIDDEN])
    };
    let mut case = Case::new(operator, &x, attributes.int("hidden_size", HIDDEN as i64))
        .input("w", &[directions, gates * HIDDEN, INPUT])
        .input("r", &[directions, gates * HIDDEN, HIDDEN])
        .input("b", &[directions, 2 * gates * HIDDEN])
        .input("", &[]);
    for name in states {
        case = case.input(name, &state);
    }
    case.outputs = 1 + states.len();
    case
}

#[test]
fn lstm_unrolled_in_every_direction() {
    for direction in ["forward", "reverse", "bidirectional"] {
        let attributes = Attributes::new().string("direction", direction);
        recurrent("LSTM", 4, &["h", "c"], attributes).check();
    }
    let batch_first = Attributes::new()
        .int("layout", 1)
        .string("direction", "bidirectional");
    recurrent("LSTM", 4, &["h", "c"], batch_first).check();
    recurrent("LSTM", 4, &["h", "c"], Attributes::new())
        .input("p", &[1, 3 * HIDDEN])
        .check();
}

#[test]
fn lstm_with_named_default_activations_and_whole_lengths() {
    let names = ["Sigmoid", "Tanh", "Tanh"].map(str::to_owned).to_vec();
    let attributes = Attributes::new().with("activations", Attribute::Strings(names));
    let lengths = Tensor::new(vec![BATCH], Data::I32(vec![TIME as i32; BATCH])).unwrap();
    let mut case = recurrent("LSTM", 4, &[], attributes);
    case.inputs.pop();
    case.known("lengths", lengths).check();
}

#[test]
fn gru_unrolled_with_the_reset_before_and_after() {
    for reset_after in [0, 1] {
        for direction in ["forward", "reverse", "bidirectional"] {
            let attributes = Attributes::new()
                .int("linear_before_reset", reset_after)
                .string("direction", direction);
            recurrent("GRU", 3, &["h"], attributes).check();
        }
    }
}

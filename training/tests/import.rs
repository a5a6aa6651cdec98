//! Forward models as exporters write them, opsets 13 to 22. Method: a step with the mean squared error, whose
//! target is the output worked out by hand, has a loss of zero.

use fulcrum_training::evaluator::{Array, run_model};
use fulcrum_training::onnx::proto::{ModelProto, StringStringEntryProto};
use fulcrum_training::onnx::{
    Attribute, Attributes, Data, Dimension, Element, Model, Node, Tensor, ValueInfo,
};
use fulcrum_training::{BuildError, Loss, Optimizer, Options, TrainStep, build};
use prost::Message;
use std::collections::BTreeMap;

fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: Attributes) -> Node {
    Node {
        name: outputs[0].to_owned(),
        operator: operator.to_owned(),
        domain: String::new(),
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
        attributes,
    }
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), Data::F32(values.to_vec())).unwrap()
}

fn counted(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product::<usize>())
        .map(|i| i as f32 - 3.0)
        .collect()
}

/// A model of `nodes` behind `scaled = x · w`, with `w` = 1: something is always there to train.
fn model(opset: i64, shape: &[usize], constants: Vec<(&str, Tensor)>, nodes: Vec<Node>) -> Model {
    let mut all = vec![node("Mul", &["x", "w"], &["scaled"], Attributes::new())];
    all.extend(nodes);
    let mut initializers = vec![("w".to_owned(), floats(&[1], &[1.0]))];
    initializers.extend(
        constants
            .into_iter()
            .map(|(name, tensor)| (name.to_owned(), tensor)),
    );
    let info = |name: &str, shape| ValueInfo {
        name: name.to_owned(),
        element: Element::F32,
        shape,
    };
    let mut dimensions: Vec<Dimension> = shape.iter().map(|size| Dimension::Fixed(*size)).collect();
    dimensions[0] = Dimension::Symbol("N".to_owned());
    Model {
        name: "exported".to_owned(),
        opset,
        inputs: vec![info("x", Some(dimensions))],
        outputs: vec![info(&all.last().unwrap().outputs[0], None)],
        initializers,
        nodes: all,
    }
}

fn step(model: &Model, batch: usize) -> TrainStep {
    let options = Options::new(Loss::MeanSquaredError, Optimizer::Sgd, batch);
    build(model, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// The output of a model for `x` counted from −3 is `expected`.
fn gives(model: &Model, shape: &[usize], expected: &[f32]) {
    let made = step(model, shape[0]);
    let array = |shape: &[usize], values: &[f32]| {
        let values = values.iter().map(|value| f64::from(*value)).collect();
        Array::new(Element::F32, shape, values)
    };
    let y = made
        .step
        .inputs
        .iter()
        .find(|input| input.name == "y")
        .unwrap();
    let y: Vec<usize> = y
        .shape
        .iter()
        .flatten()
        .map(|dimension| match dimension {
            Dimension::Fixed(size) => *size,
            Dimension::Symbol(symbol) => panic!("a step has no symbol {symbol}"),
        })
        .collect();
    let inputs = BTreeMap::from([
        ("x", array(shape, &counted(shape))),
        ("y", array(&y, expected)),
        ("lr", array(&[], &[0.0])),
        (
            "theta",
            array(
                &[made.parameters.initial().len()],
                made.parameters.initial(),
            ),
        ),
        (
            "state",
            array(&[made.state.initial().len()], made.state.initial()),
        ),
    ]);
    let loss = run_model(&made.step, &inputs).unwrap()["loss"].data[0];
    assert!(loss < 1e-12, "the loss is {loss}");
}

#[test]
fn a_mean_takes_its_axes_from_an_attribute_up_to_opset_17_and_from_an_input_after() {
    let axes = Attributes::new().ints("axes", &[1]).int("keepdims", 0);
    let old = model(
        13,
        &[2, 3],
        vec![],
        vec![node("ReduceMean", &["scaled"], &["y"], axes)],
    );
    let keep = Attributes::new().int("keepdims", 0);
    let new = vec![node("ReduceMean", &["scaled", "axes"], &["y"], keep)];
    let new = model(18, &[2, 3], vec![("axes", Tensor::integers(&[1]))], new);
    for model in [old, new] {
        gives(&model, &[2, 3], &[-2.0, 1.0]);
    }
}

#[test]
fn a_split_without_lengths_is_into_equal_parts_the_last_one_smaller() {
    let attributes = Attributes::new().int("axis", 1).int("num_outputs", 2);
    let nodes = vec![
        node("Split", &["scaled"], &["first", "second"], attributes),
        node("Identity", &["second"], &["y"], Attributes::new()),
    ];
    gives(&model(18, &[1, 5], vec![], nodes), &[1, 5], &[0.0, 1.0]);
}

#[test]
fn a_pad_may_name_its_axes() {
    let constants = vec![
        ("pads", Tensor::integers(&[1, 0])),
        ("axes", Tensor::integers(&[-1])),
    ];
    let nodes = vec![node(
        "Pad",
        &["scaled", "pads", "", "axes"],
        &["y"],
        Attributes::new(),
    )];
    gives(
        &model(18, &[1, 2], constants, nodes),
        &[1, 2],
        &[0.0, -3.0, -2.0],
    );
}

#[test]
fn pads_repeat_reflect_wrap_and_cut() {
    for (mode, pads, expected) in [
        ("edge", [2, 1], vec![-3.0, -3.0, -3.0, -2.0, -1.0, -1.0]),
        ("reflect", [2, 1], vec![-1.0, -2.0, -3.0, -2.0, -1.0, -2.0]),
        ("wrap", [2, 1], vec![-2.0, -1.0, -3.0, -2.0, -1.0, -3.0]),
        ("constant", [-1, 1], vec![-2.0, -1.0, 7.0]),
        ("edge", [-1, 1], vec![-2.0, -1.0, -1.0]),
    ] {
        let pads = Tensor::integers(&[0, pads[0], 0, pads[1]]);
        let constants = vec![("pads", pads), ("fill", floats(&[], &[7.0]))];
        let attributes = Attributes::new().string("mode", mode);
        let nodes = vec![node("Pad", &["scaled", "pads", "fill"], &["y"], attributes)];
        gives(&model(19, &[1, 3], constants, nodes), &[1, 3], &expected);
    }
}

/// Values of PyTorch 2.15: a window beyond the pads counts what lies within them.
#[test]
fn a_mean_over_a_window_beyond_the_end_is_over_what_is_there() {
    let attributes = |count| {
        Attributes::new()
            .ints("kernel_shape", &[3])
            .ints("strides", &[2])
            .ints("pads", &[1, 1])
            .int("ceil_mode", 1)
            .int("count_include_pad", count)
    };
    for (count, expected) in [(0, [-2.5, -1.0, 0.5]), (1, [-5.0 / 3.0, -1.0, 1.0 / 3.0])] {
        let nodes = vec![node("AveragePool", &["scaled"], &["y"], attributes(count))];
        gives(&model(19, &[1, 1, 5], vec![], nodes), &[1, 1, 5], &expected);
    }
    for (count, expected) in [
        (0, [-2.5, -1.0, 1.0, 2.0]),
        (1, [-5.0 / 3.0, -1.0, 1.0, 1.0]),
    ] {
        let nodes = vec![node("AveragePool", &["scaled"], &["y"], attributes(count))];
        gives(&model(19, &[1, 1, 6], vec![], nodes), &[1, 1, 6], &expected);
    }
    // ONNX Runtime divides by the whole window up to opset 18, PyTorch never does.
    let nodes = vec![node("AveragePool", &["scaled"], &["y"], attributes(1))];
    let options = Options::new(Loss::MeanSquaredError, Optimizer::Sgd, 1);
    let error = build(&model(18, &[1, 1, 6], vec![], nodes), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("opset 19"), "{error}");
}

#[test]
fn resizing_follows_its_coordinates_and_its_rounding() {
    for (transformation, rounding, size, expected) in [
        (
            "asymmetric",
            "floor",
            6,
            vec![-3.0, -3.0, -2.0, -2.0, -1.0, -1.0],
        ),
        (
            "asymmetric",
            "round_prefer_ceil",
            6,
            vec![-3.0, -2.0, -2.0, -1.0, -1.0, -1.0],
        ),
        (
            "half_pixel",
            "floor",
            6,
            vec![-3.0, -3.0, -3.0, -2.0, -2.0, -1.0],
        ),
        ("half_pixel", "round_prefer_floor", 2, vec![-3.0, -1.0]),
        (
            "align_corners",
            "round_prefer_floor",
            5,
            vec![-3.0, -3.0, -2.0, -2.0, -1.0],
        ),
    ] {
        let constants = vec![
            ("sizes", Tensor::integers(&[size])),
            ("none", floats(&[0], &[])),
        ];
        let attributes = Attributes::new()
            .string("coordinate_transformation_mode", transformation)
            .string("nearest_mode", rounding)
            .ints("axes", &[-1]);
        let inputs = ["scaled", "none", "none", "sizes"];
        let nodes = vec![node("Resize", &inputs, &["y"], attributes)];
        gives(
            &model(18, &[1, 1, 3], constants, nodes),
            &[1, 1, 3],
            &expected,
        );
    }
}

#[test]
fn nearest_upsampling_by_scales_repeats_elements() {
    let constants = vec![("scales", floats(&[3], &[1.0, 1.0, 2.0]))];
    let nodes = vec![node(
        "Resize",
        &["scaled", "", "scales"],
        &["y"],
        Attributes::new(),
    )];
    let model = model(19, &[1, 1, 2], constants, nodes);
    gives(&model, &[1, 1, 2], &[-3.0, -3.0, -2.0, -2.0]);
}

#[test]
fn same_padding_is_worked_out() {
    let constants = vec![("kernel", floats(&[1, 1, 2], &[1.0, 10.0]))];
    let attributes = Attributes::new().string("auto_pad", "SAME_UPPER");
    let nodes = vec![node("Conv", &["scaled", "kernel"], &["y"], attributes)];
    gives(
        &model(13, &[1, 1, 3], constants, nodes),
        &[1, 1, 3],
        &[-23.0, -12.0, -1.0],
    );
}

#[test]
fn a_kernel_of_another_rank_is_refused_at_its_node() {
    for operator in ["Conv", "ConvTranspose"] {
        let constants = vec![("kernel", floats(&[2], &[1.0, 10.0]))];
        let nodes = vec![node(
            operator,
            &["scaled", "kernel"],
            &["y"],
            Attributes::new(),
        )];
        let options = Options::new(Loss::MeanSquaredError, Optimizer::Sgd, 1);
        let error = build(&model(17, &[1, 1, 4], constants, nodes), &options).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("'y'") && error.contains("[2]"), "{error}");
    }
}

#[test]
fn shapes_written_as_arithmetic_are_computed() {
    // x.view(x.size(0), -1), as PyTorch writes it.
    let value = |values: &[i64]| {
        Attributes::new().with("value", Attribute::Tensor(Tensor::integers(values)))
    };
    let scalar = Tensor::new(vec![], Data::I64(vec![0])).unwrap();
    let scalar = Attributes::new().with("value", Attribute::Tensor(scalar));
    let nodes = vec![
        node("Shape", &["scaled"], &["shape"], Attributes::new()),
        node("Constant", &[], &["zero"], scalar),
        node("Gather", &["shape", "zero"], &["size"], Attributes::new()),
        node("Constant", &[], &["first"], value(&[0])),
        node(
            "Unsqueeze",
            &["size", "first"],
            &["rows"],
            Attributes::new(),
        ),
        node("Constant", &[], &["rest"], value(&[-1])),
        node(
            "Concat",
            &["rows", "rest"],
            &["target"],
            Attributes::new().int("axis", 0),
        ),
        node("Reshape", &["scaled", "target"], &["y"], Attributes::new()),
    ];
    let model = model(13, &[2, 2, 2], vec![], nodes);
    gives(&model, &[2, 2, 2], &counted(&[8]));
    // Nothing of the arithmetic is left.
    let made = step(&model, 2).step;
    assert!(
        made.nodes
            .iter()
            .all(|node| !["Shape", "Gather"].contains(&node.operator.as_str()))
    );
}

#[test]
fn a_size_written_as_a_product_of_the_larger_of_two_shapes_is_computed() {
    let nodes = vec![
        node("Shape", &["scaled"], &["shape"], Attributes::new()),
        node("Max", &["shape", "shape"], &["larger"], Attributes::new()),
        node("ReduceProd", &["larger"], &["size"], Attributes::new()),
        node("Reshape", &["scaled", "size"], &["y"], Attributes::new()),
    ];
    gives(
        &model(15, &[2, 2, 2], vec![], nodes),
        &[2, 2, 2],
        &counted(&[8]),
    );
}

#[test]
fn a_cast_like_another_value_takes_its_type() {
    let constants = vec![("two", Tensor::integers(&[2]))];
    let nodes = vec![
        node(
            "CastLike",
            &["two", "scaled"],
            &["factor"],
            Attributes::new(),
        ),
        node("Mul", &["scaled", "factor"], &["y"], Attributes::new()),
    ];
    gives(
        &model(18, &[1, 2], constants, nodes),
        &[1, 2],
        &[-6.0, -4.0],
    );
}

#[test]
fn an_initializer_under_two_names_is_one_parameter() {
    let constants = vec![("weight", floats(&[2, 2], &[1.0, 2.0, 0.0, 1.0]))];
    let nodes = vec![
        node("Identity", &["weight"], &["tied"], Attributes::new()),
        node(
            "MatMul",
            &["scaled", "weight"],
            &["once"],
            Attributes::new(),
        ),
        node("MatMul", &["once", "tied"], &["y"], Attributes::new()),
    ];
    let model = model(17, &[1, 2], constants, nodes);
    gives(&model, &[1, 2], &[-3.0, -14.0]);
    let names: Vec<String> = step(&model, 1)
        .parameters
        .entries()
        .iter()
        .map(|entry| entry.name.clone())
        .collect();
    assert_eq!(names, ["w", "weight"]);
}

#[test]
fn a_dimension_without_a_size_is_refused_with_the_option_that_gives_it() {
    let mut model = model(17, &[1, 2], vec![], vec![]);
    let shape = model.inputs[0].shape.as_mut().unwrap();
    shape[1] = Dimension::Symbol("time".to_owned());
    let mut options = Options::new(Loss::MeanSquaredError, Optimizer::Sgd, 3);
    let error = build(&model, &options).unwrap_err();
    assert!(matches!(error, BuildError::Interface { .. }), "{error}");
    assert!(error.to_string().contains("--dimension time=N"), "{error}");
    options.dimensions.insert("time".to_owned(), 5);
    let made = build(&model, &options).unwrap();
    let shape = [Dimension::Fixed(3), Dimension::Fixed(5)];
    assert_eq!(made.step.inputs[0].shape.as_deref(), Some(shape.as_slice()));
}

#[test]
fn a_parameter_the_loss_does_not_follow_is_refused_by_name() {
    let constants = vec![("threshold", floats(&[2], &[0.0, 0.0]))];
    let nodes = vec![
        node(
            "Greater",
            &["scaled", "threshold"],
            &["above"],
            Attributes::new(),
        ),
        node(
            "Where",
            &["above", "scaled", "x"],
            &["y"],
            Attributes::new(),
        ),
    ];
    let model = model(17, &[1, 2], constants, nodes);
    let options = Options::new(Loss::MeanSquaredError, Optimizer::Sgd, 1);
    let error = build(&model, &options).unwrap_err();
    assert!(
        matches!(&error, BuildError::NoGradient { parameter } if parameter == "threshold"),
        "{error}"
    );
}

/// As scikit-learn's classifiers are exported: a label first, then probabilities, further nodes of a domain of
/// their own.
#[test]
fn scikit_learns_scaler_and_linear_models_are_standard_operators() {
    let of = |operator: &str, inputs: &[&str], outputs: &[&str], attributes| Node {
        domain: "ai.onnx.ml".to_owned(),
        ..node(operator, inputs, outputs, attributes)
    };
    let floats = |values: &[f32]| Attribute::Floats(values.to_vec());
    let scaler = Attributes::new()
        .with("offset", floats(&[1.0, 2.0]))
        .with("scale", floats(&[2.0, 0.5]));
    let regressor = Attributes::new()
        .with("coefficients", floats(&[1.0, 10.0]))
        .with("intercepts", floats(&[3.0]));
    let nodes = vec![
        of("Scaler", &["scaled"], &["even"], scaler.clone()),
        of("LinearRegressor", &["even"], &["value"], regressor),
    ];
    let read = |nodes| {
        let bytes = model(17, &[2, 2], vec![], nodes).encode(&[]);
        Model::decode(&bytes, None).unwrap()
    };
    let regression = read(nodes);
    // [-3, -2], [-1, 0] are scaled to [-8, -2], [-4, -1].
    gives(&regression, &[2, 2], &[-25.0, -11.0]);
    let trained = step(&regression, 2).parameters;
    let names: Vec<&str> = trained.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["w", "value.coefficients", "value.intercepts"]);

    // Nor has its batch a name.
    let mut nameless = regression.clone();
    nameless.inputs[0].shape.as_mut().unwrap()[0] = Dimension::Symbol(String::new());
    let served = step(&nameless, 2).inference.inputs[0].clone();
    let batch = Dimension::Symbol("batch".to_owned());
    assert_eq!(served.shape.unwrap(), [batch, Dimension::Fixed(2)]);

    let classifier = Attributes::new()
        .with("coefficients", floats(&[0.0; 4]))
        .with("intercepts", floats(&[0.0, 3_f32.ln()]))
        .string("post_transform", "SOFTMAX");
    let to_sum = Attributes::new().string("norm", "L1");
    let mut classifier = read(vec![
        of(
            "LinearClassifier",
            &["scaled"],
            &["class", "scores"],
            classifier,
        ),
        of("Normalizer", &["scores"], &["shares"], to_sum),
    ]);
    gives(&classifier, &[2, 2], &[0.25, 0.75, 0.25, 0.75]);
    // The class itself is nothing to train on.
    classifier.outputs[0].name = "class".to_owned();
    let options = Options::new(Loss::MeanSquaredError, Optimizer::Sgd, 2);
    let Err(BuildError::Node { problem, .. }) = build(&classifier, &options) else {
        panic!("a step for a class");
    };
    assert!(problem.to_string().contains("ai.onnx.ml"), "{problem}");
}

#[test]
fn only_what_leads_to_the_output_is_trained() {
    let constants = vec![("unused", floats(&[2], &[0.0, 0.0]))];
    let mut model = model(17, &[1, 2], constants, vec![]);
    model.nodes.push(node(
        "Add",
        &["scaled", "unused"],
        &["aside"],
        Attributes::new(),
    ));
    model.nodes.push(Node {
        domain: "ai.onnx.ml".to_owned(),
        ..node(
            "ArrayFeatureExtractor",
            &["aside", "x"],
            &["label"],
            Attributes::new(),
        )
    });
    let label = ValueInfo {
        name: "label".to_owned(),
        element: Element::I64,
        shape: None,
    };
    model.outputs.insert(0, label);
    let mut options = Options::new(Loss::MeanSquaredError, Optimizer::Sgd, 1);
    let names = |step: &TrainStep| -> Vec<String> {
        step.parameters
            .entries()
            .iter()
            .map(|entry| entry.name.clone())
            .collect()
    };
    assert_eq!(names(&build(&model, &options).unwrap()), ["w"]);
    options.output = Some("aside".to_owned());
    assert_eq!(names(&build(&model, &options).unwrap()), ["w", "unused"]);
    options.output = Some("label".to_owned());
    let error = build(&model, &options).unwrap_err().to_string();
    assert!(error.contains("ai.onnx.ml"), "{error}");
    options.output = Some("nothing".to_owned());
    let error = build(&model, &options).unwrap_err().to_string();
    assert!(error.contains("label, scaled"), "{error}");
}

#[test]
fn external_data_is_read_from_the_models_folder_and_from_nowhere_else() {
    let folder = std::env::temp_dir().join(format!("fulcrum-external-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let expected = model(17, &[1, 2], vec![("b", floats(&[2], &[0.5, -4.0]))], vec![]);
    let written = |location: &str, offset: u64| {
        let mut proto = ModelProto::decode(expected.encode(&[]).as_slice()).unwrap();
        let tensor = &mut proto.graph.as_mut().unwrap().initializer[1];
        tensor.raw_data = None;
        tensor.data_location = Some(1);
        let entries = [
            ("location", location.to_owned()),
            ("offset", offset.to_string()),
            ("length", "8".to_owned()),
        ];
        tensor.external_data = entries
            .map(|(key, value)| StringStringEntryProto {
                key: Some(key.to_owned()),
                value: Some(value),
            })
            .to_vec();
        proto.encode_to_vec()
    };
    let mut bytes = vec![0xff; 4];
    bytes.extend([0.5_f32, -4.0].iter().flat_map(|value| value.to_le_bytes()));
    std::fs::write(folder.join("weights.bin"), bytes).unwrap();

    let read = Model::decode(&written("weights.bin", 4), Some(&folder)).unwrap();
    assert_eq!(read, expected);
    let short = Model::decode(&written("weights.bin", 8), Some(&folder))
        .unwrap_err()
        .to_string();
    assert!(short.contains("'b'"), "{short}");
    let outside = Model::decode(&written("../weights.bin", 4), Some(&folder))
        .unwrap_err()
        .to_string();
    assert!(outside.contains("outside"), "{outside}");
    std::fs::remove_dir_all(&folder).unwrap();
}

//! Every gradient rule against central finite differences in float64.
//!
//! A case makes a small graph around one operator. Its outputs are weighted with fixed numbers and
//! summed; the gradient of that sum, computed by the nodes the rules add, is compared with
//! `(f(x + h) − f(x − h)) / 2h`, element by element. Inputs lie on a shuffled grid: no two are equal and
//! none is close to a kink, so that the differences exist.

mod imported;

use super::{backward, operators};
use crate::error::{BuildError, OperatorError};
use crate::evaluator::{self, Array};
use crate::graph::{Graph, Value, emit::Emitted};
use crate::import::Step;
use crate::onnx::{Attributes, Data, Element, Tensor};
use std::collections::{BTreeMap, BTreeSet};

const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 2e-6;

/// A graph, and values for its inputs.
#[derive(Default)]
struct Probe {
    graph: Graph,
    inputs: BTreeMap<Value, Array>,
    seed: u64,
}

impl Probe {
    /// A float input with different values between `low` and `high`, none within 0.01 of a multiple of
    /// a half.
    fn between(&mut self, low: f64, high: f64, shape: &[usize]) -> Value {
        let value = self
            .graph
            .input(&format!("input {}", self.inputs.len()), Element::F32, shape);
        let count: usize = shape.iter().product();
        let mut data: Vec<f64> = (0..count)
            .map(|position| low + (high - low) * (position as f64 + 0.5) / count as f64)
            .map(|v| {
                if ((v * 2.0).round() / 2.0 - v).abs() < 0.01 {
                    v + 0.02
                } else {
                    v
                }
            })
            .collect();
        // Fisher and Yates, with a linear congruential generator.
        for position in (1..count).rev() {
            self.seed = self
                .seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            data.swap(position, (self.seed >> 33) as usize % (position + 1));
        }
        self.inputs
            .insert(value, Array::new(Element::F32, shape, data));
        value
    }

    fn float(&mut self, shape: &[usize]) -> Value {
        self.between(-2.3, 2.1, shape)
    }

    fn fixed(&mut self, shape: &[usize], values: &[i64]) -> Value {
        self.graph
            .constant(Tensor::new(shape.to_vec(), Data::I64(values.to_vec())).unwrap())
    }
}

/// Compares all gradients of a probe's graph: `outputs` are what is weighted and summed.
fn compare(probe: &Probe, steps: &[Step], outputs: &[Value]) {
    let mut graph = probe.graph.clone();
    let mut steps = steps.to_vec();
    let first = graph.operations().len();
    let mut total = graph.scalar(0.0);
    for output in outputs {
        let kind = graph.kind(*output).clone();
        let weights = (0..kind.count())
            .map(|i| 0.3 + ((i * 7) % 5) as f32 * 0.25)
            .collect();
        let weights = graph.constant(Tensor::new(kind.shape.clone(), Data::F32(weights)).unwrap());
        let product = graph.times(*output, weights).unwrap();
        let axes: Vec<usize> = (0..kind.shape.len()).collect();
        let sum = graph.sum(product, &axes, false).unwrap();
        total = graph.plus(total, sum).unwrap();
    }
    steps.extend(steps_from(&graph, first));
    let targets: Vec<Value> = probe.inputs.keys().copied().collect();
    let seed = graph.scalar(1.0);
    let gradients = backward(&mut graph, &steps, total, seed, &targets).unwrap();
    for target in &targets {
        assert_eq!(
            graph.shape(gradients[target]),
            graph.shape(*target),
            "shape of a gradient"
        );
    }
    let results = evaluator::run(&graph, &probe.inputs).unwrap();
    let loss =
        |inputs: &BTreeMap<Value, Array>| evaluator::run(&graph, inputs).unwrap()[&total].data[0];
    for target in targets {
        let gradient = &results[&gradients[&target]];
        for position in 0..gradient.data.len() {
            let moved = |by: f64| {
                let mut inputs = probe.inputs.clone();
                inputs.get_mut(&target).unwrap().data[position] += by;
                loss(&inputs)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let found = gradient.data[position];
            assert!(
                (found - expected).abs() <= TOLERANCE * (1.0 + expected.abs()),
                "{:?}[{position}]: the rule gives {found}, finite differences {expected}",
                graph.name(target)
            );
        }
    }
}

fn steps_from(graph: &Graph, first: usize) -> Vec<Step> {
    graph.operations()[first..]
        .iter()
        .enumerate()
        .map(|(index, operation)| Step {
            node: operation.operator.clone(),
            operator: operation.operator.clone(),
            inputs: operation.inputs.clone(),
            outputs: operation.outputs.clone(),
            attributes: operation.attributes.clone(),
            operation: Some(first + index),
            saved: Vec::new(),
        })
        .collect()
}

fn check(make: impl FnOnce(&mut Probe) -> Emitted) {
    check_many(|probe| Ok(vec![make(probe)?]));
}

fn check_many(make: impl FnOnce(&mut Probe) -> Result<Vec<Value>, OperatorError>) {
    let mut probe = Probe::default();
    let outputs = make(&mut probe).unwrap();
    let steps = steps_from(&probe.graph, 0);
    compare(&probe, &steps, &outputs);
}

/// One case after another for operators of one input.
fn unary(operator: &str, attributes: &Attributes, low: f64, high: f64) {
    check(|p| {
        let x = p.between(low, high, &[3, 7]);
        p.graph.op(operator, &[x], attributes.clone())
    });
}

/// An operator of two inputs, broadcast in every way: same shape, scalar, missing axes, axes of size 1.
fn binary(operator: &str, low: f64, high: f64) {
    for (a, b) in [
        (vec![2, 3], vec![2, 3]),
        (vec![2, 3], vec![]),
        (vec![3], vec![2, 3]),
        (vec![2, 1, 3], vec![4, 1]),
    ] {
        check(|p| {
            let a = p.between(low, high, &a);
            let b = p.between(low + 0.013, high + 0.013, &b);
            p.graph.apply(operator, &[a, b])
        });
    }
}

fn window(kernel: &[i64], strides: &[i64], dilations: &[i64], pads: &[i64]) -> Attributes {
    Attributes::new()
        .ints("kernel_shape", kernel)
        .ints("strides", strides)
        .ints("dilations", dilations)
        .ints("pads", pads)
}

fn convolution(operator: &'static str, x: &[usize], w: &[usize], attributes: &Attributes) {
    check(|p| {
        let groups = attributes.int_or("group", 1) as usize;
        let channels = if operator == "Conv" {
            w[0]
        } else {
            w[1] * groups
        };
        let inputs = [p.float(x), p.float(w), p.float(&[channels])];
        p.graph.op(operator, &inputs, attributes.clone())
    });
}

/// Geometries that exercise strides, dilations, uneven pads, untouched elements and groups.
fn geometries() -> Vec<(Vec<usize>, Vec<usize>, Attributes)> {
    let plain = Attributes::new();
    vec![
        (
            vec![2, 3, 5, 4],
            vec![4, 3, 3, 2],
            window(&[3, 2], &[1, 1], &[1, 1], &[1, 0, 1, 1]),
        ),
        (
            vec![2, 2, 6, 7],
            vec![3, 2, 3, 3],
            window(&[3, 3], &[2, 2], &[1, 1], &[1, 1, 1, 1]),
        ),
        (
            vec![1, 2, 8, 7],
            vec![2, 2, 2, 2],
            window(&[2, 2], &[3, 2], &[2, 1], &[0, 1, 1, 0]),
        ),
        (
            vec![2, 4, 5, 5],
            vec![6, 2, 3, 3],
            window(&[3, 3], &[1, 2], &[1, 1], &[1, 1, 1, 1]).int("group", 2),
        ),
        (
            vec![2, 3, 6, 6],
            vec![3, 1, 3, 3],
            window(&[3, 3], &[2, 2], &[1, 1], &[1, 1, 1, 1]).int("group", 3),
        ),
        // Depthwise, dilated, two outputs per channel.
        (
            vec![2, 3, 7, 6],
            vec![6, 1, 3, 2],
            window(&[3, 2], &[2, 1], &[2, 3], &[2, 1, 1, 2]).int("group", 3),
        ),
        (
            vec![2, 2, 9],
            vec![3, 2, 3],
            window(&[3], &[2], &[2], &[2, 0]),
        ),
        (
            vec![2, 4, 7],
            vec![4, 1, 3],
            window(&[3], &[1], &[2], &[2, 2]).int("group", 4),
        ),
        (vec![2, 3, 4, 4], vec![5, 3, 1, 1], plain),
        // As many channels as it takes for one product of all taps, and a kernel larger than its input.
        (
            vec![1, 16, 2, 2],
            vec![6, 16, 2, 3],
            window(&[2, 3], &[1, 1], &[1, 1], &[1, 1, 0, 1]),
        ),
        // As many channels as it takes for one product per tap.
        (
            vec![1, 16, 4, 3],
            vec![2, 16, 2, 2],
            window(&[2, 2], &[2, 1], &[1, 2], &[1, 0, 0, 1]),
        ),
    ]
}

macro_rules! cases {
    ($($test:ident, $operator:literal => $body:expr;)+) => {
        $(#[test]
        fn $test() {
            $body
        })+
        const CASES: &[&str] = &[$($operator),+];
    };
}

cases! {
    abs, "Abs" => unary("Abs", &Attributes::new(), -2.0, 2.0);
    add, "Add" => binary("Add", -2.0, 2.0);
    sub, "Sub" => binary("Sub", -2.0, 2.0);
    mul, "Mul" => { binary("Mul", -2.0, 2.0); square(); };
    div, "Div" => binary("Div", 0.5, 2.0);
    max, "Max" => binary("Max", -2.0, 2.0);
    min, "Min" => binary("Min", -2.0, 2.0);
    pow, "Pow" => { binary("Pow", 0.5, 2.0); powers(); };
    neg, "Neg" => unary("Neg", &Attributes::new(), -2.0, 2.0);
    exp, "Exp" => unary("Exp", &Attributes::new(), -2.0, 2.0);
    log, "Log" => unary("Log", &Attributes::new(), 0.2, 3.0);
    sqrt, "Sqrt" => unary("Sqrt", &Attributes::new(), 0.2, 3.0);
    reciprocal, "Reciprocal" => unary("Reciprocal", &Attributes::new(), 0.2, 3.0);
    erf, "Erf" => unary("Erf", &Attributes::new(), -2.0, 2.0);
    cast, "Cast" => check(|p| {
        let x = p.float(&[5]);
        let double = p.graph.cast(x, Element::F64)?;
        p.graph.cast(double, Element::F32)
    });
    relu, "Relu" => unary("Relu", &Attributes::new(), -2.0, 2.0);
    leaky_relu, "LeakyRelu" => unary("LeakyRelu", &Attributes::new().float("alpha", 0.125), -2.0, 2.0);
    elu, "Elu" => unary("Elu", &Attributes::new().float("alpha", 0.75), -2.0, 2.0);
    sigmoid, "Sigmoid" => unary("Sigmoid", &Attributes::new(), -3.0, 3.0);
    tanh, "Tanh" => unary("Tanh", &Attributes::new(), -3.0, 3.0);
    hard_sigmoid, "HardSigmoid" => unary("HardSigmoid", &Attributes::new().float("alpha", 0.25), -4.3, 4.1);
    hard_swish, "HardSwish" => unary("HardSwish", &Attributes::new(), -5.0, 5.0);
    softplus, "Softplus" => unary("Softplus", &Attributes::new(), -3.0, 3.0);
    clip, "Clip" => clips();
    where_, "Where" => choices();
    matmul, "MatMul" => products();
    gemm, "Gemm" => gemms();
    conv, "Conv" => for (x, w, attributes) in geometries() { convolution("Conv", &x, &w, &attributes) };
    conv_transpose, "ConvTranspose" => transposed();
    max_pool, "MaxPool" => pools("MaxPool");
    average_pool, "AveragePool" => { pools("AveragePool"); counted_pads(); };
    global_average_pool, "GlobalAveragePool" => check(|p| {
        let x = p.float(&[2, 3, 2, 3]);
        p.graph.apply("GlobalAveragePool", &[x])
    });
    resize, "Resize" => resized();
    reduce_sum, "ReduceSum" => sums();
    reduce_mean, "ReduceMean" => means();
    softmax, "Softmax" => along("Softmax");
    log_softmax, "LogSoftmax" => along("LogSoftmax");
    batch_normalization, "BatchNormalization" => {
        fixed_statistics();
        imported::trained_statistics(&[3, 2, 2, 2]);
        imported::trained_statistics(&[4, 3]);
    };
    layer_normalization, "LayerNormalization" => layers();
    reshape, "Reshape" => check(|p| { let x = p.float(&[2, 6]); p.graph.reshape(x, &[3, 4]) });
    flatten, "Flatten" => check(|p| { let x = p.float(&[2, 3, 2]); p.graph.apply("Flatten", &[x]) });
    transpose, "Transpose" => { check(|p| { let x = p.float(&[2, 3, 4]); p.graph.permute(x, &[2, 0, 1]) });
        check(|p| { let x = p.float(&[2, 3, 4]); p.graph.apply("Transpose", &[x]) }); };
    squeeze, "Squeeze" => check(|p| { let x = p.float(&[2, 1, 3, 1]); p.graph.apply("Squeeze", &[x]) });
    unsqueeze, "Unsqueeze" => check(|p| {
        let x = p.float(&[2, 3]);
        let axes = p.graph.integers(&[0, -1]);
        p.graph.apply("Unsqueeze", &[x, axes])
    });
    concat, "Concat" => check(|p| {
        let parts = [p.float(&[2, 1, 3]), p.float(&[2, 4, 3]), p.float(&[2, 2, 3])];
        p.graph.op("Concat", &parts, Attributes::new().int("axis", -2))
    });
    split, "Split" => { splits(1); splits(-1); };
    slice, "Slice" => slices();
    pad, "Pad" => { check(|p| { let x = p.float(&[2, 3]); p.graph.pad(x, &[1, 0], &[0, 2]) });
        check(|p| {
            let (x, amounts) = (p.float(&[2, 3]), p.graph.integers(&[0, 2, 1, 0]));
            let fill = p.graph.scalar(1.5);
            p.graph.apply("Pad", &[x, amounts, fill])
        });
    };
    expand, "Expand" => check(|p| { let x = p.float(&[3, 1]); p.graph.expand(x, &[2, 3, 4]) });
    gather, "Gather" => gathers();
}

#[test]
fn every_rule_has_a_case() {
    let cases: BTreeSet<&str> = CASES.iter().copied().collect();
    assert_eq!(operators().collect::<BTreeSet<_>>(), cases);
}

fn square() {
    check(|p| {
        let x = p.float(&[5]);
        p.graph.times(x, x)
    });
}

fn powers() {
    for exponent in [2.0, 3.0, 0.5, -1.0] {
        check(|p| {
            let x = p.between(0.3, 2.0, &[5]);
            let exponent = p.graph.scalar(exponent);
            p.graph.apply("Pow", &[x, exponent])
        });
    }
}

fn clips() {
    for bounds in [
        [Some(-1.0), Some(0.5)],
        [None, Some(0.5)],
        [Some(-1.0), None],
        [None, None],
    ] {
        check(|p| {
            let x = p.float(&[11]);
            let [low, high] = bounds.map(|bound| bound.map(|bound| p.graph.scalar(bound)));
            p.graph
                .op_optional("Clip", &[Some(x), low, high], Attributes::new())
        });
    }
}

fn choices() {
    check(|p| {
        let condition = Tensor::new(vec![2, 1], Data::Bool(vec![true, false])).unwrap();
        let condition = p.graph.constant(condition);
        let (a, b) = (p.float(&[3]), p.float(&[2, 3]));
        p.graph.apply("Where", &[condition, a, b])
    });
}

fn products() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[2, 3], &[3, 4]),
        (&[2, 5, 3], &[3, 4]),
        (&[2, 5, 3], &[2, 3, 4]),
        (&[2, 1, 5, 3], &[4, 3, 2]),
        (&[3], &[3, 4]),
        (&[2, 3], &[3]),
        (&[3], &[2, 3, 4]),
        (&[3], &[3]),
    ];
    for (a, b) in shapes {
        check(|p| {
            let (a, b) = (p.float(a), p.float(b));
            p.graph.apply("MatMul", &[a, b])
        });
    }
}

fn gemms() {
    for (turn_a, turn_b, bias) in [
        (0, 0, vec![4]),
        (0, 1, vec![]),
        (1, 0, vec![2, 1]),
        (1, 1, vec![2, 4]),
    ] {
        check(|p| {
            let a = p.float(if turn_a == 0 { &[2, 3] } else { &[3, 2] });
            let b = p.float(if turn_b == 0 { &[3, 4] } else { &[4, 3] });
            let c = p.float(&bias);
            let attributes = Attributes::new()
                .int("transA", turn_a)
                .int("transB", turn_b)
                .float("alpha", 0.5)
                .float("beta", 1.5);
            p.graph.op("Gemm", &[a, b, c], attributes)
        });
    }
}

fn transposed() {
    let cases = [
        (
            vec![2, 3, 3, 4],
            vec![3, 2, 3, 2],
            window(&[3, 2], &[1, 1], &[1, 1], &[1, 0, 1, 1]),
        ),
        (
            vec![1, 2, 3, 3],
            vec![2, 2, 3, 3],
            window(&[3, 3], &[2, 2], &[1, 1], &[1, 1, 1, 1]).ints("output_padding", &[1, 1]),
        ),
        (
            vec![2, 4, 3, 3],
            vec![4, 1, 2, 2],
            window(&[2, 2], &[2, 1], &[1, 2], &[0; 4]).int("group", 2),
        ),
        (
            vec![2, 2, 5],
            vec![2, 3, 3],
            window(&[3], &[2], &[1], &[1, 0]),
        ),
        // Grouped, strided, dilated, with room for windows that the input does not have.
        (
            vec![1, 4, 3, 2],
            vec![4, 3, 2, 3],
            window(&[2, 3], &[2, 3], &[2, 1], &[1, 0, 0, 1])
                .int("group", 2)
                .ints("output_padding", &[1, 2]),
        ),
        (
            vec![2, 3, 4],
            vec![3, 1, 3],
            window(&[3], &[2], &[1], &[1, 1])
                .int("group", 3)
                .ints("output_padding", &[1]),
        ),
    ];
    for (x, w, attributes) in cases {
        convolution("ConvTranspose", &x, &w, &attributes);
    }
}

fn pools(operator: &str) {
    let geometries = [
        (vec![2, 2, 4, 6], window(&[2, 2], &[2, 2], &[1, 1], &[0; 4])),
        (vec![1, 2, 7, 6], window(&[3, 3], &[2, 2], &[1, 1], &[1; 4])),
        (
            vec![1, 1, 5, 5],
            window(&[2, 3], &[1, 2], &[1, 1], &[0, 1, 1, 0]),
        ),
        (vec![2, 1, 7], window(&[3], &[3], &[1], &[0, 0])),
    ];
    for (x, attributes) in geometries {
        check(|p| {
            let x = p.float(&x);
            let attributes = attributes.clone().without("dilations");
            p.graph.op(operator, &[x], attributes)
        });
    }
}

fn counted_pads() {
    check(|p| {
        let x = p.float(&[1, 2, 5, 5]);
        let attributes = Attributes::new()
            .ints("kernel_shape", &[3, 3])
            .ints("strides", &[2, 2])
            .ints("pads", &[1; 4])
            .int("count_include_pad", 1);
        p.graph.op("AveragePool", &[x], attributes)
    });
}

fn resized() {
    check(|p| {
        let x = p.float(&[1, 2, 2, 3]);
        let sizes = p.graph.integers(&[1, 2, 4, 9]);
        let attributes = Attributes::new()
            .string("mode", "nearest")
            .string("coordinate_transformation_mode", "asymmetric")
            .string("nearest_mode", "floor");
        p.graph
            .op_optional("Resize", &[Some(x), None, None, Some(sizes)], attributes)
    });
}

fn sums() {
    for (axes, keep) in [(vec![1], true), (vec![0, -1], false)] {
        check(|p| {
            let x = p.float(&[2, 3, 4]);
            let axes = p.graph.integers(&axes);
            p.graph.op(
                "ReduceSum",
                &[x, axes],
                Attributes::new().int("keepdims", i64::from(keep)),
            )
        });
    }
    check(|p| {
        let x = p.float(&[2, 3]);
        p.graph.apply("ReduceSum", &[x])
    });
}

fn means() {
    for attributes in [
        Attributes::new().ints("axes", &[-1]),
        Attributes::new().ints("axes", &[0, 2]).int("keepdims", 0),
        Attributes::new(),
    ] {
        check(|p| {
            let x = p.float(&[2, 3, 4]);
            p.graph.op("ReduceMean", &[x], attributes.clone())
        });
    }
}

fn along(operator: &str) {
    for axis in [1, -1] {
        check(|p| {
            let x = p.float(&[2, 3, 4]);
            p.graph
                .op(operator, &[x], Attributes::new().int("axis", axis))
        });
    }
}

fn fixed_statistics() {
    check(|p| {
        let x = p.float(&[2, 3, 4]);
        let constant = |p: &mut Probe, values: [f32; 3]| {
            p.graph
                .constant(Tensor::new(vec![3], Data::F32(values.to_vec())).unwrap())
        };
        let inputs = [
            x,
            constant(p, [1.0, -0.5, 2.0]),
            constant(p, [0.0, 0.5, 1.0]),
            constant(p, [0.25, -1.0, 0.0]),
            constant(p, [1.0, 2.0, 0.5]),
        ];
        p.graph.op("BatchNormalization", &inputs, Attributes::new())
    });
}

fn layers() {
    for (axis, bias) in [(-1, true), (1, false)] {
        check(|p| {
            let shape = [2, 3, 4];
            let normalized = if axis == -1 { &shape[2..] } else { &shape[1..] };
            let mut inputs = vec![p.float(&shape), p.between(0.5, 1.5, normalized)];
            if bias {
                inputs.push(p.float(normalized));
            }
            p.graph.op(
                "LayerNormalization",
                &inputs,
                Attributes::new().int("axis", axis),
            )
        });
    }
}

fn splits(axis: i64) {
    check_many(|p| {
        let x = p.float(&[2, 6]);
        let sizes = p.graph.integers(&[1, 3, 2]);
        let along = Attributes::new().int("axis", axis);
        let parts = p.graph.add("Split", &[Some(x), Some(sizes)], along, 3)?;
        Ok(vec![parts[2], parts[0]])
    });
}

fn slices() {
    let cases: [[&[i64]; 4]; 5] = [
        [&[1], &[3], &[0], &[1]],
        [&[0, -3], &[i64::MAX, -1], &[0, 1], &[1, 1]],
        [&[1], &[7], &[1], &[2]],
        [&[-1], &[i64::MIN], &[1], &[-1]],
        [&[5, 3], &[0, 0], &[1, 0], &[-2, -1]],
    ];
    for parts in cases {
        check(|p| {
            let x = p.float(&[4, 7]);
            let parts = parts.map(|values| p.graph.integers(values));
            p.graph
                .apply("Slice", &[x, parts[0], parts[1], parts[2], parts[3]])
        });
    }
}

fn gathers() {
    for (axis, indices, shape) in [
        (0, vec![2, 0, 2, -1], vec![2, 2]),
        (1, vec![1], vec![]),
        (-1, vec![0, 0, 3], vec![3]),
    ] {
        check(|p| {
            let x = p.float(&[3, 2, 4]);
            let indices = p.fixed(&shape, &indices);
            p.graph
                .op("Gather", &[x, indices], Attributes::new().int("axis", axis))
        });
    }
}

#[test]
fn a_value_used_twice_receives_both_gradients() {
    check(|p| {
        let x = p.float(&[4]);
        let (a, b) = (p.graph.apply("Tanh", &[x])?, p.graph.apply("Exp", &[x])?);
        p.graph.times(a, b)
    });
}

#[test]
fn an_operator_without_a_rule_is_refused_with_node_operator_and_parameters() {
    let mut probe = Probe::default();
    let x = probe.float(&[4]);
    let y = probe.graph.apply("Floor", &[x]).unwrap();
    let steps = steps_from(&probe.graph, 0);
    let seed = probe.graph.scalar(1.0);
    let error = backward(&mut probe.graph, &steps, y, seed, &[x]).unwrap_err();
    assert!(
        matches!(error, BuildError::NoGradientRule { .. }),
        "{error}"
    );
    let text = error.to_string();
    for part in ["Floor", "input 0", "--freeze"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_no_target_lies_below_needs_no_rule() {
    let mut probe = Probe::default();
    let (x, w) = (probe.float(&[4]), probe.float(&[4]));
    let rounded = probe.graph.apply("Floor", &[x]).unwrap();
    let y = probe.graph.times(rounded, w).unwrap();
    let steps = steps_from(&probe.graph, 0);
    let seed = probe.graph.scalar(1.0);
    let before = probe.graph.operations().len();
    let gradients = backward(&mut probe.graph, &steps, y, seed, &[w]).unwrap();
    assert_eq!(gradients.len(), 1);
    // One product and its sum; nothing for x.
    assert!(probe.graph.operations().len() <= before + 2);
}

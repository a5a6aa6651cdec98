//! Depthwise convolutions of small images as matrix products.

use super::canonical::Form;
use super::{Arrival, Import, Placed};
use crate::error::OperatorError;
use crate::graph::window::Window;
use crate::graph::{Graph, Value};
use crate::onnx::{Data, Element, Tensor};

/// Largest positions of the input times positions of the output, times one plus taps per sample, that is written as
/// products. Per map of a batch of 16, forward and gradients, ONNX Runtime 1.23.2 on x86-64 takes 49, 20 and 34 µs for
/// the convolutions of 5x5 on 4x4, of 5x5 with stride 2 on 8x8 and of 3x3 on 8x8 (656, 2,624 and 6,400 here), and
/// 2.8, 6 and 12 for their products; 41 and 62 µs for 3x3 with stride 2 on 16x16 (25,600).
const AREA_MAX: usize = 8192;

impl Import<'_> {
    /// A convolution stays one, except a trained depthwise one of small images.
    ///
    /// ONNX Runtime takes its channels one by one, and so it does in both gradients: the smaller the image, the more of
    /// the time goes by between the multiplications. Here `y[c] = x[c]·T[c]`, one product for the
    /// whole batch, with `T[c]` `[positions of x, positions of y]` holding a tap of the channel's kernel where that meets
    /// the position, and 0 elsewhere. `T` itself is the kernels times a known matrix of zeros and ones, so that the
    /// gradients are products too.
    pub(super) fn convolution(&mut self, arrival: &Arrival<'_>, form: Form) -> Placed {
        let kernel_is_trained = self.graph.constant_of(arrival.input(1)?).is_none();
        if let ([Some(x), Some(w), ..], true) = (form.inputs.as_slice(), kernel_is_trained) {
            let (shape_x, shape_w) = (self.graph.shape(*x).to_vec(), self.graph.shape(*w).to_vec());
            let groups = form.attributes.int_or("group", 1) as usize;
            let depthwise = groups > 1 && shape_x[1] == groups && shape_w[..2] == [groups, 1];
            let window = Window::of("Conv", &form.attributes, None, &shape_x[2..])?;
            if let (true, Some(output)) = (depthwise, window.output(&shape_x[2..])) {
                let positions =
                    [&shape_x[2..], &output].map(|sizes| sizes.iter().product::<usize>());
                let taps: usize = window.kernel.iter().product();
                if positions[0] * positions[1] * (taps + shape_x[0]) <= AREA_MAX * shape_x[0] {
                    let bias = form.inputs.get(2).copied().flatten();
                    let y = products(self.graph, [*x, *w], bias, &window, &output)?;
                    return Ok(vec![y]);
                }
            }
        }
        self.add("Conv", form)
    }
}

fn products(
    graph: &mut Graph,
    [x, w]: [Value; 2],
    bias: Option<Value>,
    window: &Window,
    output: &[usize],
) -> Result<Value, OperatorError> {
    let shape = graph.shape(x).to_vec();
    let (batch, channels, input) = (shape[0], shape[1], &shape[2..]);
    let [from, to] = [input, output].map(|sizes| sizes.iter().product::<usize>());
    let taps: usize = window.kernel.iter().product();

    let places = places(graph, window, input, output)?;
    let kernels = graph.reshape(w, &[channels, taps])?;
    let banded = graph.apply("MatMul", &[kernels, places])?;
    let banded = graph.reshape(banded, &[channels, from, to])?;
    let rows = graph.reshape(x, &[batch, channels, from])?;
    let rows = graph.permute(rows, &[1, 0, 2])?;
    let mut y = graph.apply("MatMul", &[rows, banded])?;
    if let Some(bias) = bias {
        let bias = graph.reshape(bias, &[channels, 1, 1])?;
        y = graph.plus(y, bias)?;
    }
    let y = graph.permute(y, &[1, 0, 2])?;
    graph.reshape(y, &[&[batch, channels], output].concat())
}

/// `[taps, positions of x · positions of y]`: 1 where a tap of the window at a position of y meets a position of x.
///
/// Two nodes that compare numbers of taps: ONNX Runtime computes them once, when it loads the step.
fn places(
    graph: &mut Graph,
    window: &Window,
    input: &[usize],
    output: &[usize],
) -> Result<Value, OperatorError> {
    let positions = [input, output].concat();
    let mut met = Vec::new();
    for index in 0..positions.iter().product::<usize>() {
        let mut rest = index;
        let mut at = vec![0; positions.len()];
        for (axis, size) in positions.iter().enumerate().rev() {
            at[axis] = rest % size;
            rest /= size;
        }
        let (from, to) = at.split_at(input.len());
        let tap = (0..input.len()).try_fold(0, |tap, axis| {
            let position = from[axis] + window.pads_begin[axis];
            let distance = position.checked_sub(to[axis] * window.strides[axis])?;
            let along = distance / window.dilations[axis];
            let meets = distance % window.dilations[axis] == 0 && along < window.kernel[axis];
            meets.then_some(tap * window.kernel[axis] + along)
        });
        met.push(tap.map_or(-1, |tap| tap as i64));
    }
    let taps: usize = window.kernel.iter().product();
    let numbers = Tensor::new(vec![taps, 1], Data::I64((0..taps as i64).collect()))
        .ok_or_else(|| OperatorError::new("Conv", "one number per tap"))?;
    let numbers = graph.constant(numbers);
    let met = graph.integers(&met);
    let meets = graph.apply("Equal", &[numbers, met])?;
    graph.cast(meets, Element::F32)
}

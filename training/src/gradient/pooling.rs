//! Pooling and nearest-neighbour resizing.

use super::Context;
use super::convolution::spread;
use crate::error::OperatorError;
use crate::graph::TensorType;
use crate::graph::window::Window;
use crate::onnx::{Attributes, Data, Element, Tensor};

type Done = Result<(), OperatorError>;

/// y = the largest element of every window: dx receives dy at that element, the first of equal ones
/// (as in PyTorch), added up where windows overlap.
///
/// The forward node is asked for its second output, the position of every largest element.
pub(super) fn max_pool(c: &mut Context<'_>) -> Done {
    let (x, dy) = (c.x(0)?, c.dy()?);
    let (shape_x, shape_y) = (c.shape(x), c.shape(dy));
    let window = Window::of("MaxPool", &c.step.attributes, None, &shape_x[2..])?;
    let positions = c.extra_output(1, TensorType::new(Element::I64, &shape_y))?;
    let count: usize = shape_y.iter().product();
    let positions = c.graph.reshape(positions, &[count])?;
    let updates = c.graph.reshape(dy, &[count])?;
    let zeros = c.graph.zeros(&[shape_x.iter().product()])?;
    let overlap = (0..window.kernel.len()).any(|axis| window.extent(axis) > window.strides[axis]);
    let mut attributes = Attributes::new().int("axis", 0);
    if overlap {
        attributes = attributes.string("reduction", "add");
    }
    let scattered = c
        .graph
        .op("ScatterElements", &[zeros, positions, updates], attributes)?;
    let gradient = c.graph.reshape(scattered, &shape_x)?;
    c.give(0, gradient)
}

/// y = the mean of every window: dx = dy / (elements of the window), spread over the window: a transposed
/// convolution with ones, every channel by itself.
pub(super) fn average_pool(c: &mut Context<'_>) -> Done {
    let (x, dy) = (c.x(0)?, c.dy()?);
    let (shape_x, shape_y) = (c.shape(x), c.shape(dy));
    let window = Window::of("AveragePool", &c.step.attributes, None, &shape_x[2..])?;
    let area: usize = window.kernel.iter().product();
    let padded = window
        .pads_begin
        .iter()
        .chain(&window.pads_end)
        .any(|pad| *pad > 0);
    let scaled = if padded && c.step.attributes.int_or("count_include_pad", 0) == 0 {
        let shares = Tensor::new(
            [vec![1, 1], shape_y[2..].to_vec()].concat(),
            Data::F32(shares(&window, &shape_x[2..], &shape_y[2..])),
        )
        .ok_or_else(|| c.error("one share per window"))?;
        let shares = c.graph.constant(shares);
        c.graph.times(dy, shares)?
    } else {
        c.graph.scale(dy, 1.0 / area as f32)?
    };
    let maps = shape_y[0] * shape_y[1];
    let scaled = c
        .graph
        .reshape(scaled, &[&[maps, 1], &shape_y[2..]].concat())?;
    let ones = Tensor::new(
        [vec![1, 1], window.kernel.clone()].concat(),
        Data::F32(vec![1.0; area]),
    )
    .ok_or_else(|| c.error("a kernel of ones"))?;
    let ones = c.graph.constant(ones);
    let spread = spread(c.graph, scaled, ones, &shape_x[2..], &window, 1)?;
    let gradient = c.graph.reshape(spread, &shape_x)?;
    c.give(0, gradient)
}

/// 1 / (elements of the input in a window), for every window.
fn shares(window: &Window, input: &[usize], output: &[usize]) -> Vec<f32> {
    let along = |axis: usize, at: usize| {
        let first = at * window.strides[axis];
        (0..window.kernel[axis])
            .filter(|tap| {
                let position = first + tap;
                position >= window.pads_begin[axis]
                    && position < window.pads_begin[axis] + input[axis]
            })
            .count()
    };
    let mut counts = vec![1];
    for (axis, size) in output.iter().enumerate() {
        counts = counts
            .iter()
            .flat_map(|count| (0..*size).map(move |at| (*count, at)))
            .map(|(count, at)| count * along(axis, at))
            .collect();
    }
    counts.iter().map(|count| 1.0 / *count as f32).collect()
}

/// y = the mean over space: dx = dy / area, everywhere: a product with as many equal shares, in one pass
pub(super) fn global_average_pool(c: &mut Context<'_>) -> Done {
    let (x, dy) = (c.x(0)?, c.dy()?);
    let shape = c.shape(x);
    let area: usize = shape[2..].iter().product();
    let shares = c
        .graph
        .filled(1.0 / area as f32, &[&[1, 1], &shape[2..]].concat())?;
    let gradient = c.graph.times(dy, shares)?;
    c.give(0, gradient)
}

/// y = x with every element repeated (the import leaves no other resize): dx = Σ dy over the repetitions
pub(super) fn resize(c: &mut Context<'_>) -> Done {
    let (x, dy) = (c.x(0)?, c.dy()?);
    let (shape_x, shape_y) = (c.shape(x), c.shape(dy));
    let (mut blocks, mut axes) = (Vec::new(), Vec::new());
    for (size, resized) in shape_x.iter().zip(&shape_y) {
        blocks.push(*size);
        if resized != size {
            axes.push(blocks.len());
            blocks.push(resized / size);
        }
    }
    let blocks = c.graph.reshape(dy, &blocks)?;
    let gradient = c.graph.sum(blocks, &axes, false)?;
    c.give(0, gradient)
}

"""Runs a training step in float64: its graph, node by node, with PyTorch's tensors.

Used by `compare_step.py --float64`. ONNX Runtime has no convolution in float64 and the crate's own evaluator is
written to be plain, not fast; this one is independent of both, and fast enough for a ResNet.

A constant of the graph is a 32-bit float that was rounded from 0.9, 1e-8 or 1/6: it stands for what it was rounded
from, so that nothing of the comparison is of 32 bits but the initial parameters.
"""

from fractions import Fraction

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional as f


def load(path):
    """A function that runs the graph of a file: dictionary of tensors in, dictionary of tensors out."""
    model = onnx.load(str(path))
    graph = model.graph
    known = {tensor.name: tensor_of(meant(numpy_helper.to_array(tensor))) for tensor in graph.initializer}
    nodes = [(node, attributes_of(node)) for node in graph.node]
    outputs = [output.name for output in graph.output]
    # Values are dropped after their last use.
    last = {name: index for index, (node, _) in enumerate(nodes) for name in node.input}

    def run(feed):
        values = dict(known) | {name: tensor_of(value) for name, value in feed.items()}
        for index, (node, attributes) in enumerate(nodes):
            arguments = [values[name] if name else None for name in node.input]
            results = OPERATORS[node.op_type](attributes, *arguments)
            results = results if isinstance(results, (tuple, list)) else [results]
            values.update(zip(node.output, results))
            for name in node.input:
                if last[name] == index and name not in known and name not in outputs:
                    values.pop(name, None)
        return {name: values[name] for name in outputs}

    return run


def tensor_of(value):
    value = value if torch.is_tensor(value) else torch.from_numpy(np.array(value))
    return value.double() if value.is_floating_point() else value


def attributes_of(node):
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: meant(value).item() if isinstance(value, float) else value for name, value in attributes.items()}


def meant(constant):
    """The numbers that 32-bit floats were rounded from: themselves if 12 bits of fraction are enough, fractions of a
    denominator up to 100, or the shortest decimals."""
    constant = np.array(constant)
    if not np.issubdtype(constant.dtype, np.floating):
        return constant

    def single(value):
        value = np.float32(value)
        if not np.isfinite(value) or np.frexp(value)[0] * 4096 % 1 == 0:
            return float(value)
        fraction = float(Fraction(float(value)).limit_denominator(100))
        return fraction if np.float32(fraction) == value else float(str(value))

    values, places = np.unique(constant, return_inverse=True)
    return np.array([single(value) for value in values])[places].reshape(constant.shape)


def spatial(a, count):
    """Strides, dilations, pads of a convolution or pooling; the pads as `f.pad` takes them."""
    pads = a.get("pads", [0] * (2 * count))
    around = [pad for axis in reversed(range(count)) for pad in (pads[axis], pads[count + axis])]
    return a.get("strides", [1] * count), a.get("dilations", [1] * count), around


def conv(a, x, w, b=None):
    strides, dilations, pads = spatial(a, x.dim() - 2)
    function = [f.conv1d, f.conv2d, f.conv3d][x.dim() - 3]
    return function(f.pad(x, pads), w, b, strides, 0, dilations, a.get("group", 1))


def conv_transpose(a, x, w, b=None):
    count = x.dim() - 2
    strides, dilations, pads = spatial(a, count)
    function = [f.conv_transpose1d, f.conv_transpose2d, f.conv_transpose3d][count - 1]
    # An output_padding may be as large as the stride: it is added as zeros, and the pads are cut off.
    y = function(x, w, None, strides, 0, 0, a.get("group", 1), dilations)
    extra = a.get("output_padding", [0] * count)
    y = f.pad(y, [pad for axis in reversed(range(count)) for pad in (0, extra[axis])])
    y = f.pad(y, [-pad for pad in pads])
    return y if b is None else y + b.reshape([1, -1] + [1] * count)


def max_pool(a, x):
    count = x.dim() - 2
    strides, dilations, pads = spatial(a, count)
    function = [f.max_pool1d, f.max_pool2d, f.max_pool3d][count - 1]
    positions = torch.arange(x.numel()).reshape(x.shape).double()
    x, positions = f.pad(x, pads, value=-torch.inf), f.pad(positions, pads)
    y, at = function(x, a["kernel_shape"], strides, 0, dilations, return_indices=True)
    rows = positions.flatten(2).gather(2, at.flatten(2)).reshape(at.shape)
    return y, rows.long()


def average_pool(a, x):
    strides, _, pads = spatial(a, x.dim() - 2)
    ones = torch.ones_like(x[:1, :1])
    inside = f.pad(ones, pads, value=float(a.get("count_include_pad", 0)))
    w = torch.ones([1, 1, *a["kernel_shape"]], dtype=x.dtype)
    function = [f.conv1d, f.conv2d, f.conv3d][x.dim() - 3]
    x = f.pad(x, pads)
    rows = x.reshape(-1, 1, *x.shape[2:])
    return (function(rows, w, None, strides) / function(inside, w, None, strides)).reshape(
        *x.shape[:2], *function(inside, w, None, strides).shape[2:]
    )


def batch_normalization(a, x, scale, bias, mean, variance):
    shape = [1, -1] + [1] * (x.dim() - 2)
    scale, bias, mean, variance = (v.reshape(shape) for v in (scale, bias, mean, variance))
    return scale * (x - mean) / torch.sqrt(variance + a.get("epsilon", 1e-5)) + bias


def layer_normalization(a, x, scale, bias=None):
    axes = list(range(a.get("axis", -1) % x.dim(), x.dim()))
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt(((x - mean) ** 2).mean(axes, keepdim=True) + a.get("epsilon", 1e-5))
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


def gemm(a, x, y, z=None):
    product = a.get("alpha", 1.0) * ((x.T if a.get("transA") else x) @ (y.T if a.get("transB") else y))
    return product if z is None else product + a.get("beta", 1.0) * z


def reduce(function):
    def run(a, x, axes=None):
        axes = a.get("axes", axes if axes is None else axes.tolist()) or list(range(x.dim()))
        return function(x, axes, keepdim=bool(a.get("keepdims", 1)))

    return run


def reshape(a, x, shape):
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def slices(a, x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes.tolist()
    steps = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps):
        positions = torch.arange(x.shape[axis])[slice(start, end, step) if step > 0 else slice(None)]
        if step < 0:
            stop = end if end >= -x.shape[axis] else None
            positions = torch.tensor(list(range(x.shape[axis]))[start:stop:step])
        x = x.index_select(axis, positions)
    return x


def pad(a, x, amounts, value=None):
    amounts, count = amounts.tolist(), x.dim()
    around = [amounts[i] for axis in reversed(range(count)) for i in (axis, count + axis)]
    return f.pad(x, around, value=0.0 if value is None else value.item())


def scatter_elements(a, data, indices, updates):
    if a.get("reduction", b"none") == b"add":
        return data.scatter_add(a.get("axis", 0), indices, updates)
    return data.scatter(a.get("axis", 0), indices, updates)


def gather(a, x, indices):
    axis = a.get("axis", 0) % x.dim()
    flat = x.index_select(axis, indices.flatten() % x.shape[axis])
    return flat.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def one_hot(a, indices, depth, values):
    hot = f.one_hot(indices, int(depth)).movedim(-1, a.get("axis", -1))
    return torch.where(hot.bool(), values[1], values[0])


def cast(a, x):
    kinds = {1: torch.float64, 11: torch.float64, 7: torch.int64, 6: torch.int32, 9: torch.bool, 2: torch.uint8}
    return x.to(kinds[a["to"]])


def resize(a, x, _roi, _scales, sizes):
    for axis, size in enumerate(sizes.tolist()):
        x = x.repeat_interleave(size // x.shape[axis], axis)
    return x


def clip(a, x, low=None, high=None):
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def hard_sigmoid(a, x):
    return (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1)


def binary(function):
    return lambda _, a, b: function(a, b)


def unary(function):
    return lambda _, x: function(x)


def divide(a, b):
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def unsqueeze(x, axes):
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


OPERATORS = {
    "AveragePool": average_pool, "BatchNormalization": batch_normalization, "Cast": cast, "Clip": clip,
    "Conv": conv, "ConvTranspose": conv_transpose, "Gather": gather, "Gemm": gemm, "HardSigmoid": hard_sigmoid,
    "LayerNormalization": layer_normalization, "MaxPool": max_pool, "OneHot": one_hot, "Pad": pad,
    "ReduceMean": reduce(torch.mean), "ReduceSum": reduce(torch.sum), "Reshape": reshape, "Resize": resize,
    "ScatterElements": scatter_elements, "Slice": slices,
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "ConstantOfShape": lambda a, shape: torch.full(
        shape.tolist(), meant(numpy_helper.to_array(a["value"])).item(), dtype=torch.float64
    ),
    "Elu": lambda a, x: torch.where(x > 0, x, a.get("alpha", 1.0) * torch.expm1(x)),
    "Expand": lambda a, x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "GlobalAveragePool": lambda a, x: x.mean(list(range(2, x.dim())), keepdim=True),
    "HardSwish": lambda a, x: x * (x / 6 + 0.5).clamp(0, 1),
    "LeakyRelu": lambda a, x: torch.where(x > 0, x, a.get("alpha", 0.01) * x),
    "LogSoftmax": lambda a, x: torch.log_softmax(x, a.get("axis", -1)),
    "Range": lambda a, start, end, step: torch.arange(start.item(), end.item(), step.item()),
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "Split": lambda a, x, sizes: torch.split(x, sizes.tolist(), a.get("axis", 0)),
    "Squeeze": lambda a, x, axes=None: x.squeeze() if axes is None else x.squeeze(axes.tolist()),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(reversed(range(x.dim()))))),
    "Unsqueeze": lambda a, x, axes: unsqueeze(x, axes.tolist()),
    "Where": lambda a, condition, x, y: torch.where(condition, x, y),
} | {name: binary(function) for name, function in {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": divide, "Pow": torch.pow, "Max": torch.maximum,
    "Min": torch.minimum, "Mod": torch.remainder, "MatMul": torch.matmul, "Equal": torch.eq,
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
    "And": torch.logical_and, "Or": torch.logical_or,
}.items()} | {name: unary(function) for name, function in {
    "Abs": torch.abs, "Ceil": torch.ceil, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "Identity": lambda x: x,
    "Log": torch.log, "Neg": torch.neg, "Not": torch.logical_not, "Round": torch.round, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
    "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Softplus": f.softplus, "Sqrt": torch.sqrt, "Tanh": torch.tanh,
}.items()}  # fmt: skip

#!/usr/bin/env python3
"""Writes the digits model: a small CNN on 8x8 grey images, ten classes.

    python3 generate.py            writes infer.onnx, train.onnx, train.params beside this file
    python3 generate.py --check    exits 1 when a file beside this one differs from what would be written

Needs `onnx` and `numpy`, nothing else. The same versions of both write the same bytes.

Network (all float32, channels first):

    x [N,1,8,8] -> conv 3x3, 8 -> ReLU -> max pool 2 -> conv 3x3, 16 -> ReLU -> max pool 2 -> dense 10 -> logits [N,10]

Contract of the two graphs (`runtime/src/engine/mod.rs` reads it by these names):

    infer.onnx   inputs   x [batch,1,8,8] (`batch` is symbolic), theta [P]
                 output   logits [batch,10]
    train.onnx   inputs   x [16,1,8,8], y [16] int64, lr [], theta [P], state [P]
                 outputs  theta.new [P], state.new [P], loss []

`theta` holds every parameter, one after the other in the order of `Network.parameters`; `state` holds the
momentum of each. An input N with an output N.new is carried from step to step by the runtime.

The training step is an ordinary graph: forward pass, gradients written out as operators, update. Only
operators are used that ONNX Runtime has both a CPU and a CUDA kernel for. Opset 17, IR version 8: loads in
ONNX Runtime 1.12 and later.
"""

import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
CLASSES = 10
TRAIN_BATCH = 16
MOMENTUM = 0.9
SEED = 7


class Graph:
    """Collects nodes, constants, inputs and outputs; names are numbered in the order of creation."""

    def __init__(self, name):
        self.name = name
        self.nodes, self.constants, self.inputs, self.outputs = [], {}, [], []

    def op(self, kind, inputs, output=None, outputs=1, **attributes):
        """Adds a node; returns the name of its output, or the names where it has several."""
        label = f"{kind.lower()}_{len(self.nodes)}"
        names = [output or label] if outputs == 1 else [f"{label}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=label, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, values, dtype):
        """A constant; equal ones share a name."""
        array = np.array(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = f"const_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name

    def ints(self, *values):
        return self.constant(values, np.int64)

    def floats(self, values):
        return self.constant(values, np.float32)

    def input(self, name, shape, dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name, shape):
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def serialized(self):
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, list(self.constants.values())
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fulcrum"
        )
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


class Conv:
    """3x3 convolution, stride 1, padding 1, with bias."""

    def __init__(self, channels_in, channels_out):
        self.shapes = [(channels_out, channels_in, 3, 3), (channels_out,)]

    def forward(self, g, x, weight, bias):
        self.x, self.weight = x, weight
        return g.op("Conv", [x, weight, bias], kernel_shape=[3, 3], pads=[1] * 4)

    def backward(self, g, dy, first):
        # dW is a convolution of x with dy, batch and channels exchanged; dx is the transposed convolution.
        swap = [1, 0, 2, 3]
        xt, dyt = g.op("Transpose", [self.x], perm=swap), g.op("Transpose", [dy], perm=swap)
        dw = g.op("Transpose", [g.op("Conv", [xt, dyt], pads=[1] * 4)], perm=swap)
        db = g.op("ReduceSum", [dy, g.ints(0, 2, 3)], keepdims=0)
        dx = None
        if not first:
            dx = g.op("ConvTranspose", [dy, self.weight], kernel_shape=[3, 3], pads=[1] * 4)
        return dx, [dw, db]


class Relu:
    shapes = []

    def forward(self, g, x):
        self.y = g.op("Relu", [x])
        return self.y

    def backward(self, g, dy, first):
        active = g.op("Greater", [self.y, g.floats(0.0)])
        return g.op("Where", [active, dy, g.floats(0.0)]), []


class MaxPool:
    """2x2 maximum, stride 2."""

    shapes = []

    def forward(self, g, x):
        self.x, self.y = x, g.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        return self.y

    def backward(self, g, dy, first):
        # MaxUnpool has no CUDA kernel, so: enlarge maximum and gradient, keep the gradient where the input
        # was the maximum. Ties give it to every one of them; after a ReLU they are at 0, which the ReLU masks.
        def enlarged(tensor):
            return g.op(
                "Resize",
                [tensor, "", g.floats([1, 1, 2, 2])],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )

        largest = g.op("Equal", [self.x, enlarged(self.y)])
        return g.op("Where", [largest, enlarged(dy), g.floats(0.0)]), []


class Dense:
    """Flattens, then multiplies: [N, shape_in...] -> [N, size_out]."""

    def __init__(self, shape_in, size_out):
        self.shape_in = shape_in
        self.shapes = [(int(np.prod(shape_in)), size_out), (size_out,)]

    def forward(self, g, x, weight, bias):
        self.x, self.weight = g.op("Flatten", [x], axis=1), weight
        return g.op("Gemm", [self.x, weight, bias])

    def backward(self, g, dy, first):
        dw = g.op("Gemm", [self.x, dy], transA=1)
        db = g.op("ReduceSum", [dy, g.ints(0)], keepdims=0)
        dx = g.op("Gemm", [dy, self.weight], transB=1)
        return g.op("Reshape", [dx, g.ints(-1, *self.shape_in)]), [dw, db]


class Network:
    """The layers, and where each one's parameters lie in `theta`."""

    def __init__(self):
        self.layers = [
            Conv(1, 8), Relu(), MaxPool(), Conv(8, 16), Relu(), MaxPool(), Dense((16, 2, 2), CLASSES)
        ]  # fmt: skip
        self.shapes = [shape for layer in self.layers for shape in layer.shapes]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]

    def forward(self, g, x, theta):
        parts = g.op("Split", [theta, g.ints(*self.sizes)], outputs=len(self.sizes), axis=0)
        tensors = [
            part if len(shape) == 1 else g.op("Reshape", [part, g.ints(*shape)])
            for part, shape in zip(parts, self.shapes)
        ]
        for layer in self.layers:
            own, tensors = tensors[: len(layer.shapes)], tensors[len(layer.shapes) :]
            x = layer.forward(g, x, *own)
        return x

    def backward(self, g, dy):
        """Gradient of every parameter as one vector, in the order of `theta`."""
        gradients = []
        for index in reversed(range(len(self.layers))):
            dy, own = self.layers[index].backward(g, dy, first=index == 0)
            gradients = own + gradients
        flat = [g.op("Reshape", [gradient, g.ints(-1)]) for gradient in gradients]
        return g.op("Concat", flat, axis=0)

    def initial_theta(self, seed):
        """He initialization of the weights, biases zero."""
        random = np.random.Generator(np.random.PCG64(seed))
        parts = []
        for shape in self.shapes:
            if len(shape) == 1:
                parts.append(np.zeros(shape))
            else:
                # Inputs per output: [out, in, 3, 3] for a convolution, [in, out] for the dense layer.
                fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
                parts.append(random.standard_normal(shape) * np.sqrt(2.0 / fan_in))
        return np.concatenate([part.reshape(-1) for part in parts]).astype("<f4")


def inference_graph(network):
    g = Graph("digits-infer")
    size = sum(network.sizes)
    x = g.input("x", ["batch", 1, 8, 8])
    theta = g.input("theta", [size])
    g.op("Identity", [network.forward(g, x, theta)], output="logits")
    g.output("logits", ["batch", CLASSES])
    return g.serialized()


def training_graph(network):
    """One step of gradient descent with momentum: m' = 0.9 m + 0.1 gradient, theta' = theta - lr m'.

    The momentum is a running mean, so that a learning rate means the same with and without it; 0.05 to 0.2
    trains this network without tuning.
    """
    g = Graph("digits-train")
    size = sum(network.sizes)
    x = g.input("x", [TRAIN_BATCH, 1, 8, 8])
    y = g.input("y", [TRAIN_BATCH], TensorProto.INT64)
    lr = g.input("lr", [])
    theta = g.input("theta", [size])
    state = g.input("state", [size])

    logits = network.forward(g, x, theta)
    target = g.op("OneHot", [y, g.ints(CLASSES), g.floats([0.0, 1.0])], axis=-1)
    log_probability = g.op("LogSoftmax", [logits], axis=1)
    likelihood = g.op("ReduceSum", [g.op("Mul", [target, log_probability]), g.ints(1)], keepdims=0)
    g.op("Neg", [g.op("ReduceMean", [likelihood], axes=[0], keepdims=0)], output="loss")

    # Softmax and cross-entropy together: d loss / d logits = (softmax - target) / batch.
    error = g.op("Sub", [g.op("Exp", [log_probability]), target])
    gradient = network.backward(g, g.op("Mul", [error, g.floats(1.0 / TRAIN_BATCH)]))

    old = g.op("Mul", [state, g.floats(MOMENTUM)])
    new = g.op("Mul", [gradient, g.floats(1.0 - MOMENTUM)])
    momentum = g.op("Add", [old, new], output="state.new")
    g.op("Sub", [theta, g.op("Mul", [momentum, lr])], output="theta.new")
    g.output("theta.new", [size])
    g.output("state.new", [size])
    g.output("loss", [])
    return g.serialized()


def crc32_iscsi(data):
    """CRC-32/ISCSI (Castagnoli): polynomial 0x1EDC6F41 reflected, start and final xor all ones."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def parameter_file(tensors):
    """The byte layout is documented in `runtime/src/engine/params.rs`."""
    body = b"FPRM" + struct.pack("<HH", 1, len(tensors))
    body += b"".join(struct.pack("<I", tensor.size) for tensor in tensors)
    body += b"".join(tensor.astype("<f4").tobytes() for tensor in tensors)
    return body + struct.pack("<I", crc32_iscsi(body))


def main():
    theta = Network().initial_theta(SEED)
    files = {
        "infer.onnx": inference_graph(Network()),
        "train.onnx": training_graph(Network()),
        "train.params": parameter_file([theta, np.zeros_like(theta)]),
    }
    folder = Path(__file__).resolve().parent
    differing = [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    if "--check" in sys.argv[1:]:
        for name in differing:
            print(f"{name} differs from what generate.py writes", file=sys.stderr)
        return 1 if differing else 0
    for name in differing:
        (folder / name).write_bytes(files[name])
        print(f"{name}: {len(files[name])} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

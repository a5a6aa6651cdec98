#!/usr/bin/env python3
"""Writes the digits model: a small CNN on 8x8 grey images, ten classes.

    python3 generate.py            writes model.onnx beside this file
    python3 generate.py --check    exits 1 when the file beside this one differs from what would be written

Needs `onnx` and `numpy`, nothing else. The same versions of both write the same bytes.

Network (all float32, channels first), with its initial parameters as initializers:

    x [N,1,8,8] -> conv 3x3, 8 -> ReLU -> max pool 2 -> conv 3x3, 16 -> ReLU -> max pool 2 -> dense 10 -> logits [N,10]

`fulcrum train-step` makes the other files of it (`training/tests/digits.rs` holds them against what it makes):

    fulcrum train-step model.onnx --loss cross-entropy --optimizer momentum --dampening 0.9 --batch 16 --out train.onnx

    train.onnx         the training step: x [16,1,8,8], y [16] int64, lr [], theta [P], state [S] in,
                       theta.new [P], state.new [S], loss [] out
    infer.onnx         (written as train.infer.onnx) x [batch,1,8,8], theta [P] in, logits [batch,10] out
    train.params       initial theta and state

The momentum is a running mean, so that a learning rate means the same with and without it; 0.05 to 0.2 trains this
network without tuning.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
CLASSES = 10
SEED = 7

# Name and shape of every parameter, in the order of `theta`.
PARAMETERS = {
    "conv1.weight": (8, 1, 3, 3),
    "conv1.bias": (8,),
    "conv2.weight": (16, 8, 3, 3),
    "conv2.bias": (16,),
    "dense.weight": (64, CLASSES),
    "dense.bias": (CLASSES,),
}


def initial_parameters(seed):
    """He initialization of the weights, biases zero."""
    random = np.random.Generator(np.random.PCG64(seed))
    for name, shape in PARAMETERS.items():
        if len(shape) == 1:
            yield name, np.zeros(shape, "<f4")
        else:
            # Inputs per output: [out, in, 3, 3] for a convolution, [in, out] for the dense layer.
            fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
            yield name, (random.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype("<f4")


def model():
    convolution = {"kernel_shape": [3, 3], "pads": [1] * 4}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["conv1"], name="conv1", **convolution),
        helper.make_node("Relu", ["conv1"], ["relu1"], name="relu1"),
        helper.make_node("MaxPool", ["relu1"], ["pool1"], name="pool1", **pool),
        helper.make_node("Conv", ["pool1", "conv2.weight", "conv2.bias"], ["conv2"], name="conv2", **convolution),
        helper.make_node("Relu", ["conv2"], ["relu2"], name="relu2"),
        helper.make_node("MaxPool", ["relu2"], ["pool2"], name="pool2", **pool),
        helper.make_node("Flatten", ["pool2"], ["features"], name="features", axis=1),
        helper.make_node("Gemm", ["features", "dense.weight", "dense.bias"], ["logits"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in initial_parameters(SEED)],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, producer_name="fulcrum")
    made.ir_version = IR_VERSION
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString(deterministic=True)


def main():
    path = Path(__file__).resolve().parent / "model.onnx"
    content = model()
    if path.is_file() and path.read_bytes() == content:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{path.name} differs from what generate.py writes", file=sys.stderr)
        return 1
    path.write_bytes(content)
    print(f"{path.name}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

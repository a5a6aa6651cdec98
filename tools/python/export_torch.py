#!/usr/bin/env python3
"""Exports a PyTorch model to the forward ONNX model that `fulcrum train-step` takes.

    python3 tools/python/export_torch.py MODULE:NAME --shape 1,3,64,64 [--set num_classes=10]… --out model.onnx
    fulcrum train-step model.onnx --loss cross-entropy --optimizer adam --batch 16

MODULE:NAME is a class or function that makes the model, in an installed package or a file of the current folder;
`--set KEY=VALUE` passes numbers and words to it. `--tokens N` draws whole numbers below N as the example input, for
models that begin with an embedding. `--weights FILE` loads a state dictionary.

Needs `torch` (any recent version) and `onnx`. What matters of the export:

- opset 17, with initializers under their PyTorch names, so that `--freeze` and `--no-decay` can name them;
- the training form, without folding: batch normalization and dropout stay what they are;
- a symbolic first dimension; `train-step` makes it its batch.
"""

import argparse
import importlib
import sys
import warnings
from pathlib import Path

import torch


def export(model, example, path):
    """Writes a model as ONNX; `example` is one input, whose first dimension is the batch."""
    model.train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), str(path), opset_version=17, dynamo=False,
            training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False,
            input_names=["x"], output_names=["logits"],
            dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip


def setting(text):
    key, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError("allowed is KEY=VALUE")
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            pass
    return key, value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", metavar="MODULE:NAME")
    parser.add_argument("--shape", required=True, type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tokens", type=int, metavar="N")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    module, _, name = arguments.model.partition(":")
    sys.path.insert(0, "")
    model = getattr(importlib.import_module(module), name)(**dict(arguments.set))
    if arguments.weights:
        model.load_state_dict(torch.load(arguments.weights, weights_only=True))
    if arguments.tokens:
        example = torch.randint(arguments.tokens, arguments.shape)
    else:
        example = torch.randn(arguments.shape)
    export(model, example, arguments.out)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains the shipped digits step in ONNX Runtime and the same network in PyTorch; prints held-out accuracy.

    python3 tools/python/compare_digits.py

Needs `onnxruntime`, `numpy`, `scikit-learn` (for its digits) and `torch`. CI does not run it. Both start from the
shipped parameters and see the same batches: 1,500 samples, 20 epochs, momentum as a running mean (dampening 0.9),
learning rate 0.1. The 297 samples left are held out; accuracy is that of the inference graph on the trained vector.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from sklearn.datasets import load_digits
from torch import nn

from compare_step import read_params, session

FOLDER = Path(__file__).resolve().parents[1] / "models" / "digits"
BATCH, EPOCHS, RATE, TRAINED = 16, 20, 0.1, 1500


def network(theta):
    """The digits model in PyTorch, with the parameters of a vector."""
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    shapes = [(8, 1, 3, 3), (8,), (16, 8, 3, 3), (16,), (64, 10), (10,)]
    parts = np.split(theta, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
    with torch.no_grad():
        for parameter, part, shape in zip(model.parameters(), parts, shapes):
            value = torch.from_numpy(part.reshape(shape).copy())
            # The forward model multiplies by [inputs, outputs], PyTorch holds the transpose.
            parameter.copy_(value.T if shape == (64, 10) else value)
    return model


def main():
    torch.set_num_threads(1)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order, None] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    theta, state = read_params(FOLDER / "train.params")
    step, infer = session(FOLDER / "train.onnx", 1), session(FOLDER / "infer.onnx", 1)
    model = network(theta)
    velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]

    rng = np.random.default_rng(1)
    rate = np.array(RATE, np.float32)
    for _ in range(EPOCHS):
        for rows in rng.permutation(TRAINED)[: TRAINED // BATCH * BATCH].reshape(-1, BATCH):
            x, y = images[rows], labels[rows]
            feed = {"x": x, "y": y, "lr": rate, "theta": theta, "state": state}
            theta, state, loss = step.run(["theta.new", "state.new", "loss"], feed)
            # PyTorch's SGD does not dampen the first gradient, so the update is written out.
            expected = nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
            gradients = torch.autograd.grad(expected, list(model.parameters()))
            with torch.no_grad():
                for parameter, v, gradient in zip(model.parameters(), velocity, gradients):
                    v.mul_(0.9).add_(gradient, alpha=0.1)
                    parameter.sub_(v, alpha=RATE)
    held_x, held_y = images[TRAINED:], labels[TRAINED:]
    ours = infer.run(["logits"], {"x": held_x, "theta": theta})[0]
    with torch.no_grad():
        theirs = model(torch.from_numpy(held_x)).numpy()
    print(json.dumps({
        "onnxruntime": ort.__version__, "torch": torch.__version__, "held_out": len(held_y),
        "last_loss": float(loss), "torch_last_loss": expected.item(),
        "accuracy": float((ours.argmax(1) == held_y).mean()),
        "torch_accuracy": float((theirs.argmax(1) == held_y).mean()),
    }))  # fmt: skip


if __name__ == "__main__":
    main()

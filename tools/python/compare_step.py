#!/usr/bin/env python3
"""Compares generated training steps with PyTorch: same model, same data, loss after loss.

    cargo build --release -p fulcrum-training --example train_step
    python3 tools/python/compare_step.py [--models mlp,lenet,…] [--steps 50] [--time]

Needs `onnxruntime`, `onnx`, `numpy` and `torch` (any recent version; CPU builds do). CI does not run it.
For each model: exports it with `torch.onnx.export`, builds the step with the example `train_step`, runs both
from the same parameters on the same batches with one thread, and prints the largest relative difference of
the losses. `--time` also prints steps per second of both.

Training is chaotic: a ReLU or a maximum that turns over because of the last bit of a 32-bit float moves all
that follows. The yardstick is therefore PyTorch against itself, in float32 and in float64: exit code 1 if the
step is further than 1e-5 from PyTorch and further than ten times what PyTorch's own rounding moves it.
"""

import argparse
import copy
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

TARGET = os.environ.get("CARGO_TARGET_DIR", str(Path(__file__).resolve().parents[2] / "target"))
BUILDER = Path(TARGET) / "release" / "examples" / "train_step"


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class LeNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        )  # fmt: skip


class Block(nn.Module):
    """Basic residual block of ResNet."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )  # fmt: skip

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet18(nn.Sequential):
    """ResNet-18 for 32x32 images: a 3x3 stem without pooling."""

    def __init__(self):
        layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        width = 64
        for outputs, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
            layers += [Block(width, outputs, stride), Block(outputs, outputs, 1)]
            width = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class LstmModel(nn.Module):
    """Two-layer LSTM language model; logits [batch, time, words]."""

    def __init__(self, words=50, width=32):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, num_layers=2)
        self.head = nn.Linear(width, words)

    def forward(self, tokens):
        x = self.embedding(tokens).transpose(0, 1)
        return self.head(self.lstm(x)[0].transpose(0, 1))


class Encoder(nn.Module):
    """Two transformer encoder layers, post-norm, mean over time; logits [batch, classes]."""

    def __init__(self, words=50, width=32, heads=4, time_steps=12):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.randn(1, time_steps, width) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(width, heads) for _ in range(2))
        self.head = nn.Linear(width, 10)

    def forward(self, tokens):
        x = self.embedding(tokens) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / (w // self.heads) ** 0.5, -1)
        x = self.norm1(x + self.out((weights @ v).transpose(1, 2).reshape(b, t, w)))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class Operators(nn.Module):
    """Operators that the other models do not have, so that each of their gradients has run in ONNX Runtime."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1)
        self.power = nn.Parameter(torch.tensor([1.5]))
        self.gate, self.head = nn.Parameter(torch.randn(1, 4, 1, 1)), nn.Linear(12, 10)

    def forward(self, x):  # [batch, 4, 8, 8]
        f = nn.functional
        b = x.shape[0]
        x = f.max_pool2d(x * self.gate, 3, stride=2, padding=1)
        x = torch.cat([f.leaky_relu(x[:, :2], 0.1), f.elu(x[:, 2:])], 1)
        x = f.interpolate(x, scale_factor=2, mode="nearest")
        x = f.avg_pool2d(f.pad(x, (1, 0, 0, 1)), 3, stride=2, padding=1, count_include_pad=False)
        x = f.softplus(x) + x.abs() / (1 + x * x) + torch.exp(-x.clamp(-1, 1)) - torch.erf(x)
        x = torch.log(2 + x.abs()).sqrt() * (x.abs() + 0.5) ** self.power
        row = self.down(x.flatten(2)).unsqueeze(-1)
        row = torch.where(row > 0, row.sigmoid(), f.hardswish(3 * row) + f.hardsigmoid(row))
        x = self.up(row.reshape(b, 6, -1, 1)[:, :, ::2])
        x = torch.maximum(x[..., 0], -x[..., 1]) + torch.minimum(x[..., 0], x[..., 1])
        first, second = f.log_softmax(x, 1).split([2, 2], 1)
        x = (first.sum(1) + second.mean(1)).expand(b, -1) - torch.tanh(x[:, 3])
        # ONNX Runtime's LayerNormalization takes E[x²] − E[x]²: a large mean would cost it digits.
        x = f.layer_norm((x - x.mean(1, keepdim=True))[:, :12], (12,))
        return self.head((1 + x * x).neg().reciprocal())


def mobilenet_v3_small():
    import torchvision

    model = torchvision.models.mobilenet_v3_small(num_classes=10)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # PyTorch's masks are its own; the comparison goes without
    return model


def images(channels, size):
    return lambda rng, batch: (
        rng.standard_normal((batch, channels, size, size)).astype(np.float32),
        rng.integers(0, 10, batch),
    )


def tokens(time_steps, words, per_token):
    def draw(rng, batch):
        x = rng.integers(0, words, (batch, time_steps))
        return x, (np.roll(x, -1, 1) if per_token else rng.integers(0, 10, batch))

    return draw


# name: model, data, batch, optimizer, learning rate, options of the builder
MODELS = {
    "mlp": (Mlp, images(1, 8), 16, "momentum", 0.05, []),
    "mlp-sgd": (Mlp, images(1, 8), 16, "sgd", 0.1, ["decay=0.001"]),
    "mlp-adam": (Mlp, images(1, 8), 16, "adam", 0.002, []),
    "mlp-adamw-clip": (Mlp, images(1, 8), 16, "adamw", 0.002, ["clip=0.5"]),
    "lenet": (LeNet, images(1, 28), 16, "momentum", 0.02, []),
    "operators": (Operators, images(4, 8), 4, "adam", 0.002, []),
    "resnet18": (ResNet18, images(3, 32), 16, "momentum", 0.01, []),
    "mobilenetv3": (mobilenet_v3_small, images(3, 64), 16, "momentum", 0.01, []),
    "lstm": (LstmModel, tokens(16, 50, True), 8, "adam", 0.002, ["class-axis=-1"]),
    "transformer": (Encoder, tokens(12, 50, False), 16, "adam", 0.001, []),
}


def make_optimizer(name, model, rate, settings):
    decay = settings.get("decay", 0.01 if name == "adamw" else 0.0)
    if name in ("sgd", "momentum"):
        return torch.optim.SGD(model.parameters(), rate, momentum=0.9 * (name == "momentum"), weight_decay=decay)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(model.parameters(), rate, weight_decay=decay)


def stepper(model, optimizer_name, rate, settings):
    """A function that trains a model by one batch and returns the loss before the update."""
    decay = {"decay": float(settings["decay"])} if "decay" in settings else {}
    optimizer = make_optimizer(optimizer_name, model, rate, decay)
    model.train()

    def step(x, y):
        logits = model(x)
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        if "clip" in settings:
            nn.utils.clip_grad_norm_(model.parameters(), float(settings["clip"]))
        optimizer.step()
        return loss

    return step


def read_params(path):
    """Tensors of a parameter file (`docs/training.md`)."""
    raw = path.read_bytes()
    magic, version, count = struct.unpack_from("<4sHH", raw)
    assert magic == b"FPRM" and version == 1, "not a parameter file"
    counts = struct.unpack_from(f"<{count}I", raw, 8)
    values = np.frombuffer(raw, "<f4", sum(counts), 8 + 4 * count)
    return np.split(values, np.cumsum(counts)[:-1])


def export(model, x, path):
    model.train()
    torch.onnx.export(
        model, (torch.from_numpy(x),), str(path), opset_version=17, dynamo=False,
        training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False,
        input_names=["x"], output_names=["logits"],
        dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare(name, steps, folder, timed, threads):
    make, draw, batch, optimizer_name, rate, arguments = MODELS[name]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = make()
    data = [draw(rng, batch) for _ in range(8)]
    onnx_path, step_path = folder / f"{name}.onnx", folder / f"{name}.step.onnx"
    export(model, data[0][0], onnx_path)
    subprocess.run(
        [BUILDER, onnx_path, step_path, "cross-entropy", optimizer_name, str(batch), *arguments], check=True
    )
    settings = dict(argument.split("=") for argument in arguments)
    exact_step = stepper(copy.deepcopy(model).double(), optimizer_name, rate, settings)
    torch_step = stepper(model, optimizer_name, rate, settings)

    run = session(step_path, threads)
    theta, state = read_params(step_path.with_suffix(".params"))
    learning_rate = np.array(rate, np.float32)
    ours, theirs, exact = [], [], []
    for index in range(steps):
        x, y = data[index % len(data)]
        feed = {"x": x, "y": y, "lr": learning_rate, "theta": theta, "state": state}
        theta, state, loss = run.run(["theta.new", "state.new", "loss"], feed)
        ours.append(float(loss))
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        theirs.append(torch_step(x, y).item())
        exact.append(exact_step(x.double() if x.is_floating_point() else x, y).item())

    def differ(some, others):
        return max(abs(a - b) / abs(b) for a, b in zip(some, others))

    difference, rounding = differ(ours, theirs), differ(theirs, exact)

    # The inference graph on the trained vectors against the model in evaluation mode.
    infer = session(step_path.with_suffix(".infer.onnx"), threads)
    live = {"theta": theta, "state": state}
    feed = {i.name: live.get(i.name, data[0][0]) for i in infer.get_inputs()}
    model.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(data[0][0])).numpy()
    logits = np.abs(infer.run(["logits"], feed)[0] - expected).max() / np.abs(expected).max()
    result = {
        "model": name, "optimizer": optimizer_name, "steps": steps, "first_loss": theirs[0],
        "last_loss": theirs[-1], "loss_difference": difference, "torch_float64_difference": rounding,
        "logits_difference": float(logits),
    }  # fmt: skip
    if timed:
        result |= times(run, feed_of=(data, learning_rate, theta, state), torch_step=torch_step, model=model)
    print(json.dumps(result), flush=True)
    return difference <= max(1e-5, 10 * rounding)


def times(run, feed_of, torch_step, model):
    """Steps per second of processor time of both, alternating in blocks; the best block of each counts.

    With one thread, processor time is the time a step takes on a machine that does nothing else.
    """
    data, rate, theta, state = feed_of
    model.train()
    binding = run.io_binding()
    x, y = data[0]
    for key, value in {"x": x, "y": y, "lr": rate, "theta": theta, "state": state}.items():
        binding.bind_cpu_input(key, value)
    # Bound outputs, not fed back: the time of a step does not depend on the values.
    for output in run.get_outputs():
        binding.bind_output(output.name)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def block(step, seconds=1.0):
        count, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            step()
            count += 1
        return count / (time.process_time() - start)

    best = [0.0, 0.0]
    for _ in range(4):
        best[0] = max(best[0], block(lambda: run.run_with_iobinding(binding)))
        best[1] = max(best[1], block(lambda: torch_step(x, y)))
    return {"steps_per_s": best[0], "torch_steps_per_s": best[1], "ratio": best[0] / best[1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--keep", type=Path, help="write the files here and keep them")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.models.split(","):
            good &= compare(name, arguments.steps, folder, arguments.time, arguments.threads)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

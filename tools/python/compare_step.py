#!/usr/bin/env python3
"""Compares generated training steps with PyTorch: same model, same data, loss after loss.

    cargo build --release -p fulcrum-training --example train_step
    python3 tools/python/compare_step.py [--models mlp,lenet,…] [--steps 50] [--seeds 1] [--float64] [--time]

Needs `onnxruntime`, `onnx`, `numpy` and `torch` (any recent version; CPU builds do). CI does not run it.
For each model: exports it with `torch.onnx.export`, builds the step with the example `train_step`, runs both
from the same parameters on the same batches with one thread, and prints the largest relative difference of
the losses. `--float64` also runs the step's graph in float64 (`float64_step.py`) next to PyTorch in float64: what
differs there is no rounding. `--time` prints steps per second of the step, of PyTorch and of `torch.compile`.

Training is chaotic: a ReLU or a maximum that turns over because of the last bit of a 32-bit float moves all
that follows. The yardstick is therefore PyTorch against itself, in float32 and in float64: exit code 1 if the
step is further than 1e-5 from PyTorch and further than ten times what PyTorch's own rounding moves it.
"""

import argparse
import copy
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import float64_step
import numpy as np
import onnxruntime as ort
import torch
from export_torch import export
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


class LanguageModel(nn.Module):
    """Two recurrent layers; logits [batch, time, words]."""

    def __init__(self, kind=nn.LSTM, words=50, width=32):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.recurrent = kind(width, width, num_layers=2)
        self.head = nn.Linear(width, words)

    def forward(self, tokens):
        x = self.embedding(tokens).transpose(0, 1)
        return self.head(self.recurrent(x)[0].transpose(0, 1))


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


class Formulas(nn.Module):
    """Operators that the import writes as others."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.groups, self.instances = nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)
        self.slopes, self.head = nn.PReLU(8), nn.Linear(8 * 5 * 5, 10)

    def forward(self, x):  # [batch, 4, 8, 8]
        f = nn.functional
        x = self.slopes(self.groups(self.first(x)))
        x = f.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)
        x = f.mish(self.instances(self.second(x)))
        x = f.max_pool2d(f.interpolate(x, size=(9, 10), mode="nearest"), 2, ceil_mode=True)
        x = f.selu(f.pad(x, (1, -1, 0, 0), mode="constant")) + f.softsign(f.pad(x, (0, 0, 1, -1)))
        return self.head(x.flatten(1)) + f.adaptive_max_pool2d(x, 1).mean((1, 2, 3))[:, None]


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
    "mlp-adamw-clip": (Mlp, images(1, 8), 16, "adamw", 0.002, ["clip=0.5", "decay=0.1", "no-decay=bias"]),
    "lenet": (LeNet, images(1, 28), 16, "momentum", 0.02, []),
    "operators": (Operators, images(4, 8), 4, "adam", 0.002, []),
    "resnet18": (ResNet18, images(3, 32), 16, "momentum", 0.01, []),
    "mobilenetv3": (mobilenet_v3_small, images(3, 64), 16, "momentum", 0.01, []),
    "formulas": (Formulas, images(4, 8), 4, "adam", 0.002, []),
    "gru": (lambda: LanguageModel(nn.GRU), tokens(16, 50, True), 8, "adam", 0.002, ["class-axis=-1"]),
    "lstm": (LanguageModel, tokens(16, 50, True), 8, "adam", 0.002, ["class-axis=-1"]),
    "transformer": (Encoder, tokens(12, 50, False), 16, "adam", 0.001, []),
}


def exact_hardsigmoid(x, inplace=False, single=nn.functional.hardsigmoid):
    """In float64 too PyTorch's gradient of it holds 1/6 as a 32-bit float; this one does not."""
    return (x / 6 + 0.5).clamp(0, 1) if x.dtype == torch.float64 else single(x, inplace)


nn.functional.hardsigmoid = exact_hardsigmoid


def make_optimizer(name, model, rate, settings):
    decay = float(settings.get("decay", 0.01 if name == "adamw" else 0.0))
    spared = [p for key, p in model.named_parameters() if re.search(settings.get("no-decay", "^$"), key)]
    decayed = [p for p in model.parameters() if not any(p is q for q in spared)]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if name in ("sgd", "momentum"):
        return torch.optim.SGD(groups, rate, momentum=0.9 * (name == "momentum"))
    return (torch.optim.AdamW if name == "adamw" else torch.optim.Adam)(groups, rate)


def stepper(model, optimizer_name, rate, settings):
    """A function that trains a model by one batch and returns the loss before the update."""
    optimizer = make_optimizer(optimizer_name, model, rate, settings)
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


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare(name, seed, folder, arguments):
    make, draw, batch, optimizer_name, rate, settings = MODELS[name]
    threads = arguments.threads
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = make()
    data = [draw(rng, batch) for _ in range(8)]
    # The step takes words as floats.
    samples = [x.astype(np.float32) for x, _ in data]
    onnx_path, step_path = folder / f"{name}.onnx", folder / f"{name}.step.onnx"
    export(model, torch.from_numpy(data[0][0]), onnx_path)
    subprocess.run(
        [BUILDER, onnx_path, step_path, "cross-entropy", optimizer_name, str(batch), *settings], check=True
    )
    settings = dict(setting.split("=") for setting in settings)
    exact_step = stepper(copy.deepcopy(model).double(), optimizer_name, rate, settings)
    torch_step = stepper(model, optimizer_name, rate, settings)

    run = session(step_path, threads)
    theta, state = read_params(step_path.with_suffix(".params"))
    learning_rate = np.array(rate, np.float32)
    graph64 = float64_step.load(step_path) if arguments.float64 else None
    live64 = {"theta": theta, "state": state}
    losses = {"ours": [], "torch": [], "torch64": [], "ours64": []}
    for index in range(arguments.steps):
        x, y = data[index % len(data)]
        fixed = {"x": samples[index % len(data)], "y": y, "lr": learning_rate}
        theta, state, loss = run.run(["theta.new", "state.new", "loss"], fixed | {"theta": theta, "state": state})
        losses["ours"].append(float(loss))
        if graph64:
            result = graph64(fixed | live64 | {"lr": np.array(rate)})
            live64 = {"theta": result["theta.new"], "state": result["state.new"]}
            losses["ours64"].append(result["loss"].item())
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        losses["torch"].append(torch_step(x, y).item())
        losses["torch64"].append(exact_step(x.double() if x.is_floating_point() else x, y).item())

    def differ(some, others, end=None):
        return max(abs(a - b) / abs(b) for a, b in zip(losses[some][:end], losses[others][:end]))

    difference, rounding = differ("ours", "torch"), differ("torch", "torch64")

    # The inference graph on the trained vectors against the model in evaluation mode.
    infer = session(step_path.with_suffix(".infer.onnx"), threads)
    live = {"theta": theta, "state": state}
    feed = {i.name: live.get(i.name, samples[0]) for i in infer.get_inputs()}
    model.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(data[0][0])).numpy()
    logits = np.abs(infer.run(["logits"], feed)[0] - expected).max() / np.abs(expected).max()
    result = {
        "model": name, "seed": seed, "optimizer": optimizer_name, "steps": arguments.steps,
        "first_loss": losses["torch"][0], "last_loss": losses["torch"][-1], "loss_difference": difference,
        "torch_rounding": rounding, "our_rounding": differ("ours", "torch64"),
        "logits_difference": float(logits),
    }  # fmt: skip
    if graph64:
        result["float64_difference"] = differ("ours64", "torch64")
        marks = [count for count in (1, 2, 5, 10, 20, 50) if count <= arguments.steps]
        for pair in ("ours", "torch", "ours64"):
            result[f"{pair}_from_float64_after"] = {count: differ(pair, "torch64", count) for count in marks}
    if arguments.time:
        feed = {"x": samples[0], "y": data[0][1], "lr": learning_rate, "theta": theta, "state": state}
        model.train()
        compiled = None
        if not arguments.eager:
            compiled = stepper(torch.compile(copy.deepcopy(model)), optimizer_name, rate, settings)
        torch_x = torch.from_numpy(data[0][0])
        result |= times(run, feed, torch_x, torch_step, compiled, arguments.block_s)
    print(json.dumps(result), flush=True)
    good = result.get("float64_difference", 0.0) <= 1e-7
    return good and difference <= max(1e-5, 10 * rounding)


def times(run, feed, x, torch_step, compiled_step, seconds):
    """Steps per second of processor time of all three, alternating in blocks; the best block of each counts.

    With one thread, processor time is the time a step takes on a machine that does nothing else.
    """
    binding = run.io_binding()
    for key, value in feed.items():
        binding.bind_cpu_input(key, value)
    # Outputs in memory of their own, as the runtime binds them; not fed back, since the time of a step does not
    # depend on the values.
    shapes = {"theta.new": feed["theta"].shape, "state.new": feed["state"].shape, "loss": ()}
    held = {name: ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32) for name, shape in shapes.items()}
    for name, value in held.items():
        binding.bind_ortvalue_output(name, value)
    y = torch.from_numpy(feed["y"])
    steps = {"ours": lambda: run.run_with_iobinding(binding), "torch": lambda: torch_step(x, y)}
    if compiled_step:
        steps["compiled"] = lambda: compiled_step(x, y)

    def block(step):
        count, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            step()
            count += 1
        return count / (time.process_time() - start)

    for step in steps.values():
        for _ in range(3):
            step()
    best = {name: 0.0 for name in steps}
    for _ in range(4):
        for name, step in steps.items():
            best[name] = max(best[name], block(step))
    result = {"steps_per_s": {name: round(value, 2) for name, value in best.items()}}
    for name in best:
        if name != "ours":
            result[f"ratio_{name}"] = round(best["ours"] / best[name], 3)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--eager", action="store_true", help="with --time: leave torch.compile out")
    parser.add_argument("--block-s", type=float, default=1.0, help="with --time: seconds of one block")
    parser.add_argument("--keep", type=Path, help="write the files here and keep them")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.models.split(","):
            for seed in range(arguments.seeds):
                good &= compare(name, seed, folder, arguments)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Exports a PyTorch network, its parameters at some training steps, data and a recipe, for seigh:

    python3 examples/export.py conv OUT && seigh run OUT/recipe.toml

conv         a small convolutional network, scripted; weights at three steps
resnet18     a ResNet-18 for 32 x 32 images, traced; its own weights; narrower with --width
transformer  a transformer encoder over token sequences, scripted; a loss of its own

The data are made up: what matters is how each thing is handed over. Needs PyTorch and numpy.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def conv():
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(4, 4, 3, stride=2, padding=1),
                         nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(64, 10))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential() if inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet18(width):
    """He et al. 2016 with the first layer of CIFAR-10 networks; 11.2 million parameters at width 64."""
    w = [width, width, 2 * width, 4 * width, 8 * width]
    blocks = [Block(w[i] if first else w[i + 1], w[i + 1], 2 if first and i > 0 else 1)
              for i in range(4) for first in (True, False)]
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w[-1], 10))


class Encoder(nn.Module):
    """Predicts the next token at every place of a sequence [N, T]: outputs [N, T, vocabulary]."""

    def __init__(self, vocabulary=11, length=6, width=8):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(0.1 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(width, vocabulary)
        self.register_buffer("mask", torch.full((length, length), float("-inf")).triu(1))

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens) + self.place, self.mask))


class SmoothedCrossEntropy(nn.Module):
    """A loss: forward(outputs, targets) -> the mean over the samples given."""

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), label_smoothing=0.1)


def images(n, channels, size):
    """Ten classes of noisy gratings."""
    y = torch.arange(n) % 10
    angle = y * np.pi / 10
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")) / size
    waves = torch.sin(12 * (torch.cos(angle)[:, None, None] * grid[0] + torch.sin(angle)[:, None, None] * grid[1]))
    return waves[:, None] + 0.3 * torch.randn(n, channels, size, size), y


def train(net, loss, x, y, steps, save=lambda step: None):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    save(0)
    for step in range(1, steps + 1):
        net.train()
        batch = torch.randint(len(x), (32,))
        optimizer.zero_grad()
        loss(net(x[batch]), y[batch]).backward()
        optimizer.step()
        save(step)
    net.eval()  # before exporting: dropout off, batch norm with its running statistics


def write_safetensors(path, tensors):
    """What safetensors.torch.save_file (pip install safetensors) does for float32."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.detach().float().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


RECIPE = """\
name = "{name}"
[model]
module = "net.pt"
{weights}
[data]
x = "x.npy"
y = "y.npy"
[train]
loss = "{loss}"
{checkpoints}
[curvature]
samples = {samples}
[eigh]
k = {k}
products = {s}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["conv", "resnet18", "transformer"])
    parser.add_argument("out", type=Path, help="folder for the files")
    parser.add_argument("--width", type=int, default=64, help="channels of resnet18's first layer")
    parser.add_argument("--samples", type=int, default=100, help="samples of the data")
    arguments = parser.parse_args()
    out, n = arguments.out, arguments.samples
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    recipe = {"name": arguments.network, "weights": "", "checkpoints": "", "loss": "cross_entropy", "samples": n,
              "k": 20, "s": 60}

    if arguments.network == "conv":
        net = conv()
        x, y = images(n, 1, 16)
        (out / "weights").mkdir(exist_ok=True)

        def save(step):
            if step in (0, 20, 100):
                write_safetensors(out / f"weights/{step}.safetensors", net.state_dict())
        train(net, F.cross_entropy, x, y, 100, save)
        torch.jit.script(net).save(out / "net.pt")
        recipe.update(weights='weights = "weights/{step}.safetensors"', checkpoints="checkpoints = [0, 20, 100]")
    elif arguments.network == "resnet18":
        net = resnet18(arguments.width)
        x, y = images(n, 3, 32)
        train(net, F.cross_entropy, x, y, 5)
        torch.jit.trace(net, x[:2]).save(out / "net.pt")  # with gradients on: not under torch.no_grad()
    else:
        net, loss = Encoder(), SmoothedCrossEntropy()
        tokens = torch.cumsum(torch.randint(1, 3, (n, 7)), 1) % 11
        x, y = tokens[:, :-1], tokens[:, 1:]
        train(net, loss, x, y, 50)
        torch.jit.script(net).save(out / "net.pt")
        torch.jit.script(loss).save(out / "loss.pt")
        recipe.update(loss="loss.pt")

    np.save(out / "x.npy", x.numpy())
    np.save(out / "y.npy", y.numpy())
    (out / "recipe.toml").write_text(RECIPE.format(**recipe))
    print(f"{sum(p.numel() for p in net.parameters())} parameters; now: seigh run {out}/recipe.toml")


if __name__ == "__main__":
    main()

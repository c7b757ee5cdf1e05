"""Networks that products are timed of, with random data: `small -> (module, inputs, targets, samples of curvlinops' mini-batches)`."""

import torch
from torch import nn
from torch.nn import functional as F


def mlp(small):
    widths = [256] + [20] * 5 + [10] if not small else [16, 8, 8, 4]
    layers = [part for a, b in zip(widths, widths[1:]) for part in (nn.Linear(a, b), nn.Tanh())]
    n = 500 if not small else 20
    return nn.Sequential(*layers[:-1]), torch.randn(n, widths[0]), torch.arange(n) % widths[-1], n


def three_c_three_d(small):
    """Of DeepOBS on CIFAR-10 (Schneider, Balles, Hennig 2019): three convolutions, three dense layers, 895210 parameters."""
    side, c, dense, n = (32, (64, 96, 128), (512, 256), 500) if not small else (16, (4, 4, 4), (8, 8), 10)

    class Same(nn.Module):  # pads to the size of TensorFlow's "same" pooling
        def forward(self, x):
            return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)

    flat = c[2] * (3 if not small else 1)**2
    model = nn.Sequential(nn.Conv2d(3, c[0], 5), nn.ReLU(), Same(), nn.Conv2d(c[0], c[1], 3), nn.ReLU(), Same(),
                          nn.Conv2d(c[1], c[2], 3, padding=1), nn.ReLU(), Same(), nn.Flatten(), nn.Linear(flat, dense[0]), nn.ReLU(),
                          nn.Linear(dense[0], dense[1]), nn.ReLU(), nn.Linear(dense[1], 10))
    return model, torch.randn(n, 3, side, side), torch.arange(n) % 10, min(n, 50)


class Residual(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1, bias=False),
                                  nn.BatchNorm2d(b))
        self.skip = nn.Identity() if stride == 1 and a == b else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        return F.relu(self.body(x) + self.skip(x))


def resnet18(small):
    """He et al. 2016, with a stem of 3 x 3 for images of 32 x 32: 11173962 parameters."""
    w, n = (64, 64) if not small else (4, 4)
    blocks = [Residual(a, b, stride) for a, b, stride in ((w, w, 1), (w, w, 1), (w, 2 * w, 2), (2 * w, 2 * w, 1), (2 * w, 4 * w, 2), (4 * w, 4 * w, 1),
                                                          (4 * w, 8 * w, 2), (8 * w, 8 * w, 1))]
    model = nn.Sequential(nn.Conv2d(3, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(8 * w, 10))
    return model, torch.randn(n, 3, 32, 32), torch.arange(n) % 10, min(n, 8)


def imagenet(side, samples):
    """ResNet-18 with the stem of ImageNet (7 x 7, stride 2, then a maximum): 11181642 parameters for 10 classes."""
    def make(small):
        w, n, pixels = (64, samples, side) if not small else (4, 4, 32)
        blocks = [Residual(a, b, stride) for a, b, stride in ((w, w, 1), (w, w, 1), (w, 2 * w, 2), (2 * w, 2 * w, 1), (2 * w, 4 * w, 2),
                                                              (4 * w, 4 * w, 1), (4 * w, 8 * w, 2), (8 * w, 8 * w, 1))]
        model = nn.Sequential(nn.Conv2d(3, w, 7, 2, 3, bias=False), nn.BatchNorm2d(w), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
                              nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, 10))
        return model, torch.randn(n, 3, pixels, pixels), torch.arange(n) % 10, min(n, 500 * 32**2 // pixels**2)
    return make


class Block(nn.Module):
    def __init__(self, width, heads, causal=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, width = x.shape
        q, k, v = (part.reshape(n, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.first(x)).chunk(3, -1))
        # Attention written out: the fused kernel has no second derivative, and curvlinops' would fail.
        scores = q @ k.transpose(-2, -1) / (width / self.heads)**0.5
        if self.causal:
            scores = scores + torch.full((t, t), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, width))
        return x + self.down(F.gelu(self.up(self.second(x))))


class GPT(nn.Module):
    def __init__(self, tokens, context, width, layers, heads):
        super().__init__()
        self.token, self.place = nn.Embedding(tokens, width), nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks, self.norm, self.head = nn.Sequential(*[Block(width, heads) for _ in range(layers)]), nn.LayerNorm(width), nn.Linear(width, tokens)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.token(x) + self.place))).transpose(1, 2)


def gpt(small):
    tokens, context, width, layers, heads, n = (256, 64, 128, 4, 4, 16) if not small else (16, 8, 16, 1, 2, 3)
    text = torch.randint(0, tokens, (n, context + 1))
    return GPT(tokens, context, width, layers, heads), text[:, :-1], text[:, 1:], n


def gpt2(small):
    """Of GPT-2's smallest size (Radford et al. 2019), for sequences of 512: its head is its embedding, 124 million parameters."""
    tokens, context, width, layers, heads, n = (50257, 512, 768, 12, 12, 4) if not small else (16, 8, 16, 1, 2, 3)
    text = torch.randint(0, tokens, (n, context + 1))
    model = GPT(tokens, context, width, layers, heads)
    model.head = nn.Linear(width, tokens, bias=False)
    model.head.weight = model.token.weight
    nn.init.normal_(model.token.weight, std=0.02)
    return model, text[:, :-1], text[:, 1:], 1


class ViT(nn.Module):
    """Dosovitskiy et al. 2021, the mean of the patches in the place of a class token."""

    def __init__(self, side, patch, width, layers, heads):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.place = nn.Parameter(0.02 * torch.randn((side // patch)**2, width))
        self.blocks, self.norm, self.head = nn.Sequential(*[Block(width, heads, False) for _ in range(layers)]), nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.patches(x).flatten(2).transpose(1, 2) + self.place)).mean(1))


def vit(small):
    side, patch, width, layers, heads, n = (32, 4, 192, 12, 3, 500) if not small else (8, 4, 16, 1, 2, 4)
    return ViT(side, patch, width, layers, heads), torch.randn(n, 3, side, side), torch.arange(n) % 10, min(n, 125)


NETWORKS = {"mlp": mlp, "3c3d": three_c_three_d, "resnet18": resnet18, "gpt": gpt, "resnet18-stem": imagenet(32, 500),
            "resnet18-224": imagenet(224, 128), "vit": vit, "gpt2": gpt2}

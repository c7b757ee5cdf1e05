#!/usr/bin/env python3
"""Seconds per Hessian-vector product in Python, of seigh and of curvlinops, one vector at a time and in blocks.

    PYTHONPATH=build/release/python:PEERS .venv/bin/python bench/python_products.py [--networks mlp,3c3d] [--repeats 7] [--small]

Both take the same module, loss and images or tokens in float32 and take turns; printed are the median and the quartiles, divided by the
vectors of a block, and the ratio of each turn. What making an operator takes is apart: seigh's holds its checks, once. PEERS: what
scripts/peers.txt installs. --small: a run that shows that it runs. "differ by" should be rounding; of gpt it is 2 %, all in the rows of
LayerNorm's weights, where torch.func's jvp of jacrev (2.13), and with it curvlinops' product, is wrong: tests/python/test_peers.py."""

import argparse
import platform
import statistics
import time

import torch
from curvlinops import HessianLinearOperator
from torch import nn
from torch.nn import functional as F

import seigh
from networks import NETWORKS


def timed(work):
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def shown(seconds):
    low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return f"{1e3 * middle:10.3f} [{1e3 * low:.3f}, {1e3 * high:.3f}]"


def compare(name, options):
    torch.manual_seed(0)
    model, x, y, most = NETWORKS[name](options.small)
    model.eval()
    parameters = list(model.parameters())
    size = sum(p.numel() for p in parameters)
    # curvlinops keeps the activations of a mini-batch for each vector of a block: smaller ones where all would not fit.
    pieces = list(zip(x.split(options.batch or most), y.split(options.batch or most)))
    making, ours = timed(lambda: seigh.Hessian(model, F.cross_entropy, (x, y)))
    first, _ = timed(lambda: ours @ torch.randn(size))
    peer_making, theirs = timed(lambda: HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, pieces, check_deterministic=False))
    print(f"{name}: D = {size}, {len(x)} samples, curvlinops in mini-batches of {len(pieces[0][0])}; made with checks in {making + first:.2f} s, "
          f"curvlinops without in {peer_making:.2f} s", flush=True)
    for block in options.blocks:
        v = torch.randn(size, block) if block > 1 else torch.randn(size)
        mine, other = [], []
        reference = None
        for turn in range(options.repeats + 1):
            seconds, product = timed(lambda: ours @ v)
            try:
                peer_seconds, expected = timed(lambda: theirs @ v)
            except (RuntimeError, MemoryError) as error:
                print(f"  block {block:3}: curvlinops: {str(error).splitlines()[0][:100]}", flush=True)
                break
            if turn == 0:  # warms up
                reference = float((product - expected).norm() / expected.norm())
                continue
            mine.append(seconds / block)
            other.append(peer_seconds / block)
        if not mine:
            continue
        ratios = [b / a for a, b in zip(mine, other)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(f"  block {block:3}: seigh {shown(mine)} ms   curvlinops {shown(other)} ms   ratio {middle:6.2f} [{low:.2f}, {high:.2f}]   "
              f"differ by {reference:.1e}", flush=True)


class OwnOrder(nn.Module):
    """3c3d in the order of seigh's own network: pooling before ReLU, which gives the same numbers and works on fewer."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 64, 5), nn.Conv2d(64, 96, 3), nn.Conv2d(96, 128, 3, padding=1)
        self.l1, self.l2, self.l3 = nn.Linear(1152, 512), nn.Linear(512, 256), nn.Linear(256, 10)

    def forward(self, x):
        for convolution in (self.c1, self.c2, self.c3):
            x = F.relu(F.max_pool2d(convolution(x), 3, 2, ceil_mode=True))
        return self.l3(F.relu(self.l2(F.relu(self.l1(x.flatten(1))))))


def engine(name, options):
    """The library's own operator of the same network beside the one of the module: pairs in turn, the median ratio and its 95 % interval
    by order statistics."""
    torch.manual_seed(0)
    model, x, y, _ = NETWORKS[name](False)
    if name == "3c3d":
        model = OwnOrder()
    core = seigh._context.core_of(None)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    ours = seigh.Hessian(model, nn.CrossEntropyLoss(), (x, y))
    own = seigh._core.own_network(name, list(x.shape[1:]), 10, flat, x, y, {"kind": "hessian"}, core)
    for block in options.blocks:
        v = torch.randn(flat.numel(), block)
        same = torch.equal(ours @ v, own.apply(v, core))
        pairs = []
        for _ in range(max(options.repeats, 20)):
            a, _ = timed(lambda: ours @ v)
            b, _ = timed(lambda: own.apply(v, core))
            pairs.append((a / b, a / block, b / block))
        ratios = sorted(ratio for ratio, _, _ in pairs)
        n = len(ratios)
        half = round(0.98 * n**0.5)
        print(f"{name}, block {block:3}: module {1000 * statistics.median(a for _, a, _ in pairs):9.3f} ms   engine "
              f"{1000 * statistics.median(b for _, _, b in pairs):9.3f} ms   ratio {statistics.median(ratios):.3f} "
              f"[{ratios[n // 2 - half]:.3f}, {ratios[min(n // 2 + half, n - 1)]:.3f}] of {n} pairs, {'the same bits' if same else 'other bits'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of " + ", ".join(NETWORKS))
    parser.add_argument("--blocks", default="1,8,32", help="vectors at once")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=0, help="of curvlinops' mini-batches; 0: chosen")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--engine", action="store_true", help="beside the library's own operator of the same network instead, for mlp and 3c3d")
    parser.add_argument("--small", action="store_true", help="tiny networks: only whether it runs")
    options = parser.parse_args()
    options.blocks = [int(block) for block in options.blocks.split(",")]
    chosen = options.networks.split(",")
    if unknown := [name for name in chosen if name not in NETWORKS]:
        parser.error(f"there is no network {unknown[0]!r}; there are {', '.join(NETWORKS)}")
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, seigh {seigh.__version__}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}; "
          "milliseconds for each vector, median [quartiles]; ratio of curvlinops to seigh")
    for name in chosen:
        if not options.engine:
            compare(name, options)
        elif name in ("mlp", "3c3d"):
            engine(name, options)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Products and eigenpairs of networks on a GPU: are they the CPU's, how fast, and how far from what the card can do.

    PYTHONPATH=build/release/python:PEERS .venv/bin/python bench/device.py [--device cuda] [--networks mlp,3c3d] [--minutes 5] [--small]

For each network of bench/networks.py: how far products in float32 and float64 are from the CPU's, milliseconds for each vector one
at a time and in blocks, Hessian and Gauss-Newton matrix, their share of the device's rate of float32 matrix products at 6F (4F) flops, F
those of a forward pass, and curvlinops beside it on the same device where it is installed (PEERS: what scripts/peers.txt installs). Then whether memory stays flat, and
block Krylov of 3c3d. What does not fit into --minutes is left out and named. --small: a run that shows that it runs."""

import argparse
import copy
import os
import platform
import statistics
import sys
import time
import types

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import seigh
from networks import NETWORKS

try:
    from curvlinops import GGNLinearOperator, HessianLinearOperator
except ImportError:
    HessianLinearOperator = None


def pretend(library):
    """A device for machines without one: tests/support/pretended_device.h."""
    torch.ops.load_library(library)
    module = types.ModuleType("torch.pretended")
    module.is_available, module.device_count, module.current_device = lambda: True, lambda: 1, lambda: 0
    module._is_in_bad_fork, module.manual_seed_all = lambda: False, lambda seed: None
    torch._register_device_module("pretended", module)


class Bench:
    def __init__(self, device, minutes, small, repeats):
        self.device, self.small, self.repeats = torch.device(device), small, repeats
        self.end = time.monotonic() + 60 * minutes
        self.left_out, self.wrong = [], []
        self.rate = self.matrix_rate()

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work, repeats=None):
        work()
        times = []
        for _ in range(repeats or self.repeats):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    def matrix_rate(self):
        n = 256 if self.small else 8192
        a, b = torch.randn(n, n, device=self.device), torch.randn(n, n, device=self.device)
        return 2 * n**3 / self.seconds(lambda: a @ b)

    def time_for(self, what):
        if time.monotonic() < self.end:
            return True
        self.left_out.append(what)
        return False

    def check(self, what, off, bound):
        print(f"  {what}: off by {off:.1e}{'' if off <= bound else f', MORE THAN {bound:.0e}'}", flush=True)
        if not off <= bound:
            self.wrong.append(what)

    def network(self, name):
        torch.manual_seed(0)
        model, x, y, most = NETWORKS[name](self.small)
        model.eval()
        there, tx, ty = copy.deepcopy(model).to(self.device), x.to(self.device), y.to(self.device)
        size = sum(p.numel() for p in model.parameters())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x)
        forward = counter.get_total_flops()
        print(f"{name}: D = {size}, {len(x)} samples, F = {forward / 1e9:.3g} GFLOP", flush=True)

        few = slice(0, min(len(x), 32))
        v = torch.randn(size, 2)
        for dtype, bound in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
            here = seigh.Hessian(model, F.cross_entropy, (x[few], y[few]), dtype=dtype) @ v
            product = seigh.Hessian(there, F.cross_entropy, (tx[few], ty[few]), dtype=dtype) @ v
            self.check(f"products in {str(dtype).replace('torch.', '')}, beside the CPU's", float((product - here).norm() / here.norm()), bound)

        for kind, passes in (("Hessian", 6), ("GGN", 4)):
            operator = getattr(seigh, kind)(there, F.cross_entropy, (tx, ty))
            peer = None
            if HessianLinearOperator:
                make = HessianLinearOperator if kind == "Hessian" else GGNLinearOperator
                peer = make(there, nn.CrossEntropyLoss(), list(there.parameters()), list(zip(tx.split(most), ty.split(most))), check_deterministic=False)
            for block in (1, 8, 32):
                if not self.time_for(f"{name}, {kind}, blocks of {block}"):
                    continue
                v = torch.randn(size, block, device=self.device)
                v = v if block > 1 else v[:, 0]
                ours = self.seconds(lambda: operator @ v) / block
                theirs = ""
                if peer is not None:
                    try:
                        other = self.seconds(lambda: peer @ v, 3) / block
                        theirs = f"   curvlinops {1e3 * other:9.3f} ms, {other / ours:.2f} times ours"
                    except Exception as error:  # too little memory, or no second derivative: theirs to say
                        theirs = f"   curvlinops: {str(error).splitlines()[0][:80]}"
                print(f"  {kind:7}  block {block:3}: {1e3 * ours:9.3f} ms, {100 * passes * forward / ours / self.rate:5.1f} % of the rate at {passes}F{theirs}",
                      flush=True)

    def flat_memory(self):
        if self.device.type != "cuda" or not self.time_for("memory over 2000 products"):
            return
        torch.manual_seed(0)
        model, x, y, _ = NETWORKS["mlp"](self.small)
        H = seigh.Hessian(model.to(self.device), F.cross_entropy, (x.to(self.device), y.to(self.device)))
        v = torch.randn(H.shape[0], 8, device=self.device)
        H @ v
        before = torch.cuda.memory_allocated()
        for _ in range(250):
            H @ v
        self.check("device memory after 2000 products, of what it was", abs(torch.cuda.memory_allocated() - before) / before, 0.01)

    def eigenpairs(self):
        """Small ones on both, and those of 3c3d."""
        torch.manual_seed(0)
        model, x, y, _ = NETWORKS["mlp"](self.small)
        there, tx, ty = copy.deepcopy(model).to(self.device), x.to(self.device), y.to(self.device)
        k = 3 if self.small else 20
        for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
            here = seigh.eigh(seigh.Hessian(model, F.cross_entropy, (x, y), dtype=dtype), k=k, tol=1e-6).eigenvalues
            found = seigh.eigh(seigh.Hessian(there, F.cross_entropy, (tx, ty), dtype=dtype), k=k, tol=1e-6).eigenvalues
            self.check(f"{k} eigenvalues of mlp in {str(dtype).replace('torch.', '')}, of the largest", float((found - here).abs().max() / here.abs().max()), bound)
        if not self.time_for("eigenpairs of 3c3d"):
            return
        model, x, y, _ = NETWORKS["3c3d"](self.small)
        k, products = (3, 20) if self.small else (1000, 2000)
        H = seigh.Hessian(model.to(self.device), F.cross_entropy, (x.to(self.device), y.to(self.device)))
        H @ torch.ones(H.shape[0])
        began = time.perf_counter()
        pairs = seigh.eigh(H, k=k, products=products, method="krylov")
        print(f"3c3d: {k} eigenpairs from {pairs.products} products in {time.perf_counter() - began:.1f} s, as initialised, the basis on the CPU", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of " + ", ".join(NETWORKS))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: the CUDA part was not run")
        return 0
    if options.device.startswith("pretended") and not hasattr(torch, "pretended"):
        pretend(os.environ["SEIGH_PRETENDED_DEVICE"])
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    bench = Bench(options.device, options.minutes, options.small, options.repeats)
    print(f"{name}, torch {torch.__version__}, seigh {seigh.__version__}, {torch.get_num_threads()} threads of {platform.processor() or platform.machine()}; "
          f"float32 matrix products {bench.rate / 1e12:.3g} TFLOP/s", flush=True)
    bench.eigenpairs()
    bench.flat_memory()
    for network in options.networks.split(","):
        if bench.time_for(network):
            bench.network(network)
    if bench.left_out:
        print("left out for time: " + "; ".join(bench.left_out))
    if bench.wrong:
        print("WRONG: " + "; ".join(bench.wrong))
    return 1 if bench.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

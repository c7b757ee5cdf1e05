#!/usr/bin/env python3
"""Products and eigenpairs of networks on a GPU: are they the CPU's, how fast, and how far from what the card can do.

    PYTHONPATH=build/release/python:PEERS .venv/bin/python bench/device.py [--device cuda] [--networks mlp,3c3d] [--parts products] [--minutes 5] [--small]

How far products are from the CPU's, in float32 and float64, by the graph, batched and stacked; eigenpairs of small networks on both, and those of 3c3d and
ResNet-18 by the clock; whether memory stays flat; then for each network of bench/networks.py milliseconds for each vector, in blocks and one at a
time (there also recorded and replayed, where that can be), Hessian and Gauss-Newton matrix in float32 and the Hessian in TF32 (the peers'
convolutions too are in float32 unless said), their share of the device's rate of float32 matrix products at 6F (4F) flops, F those of a forward
pass, and curvlinops and hessian-eigenthings beside it on the same device where they are installed (PEERS: what scripts/peers.txt installs). What does not fit
into --minutes is left out and named. --small: a run that shows that it runs."""

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
try:
    import hessian_eigenthings as eigenthings
except ImportError:
    eigenthings = None


def pretend(library):
    """A device for machines without one: tests/support/pretended_device.h."""
    torch.ops.load_library(library)
    module = types.ModuleType("torch.pretended")
    module.is_available, module.device_count, module.current_device = lambda: True, lambda: 1, lambda: 0
    module._is_in_bad_fork, module.manual_seed_all = lambda: False, lambda seed: None
    torch._register_device_module("pretended", module)


class Stages:
    """What `Context(progress=)` is told of: seconds of each stage."""

    def __init__(self):
        self.seconds = {}

    def begin(self, task, total, unit):
        self._task, self._began = task, time.perf_counter()

    def advance(self, count):
        pass

    def end(self):
        self.seconds[self._task] = self.seconds.get(self._task, 0) + time.perf_counter() - self._began

    def note(self, text):
        print(f"  {text}")

    def __str__(self):
        return ", ".join(f"{task} {seconds:.1f} s" for task, seconds in self.seconds.items())


class Bench:
    def __init__(self, device, minutes, small, repeats):
        self.device, self.small, self.repeats = torch.device(device), small, repeats
        self.end = time.monotonic() + 60 * minutes
        self.left_out, self.wrong = [], []
        self.allow_tf32(False)
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

    def agreement(self, name):
        """Products there and on the CPU, of a few samples."""
        torch.manual_seed(0)
        model, x, y, _ = NETWORKS[name](self.small)
        x, y = x[:8], y[:8]
        there, tx, ty = copy.deepcopy(model.eval()).to(self.device), x.to(self.device), y.to(self.device)
        v = torch.randn(sum(p.numel() for p in model.parameters()), 4)
        for kind in ("Hessian", "GGN"):
            for dtype, bound in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
                here = getattr(seigh, kind)(model, F.cross_entropy, (x, y), dtype=dtype, check=False) @ v
                for way in ("graph", "batched", "stacked")[:3 if name == "mlp" else 2]:
                    product = getattr(seigh, kind)(there, F.cross_entropy, (tx, ty), dtype=dtype, check=False, products=way) @ v
                    self.check(f"{name}, {kind}, {way}, {str(dtype).replace('torch.', '')}", float((product - here).norm() / here.norm()), bound)

    def others(self, kind, model, x, y, most, v):
        """Seconds of the peers for the same product, as text."""
        block = v.shape[1] if v.ndim == 2 else 1
        if HessianLinearOperator and (block > 1 or x.numel() * v.numel() < 10**9) and self.time_for("curvlinops"):
            try:
                make = HessianLinearOperator if kind == "Hessian" else GGNLinearOperator
                peer = make(model, nn.CrossEntropyLoss(), list(model.parameters()), list(zip(x.split(most), y.split(most))), check_deterministic=False)
                yield "curvlinops", self.seconds(lambda: peer @ v, 2) / block
            except Exception as error:  # too little memory, or no second derivative: theirs to say
                yield "curvlinops", str(error).splitlines()[0][:60]
        if eigenthings and kind == "Hessian" and block == 1 and self.time_for("hessian-eigenthings"):
            try:
                peer = eigenthings.HessianOperator(model, list(zip(x.split(most), y.split(most))), eigenthings.supervised_loss(F.cross_entropy))
                yield "eigenthings", self.seconds(lambda: peer.matvec(v), 2)
            except Exception as error:
                yield "eigenthings", str(error).splitlines()[0][:60]

    def network(self, name):
        torch.manual_seed(0)
        model, x, y, most = NETWORKS[name](self.small)
        model.eval().to(self.device)
        x, y = x.to(self.device), y.to(self.device)
        size = sum(p.numel() for p in model.parameters())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x)
        forward = counter.get_total_flops()
        print(f"{name}: D = {size}, {len(x)} samples, F = {forward / 1e9:.3g} GFLOP", flush=True)
        coarse = [("Hessian", 6, "tf32")] if self.device.type == "cuda" else []
        for kind, passes, precision in [("Hessian", 6, "float32"), ("GGN", 4, "float32"), *coarse]:
            if not self.time_for(f"{name}, {kind}, {precision}"):
                continue
            began = time.perf_counter()
            operator = getattr(seigh, kind)(model, F.cross_entropy, (x, y), check=False, precision=precision)
            try:
                way = operator.way
            except Exception as error:
                print(f"  {kind}: {str(error).splitlines()[0]}", flush=True)
                self.wrong.append(f"{name}, {kind}")
                continue
            print(f"  {kind}, {precision}: {way}, chosen in {time.perf_counter() - began:.1f} s" + "".join(f"; {note}" for note in operator.notes), flush=True)
            self.allow_tf32(precision == "tf32")  # to the peers
            for block in (32,) if precision == "tf32" else (32, 1) if size > 10**5 else (256, 1):
                v = torch.randn(size, block, device=self.device)
                v = v if block > 1 else v[:, 0]
                self.reset_peak()
                ours = self.seconds(lambda: operator @ v) / block
                peak = self.peak()
                others = self.others(kind, model, x, y, most, v) if block > 1 or kind == "Hessian" else ()
                theirs = "".join(f"   {who} {1e3 * other:9.3f} ms, {other / ours:.2f} times ours" if isinstance(other, float) else f"   {who}: {other}"
                                 for who, other in others)
                print(f"  {kind:7} {precision}, block {block:3}: {1e3 * ours:9.3f} ms, {100 * passes * forward / ours / self.rate:5.1f} % of the rate at "
                      f"{passes}F, {peak:5.1f} GiB{theirs}", flush=True)
                if block > 1 and way.startswith("stacked"):
                    batched = getattr(seigh, kind)(model, F.cross_entropy, (x, y), check=False, products="batched")
                    print(f"  {kind:7} {precision}, block {block:3}: {1e3 * self.seconds(lambda: batched @ v) / block:9.3f} ms {batched.way}", flush=True)
                if block == 1 and precision == "float32":
                    self.replayed(kind, model, x, y, v, operator @ v, ours)
            self.allow_tf32(False)
            del operator

    def replayed(self, kind, model, x, y, v, product, launched):
        try:
            operator = getattr(seigh, kind)(model, F.cross_entropy, (x, y), check=False, replay=True)
            seconds = self.seconds(lambda: operator @ v)
        except (RuntimeError, ValueError) as error:
            print(f"  {kind:7} not replayed: {str(error).splitlines()[0]}", flush=True)
            return
        print(f"  {kind:7} float32, block   1: {1e3 * seconds:9.3f} ms replayed, what is above takes {launched / seconds:.2f} times that; {operator.way}", flush=True)
        self.check(f"{kind}, replayed and launched", float((operator @ v - product).norm() / product.norm()), 1e-4)

    def allow_tf32(self, allowed):
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed

    def reset_peak(self):
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self):
        return torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else float("nan")

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
        self.solve("3c3d", *((3, 20) if self.small else (1000, 2000)), "krylov", times=2)
        self.solve("mlp", 3 if self.small else 355, 0, "dense", dtype=torch.float64)
        self.solve("gpt2", *((3, 20) if self.small else (100, 200)), "krylov")
        self.solve("resnet18-stem", *((3, 30) if self.small else (1000, 2000)), "seigh")
        self.from_the_host("3c3d", 300, 600)

    def from_the_host(self, name, k, products):
        """A basis of which half has to lie on the host, and one that is on the device."""
        if self.device.type != "cuda" or not self.time_for(f"a basis of {name} on either side"):
            return
        torch.manual_seed(0)
        model, x, y, _ = NETWORKS[name](self.small)
        H = seigh.Hessian(model.eval().to(self.device), F.cross_entropy, (x.to(self.device), y.to(self.device)))
        ceiling, found = None, []
        for where in ("on the device", "half of it on the host"):
            stages = Stages()
            self.reset_peak()
            began = time.perf_counter()
            found.append(seigh.eigh(H, k=k, products=products, method="krylov", context=seigh.Context(progress=stages, device_memory=ceiling)))
            print(f"{name}: {k} eigenpairs by krylov, the basis {where}: {time.perf_counter() - began:.1f} s, {stages}; {self.peak():.1f} GiB", flush=True)
            ceiling = int(self.peak() * 2**30) + 2**30 - 2 * products * H.shape[0]
        both = [torch.as_tensor(pairs.eigenvalues) for pairs in found]
        self.check("eigenvalues of the two, of the largest", float((both[0] - both[1]).abs().max() / both[0].abs().max()), 1e-5)

    def solve(self, name, k, products, method, times=1, dtype=None):
        if not self.time_for(f"eigenpairs of {name}"):
            return
        torch.manual_seed(0)
        model, x, y, _ = NETWORKS[name](self.small)
        stages = Stages()
        H = seigh.Hessian(model.eval().to(self.device), F.cross_entropy, (x.to(self.device), y.to(self.device)), dtype=dtype,
                          context=seigh.Context(progress=stages))
        for _ in range(times):
            self.reset_peak()
            stages.seconds.clear()
            began = time.perf_counter()
            pairs = seigh.eigh(H, k=k, products=products, method=method)
            solved = time.perf_counter()
            print(f"{name}: {k} eigenpairs by {method} from {pairs.products} products in {solved - began:.1f} s, as initialised, products checked with them: "
                  f"{stages}; {H.way}; {self.peak():.1f} GiB", flush=True)
        if name == "3c3d":
            found = seigh.overlap(pairs, seigh.masks.magnitude(model), random_masks=10)
            print(f"{name}: overlap of {len(found.overlap)} masks with its nulls in {time.perf_counter() - solved:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of " + ", ".join(NETWORKS))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--parts", default="agreement,eigenpairs,memory,products")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: the CUDA part was not run")
        return 0
    if options.device.startswith("pretended") and not hasattr(torch, "pretended"):
        pretend(os.environ["SEIGH_PRETENDED_DEVICE"])
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    bench = Bench(options.device, options.minutes, options.small, options.repeats)
    print(f"{name}, torch {torch.__version__}, seigh {seigh.__version__}, {torch.get_num_threads()} threads of {platform.processor() or platform.machine()}; "
          f"float32 matrix products {bench.rate / 1e12:.3g} TFLOP/s", flush=True)
    if "agreement" in parts:
        for network in ("mlp", "3c3d", "gpt", *(() if options.small else ("resnet18",))):
            bench.agreement(network)
    if "eigenpairs" in parts:
        bench.eigenpairs()
    if "memory" in parts:
        bench.flat_memory()
    if "products" in parts:
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

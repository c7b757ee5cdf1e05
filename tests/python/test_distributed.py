"""Processes of a torch.distributed group (gloo) that share out what one does alone. The test starts three of itself by torchrun."""

import contextlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch.distributed as dist

from support import *

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import device

# The device that SEIGH_DEVICE names, which all of them share, or a pretended one.
DEVICE, LIBRARY = os.environ.get("SEIGH_DEVICE", ""), os.environ.get("SEIGH_PRETENDED_DEVICE", "none").replace("none", "")
SIZE = 3
# Parts of 50 samples: of different size, and one of a single sample.
PARTS = [slice(0, 30), slice(30, 49), slice(49, 50)]


NET = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).double()

def data(split):
    torch.manual_seed(5)
    x, y = torch.randn(50, 6).double(), torch.arange(50) % 4
    return x[:40], y[:40]
"""


class Processes(Case):
    """What each of them does."""

    def setUp(self):
        super().setUp()
        self.rank = dist.get_rank()
        self.context = seigh.Context(group=True, progress=False)
        self.net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).double()
        torch.manual_seed(5)
        self.x, self.y = torch.randn(50, 6).double(), torch.arange(50) % 4

    def everywhere(self, thing):
        """That of the first process."""
        things = [thing]
        dist.broadcast_object_list(things, 0)
        return things[0]

    def matrix(self, of=seigh.Hessian, loss=F.cross_entropy, part=slice(None), **more):
        more.setdefault("context", self.context)
        return of(self.net, loss, (self.x[part], self.y[part]), **more)

    def alone(self, of=seigh.Hessian, **more):
        return self.matrix(of, context=None, **more)

    def test_every_method_gives_what_one_process_gives(self):
        for method, products in (("krylov", 0), ("dense", 0), ("seigh", 90), ("hmt", 90), ("auto", 0)):
            H = self.matrix()
            found = seigh.eigh(H, 6, method=method, products=products, seed=2)
            expected = seigh.eigh(self.alone(), 6, method=method, products=products, seed=2)
            self.close(found.eigenvalues, expected.eigenvalues, 1e-8)
            self.assertEqual(tuple(found.eigenvectors.shape), (H.shape[0], 6))
            self.assertLess(float((H @ found.eigenvectors - found.eigenvectors * found.eigenvalues).norm(dim=0).max()),
                            float(found.residuals.max()) + 1e-9 if found.residuals is not None else 1e-9)
            self.assertEqual(found.certified, expected.certified, method)
            of_all = self.context._group.gathered((found.eigenvalues.tolist(), found.trust, found.products))
            self.assertTrue(all(one == of_all[0] for one in of_all), method)

    def test_each_makes_some_of_the_products(self):
        H = self.matrix(check=False)
        found = seigh.eigh(H, 6, method="krylov", probes=0, checks=0)
        here = torch.tensor([H._operator.products])
        self.assertLess(int(here), found.products)
        dist.all_reduce(here)
        self.assertLessEqual(abs(int(here) - found.products - SIZE), 3)  # and one that compares the matrices

    def test_trace_diagonal_and_density(self):
        self.assertAlmostEqual(float(seigh.trace(self.matrix(), products=20)), float(seigh.trace(self.alone(), products=20)), 8)
        self.close(seigh.diagonal(self.matrix(), products=20).values, seigh.diagonal(self.alone(), products=20).values, 1e-9)
        grid = torch.linspace(-1, 1, 5)
        self.close(seigh.density(self.matrix(), vectors=3, steps=9).cumulative(grid)[0],
                   seigh.density(self.alone(), vectors=3, steps=9).cumulative(grid)[0], 1e-6)

    def test_parts_of_the_data(self):
        mine = PARTS[self.rank]
        v = torch.randn(self.alone().shape[0], 3).double()
        for of in (seigh.Hessian, seigh.GGN, seigh.EmpiricalFisher, seigh.MCFisher):
            S, H = self.matrix(of, part=mine, sharded=True, l2=0.1), self.alone(of, l2=0.1)
            self.close(S @ v, H @ v, 1e-12)
            self.close(S.gradient(), H.gradient(), 1e-12)
            self.assertAlmostEqual(S.loss(), H.loss(), 12)
            for method in ("krylov", "dense"):
                self.close(seigh.eigh(S, 5, method=method).eigenvalues, seigh.eigh(H, 5, method=method).eigenvalues, 1e-8)
        S, H = self.matrix(seigh.MCFisher, part=mine, sharded=True, draws=3, seed=7), self.alone(seigh.MCFisher, draws=3, seed=7)
        self.close(S @ v, H @ v, 1e-12)
        S = self.matrix(part=mine, sharded=True, products="stacked")
        self.close(S @ v, self.alone() @ v, 1e-12)
        add = nn.CrossEntropyLoss(reduction="sum")
        S, H = (f(loss=add, reduction="sum", l2=0.1, **part) for f, part in ((self.matrix, dict(part=mine, sharded=True)), (self.alone, {})))
        self.close(S @ v, H @ v, 1e-12)
        self.assertAlmostEqual(S.loss(), H.loss(), 11)

    def test_fast_products(self):
        """Found by products in bfloat16, held against products in float32, by columns and of parts of the data."""
        self.net.float()
        self.x = self.x.float()
        exact = seigh.eigh(self.alone(dtype=torch.float64), 5, method="dense").eigenvalues
        for more in ({}, {"part": PARTS[self.rank], "sharded": True}):
            H = self.matrix(precision="bf16", products="graph", check=False, **more)
            found = seigh.eigh(H, 5, method="krylov", products=60)
            self.assertGreater(H.product_error, 1e-4)
            self.close(found.eigenvalues, exact, 1e-3)
            for low, value, high in zip(found.enclosure[:, 0], exact, found.enclosure[:, 1]):
                self.assertTrue(low <= value <= high)
            of_all = self.context._group.gathered((found.eigenvalues.tolist(), found.trust, found.products))
            self.assertTrue(all(one == of_all[0] for one in of_all))

    # Of weighted batches: the weights of all processes count.
    def test_parts_with_weights(self):
        def batches(part):
            x, y = self.x[part], self.y[part]
            return [(x[i:i + 10], y[i:i + 10]) for i in range(0, len(y), 10)]

        model_loss = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
        weight = lambda batch: len(batch[1])
        S = seigh.Hessian(self.net, model_loss, batches(PARTS[self.rank]), weight=weight, sharded=True, context=self.context)
        v = torch.randn(S.shape[0]).double()
        self.close(S @ v, self.alone() @ v, 1e-12)

    # Losses whose mean is over other things than samples say by weight= what a part counts.
    def test_parts_of_other_means(self):
        classes, mine = torch.tensor([1.0, 3.0, 0.5, 2.0]).double(), PARTS[self.rank]
        loss = lambda outputs, targets: F.cross_entropy(outputs, targets, weight=classes)
        with self.assertRaisesRegex(ValueError, "give weight="):
            self.matrix(loss=loss, part=mine, sharded=True)
        S = self.matrix(loss=loss, part=mine, sharded=True, weight=lambda batch: classes[batch[1]].sum())
        v = torch.randn(S.shape[0]).double()
        self.close(S @ v, self.alone(loss=loss) @ v, 1e-12)
        self.y[:10] = -100
        S = self.matrix(part=mine, sharded=True, weight=lambda batch: (batch[1] >= 0).sum())
        self.close(S @ v, self.alone() @ v, 1e-12)
        # One batch in each process.
        model_loss = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
        S = seigh.Hessian(self.net, model_loss, [(self.x[mine], self.y[mine])], weight=lambda batch: (batch[1] >= 0).sum(), sharded=True, context=self.context)
        self.close(S @ v, self.alone() @ v, 1e-12)

    def test_parts_of_different_models_are_refused_by_all(self):
        mine = PARTS[self.rank]
        if self.rank == 1:
            with torch.no_grad():
                self.net[0].bias += 1
        with self.assertRaisesRegex(ValueError, "process 1 has other parameters than the first"):
            self.matrix(part=mine, sharded=True, params=["2"])
        if self.rank == 1:
            with torch.no_grad():
                self.net[0].bias -= 1
        with self.assertRaisesRegex(ValueError, "process 2 has l2 = 0.5"):
            self.matrix(part=mine, sharded=True, l2=0.5 if self.rank == 2 else 0.1)
        broken = slice(0, 0) if self.rank == 2 else mine
        with self.assertRaisesRegex((ValueError, RuntimeError), "process 2: " if self.rank < 2 else ""):
            self.matrix(part=broken, sharded=True)
        S = self.matrix(part=mine, sharded=True, params=["0.weight"])
        with self.assertRaisesRegex(ValueError, "one with their group"):
            seigh.eigh(S, 2, context=seigh.Context(progress=False))

    def test_matrices_that_differ_are_refused_by_all(self):
        with self.assertRaisesRegex(ValueError, "matrices differ"):
            seigh.eigh(self.matrix(part=PARTS[self.rank]), 3)
        with self.assertRaisesRegex(ValueError, "different dtypes"):
            seigh.eigh(self.matrix(dtype=torch.float32 if self.rank == 1 else None), 3)
        if self.rank == 2:
            self.net.append(nn.Linear(4, 4).double())
        with self.assertRaisesRegex(ValueError, "different numbers of rows"):
            seigh.eigh(self.matrix(), 3)

    def test_sharded_parameters_are_refused(self):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import distribute_module

        mesh = init_device_mesh("cpu", (SIZE,))
        for sharded in (fully_shard(copy.deepcopy(self.net), mesh=mesh), distribute_module(copy.deepcopy(self.net), mesh)):
            with self.assertRaisesRegex(NotImplementedError, "whole ones: load the full state_dict"):
                seigh.Hessian(sharded, F.cross_entropy, (self.x, self.y))
        self.close(seigh.eigh(seigh.Hessian(nn.parallel.DistributedDataParallel(self.net), F.cross_entropy, (self.x, self.y), context=self.context),
                              3).eigenvalues, seigh.eigh(self.alone(), 3).eigenvalues, 1e-9)

    def test_a_run(self):
        folder = self.everywhere(pathlib.Path(tempfile.mkdtemp()))
        if self.rank == 0:
            self.addCleanup(shutil.rmtree, folder)
            (folder / "net.py").write_text(NET)
            (folder / "recipe.toml").write_text('model.python = "net.py:make"\nmodel.weights = "w.pt"\ndata.python = "net.py:data"\n'
                                                'train.loss = "cross_entropy"\ntrain.checkpoints = [0]\neigh.k = 4\n'
                                                'eigh.method = "krylov"\noverlap.random_masks = 10\n')
            torch.save(self.net.state_dict(), folder / "w.pt")
        dist.barrier()
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            run = pathlib.Path(seigh.run(folder / "recipe.toml", out=folder / "run", context=self.context))
        pairs = seigh.load(next((run / "eigen").glob("*.h5")))
        self.close(pairs.eigenvalues, seigh.eigh(self.alone(part=slice(0, 40)), 4).eigenvalues, 1e-5)  # float32
        self.assertTrue((run / "report.html").exists())
        self.assertEqual(len(said.getvalue()) > 0, self.rank == 0, said.getvalue())
        dist.barrier()

    def test_recorders(self):
        folder = self.everywhere(pathlib.Path(tempfile.mkdtemp()))
        if self.rank == 0:
            self.addCleanup(shutil.rmtree, folder)
        said, values = io.StringIO(), []
        for name, context in (("together", self.context), ("first", None)):
            net = nn.parallel.DistributedDataParallel(copy.deepcopy(self.net))
            with contextlib.redirect_stdout(said):
                recorder = seigh.Recorder(net, F.cross_entropy, (self.x, self.y), every=2, k=4, out=folder / name, context=context,
                                          more={"eigh.method": "krylov", "overlap.random_masks": 4})
                optimizer = torch.optim.SGD(net.parameters(), 0.5)
                for step in range(3):
                    recorder(step)
                    optimizer.zero_grad()
                    F.cross_entropy(net(self.x[PARTS[self.rank]]), self.y[PARTS[self.rank]]).backward()
                    optimizer.step()
                page = recorder.finish()
            dist.barrier()
            self.assertTrue(pathlib.Path(page).exists())
            values.append([seigh.load(path).eigenvalues for path in sorted((folder / name / "eigen").glob("*.h5"))])
        self.assertEqual(len(values[0]), 2)
        self.close(torch.stack(values[0]), torch.stack(values[1]), 1e-4)
        self.assertEqual(len(said.getvalue()) > 0, self.rank == 0, said.getvalue())
        dist.barrier()

    def test_on_a_device(self):
        if not DEVICE and not LIBRARY:
            raise unittest.SkipTest("the pretended device needs libtorch 2.13")
        there = torch.device(DEVICE or "pretended", 0)
        H = seigh.Hessian(copy.deepcopy(self.net).to(there), F.cross_entropy, (self.x.to(there), self.y.to(there)), context=self.context)
        found, expected = (seigh.eigh(of, 5, method="krylov") for of in (H, self.alone()))
        self.close(found.eigenvalues, expected.eigenvalues, 1e-9)
        self.assertEqual(found.eigenvectors.device.type, "cpu")
        self.assertEqual(self.context._group.sharing(there), SIZE)
        # What stops when enough is found, and what does not.
        for more in (dict(k=60, error=0.05), dict(k=60, products=100)):
            found, expected = (seigh.eigh(of, method="krylov", **more) for of in (H, self.alone()))
            self.assertEqual(found.eigenvalues.device.type, "cpu")
            self.close(found.eigenvalues[:5], expected.eigenvalues[:5], 1e-6)

    def test_a_group_within_the_group(self):
        pair = dist.new_group([0, 2])
        if self.rank == 1:
            with self.assertRaisesRegex(ValueError, "no member of"):
                seigh.Context(group=pair)
            return
        context = seigh.Context(group=pair, progress=False)
        found = seigh.eigh(self.matrix(context=context), 4, method="krylov")
        self.close(found.eigenvalues, seigh.eigh(self.alone(), 4, method="krylov").eigenvalues, 1e-9)


class Alone(Case):
    def test_the_processes(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={SIZE}", "--redirects=3",
                                   f"--log-dir={folder}", __file__], env=dict(os.environ, OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=900)
            logs = "".join(f"--- {log.relative_to(folder)}\n{log.read_text()}" for log in sorted(pathlib.Path(folder).rglob("std*.log")))
        self.assertEqual(done.returncode, 0, logs + done.stderr[-2000:])
        self.assertEqual(logs.count("\nOK"), SIZE, logs)

    def test_without_a_group(self):
        with self.assertRaisesRegex(ValueError, "init_process_group"):
            seigh.Context(group=True)
        with self.assertRaisesRegex(ValueError, "group="):
            seigh.Hessian(nn.Linear(2, 2), F.cross_entropy, (torch.randn(4, 2), torch.arange(4) % 2), sharded=True)


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if LIBRARY and not DEVICE:
            device.pretend(LIBRARY)  # before torch first goes backward
        dist.init_process_group("gloo")
        unittest.main(defaultTest="Processes", failfast=True)  # the others would wait for one that has failed
    else:
        unittest.main(defaultTest="Alone")

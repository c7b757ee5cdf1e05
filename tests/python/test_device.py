"""Networks on another device than the CPU: the one that SEIGH_DEVICE names, or a pretended one (tests/support/pretended_device.h), whose memory
is nobody's but torch's."""

import contextlib
import io
import os
import pathlib
import sys
import tempfile

from support import *

DEVICE, LIBRARY = os.environ.get("SEIGH_DEVICE", ""), os.environ.get("SEIGH_PRETENDED_DEVICE", "")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import device


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8, padding_idx=0)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
        self.head = nn.Linear(8, 7)

    def forward(self, x):
        return self.head(self.layer(self.embed(x))).transpose(1, 2)


class Device(Case):
    @classmethod
    def setUpClass(cls):
        if DEVICE:
            cls.device = torch.ones(1, device=DEVICE).device
            return
        # CMake leaves it out where this libtorch is older than what it is written for.
        assert LIBRARY, "SEIGH_PRETENDED_DEVICE must name the library tests/support/pretended_device.cc is built into"
        if LIBRARY == "none":
            raise unittest.SkipTest("the pretended device needs libtorch 2.13")
        device.pretend(LIBRARY)
        cls.device = torch.device("pretended", 0)

    def cases(self):
        torch.manual_seed(1)
        yield nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(20, 6), torch.arange(20) % 3
        yield nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)), torch.randn(20, 6), torch.arange(20) % 3
        yield Convolutions().eval(), torch.randn(8, 1, 8, 8), torch.arange(8) % 3
        yield Tokens().eval(), torch.randint(0, 7, (5, 4)), torch.randint(0, 7, (5, 4))

    def test_everything_is_as_on_the_cpu(self):
        for model, x, y in self.cases():
            model = model.double()
            x = x.double() if x.is_floating_point() else x
            there = copy.deepcopy(model).to(self.device)
            data = (x.to(self.device), y.to(self.device))
            for kind in (seigh.Hessian, seigh.GGN, seigh.EmpiricalFisher, seigh.MCFisher):
                here, H = kind(model, F.cross_entropy, (x, y)), kind(there, F.cross_entropy, data)
                self.assertEqual(H.device, self.device)
                # CUDA's fused attention has no second derivative; elsewhere libtorch takes the mathematical kernel by itself.
                self.assertEqual([note for note in H.notes if not note.startswith("attention by the mathematical kernel")], [])
                v = torch.randn(H.shape[0], 3, dtype=torch.double)
                expected = here @ v
                # Of the kind, and where, the vectors are.
                self.close(H @ v, expected, 1e-10)
                self.close((H @ v.to(self.device)).cpu(), expected, 1e-10)
                self.assertEqual((H @ v[:, 0].to(self.device)).device, self.device)
                self.close(torch.from_numpy(H @ v.numpy()), expected, 1e-10)
                self.close(H.gradient().cpu(), here.gradient(), 1e-10)
                self.assertAlmostEqual(H.loss(), here.loss(), 12)
            pairs, expected = seigh.eigh(H, k=3, tol=1e-8), seigh.eigh(here, k=3, tol=1e-8)
            self.close(pairs.eigenvalues, expected.eigenvalues, 1e-10)
            self.assertTrue(bool((pairs.residuals <= 1e-8 * pairs.eigenvalues.abs().max()).all()))
            self.assertAlmostEqual(float(seigh.trace(H)), float(seigh.trace(here)), 8)
            mask, same = seigh.masks.magnitude(there), seigh.masks.magnitude(model)
            self.close(torch.as_tensor(seigh.overlap(pairs, mask).overlap), torch.as_tensor(seigh.overlap(expected, same).overlap), 1e-6)

    def test_in_batches_after_a_step_and_in_half_precision(self):
        model, x, y = next(iter(self.cases()))
        there = copy.deepcopy(model).to(self.device)
        batches = [(a.to(self.device), b.to(self.device)) for a, b in zip(x.split(7), y.split(7))]
        H = seigh.Hessian(there, F.cross_entropy, batches)
        v = torch.randn(H.shape[0])
        self.close(H @ v, seigh.Hessian(model, F.cross_entropy, (x, y)) @ v, 1e-5)
        with torch.no_grad():
            for p, q in zip(model.parameters(), there.parameters()):
                p.mul_(1.5)
                q.mul_(1.5)
        with self.assertRaisesRegex(RuntimeError, "refresh"):
            H @ v
        self.close(H.refresh() @ v, seigh.Hessian(model, F.cross_entropy, (x, y)) @ v, 1e-5)
        wide = seigh.Hessian(there, F.cross_entropy, batches, dtype=torch.float64)
        self.close(wide @ v, seigh.Hessian(model, F.cross_entropy, (x, y), dtype=torch.float64) @ v, 1e-10)

    def test_stacked(self):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4), nn.GELU(), nn.Linear(4, 3))
        there, x, y = copy.deepcopy(model).to(self.device), torch.randn(30, 2, 3), torch.arange(30) % 3
        v = torch.randn(sum(p.numel() for p in model.parameters()), 5)
        for kind in (seigh.Hessian, seigh.GGN, seigh.EmpiricalFisher, seigh.MCFisher):
            H = kind(there, F.cross_entropy, (x.to(self.device), y.to(self.device)), products="stacked")
            self.assertRegex(H.way, "^stacked: 256 vectors, mini-batches of 30$")
            self.close(H @ v, kind(model, F.cross_entropy, (x, y)) @ v, 1e-4)
            self.close((H @ v.to(self.device)).cpu(), H @ v, 1e-6)
        with torch.no_grad():
            for q, p in zip(there.parameters(), model.parameters()):
                q.mul_(1.5), p.mul_(1.5)
        H = seigh.Hessian(there, F.cross_entropy, (x.to(self.device), y.to(self.device)))
        self.close(H @ v, seigh.Hessian(model, F.cross_entropy, (x, y)) @ v, 1e-4)
        with self.assertRaisesRegex(ValueError, "fully connected"):
            seigh.Hessian(nn.Sequential(nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(6, 3)).to(self.device), F.cross_entropy,
                          (x.to(self.device), y.to(self.device)), products="stacked") @ v[:27]

    def test_replayed(self):
        """A network's Python runs when its kernels are recorded, and not when they are replayed."""
        for model, x, y in self.cases():
            there, data = copy.deepcopy(model).to(self.device), (x.to(self.device), y.to(self.device))
            calls = []
            there.register_forward_hook(lambda *_: calls.append(1))
            for products in ("graph", "batched"):
                for kind in (seigh.Hessian, seigh.GGN):
                    launched, replayed = (kind(there, F.cross_entropy, data, products=products, check=False, replay=r) for r in (False, True))
                    self.assertNotIn("replayed", launched.way)
                    self.assertIn(", replayed", replayed.way)
                    calls.clear()
                    for columns in (1, 3, 1):
                        v = torch.randn(launched.shape[0], columns)
                        product = replayed @ v
                        self.assertEqual(calls, [])
                        self.close(product, launched @ v, 1e-4)
                        calls.clear()
                    if kind is seigh.Hessian:
                        with torch.no_grad():
                            for p in there.parameters():
                                p.mul_(1.1)
                        with self.assertRaisesRegex(RuntimeError, "refresh"):
                            replayed @ v
                        self.close(replayed.refresh() @ v, launched.refresh() @ v, 1e-4)
        with self.assertRaisesRegex(ValueError, "products on cpu cannot be replayed"):
            seigh.Hessian(model, F.cross_entropy, (x, y), check=False, products="graph", replay=True) @ torch.randn(launched.shape[0])

    def test_batches_fit_the_memory(self):
        if DEVICE:
            raise unittest.SkipTest("a card's memory cannot be made smaller")
        torch.manual_seed(1)
        model, x, y = nn.Sequential(nn.Linear(6, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 3)).double(), torch.randn(400, 6).double(), torch.arange(400) % 3
        there, data = copy.deepcopy(model).to(self.device), (x.to(self.device), y.to(self.device))
        v = torch.randn(sum(p.numel() for p in model.parameters()), 2).double()
        expected = seigh.Hessian(model, F.cross_entropy, (x, y)) @ v
        limit = lambda more: torch.ops.pretended.set_limit(torch.ops.pretended.held() + more)
        H = seigh.Hessian(there, F.cross_entropy, data, check=False, replay=False, products="batched")  # not as the clock says: a graph takes less
        H @ v
        try:
            # In the model's own code, which runs in Python, or in libtorch's backward pass: either is met by smaller batches.
            for more in (3_000_000, 1_500_000, 700_000):
                H.refresh()
                H._operator
                limit(more)
                self.close(H @ v, expected, 1e-10)
                self.assertRegex(" ".join(H._made.notes()), "ran out of memory with more")
                torch.ops.pretended.set_limit(1 << 40)
            H.refresh()
            limit(10_000)
            with self.assertRaisesRegex(MemoryError, "memory"):
                H @ v
            torch.ops.pretended.set_limit(1 << 40)
            self.close(H @ v, expected, 1e-10)
        finally:
            torch.ops.pretended.set_limit(1 << 40)

    def test_recipes(self):
        """A recipe's networks, which seigh makes itself."""
        torch.manual_seed(1)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            np.save(folder / "x.npy", torch.randn(60, 6).numpy())
            np.save(folder / "y.npy", (torch.arange(60) % 3).numpy())
            (folder / "net.toml").write_text("""
data.x = "x.npy"
data.y = "y.npy"
model = {hidden = [5], inputs = 6, outputs = 3}
train = {steps = 10, batch_size = 20, optimizer = "adamw", learning_rate = 0.01}
curvature = {samples = 60, steps = [10]}
eigh = {k = 3, dtype = "float64"}
overlap.random_masks = 8
""")
            found = []
            for name, set_ in (("here", {}), ("there", {"device": str(self.device)})):
                with contextlib.redirect_stdout(io.StringIO()):
                    run = seigh.run(folder / "net.toml", out=folder / name, set=set_)
                self.assertIn(f'"device":"{set_.get("device", "cpu")}"', (pathlib.Path(run) / "log.jsonl").read_text())
                (file,) = (pathlib.Path(run) / "eigen").iterdir()
                found.append(torch.as_tensor(seigh.load(file).eigenvalues))
            self.close(found[1], found[0], 1e-4)  # training is in float32
            with self.assertRaisesRegex(ValueError, 'device "nowhere": libtorch .* knows no such device'):
                seigh.run(folder / "net.toml", out=folder / "no", set={"device": "nowhere"})
            self.assertFalse((folder / "no").exists())

    def test_recurrent_layers(self):
        if self.device.type != "cuda":
            raise unittest.SkipTest("libtorch has their cells for the CPU and CUDA alone")

        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 3)

            def forward(self, x):
                return self.head(self.layer(x)[0][:, -1])

        torch.manual_seed(1)
        model, x, y = Recurrent().double(), torch.randn(6, 4, 3).double(), torch.arange(6) % 3
        there, data = copy.deepcopy(model).to(self.device), (x.to(self.device), y.to(self.device))
        with self.assertRaisesRegex(NotImplementedError, "cuDNN"):
            seigh.Hessian(there, F.cross_entropy, data)
        enabled, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
        try:
            v = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.double)
            self.close(seigh.Hessian(there, F.cross_entropy, data) @ v, seigh.Hessian(model, F.cross_entropy, (x, y)) @ v, 1e-10)
        finally:
            torch.backends.cudnn.enabled = enabled

    def test_wrong_places(self):
        model, x, y = next(iter(self.cases()))
        with self.assertRaisesRegex(ValueError, f"the model is on {self.device}, the data are on cpu; move one of them"):
            seigh.Hessian(copy.deepcopy(model).to(self.device), F.cross_entropy, (x, y))
        H = seigh.Hessian(model, F.cross_entropy, (x, y))
        with self.assertRaisesRegex(ValueError, f"a block on {self.device}; it must be on the CPU"):
            H @ torch.ones(H.shape[0]).to(self.device)

    def test_the_benchmark_runs(self):
        said = io.StringIO()
        arguments, sys.argv = sys.argv, ["device.py", "--device", str(self.device), "--small", "--repeats", "1", "--networks", "mlp,gpt"]
        try:
            with contextlib.redirect_stdout(said):
                self.assertEqual(device.main(), 0, said.getvalue())
        finally:
            sys.argv = arguments
        self.assertRegex(said.getvalue(), r"gpt, GGN, batched, float64: off by [0-9.e-]+\n[\s\S]*gpt: D = 3968")


if __name__ == "__main__":
    unittest.main()

"""Runs on another device than the CPU: a pretended one (tests/support/pretended_device.h), loaded before the program, whose memory is nobody's
but libtorch's and which computes by the CPU's own kernels. Results are those of the CPU, and belong to no device."""

import json
import sys
import unittest

from support import *

LIBRARY = os.environ.get("SEIGH_PRETENDED_DEVICE", str(ROOT / "build/release/tests/libseigh_pretended_device.so"))
THERE = ("env", f"LD_PRELOAD={LIBRARY}")

# Everything that takes the network: training with a state of the optimizer, products, gradients of single samples, a diagonal, accuracies,
# fine-tuning.
ALL = (RECIPE.replace('method = "seigh"', 'method = "krylov"').replace("products = 30", "products = 60")
       .replace("image_size = 4", "image_size = 4\nlabel_noise = 0.1").replace("learning_rate = 0.5", 'learning_rate = 0.05\noptimizer = "adamw"\nepsilon = 1e-4')
       .replace("random_masks = 8", 'random_masks = 8\nscores = ["magnitude", "fisher", "obd", "snip"]'))
ALL += '[prune]\nscores = ["magnitude", "obd"]\nsparsities = [0.5, 0.8]\ndraws = 2\nfine_tune = 5\n'


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def devices_of_training(run):
    return [entry["device"] for entry in log_of(run) if entry["event"] == "train" and "device" in entry]


class Device(Case):
    @classmethod
    def setUpClass(cls):
        assert Path(LIBRARY).exists(), "SEIGH_PRETENDED_DEVICE must name the library tests/support/pretended_device.cc is built into"

    def run_in(self, name, *arguments, text=None, prefix=(), settings=()):
        path = self.tmp / "recipe.toml"
        path.write_text(text or RECIPE)
        return self.ok("run", path, "--data", self.data, "--out", self.tmp / name, "--threads", "1", "--set", "name=tiny",
                       *(word for s in settings for word in ("--set", s)), *arguments, prefix=prefix)

    def there(self, name, *arguments, **more):
        return self.run_in(name, "--device", "pretended", *arguments, prefix=THERE, **more)

    def same(self, one, other):
        """Everything numerical in two run folders, to the rounding of float32."""
        names = sorted(str(p.relative_to(one)) for p in one.rglob("*") if p.suffix in (".safetensors", ".h5") and p.parent.name != "old")
        self.assertEqual(names, sorted(str(p.relative_to(other)) for p in other.rglob("*") if p.suffix in (".safetensors", ".h5") and p.parent.name != "old"))
        for name in names:
            if name.endswith(".safetensors"):
                (a, about_a), (b, about_b) = read_safetensors(one / name), read_safetensors(other / name)
                self.assertEqual(list(a), list(b))
                for key in a:
                    np.testing.assert_allclose(b[key], a[key], rtol=1e-4, atol=1e-5, err_msg=f"{name} {key}")
                self.assertAlmostEqual(float(about_a["loss"]), float(about_b["loss"]), places=4)
                self.assertEqual(about_a["test_accuracy"], about_b["test_accuracy"])
                self.assertEqual(about_a["recipe"], about_b["recipe"])
            elif name.startswith("eigen"):
                with h5py.File(one / name) as a, h5py.File(other / name) as b:
                    first = abs(a["eigenvalues"][0])
                    # Those that were found to that accuracy.
                    np.testing.assert_allclose(b["eigenvalues"][:5], a["eigenvalues"][:5], atol=1e-4 * first, err_msg=name)
                    np.testing.assert_array_equal(b["sample_indices"], a["sample_indices"])
                    self.assertEqual(attributes(a)["recipe"], attributes(b)["recipe"])
            elif name.startswith("overlap"):
                with h5py.File(one / name) as a, h5py.File(other / name) as b:
                    self.assertEqual(sorted(a), sorted(b))
                    np.testing.assert_array_equal(b["mask_sizes"], a["mask_sizes"])
                    for key in ("magnitude", "best"):
                        np.testing.assert_allclose(b[key][:], a[key][:], atol=2e-2, err_msg=f"{name} {key}")
            elif name.startswith("model"):
                with h5py.File(one / name) as a, h5py.File(other / name) as b:
                    self.assertEqual(sorted(a), sorted(b))
                    for key in a:
                        scale = np.abs(a[key][()]).max()
                        np.testing.assert_allclose(b[key][()], a[key][()], atol=1e-3 * scale, err_msg=f"{name} {key}")


class Everything(Device):
    def test_is_as_on_the_cpu(self):
        here = self.run_in("here", text=ALL).stdout
        there = self.there("there", text=ALL).stdout
        self.same(self.tmp / "here", self.tmp / "there")
        self.assertEqual(devices_of_training(self.tmp / "here"), ["cpu"])
        self.assertEqual(devices_of_training(self.tmp / "there"), ["pretended:0"])
        rows = [(self.tmp / name / "pruning.csv").read_text().splitlines() for name in ("here", "there")]
        self.assertEqual(len(rows[0]), len(rows[1]))
        values = [[line.split(",") for line in lines if not line.startswith("#")] for lines in rows]
        for a, b in zip(*values):
            for x, y in zip(a, b):
                if x != y:  # two samples of 200 may fall on the other side
                    self.assertLess(abs(float(x) - float(y)), 0.011, (a, b))
        self.assertEqual(len(here.splitlines()), len(there.splitlines()))
        # What the folder holds needs no device.
        for command in ("report", "show", "overlap"):
            self.ok(command, self.tmp / "there")

    def test_other_networks(self):
        """Batch norm's running statistics, convolutions, attention."""
        for kind, sizes in (("resnet18", "width = 4\nblocks = [1, 1, 1, 1]"), ("vit", "patch = 4\nwidth = 8\ndepth = 1\nheads = 2")):
            text = f"""\
seed = 5
[data]
image_size = 8
validation_samples = 100
[model]
kind = "{kind}"
{sizes}
[train]
steps = 4
batch_size = 20
learning_rate = 0.01
momentum = 0.9
[curvature]
samples = 20
steps = [4]
splits = ["test"]
[eigh]
method = "krylov"
k = 3
products = 60
[overlap]
random_masks = 8
"""
            path = self.tmp / f"{kind}.toml"
            path.write_text(text)
            for name, more in ((f"{kind}-here", {}), (f"{kind}-there", {"prefix": THERE})):
                self.ok("run", path, "--data", self.data, "--out", self.tmp / name, "--threads", "1", "--set", "name=net",
                        *(["--device", "pretended:0"] if more else []), **more)
            self.same(self.tmp / f"{kind}-here", self.tmp / f"{kind}-there")


class Resumed(Device):
    def cut(self, name):
        """A run of which the last checkpoint and what was made of it are lost."""
        run = self.tmp / name
        for path in [run / "checkpoints/step_000020.safetensors", *run.glob("*/step_000020*.h5"), run / "report.html"]:
            path.unlink()
        return {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.suffix in (".safetensors", ".h5") and not p.name.startswith("dynamics")}

    def check(self, run, kept, done):
        self.assertNotIn("note: ", done.stderr)
        self.assertFalse((run / "old").exists())
        for path, content in kept.items():
            self.assertEqual(path.read_bytes(), content, path)

    def test_both_ways(self):
        self.run_in("whole")
        self.there("there")
        kept = self.cut("there")
        self.check(self.tmp / "there", kept, self.run_in("there", "--resume"))
        self.assertEqual(devices_of_training(self.tmp / "there"), ["pretended:0", "cpu"])
        self.run_in("here")
        kept = self.cut("here")
        self.check(self.tmp / "here", kept, self.there("here", "--resume"))
        self.assertEqual(devices_of_training(self.tmp / "here"), ["cpu", "pretended:0"])
        for name in ("there", "here"):
            self.same(self.tmp / "whole", self.tmp / name)

    def test_measurements(self):
        """Some of a sketch's products are the device's, some the CPU's."""
        for first, second in ((THERE, ()), ((), THERE)):
            name = "there-first" if first else "here-first"
            run = self.tmp / name
            on = lambda prefix: ("--device", "pretended" if prefix else "cpu")
            self.ok("run", self.write(STORE), "--data", self.data, "--out", run, "--threads", "1", "--set", "name=tiny",
                    "--set", "eigh.keep_measurements=true", *on(first), prefix=first)
            store = next((run / "partial").iterdir())
            shards = sorted(store.glob("*.h5"), key=lambda p: p.name)
            shards = [p for p in shards if p.name != "plan.h5"]
            self.assertEqual(len(shards), 40)
            for path in [*shards[::2], *(run / "eigen").iterdir(), *(run / "overlap").iterdir()]:
                path.unlink()
            self.ok("measure", run, "--data", self.data, *on(second), prefix=second)
            self.assertIn("sound", self.ok("verify", run, "--data", self.data, "--columns", "10", *on(first), prefix=first).stdout)
            self.assertIn("40 pairs from 80 products", self.ok("recover", run, "--data", self.data, *on(second), prefix=second).stdout)

    def write(self, text):
        path = self.tmp / "store.toml"
        path.write_text(text)
        return path

    def test_sweep(self):
        text = RECIPE + "[sweep]\nseeds = 2\n"
        self.there("sweep", text=text)
        before = snapshot(self.tmp / "sweep")
        done = self.run_in("sweep", "--resume", text=text)
        self.assertIn("2 runs finished before", done.stderr)
        after = snapshot(self.tmp / "sweep")
        self.assertEqual([name for name in before if before[name] != after[name]], ["recipe.toml"])


class Chosen(Device):
    def test_key_and_option(self):
        text = 'device = "pretended"\n' + RECIPE
        self.run_in("key", text=text, prefix=THERE)
        run = self.tmp / "key"
        self.assertEqual(devices_of_training(run), ["pretended:0"])
        self.assertIn("device = 'pretended'\n", (run / "recipe.toml").read_text())
        # The folder's recipe says where commands on it compute, unless the option does.
        lost = run / "eigen/step_000020_test_hessian_seigh.h5"
        with h5py.File(lost) as file:
            first = file["eigenvalues"][:]
        lost.unlink()
        self.refused_here("eigh", run, "--data", self.data, says='device "pretended": libtorch .* knows no such device')
        self.ok("eigh", run, "--data", self.data, "--device", "cpu")
        with h5py.File(lost) as file:
            here = file["eigenvalues"][:]
        lost.unlink()
        self.ok("eigh", run, "--data", self.data, prefix=THERE)
        with h5py.File(lost) as file:
            np.testing.assert_allclose(file["eigenvalues"][:], here, atol=1e-5 * abs(here[0]))
        np.testing.assert_allclose(here, first, atol=1e-5 * abs(first[0]))
        # The option is kept like the key.
        self.run_in("option", "--device", "cpu", text=text)
        self.assertEqual(devices_of_training(self.tmp / "option"), ["cpu"])
        self.assertIn("device = 'cpu'\n", (self.tmp / "option/recipe.toml").read_text())
        self.run_in("option", "--resume", text=text, prefix=THERE)
        self.assertIn("device = 'pretended'\n", (self.tmp / "option/recipe.toml").read_text())
        self.assertFalse((self.tmp / "option/old").exists())
        for command, *more in (["trace"], ["diagonal", "--out", self.tmp / "diagonal.h5"], ["density", "--out", self.tmp / "density.h5"]):
            here, there = (self.ok(command, run, "--data", self.data, *more, *where, prefix=prefix).stdout
                           for where, prefix in ((["--device", "cpu"], ()), ([], THERE)))
            self.assertEqual(len(here.splitlines()), len(there.splitlines()))

    def refused_here(self, *arguments, says, prefix=()):
        done = seigh(*arguments, prefix=prefix)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertRegex(done.stderr, says)

    def test_wrong_ones(self):
        out = self.tmp / "out"
        run = ("run", self.recipe, "--data", self.data, "--out", out, "--set", "name=tiny")
        # As this libtorch and this machine are; a machine that has a card has not so many.
        none = r'device "cuda:77": (this libtorch \(.*\) was built without CUDA; build seigh with one that has it|this machine has no CUDA device|there )'
        self.refused_here(*run, "--device", "cuda:77", says=none + ".*or compute on the CPU: leave it out, or --device cpu$")
        self.refused_here(*run, "--set", "device=cuda:77", says=none)
        self.refused_here(*run, "--device", "gpu", says='device "gpu": libtorch .* knows no such device; name one as cuda, cuda:1 or cpu$')
        self.refused_here(*run, "--device", "pretended", says="knows no such device")
        self.refused_here(*run, "--device", "pretended:3", prefix=THERE, says='device "pretended:3": there is one here, number 0; name one that is there')
        self.refused_here(*run, "--set", "device=3", says="device must be a string")
        self.refused_here(*run, "--set", 'device="no good"', says='device must be a device\'s name, as "cuda", "cuda:1" or "cpu"')
        self.refused_here(*run, "--device-memory", "much", says="much")
        self.refused_here(*run, "--dry-run", "--device", "gpu", says="knows no such device")
        self.refused_here("eigh", self.run_copy(), "--device", "gpu", says="knows no such device")
        self.refused_here("show", self.run_copy("copy"), "--device", "gpu", says="knows no such device")
        np.save(self.tmp / "a.npy", np.eye(4))
        self.refused_here("eigh", "--matrix", self.tmp / "a.npy", "--k", "2", "--device", "cpu", says="--device is for networks, and a matrix in a file is none")
        self.refused_here("trace", "--matrix", self.tmp / "a.npy", "--device", "cpu", says="--device is for networks")
        (self.tmp / "s.toml").write_text("[synthetic]\n")
        self.refused_here("run", self.tmp / "s.toml", "--out", out, "--device", "cpu", says="a synthetic study has none")
        (self.tmp / "p.toml").write_text('device = "cuda"\nmodel.python = "net.py:make"\ndata.python = "net.py:data"\n')
        self.refused_here("run", self.tmp / "p.toml", "--out", out, says="a network in Python is computed where its function puts it; leave device out")
        self.assertFalse(out.exists())

    def test_dry_run(self):
        done = self.there("run", "--dry-run")
        self.assertRegex(done.stdout, r"\ndevice +pretended:0, [\d.]+ [KM]iB of its memory for training and products; 922 GiB are available\n")
        self.assertRegex(self.there("run", "--dry-run", "--device-memory", "1G").stdout, r"; 1 GiB are available\n")
        self.assertRegex(self.run_in("run", "--dry-run").stdout, r"\ndevice +cpu\n")
        self.assertFalse((self.tmp / "run").exists())


class OfTheUsers(Device):
    """TorchScript files: parameters, buffers, plain attributes, constants and devices that tracing has kept."""

    def export(self, name):
        script = """\
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.register_buffer("scale", torch.linspace(.5, 1.5, 8))
        self.register_buffer("order", torch.arange(7, -1, -1))
        self.shift = torch.linspace(0, .1, 8)
        self.ends = torch.tensor([0, 7])
    def forward(self, x):
        h = torch.tanh(self.norm(self.a(x)) * self.scale + self.shift)[:, self.order]
        return self.b(h * torch.linspace(.9, 1.1, 8, dtype=x.dtype)) + h[:, self.ends].sum(1, keepdim=True) * torch.tensor([1., 2., 3.], dtype=x.dtype)
net = Net()
net.norm.running_mean.uniform_(-.1, .1)
net = net.eval()
torch.jit.trace(net, torch.randn(4, 6)).save("traced.pt")
class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.tensor([1., 2., .5]))
    def forward(self, f, y):
        return F.cross_entropy(f, y, self.weight.to(f.dtype))
torch.jit.script(Loss()).save("loss.pt")
class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 3)
    def forward(self, x):
        return self.a(x) + torch.zeros(3, dtype=x.dtype)
torch.jit.script(Inside()).save("inside.pt")
np.save("x.npy", torch.randn(40, 6).numpy())
np.save("y.npy", (torch.arange(40) % 3).numpy())
"""
        (self.tmp / "export.py").write_text(script)  # scripting reads it
        done = subprocess.run([sys.executable, "export.py"], cwd=self.tmp, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = self.tmp / f"{name}.toml"
        path.write_text(f"""\
[data]
x = "x.npy"
y = "y.npy"
[model]
module = "{name}.pt"
[train]
loss = "loss.pt"
steps = 6
batch_size = 10
learning_rate = 0.1
checkpoints = [0, 6]
[curvature]
samples = 40
steps = [6]
[eigh]
method = "krylov"
k = 4
products = 60
[dense]
steps = [6]
[overlap]
random_masks = 8
""")
        return path

    def test_traced(self):
        recipe = self.export("traced")
        self.ok("run", recipe, "--out", self.tmp / "here", "--threads", "1")
        self.ok("run", recipe, "--out", self.tmp / "there", "--threads", "1", "--device", "pretended", prefix=THERE)
        self.same(self.tmp / "here", self.tmp / "there")

    def test_tensors_made_inside(self):
        done = seigh("run", self.export("inside"), "--out", self.tmp / "run", "--device", "pretended", prefix=THERE)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"inside.pt does not run on pretended:0: .*; give tensors made inside it the device of its inputs")
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


if __name__ == "__main__":
    unittest.main()

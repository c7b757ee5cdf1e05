"""Networks, weights, losses and data from Python: what examples/export.py writes runs, with the eigenvalues PyTorch
itself computes, and what is known to go wrong gets one line that says how to export instead. Needs PyTorch in the Python
that runs it."""

import os
import sys
import unittest

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch: these matrices are small, and threads would wait
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from support import *

torch.set_num_threads(1)
sys.path.insert(0, str(ROOT / "examples"))
sys.dont_write_bytecode = True
import export  # noqa: E402


def rows_of_jacobian(values, parameters):
    """[len(values), D], columns in the order of `parameters`; zeros for what a value does not depend on."""
    rows = []
    for value in values:
        row = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([torch.zeros_like(p).flatten() if r is None else r.flatten()
                               for r, p in zip(row, parameters)]))
    return torch.stack(rows)


def doubles(*tensors):
    return [t.double() if t.is_floating_point() else t for t in tensors]


def hessian(net, loss, x, y):
    """Of loss(net(x), y) by double backward in float64: [D, D], in the order of net.parameters()."""
    net, (x, y) = net.double().eval(), doubles(x, y)
    parameters = list(net.parameters())
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
        gradient = torch.autograd.grad(loss(net(x), y), parameters, create_graph=True, allow_unused=True)
    gradient = [torch.zeros_like(p) if g is None else g for g, p in zip(gradient, parameters)]
    flat_gradient = torch.cat([g.flatten() for g in gradient]) + 0 * sum(p.sum() for p in parameters)
    return rows_of_jacobian(flat_gradient, parameters).numpy()


def ggn(net, loss, x, y):
    """J^T H_L J in float64, J and H_L one row at a time."""
    net, (x, y) = net.double().eval(), doubles(x, y)
    outputs = net(x)
    jacobian = rows_of_jacobian(outputs.flatten(), list(net.parameters()))
    h = torch.autograd.functional.hessian(lambda f: loss(f.reshape(outputs.shape), y), outputs.detach().flatten())
    return (jacobian.T @ h @ jacobian).numpy()


class Examples(Case):
    """`export.py NETWORK OUT && seigh run OUT/recipe.toml`, small."""

    def export_and_run(self, network, *more, step=0, set_=()):
        out = self.tmp / network
        done = subprocess.run([sys.executable, ROOT / "examples/export.py", network, out, *more], capture_output=True,
                              text=True, timeout=900)
        self.assertEqual(done.returncode, 0, done.stderr)
        text = self.ok("run", out / "recipe.toml", "--out", out / "run", "--threads", "1",
                       *(word for s in set_ for word in ("--set", s)), timeout=900).stdout
        self.assertIn("report.html", text)
        self.assertIn("<html", (out / "run/report.html").read_text())
        tensors, _ = read_safetensors(out / f"run/checkpoints/step_{step:06}.safetensors")
        return out, tensors

    def compare(self, out, net, tensors, loss=F.cross_entropy, matrix=hessian, name="step_000000_train_hessian_dense"):
        """Eigenpairs on disk against PyTorch's matrix of `net` with the parameters `tensors`."""
        self.assertEqual(list(tensors)[:len(list(net.parameters()))], [name for name, _ in net.named_parameters()])
        net.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()}, strict=False)
        with h5py.File(out / f"run/eigen/{name}.h5") as file:
            found, index, vectors = file["eigenvalues"][:], file["sample_indices"][:], file["eigenvectors"][:]
        x, y = (torch.tensor(np.load(out / f"{name}.npy"))[index] for name in "xy")
        h = matrix(net, loss, x, y)
        expected = by_magnitude(np.linalg.eigvalsh(h))[:len(found)]
        # Relative to each; those far below the first only to the rounding of the whole matrix.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * abs(expected[0]))
        # The order of the parameters is PyTorch's. Eigenvectors may be kept in float32.
        self.assertLess(np.linalg.norm(h @ vectors[0] - found[0] * vectors[0]), 1e-5 * abs(found[0]))

    def test_conv_scripted_with_weights_of_three_steps(self):
        out, tensors = self.export_and_run("conv", "--samples", "20", step=100, set_=["dense.steps=[100]"])
        exported, _ = read_safetensors(out / "weights/100.safetensors")
        for name, value in tensors.items():
            np.testing.assert_array_equal(value, exported[name])
        self.assertIn("3.running_mean", tensors)
        self.compare(out, export.conv(), tensors, name="step_000100_train_hessian_dense")
        self.assertEqual(len(list((out / "run/checkpoints").iterdir())), 3)

    def test_resnet18_traced(self):
        """The Gauss-Newton matrix of 4 samples has rank 36 at most, so a sketch with k = 40 is exact."""
        out, tensors = self.export_and_run("resnet18", "--width", "1", "--samples", "20", set_=[
            "curvature.matrix=ggn", "curvature.samples=4", "eigh.dtype=float64", "eigh.method=seigh", "eigh.k=40", "eigh.products=80"])
        self.compare(out, export.resnet18(1), tensors, matrix=ggn, name="step_000000_train_ggn_seigh")

    def test_transformer_scripted_with_a_loss_of_its_own(self):
        out, tensors = self.export_and_run("transformer", "--samples", "10", set_=["dense.steps=[0]"])
        self.compare(out, export.Encoder(), tensors, export.SmoothedCrossEntropy())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.idle = nn.Linear(2, 2)  # never used
        self.rest = nn.ModuleList([nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)]), nn.Linear(5, 3)])
        self.rest[0][1].weight = self.rest[0][0].weight  # tied
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("order", torch.arange(5))

    def forward(self, x):
        x = torch.tanh(self.first(x) / self.scale)[:, self.order]
        for inner in self.rest[0]:
            x = torch.tanh(inner(x))
        return self.rest[1](x)


def mlp(*layers):
    return nn.Sequential(nn.Linear(4, 6), *layers, nn.Tanh(), nn.Linear(6, 3))


class Own(Case):
    """Networks, losses and data made here; x is Gaussian [12, 4], y classes 0..2."""

    def setUp(self):
        super().setUp()
        torch.manual_seed(1)
        self.x, self.y = torch.randn(12, 4), torch.arange(12) % 3
        self.save_data(self.x, self.y)

    def save_data(self, x, y):
        np.save(self.tmp / "x.npy", x.numpy())
        np.save(self.tmp / "y.npy", y.numpy())

    def arguments(self, net=None, out="run", set_=(), recipe=""):
        if isinstance(net, torch.jit.ScriptModule):
            net.save(str(self.tmp / "net.pt"))
        elif net is not None:
            torch.jit.script(net.eval()).save(str(self.tmp / "net.pt"))
        (self.tmp / "recipe.toml").write_text(
            '[model]\nmodule = "net.pt"\n[data]\nx = "x.npy"\ny = "y.npy"\n'
            "[curvature]\nsamples = 12\n[eigh]\nmethod = \"seigh\"\nk = 3\nproducts = 8\n" + recipe)
        return ("run", self.tmp / "recipe.toml", "--out", self.tmp / out, "--threads", "1",
                *(word for s in set_ for word in ("--set", s)))

    def eigenvalues(self, net, *, set_=(), out="run", **more):
        self.ok(*self.arguments(net, out, ["dense.steps=[0]", *set_], **more), cwd=self.tmp)
        with h5py.File(next((self.tmp / out / "eigen").glob("step_000000_train_*_dense.h5"))) as file:
            return file["eigenvalues"][:]

    def check(self, net, loss=F.cross_entropy, matrix=hessian, **more):
        found = self.eigenvalues(net.float(), **more)
        expected = by_magnitude(np.linalg.eigvalsh(matrix(net, loss, self.x, self.y)))[:len(found)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * abs(expected[0]))


class Recurrent(nn.Module):
    """An LSTM keeps its parameters a second time, in a list, and computes with the list."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 3)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.lstm(x.reshape(x.shape[0], 2, 2).transpose(0, 1))[0][-1])


class Works(Own):
    def test_the_lines_of_the_documentation(self):
        text = (ROOT / "docs/your-network.md").read_text()
        code = re.search(r"```python\n(.*?)```", text, re.S)[1].replace("samples = 100", "samples = 12\neigh.k = 3")
        done = subprocess.run([sys.executable, "-c", "import torch\nnet = torch.nn.Linear(4, 3)\n"
                               "x, y = torch.randn(12, 4), torch.arange(12) % 3\n" + code], cwd=self.tmp)
        self.assertEqual(done.returncode, 0)
        self.assertIn("report.html", self.ok("run", "recipe.toml", cwd=self.tmp).stdout)

    def test_lstm(self):
        self.check(Recurrent())

    def test_unused_and_tied_parameters_buffers_and_nested_lists(self):
        net = Net()
        self.check(net, out="scripted")
        tensors, _ = read_safetensors(self.tmp / "scripted/checkpoints/step_000000.safetensors")
        self.assertEqual(list(tensors), [name for name, _ in net.named_parameters()] + ["scale"])
        net = net.float()
        traced = torch.jit.trace(net, self.x[:2])
        np.testing.assert_allclose(self.eigenvalues(traced, out="traced"), self.eigenvalues(net, out="again"), rtol=1e-9)

    def test_micro_batches_and_ggn(self):
        net = mlp()
        self.check(net, matrix=ggn, out="whole", set_=["curvature.matrix=ggn"])
        whole = self.eigenvalues(net.float(), out="again", set_=["curvature.matrix=ggn"])
        parts = self.eigenvalues(net, out="parts", set_=["curvature.matrix=ggn", "curvature.batch_size=5"])
        np.testing.assert_allclose(parts, whole, rtol=1e-9)

    def test_losses(self):
        net = mlp()
        class Huber(nn.Module):
            def forward(self, outputs, targets):
                return F.smooth_l1_loss(outputs, targets)
        class Absolute(nn.Module):  # no second derivative of its own: the last bias has zero rows
            def forward(self, outputs, targets):
                return (outputs - targets).abs().mean()
        self.y = torch.randn(12, 3)
        self.save_data(self.x, self.y)
        self.check(net, F.mse_loss, out="mse", set_=["train.loss=mean_squared_error"])
        for loss in Huber(), Absolute():
            torch.jit.script(loss).save(str(self.tmp / "loss.pt"))
            self.check(net, loss, out=type(loss).__name__, recipe='[train]\nloss = "loss.pt"\n')
        torch.jit.script(Huber()).save(str(self.tmp / "loss.pt"))
        self.check(net, Huber(), ggn, out="ggn", set_=["curvature.matrix=ggn"], recipe='[train]\nloss = "loss.pt"\n')

    def test_seighs_own_mlp(self):
        """On classes and on numbers, from integers, trained or not."""
        for loss, y, outputs in ((F.cross_entropy, self.y, 3), (F.mse_loss, torch.randn(12, 2, dtype=torch.float64), 2)):
            self.save_data(self.x, y)
            name = loss.__name__
            self.ok(*self.arguments(mlp(), name, ["model.module=", "model.kind=mlp", "model.hidden=[5]", "model.inputs=4",
                    f"model.outputs={outputs}", "train.steps=20", "train.batch_size=6", "dense.steps=[20]",
                    f"train.loss={ {'cross_entropy': 'cross_entropy', 'mse_loss': 'mean_squared_error'}[name]}"]), cwd=self.tmp)
            tensors, _ = read_safetensors(self.tmp / name / "checkpoints/step_000020.safetensors")
            net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))
            net.load_state_dict(dict(zip(net.state_dict(), (torch.tensor(t) for t in tensors.values()))))
            with h5py.File(self.tmp / name / "eigen/step_000020_train_hessian_dense.h5") as file:
                found = file["eigenvalues"][:]
            expected = by_magnitude(np.linalg.eigvalsh(hessian(net, loss, self.x, y)))[:len(found)]
            np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_data_files(self):
        net = mlp()
        expected = self.eigenvalues(net)
        with h5py.File(self.tmp / "data.h5", "w") as file:
            file["x"], file["labels"] = self.x.numpy(), self.y.numpy().astype(np.int32)
        export.write_safetensors(self.tmp / "x.safetensors", {"inputs": self.x})
        for i, (x, y) in enumerate([("data.h5", "data.h5:labels"), ("x.safetensors:inputs", "y.npy")]):
            found = self.eigenvalues(net, out=str(i), set_=[f"data.x={x}", f"data.y={y}"])
            np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_training_here_from_the_modules_own_weights(self):
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
        self.ok(*self.arguments(net, set_=["train.steps=30", "train.batch_size=12"]))
        log = [json.loads(line) for line in (self.tmp / "run/log.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in log if line["event"] == "checkpoint"]
        self.assertEqual(len(losses), 2)
        self.assertLess(losses[1], losses[0])
        tensors, _ = read_safetensors(self.tmp / "run/checkpoints/step_000030.safetensors")
        self.assertGreater(np.abs(tensors["1.running_mean"]).max(), 0)

    def test_samples_are_balanced_when_there_are_enough(self):
        self.save_data(self.x, torch.tensor([0] * 6 + [1] * 3 + [2] * 3))
        for n, expected in (6, [0, 1, 6, 7, 9, 10]), (11, range(11)):
            self.ok(*self.arguments(mlp(), f"{n}", [f"curvature.samples={n}"]))
            with h5py.File(self.tmp / f"{n}/eigen/step_000000_train_hessian_seigh.h5") as file:
                self.assertEqual(list(file["sample_indices"][:]), list(expected))

    def test_what_is_given_is_what_is_used(self):
        """Precision of parameters, weights and checkpoints, and all names of tied weights."""
        net = mlp().double()
        found = self.eigenvalues(net, out="double")
        expected = by_magnitude(np.linalg.eigvalsh(hessian(net, F.cross_entropy, self.x, self.y)))[:len(found)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        other = mlp().double()
        header, data = {}, b""
        for name, value in other.state_dict().items():
            raw = value.numpy().tobytes()
            header[name] = {"dtype": "F64", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        (self.tmp / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        found = self.eigenvalues(net, out="weights", set_=["model.weights=w.safetensors"])
        expected = by_magnitude(np.linalg.eigvalsh(hessian(other, F.cross_entropy, self.x, self.y)))[:len(found)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        torch.save(net.state_dict(), self.tmp / "w.safetensors")
        self.refused(*self.arguments(net, "saved", ["model.weights=w.safetensors"]), cwd=self.tmp, says="written by torch.save; .*safetensors")
        tied = Net()
        names = {name: value for name, value in tied.state_dict().items() if name != "rest.0.0.weight"}
        export.write_safetensors(self.tmp / "w.safetensors", {name: value for name, value in names.items() if value.is_floating_point()})
        self.ok(*self.arguments(tied, "tied", ["model.weights=w.safetensors", 'curvature.parameters=["rest.0.1.weight"]']), cwd=self.tmp)
        export.write_safetensors(self.tmp / "w.safetensors", {**{name: value for name, value in names.items() if value.is_floating_point()},
                                                              "rest.0.0.weight": torch.zeros(5, 5)})
        self.refused(*self.arguments(tied, "apart", ["model.weights=w.safetensors"]), cwd=self.tmp, says="rest.0.0.weight and rest.0.1.weight differ, .* one tensor")

    def test_which_samples_is_said(self):
        self.save_data(self.x, torch.tensor([0] * 6 + [1] * 3 + [2] * 3))
        done = self.ok(*self.arguments(mlp(), "six", ["curvature.samples=6"]))
        self.assertRegex(done.stderr, "note: curvature is taken on 6 of the 12 samples of .*x.npy: the first ones of each class, equally many of each")

    def test_test_part(self):
        """Of the user's own data: its curvature is that of its samples, and the accuracy is on it."""
        net = mlp().float()
        x, y = torch.randn(9, 4), torch.arange(9) % 3
        np.save(self.tmp / "tx.npy", x.numpy())
        np.save(self.tmp / "ty.npy", y.numpy())
        set_ = ["data.test_x=tx.npy", "data.test_y=ty.npy", "curvature.samples=9", "dense.steps=[0]"]
        self.ok(*self.arguments(net, set_=set_), cwd=self.tmp)
        for split, (a, b) in {"train": (self.x[:9], self.y[:9]), "test": (x, y)}.items():
            with h5py.File(self.tmp / f"run/eigen/step_000000_{split}_hessian_dense.h5") as file:
                index = file["sample_indices"][:]
                expected = by_magnitude(np.linalg.eigvalsh(hessian(net, F.cross_entropy, a[index], b[index])))[:3]
                np.testing.assert_allclose(file["eigenvalues"][:], expected, rtol=1e-5)
        _, metadata = read_safetensors(self.tmp / "run/checkpoints/step_000000.safetensors")
        right = (net.float()(x).argmax(1) == y).float().mean().item()
        self.assertAlmostEqual(float(metadata["test_accuracy"]), right, places=6)
        # Both in one file, by names; the split by itself.
        with h5py.File(self.tmp / "test.h5", "w") as file:
            file["x"], file["y"] = x.numpy(), y.numpy()
        self.ok(*self.arguments(net, "again", ["data.test_x=test.h5", "curvature.samples=9", 'curvature.splits=["test"]']), cwd=self.tmp)
        self.assertEqual([p.name for p in (self.tmp / "again/eigen").iterdir()], ["step_000000_test_hessian_seigh.h5"])
        # Of a run without, all but what concerns the test part stays.
        self.ok(*self.arguments(net, "more", ["curvature.samples=9"]), cwd=self.tmp)
        done = self.ok(*self.arguments(net, "more", ["curvature.samples=9", "data.test_x=test.h5"]), "--resume", cwd=self.tmp)
        self.assertIn("kept: 1 decomposition, 1 overlap", done.stderr)
        self.assertRegex(done.stderr, r"superseded \(data.test_x: '' / '.*test.h5'\): 1 checkpoint;")

    def test_resume_needs_no_data(self):
        arguments = self.arguments(mlp())
        self.ok(*arguments)
        (self.tmp / "run/report.html").unlink()
        (self.tmp / "x.npy").unlink()
        self.ok(*arguments, "--resume")
        self.assertTrue((self.tmp / "run/report.html").exists())


class Refused(Own):
    def refuse(self, says, net=None, **more):
        self.refused(*self.arguments(net, **more), says=says, cwd=self.tmp)

    def test_frozen(self):
        self.refuse(["net.pt has no parameters left", "before torch.jit.freeze"], torch.jit.freeze(torch.jit.script(mlp().eval())))
        self.assertFalse((self.tmp / "run").exists())

    def test_optimized_for_inference(self):
        self.refuse("no parameters left", torch.jit.optimize_for_inference(torch.jit.script(mlp().eval())))

    def test_dropout_traced_in_training_mode(self):
        net = mlp(nn.Dropout(0.5)).train()
        self.refuse(["other outputs when called twice", "net.eval.. before torch.jit.trace"],
                    torch.jit.trace(net, self.x[:2], check_trace=False))

    def test_batch_norm_traced_in_training_mode(self):
        net = mlp(nn.BatchNorm1d(6)).train()
        self.refuse(["changes its buffer 1.running_mean", "net.eval.. before torch.jit.trace"],
                    torch.jit.trace(net, self.x[:2], check_trace=False))

    def test_batch_norm_without_running_statistics(self):
        self.refuse(["depend on the others of its batch", "track_running_stats=True"], mlp(nn.BatchNorm1d(6, track_running_stats=False)))

    def test_scripted_in_training_mode_is_put_into_evaluation_mode(self):
        net = mlp(nn.BatchNorm1d(6), nn.Dropout(0.5)).train()
        self.ok(*self.arguments(torch.jit.script(net)))

    def test_batch_size_fixed_by_tracing(self):
        class Fixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(2, 3)

            def forward(self, x):
                return self.layer(x.reshape(2 * len(x), 2)).reshape(len(x), 2, 3).sum(1)
        self.refuse("net.pt fails on this input|fixed when it was traced", torch.jit.trace(Fixed(), self.x[:2], check_trace=False))

    def test_fused_attention(self):
        net = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Linear(4, 3)).eval()
        self.save_data(torch.randn(12, 5, 4), torch.zeros(12, 5, dtype=torch.int64))
        with torch.no_grad():
            traced = torch.jit.trace(net, torch.randn(2, 5, 4))
        self.refuse(["no derivative", "fused fast path", "gradients on", "torch.jit.script"], traced)

    def test_no_gradient(self):
        class Detached(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 3)

            def forward(self, x):
                return self.layer(x).detach()
        self.refuse(["outputs do not depend on its parameters", "gradients on"], Detached())

    def test_no_second_derivative(self):
        net = mlp(nn.Hardsigmoid())
        self.refuse(["no second derivative", "hardsigmoid", 'curvature.products = "difference"'], net, set_=["curvature.products=autograd"])
        done = self.ok(*self.arguments(net, out="by-itself"))
        self.assertRegex(done.stderr, "note: no second derivative: .*hardsigmoid.*; products are differences of the gradient")

    def test_half_precision(self):
        self.refuse(["parameter 0.weight is Half", r"net.float\(\)"], mlp().half())
        self.refuse(["is BFloat16", r"net.float\(\)"], mlp().bfloat16())

    def test_float32_inside(self):
        class Mixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 3)

            def forward(self, x):
                return self.layer(x.to(torch.float32))
        self.ok(*self.arguments(Mixed(), "fine"))
        self.refuse(["does not run in float64", 'eigh.dtype = "float32"'], Mixed(), set_=["eigh.dtype=float64"])

    def test_returns_something_else(self):
        class Pair(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 3)

            def forward(self, x):
                return self.layer(x), x
        class Flat(Pair):
            def forward(self, x):
                return self.layer(x).sum(1)
        self.refuse(["returns Tuple", "one tensor"], Pair())
        self.refuse(r"outputs of 4 samples have shape \[4\]", Flat())

    def test_does_not_fit_the_data(self):
        self.refuse(["net.pt fails on this input", "shapes cannot be multiplied"], nn.Sequential(nn.Linear(7, 3)))
        net = mlp()
        self.save_data(self.x, self.y + 1)
        self.refuse(["net.pt has 3 outputs", "class 3"], net)
        self.save_data(self.x, self.y[:, None].repeat(1, 2))
        self.refuse(r"classes y must have shape \[4\], not \[4, 2\]", net)
        self.save_data(self.x, self.y[:11])
        self.refuse(["x.npy holds 12 samples", "y.npy 11"], net)
        self.save_data(self.x.half(), self.y)
        self.refuse("x.npy.*float16|x.npy.*f2", net)
        self.save_data(self.x, self.y.float())
        self.refuse(["cross_entropy needs classes", "int64"], net)
        self.save_data(self.x, self.y)
        self.refuse(["13 samples", "x.npy holds 12"], net, set_=["curvature.samples=13"])
        test = ["data.test_x=tx.npy", "data.test_y=ty.npy"]
        self.refuse("tx.npy: No such file", net, set_=test)
        np.save(self.tmp / "tx.npy", self.x[:5].numpy())
        np.save(self.tmp / "ty.npy", self.y[:5].numpy() + 3)
        self.refuse(["ty.npy holds class 5", "net.pt has 3 outputs"], net, set_=test)
        np.save(self.tmp / "ty.npy", self.y[:5].numpy())
        self.refuse('split "test": 12 samples are asked for.*tx.npy holds 5', net, set_=test)
        np.save(self.tmp / "tx.npy", self.x[:5, :3].numpy())
        self.refuse([r"tx.npy: a test sample is Float \[3\], one of .*x.npy is Float \[4\]", "alike"], net, set_=test)
        self.refuse("tx.npy holds x alone", net, set_=test[:1])

    def test_damaged_files(self):
        good = self.arguments(mlp())
        content = (self.tmp / "net.pt").read_bytes()
        (self.tmp / "net.pt").write_bytes(content[:len(content) // 2])
        self.refused(*good, says=["net.pt", "cut short"])
        (self.tmp / "net.pt").write_bytes(b"")
        self.refused(*good, says=["net.pt is no TorchScript file", r"torch.jit.script\(net\).save"])
        torch.save(mlp().state_dict(), self.tmp / "net.pt")
        self.refused(*good, says=["net.pt holds pickled", r"torch.jit.script\(net\).save"])
        torch.save(mlp(), self.tmp / "net.pt")
        self.refused(*good, says=["net.pt holds pickled", r"torch.jit.script\(net\).save"])
        (self.tmp / "net.pt").unlink()
        self.refused(*good, says="net.pt: No such file")
        good = self.arguments(mlp())
        x = (self.tmp / "x.npy").read_bytes()
        (self.tmp / "x.npy").write_bytes(x[:-1])
        self.refused(*good, says="x.npy.*truncated")
        with h5py.File(self.tmp / "data.h5", "w") as file:
            file["z"] = np.zeros(3)
        self.refused(*good, "--set", "data.x=data.h5", says='data.h5 has no data set "x"', cwd=self.tmp)
        self.refused(*good, "--set", "data.x=net.pt", says="read from .npy, .safetensors", cwd=self.tmp)

    def test_weights(self):
        net = mlp()
        def weights(tensors, **more):
            export.write_safetensors(self.tmp / "w.safetensors", tensors)
            self.refuse(net=net, set_=["model.weights=w.safetensors"], **more)
        state = dict(net.state_dict())
        weights({**state, "0.weight": torch.zeros(6, 5)}, says=r"w.safetensors: 0.weight has shape \[6, 5\]")
        weights({**state, "0.weight": torch.full((6, 4), torch.nan)}, says="w.safetensors holds parameters that are NaN")
        del state["0.weight"]
        weights(state, says="w.safetensors does not hold parameter 0.weight")
        self.refuse("needs train.checkpoints", net, set_=["model.weights={step}.safetensors"])
        self.refuse("7.safetensors", net, set_=["model.weights={step}.safetensors", "train.checkpoints=[7]"])

    def test_losses(self):
        class Sum(nn.Module):
            def forward(self, outputs, targets):
                return F.cross_entropy(outputs, targets, reduction="sum")
        class Each(nn.Module):
            def forward(self, outputs, targets):
                return F.cross_entropy(outputs, targets, reduction="none")
        class Accuracy(nn.Module):
            def forward(self, outputs, targets):
                return (outputs.argmax(1) == targets).float().mean()
        for loss, says in ((Sum(), "loss.pt is not a mean over samples"), (Each(), "loss.pt: a loss must return one number"),
                           (Accuracy(), "loss.pt has no derivative")):
            torch.jit.script(loss).save(str(self.tmp / "loss.pt"))
            self.refuse(says, mlp(), recipe='[train]\nloss = "loss.pt"\n')
        self.refuse("nowhere.pt: No such file", mlp(), set_=["train.loss=nowhere.pt"])

    def test_recipes(self):
        for settings, says in ((["model.kind=mlp"], "exclude each other"), (["curvature.splits=[\"test\"]"], "one part.*data.test_x"),
                               (["curvature.splits=[\"validation\"]"], "no validation part"), (["data.test_y=y.npy"], "data.test_y without data.test_x"),
                               (["model.module="], "mlp on data.x needs model.inputs"),
                               (["model.module=", "model.kind=vit"], "data.x needs model.module or model.kind = \"mlp\""),
                               (["model.module=", "model.inputs=5", "model.outputs=3"], "first width is 5 but a sample has 4 numbers"),
                               (["data.x="], "data.y without data.x")):
            self.refuse(says, mlp(), set_=settings)


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # TorchScript says that it is deprecated

"""Runs of networks in Python: recipes, the Recorder, and the command in Python's process beside the program."""

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import h5py

from support import *

PROGRAM = os.environ.get("SEIGH", "build/release/bin/seigh")

NET = '''
import torch
from torch import nn
from torch.nn import functional as F

print("net.py runs")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.body(x))))

def make():
    torch.manual_seed(7)
    return Net().eval()

def samples(n):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, 4, generator=generator), torch.arange(n) % 3

def data(split):
    x, y = samples(60)
    parts = {"train": (x[:40], y[:40]), "test": [(x[40:50], y[40:50]), (x[50:], y[50:])]}
    return parts[split]

def weighted(outputs, targets):
    return F.cross_entropy(outputs, targets, weight=outputs.new_tensor([1.0, 2.0, 0.5]))
'''


class Runs(Case):
    def setUp(self):
        super().setUp()
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="seigh-python-"))
        self.addCleanup(shutil.rmtree, self.tmp)
        (self.tmp / "net.py").write_text(NET)
        namespace = {"__name__": "net"}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(NET, namespace)
        self.net = namespace

    def states(self):
        """Three different states of the network, as of training, as files of torch.save()."""
        states = []
        for step in (0, 5, 10):
            model = self.net["make"]()
            torch.manual_seed(step)
            with torch.no_grad():
                for p in model.parameters():
                    p += 0.3 * torch.randn_like(p)
                model.norm.running_mean += 0.1 * step
            torch.save(model.state_dict(), self.tmp / f"w{step}.pt")
            states.append(model)
        return states

    def recipe(self, more="", loss="cross_entropy", weights="w{step}.pt"):
        path = self.tmp / "recipe.toml"
        path.write_text(f'model.python = "net.py:make"\nmodel.weights = "{weights}"\ndata.python = "net.py:data"\ntrain.loss = "{loss}"\n'
                        f'train.checkpoints = [0, 5, 10]\ncurvature.splits = ["train", "test"]\neigh.k = 4\neigh.method = "krylov"\n'
                        f"overlap.random_masks = 10\n{more}")
        return path

    def run_recipe(self, recipe, **more):
        lines = io.StringIO()
        with contextlib.redirect_stdout(lines):
            folder = seigh.run(recipe, out=self.tmp / "run", **more)
        return pathlib.Path(folder), lines.getvalue()

    def command(self, *words, program=None, **more):
        start = [program] if program else [sys.executable, "-m", "seigh"]
        return subprocess.run([*start, *map(str, words)], capture_output=True, text=True, cwd=self.tmp, timeout=300, **more)

    def check_eigenvalues(self, folder, states, loss=F.cross_entropy, k=4):
        for step, model in zip((0, 5, 10), states):
            x, y = self.net["samples"](60)
            for split, part in (("train", slice(0, 20)), ("test", slice(40, 60))):  # as many as both have
                exact = copy.deepcopy(model).double()
                h = dense(lambda: loss(exact(x[part].double()), y[part]), list(exact.parameters()))
                values = torch.linalg.eigvalsh(h)
                values = values[values.abs().argsort(descending=True)][:k]
                pairs = seigh.load(folder / f"eigen/step_{step:06}_{split}_hessian_krylov.h5")
                self.close(pairs.eigenvalues, values, 1e-3)

    def test_a_recipe_with_weights(self):
        states = self.states()
        folder, lines = self.run_recipe(self.recipe())
        self.assertEqual(len(re.findall("^step +(0|5|10) (train|test) ", lines, re.M)), 6, lines)
        self.check_eigenvalues(folder, states)
        self.assertIn("net.py:make", (folder / "report.html").read_text())
        # Overlap of the file is that of Python's own.
        x, y = self.net["samples"](60)
        pairs = seigh.eigh(seigh.Hessian(states[1], F.cross_entropy, (x[:20], y[:20]), dtype=torch.float64), k=4, method="dense")
        mine = seigh.overlap(pairs, seigh.masks.magnitude(states[1]), random_masks=2)
        with h5py.File(next((folder / "overlap").glob("step_000005_train*"))) as file:
            self.close(mine.overlap, file["magnitude"][:], 2e-3)
        # Nothing is left to do, so nothing is done again.
        stamp = (folder / "eigen/step_000000_train_hessian_krylov.h5").stat().st_mtime_ns
        self.run_recipe(self.recipe(), resume=True)
        self.assertEqual((folder / "eigen/step_000000_train_hessian_krylov.h5").stat().st_mtime_ns, stamp)

    def test_deterministic(self):
        self.states()
        with open(self.tmp / "net.py", "a") as file:
            file.write("\nseen = set()\ndef watching(outputs, targets):\n    seen.add(torch.are_deterministic_algorithms_enabled())\n"
                       "    with open('seen.txt', 'w') as file:\n        file.write(str(seen))\n    return F.cross_entropy(outputs, targets)\n")
        for wanted in (True, False):
            done = self.command("run", self.recipe(loss="net.py:watching"), "--out", self.tmp / f"run{wanted}", "--set", f"deterministic={str(wanted).lower()}")
            self.assertEqual(done.returncode, 0, done.stderr)
            seen = (self.tmp / "seen.txt").read_text()
            self.assertEqual("True" in seen, wanted, seen)  # and before the work begins as Python has it
        self.assertFalse(torch.are_deterministic_algorithms_enabled())

    def test_a_sweep(self):
        states = self.states()
        sweep = '[sweep]\nkey = "eigh.k"\nvalues = [3, 5]\n'
        folder, lines = self.run_recipe(self.recipe(sweep))
        self.assertEqual({p.name for p in folder.iterdir() if p.is_dir()}, {"base-seed-12345", "k=3-seed-12345", "k=5-seed-12345"})
        self.check_eigenvalues(folder / "base-seed-12345", states)
        self.check_eigenvalues(folder / "k=5-seed-12345", states, k=5)
        self.assertIn("run 3 of 3: k=5, seed 12345", lines)
        self.assertRegex(lines, r"(?m)^train, last step: one seed, so no intervals over seeds$")
        self.assertEqual(len((folder / "summary.csv").read_text().splitlines()), 1 + 3 * 3 * 2)
        # The program shows it, and runs none of its code.
        shown = self.command("show", folder, program=os.path.abspath(PROGRAM))
        self.assertIn("3 of 3 finished", shown.stdout)
        self.assertIn("k=3 ", shown.stdout)
        self.run_recipe(self.recipe(sweep), resume=True)
        with self.assertRaisesRegex(ValueError, "already holds this sweep"):
            self.run_recipe(self.recipe(sweep))
        with self.assertRaisesRegex(ValueError, "folder of a sweep"):
            seigh.report(folder)
        # Its runs on one page, as of any several.
        runs = sorted(one for one in folder.iterdir() if (one / "recipe.toml").exists())
        self.assertEqual(len(runs), 3)
        page = seigh.report(runs[:2], out=self.tmp / "page.html")
        self.assertEqual(page, str(self.tmp / "page.html"))
        text = pathlib.Path(page).read_text()
        self.assertIn(runs[0].name, text)
        self.assertNotIn(runs[2].name, text)
        for wrong in ({"figures": self.tmp / "f"}, {"figures": self.tmp / "f", "out": page}):
            with self.assertRaisesRegex(ValueError, "of one folder"):
                seigh.report(runs[:2], **wrong)

    def test_figures(self):
        self.states()
        folder, _ = self.run_recipe(self.recipe())
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                files = seigh.report(folder, figures=self.tmp / "figures")
        except ValueError as error:
            self.assertIn("without cairo", str(error))
            self.skipTest("built without cairo")
        self.assertEqual(sorted(map(os.path.abspath, files)), sorted(str(p.absolute()) for p in (self.tmp / "figures").iterdir()))
        self.assertEqual(len([line for line in said.getvalue().splitlines() if not line.startswith("left out: ")]), len(files) // 2)
        # A second call within a process gives the same bytes.
        before = {file: pathlib.Path(file).read_bytes() for file in files}
        with contextlib.redirect_stdout(said):
            seigh.report(folder, figures=self.tmp / "figures")
        self.assertEqual({file: pathlib.Path(file).read_bytes() for file in files}, before)
        with self.assertRaisesRegex(OSError, "no folder"):
            seigh.report(folder, figures=files[0])

    def test_dynamics(self):
        states = self.states()
        folder, _ = self.run_recipe(self.recipe())
        d = seigh.dynamics(folder)
        size = sum(p.numel() for p in states[0].parameters())
        self.assertEqual((d.parameters, d.notes, sorted(d.gradients), d.path), (size, [], ["test", "train"], str(folder / "dynamics.h5")))
        self.assertEqual(sorted(d.maps), ["mask", "test", "train", "train_test"])
        orders = [seigh.masks.magnitude(state) for state in states]
        for name in d.maps:
            for axis in d.steps[name]:
                np.testing.assert_array_equal(axis, [0, 5, 10])
            for i, k in enumerate(d.sizes[name]):
                if name == "mask":
                    expected = [[seigh.metrics.compare(a, b, int(k))["iou"] for b in orders] for a in orders]
                else:
                    rows, columns = (name.split("_") * 2)[:2]
                    spaces = [[seigh.load(folder / f"eigen/step_{s:06}_{split}_hessian_krylov.h5") for s in (0, 5, 10)] for split in (rows, columns)]
                    expected = [[seigh.metrics.overlap_curve(u, v)[k - 1] for v in spaces[1]] for u in spaces[0]]
                    self.assertAlmostEqual(d.chance[name][i], k / size)
                np.testing.assert_allclose(d.maps[name][i], np.array(expected, float), atol=1e-5)
        np.testing.assert_array_equal(d.similarity("mask", .21), d.maps["mask"][-1])
        for c in d.crystallisation:
            self.assertEqual((len(c["steps"]), len(c["before"]), c["thresholds"]), (3, 3, [.5, .8, .9]))
            self.assertIn(c["reference"], (5, 10))
            for step, before in zip(c["steps"], c["before"]):
                self.assertTrue(step is None or before is None or before < step)
        itself = seigh.dynamics(folder, folder)
        np.testing.assert_allclose(itself.maps["train_hessian_hessian"], d.maps["train"], atol=1e-6)
        with self.assertRaisesRegex(KeyError, "there are no maps of 'validation', but of mask, test"):
            d.similarity("validation", .01)
        with self.assertRaisesRegex(ValueError, "holds no run"):
            seigh.dynamics(self.tmp / "nothing")

    def test_safetensors_and_a_loss_in_python(self):
        from safetensors.torch import save_file
        states = self.states()
        for step, model in zip((0, 5, 10), states):
            save_file({"module." + key: value for key, value in model.state_dict().items()}, self.tmp / f"w{step}.safetensors")
        folder, _ = self.run_recipe(self.recipe(loss="net.py:weighted", weights="w{step}.safetensors"))
        weight = torch.tensor([1.0, 2.0, 0.5]).double()
        self.check_eigenvalues(folder, states, lambda f, y: F.cross_entropy(f, y, weight=weight))

    def test_the_command(self):
        self.states()
        done = self.command("run", self.recipe(), "--out", "run")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("net.py runs", done.stdout)
        self.assertRegex(done.stdout, "(?m)^step     10 ")
        # The program without Python, and a folder's code.
        refused = self.command("run", self.recipe(), "--out", "other", program=PROGRAM)
        self.assertEqual(refused.returncode, 2)
        self.assertRegex(refused.stderr, "^seigh: model.python is Python code.*python3 -m seigh")
        for words in (("show", "run"), ("report", "run"), ("overlap", "run")):
            for program in (PROGRAM, None):
                done = self.command(*words, program=program)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn("net.py runs", done.stdout)
        for step in (0, 5, 10):
            for file in (self.tmp / "run/eigen").glob("step_*"):
                file.unlink(missing_ok=True)
        refused = self.command("eigh", "run")
        self.assertEqual(refused.returncode, 2, refused.stdout)
        self.assertRegex(refused.stderr, "--trust-code")
        self.assertNotIn("net.py runs", refused.stdout)
        done = self.command("eigh", "run", "--trust-code")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(list((self.tmp / "run/eigen").glob("step_*"))), 6)
        done = self.command("trace", "run", "--step", "5", "--trust-code")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_ranks(self):
        self.states()
        alone, _ = self.run_recipe(self.recipe())
        done = subprocess.run(["mpirun", "-n", "2", "--oversubscribe", "--allow-run-as-root", sys.executable, "-m", "seigh", "run",
                               str(self.recipe()), "--out", "ranks"], capture_output=True, text=True, cwd=self.tmp, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        for file in (alone / "eigen").iterdir():
            a, b = seigh.load(file), seigh.load(self.tmp / "ranks/eigen" / file.name)
            self.close(a.eigenvalues, b.eigenvalues, 1e-5)

    def test_the_same_as_the_program(self):
        np.save(self.tmp / "A.npy", np.diag(np.linspace(1, 9, 30)))
        words = ("eigh", "--matrix", "A.npy", "--k", "3", "--json", "--out", "x.h5")
        mine, theirs = (self.command(*words, program=program) for program in (None, PROGRAM))
        self.assertEqual((mine.returncode, theirs.returncode), (0, 0), mine.stderr + theirs.stderr)
        a, b = json.loads(mine.stdout), json.loads(theirs.stdout)
        self.assertEqual(set(a), set(b))
        self.assertEqual(self.command("eigh").returncode, 2)
        for words in (("--version",), ("--help",), ("help", "run"), ("run", "--keys"), ("nonsense",)):
            mine, theirs = (self.command(*words, program=program) for program in (None, PROGRAM))
            self.assertEqual((mine.returncode, mine.stdout, mine.stderr), (theirs.returncode, theirs.stdout, theirs.stderr))

    def test_recipes_that_are_wrong(self):
        self.states()
        for change, exception, says in (
            (("net.py:make", "nowhere.py:make"), FileNotFoundError, "model.python: .*nowhere.py: no such file"),
            (("net.py:make", "net.py:missing"), ValueError, "has no missing"),
            (("net.py:make", "net.py"), ValueError, "is not FILE.py:FUNCTION"),
            (("w{step}.pt", "v{step}.pt"), FileNotFoundError, "v0.pt: no such file"),
            (("data.python = \"net.py:data\"", ""), ValueError, "model.python needs data.python"),
            (("[\"train\", \"test\"]", "[\"validation\"]"), KeyError, "validation"),
            (("eigh.k = 4", "eigh.k = 400"), ValueError, "400"),
            (("overlap.random_masks = 10", "curvature.samples = 50"), ValueError, "50 samples are asked for, but .*has 40 of the split \"train\""),
        ):
            with self.subTest(change):
                path = self.recipe()
                text = path.read_text()
                self.assertIn(change[0], text)
                path.write_text(text.replace(*change))
                with self.assertRaisesRegex(exception, says):
                    self.run_recipe(path)
        (self.tmp / "w0.pt").write_bytes((self.tmp / "w0.pt").read_bytes()[:200])
        with self.assertRaisesRegex(ValueError, "w0.pt cannot be read by torch's safe loader"):
            self.run_recipe(self.recipe())

    def test_another_network_is_not_gone_on_with(self):
        self.states()
        folder, _ = self.run_recipe(self.recipe())
        for file in (folder / "eigen").glob("step_000010_*"):
            file.unlink()
        (self.tmp / "net.py").write_text(NET.replace("torch.tanh", "torch.sin"))
        done = self.command("run", self.recipe(), "--out", "run", "--resume")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertRegex(done.stderr, "network, loss or data are others than those of this folder")

    def test_recorder(self):
        x, y = self.net["samples"](60)
        model, loss = self.net["make"]().train(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        lines = io.StringIO()
        kept = {}
        with contextlib.redirect_stdout(lines):
            recorder = seigh.Recorder(model, loss, (x, y), every=2, k=3, out=self.tmp / "recorded", more={"eigh.method": "dense", "overlap.random_masks": 5})
            for step in range(5):
                if recorder(step):
                    kept[step] = copy.deepcopy(model)
                    self.assertTrue(model.training)
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
            page = recorder.finish(5)
        self.assertTrue(os.path.exists(page))
        self.assertEqual(len(re.findall("^step ", lines.getvalue(), re.M)), 4, lines.getvalue())
        for step, then in kept.items():
            exact = copy.deepcopy(then).double().eval()
            h = dense(lambda: loss(exact(x.double()), y), list(exact.parameters()))
            values = torch.linalg.eigvalsh(h)
            values = values[values.abs().argsort(descending=True)][:3]
            pairs = seigh.load(self.tmp / f"recorded/eigen/step_{step:06}_train_hessian_dense.h5")
            self.close(pairs.eigenvalues, values, 1e-5)
        self.assertEqual(self.command("show", "recorded", program=PROGRAM).returncode, 0)
        self.assertEqual(os.path.abspath(seigh.report(self.tmp / "recorded")), os.path.abspath(page))
        with self.assertRaisesRegex(ValueError, "holds a run already"):
            seigh.Recorder(model, loss, (x, y), out=self.tmp / "recorded")
        with self.assertRaisesRegex(ValueError, "is not after step"):
            recorder.record(3)
        # Its checkpoints serve as weights of a recipe.
        weights = self.tmp / "recorded/checkpoints/step_{step:06}.safetensors"
        path = self.recipe(weights=str(weights))
        path.write_text(path.read_text().replace("[0, 5, 10]", "[0, 2]").replace('["train", "test"]', '["train"]'))
        folder, _ = self.run_recipe(path)
        self.assertTrue((folder / "eigen/step_000002_train_hessian_krylov.h5").exists())

    def test_recorder_in_others_loops(self):
        import pytorch_lightning as pl
        import transformers
        x, y = self.net["samples"](60)

        class Module(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

            def training_step(self, batch, index):
                return F.cross_entropy(self.net(batch[0]), batch[1])

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        module = Module()
        recorder = seigh.Recorder(module.net, F.cross_entropy, (x, y), every=2, k=2, out=self.tmp / "lightning")
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=20)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pl.Trainer(max_steps=3, callbacks=[seigh.callbacks.lightning(recorder)], logger=False, enable_checkpointing=False,
                       enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", default_root_dir=self.tmp).fit(module, loader)
        self.assertEqual(sorted(os.listdir(self.tmp / "lightning/checkpoints")), [f"step_{s:06}.safetensors" for s in (0, 2, 3)])

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(4, 3)

            def forward(self, x=None, labels=None):
                logits = self.inner(x)
                return {"loss": F.cross_entropy(logits, labels), "logits": logits}

        model = Net()
        rows = [{"x": x[i], "labels": y[i]} for i in range(len(y))]
        recorder = seigh.Recorder(model, lambda model, batch: model(**batch)["loss"], {"x": x, "labels": y}, every=2, k=2, out=self.tmp / "trainer")
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arguments = transformers.TrainingArguments(output_dir=str(self.tmp / "hf"), max_steps=3, per_device_train_batch_size=20, report_to=[],
                                                       save_strategy="no", logging_strategy="no", use_cpu=True, disable_tqdm=True)
            transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[seigh.callbacks.trainer(recorder)]).train()
        self.assertEqual(sorted(os.listdir(self.tmp / "trainer/checkpoints")), [f"step_{s:06}.safetensors" for s in (0, 2, 3)])

    def test_recorder_of_checkpoints_alone(self):
        model = self.net["make"]()
        recorder = seigh.Recorder(model, nn.CrossEntropyLoss(), self.net["samples"](20), every=1, k=0, out=self.tmp / "kept")
        recorder(0)
        recorder(1)
        recorder.finish()
        self.assertEqual(len(list((self.tmp / "kept/checkpoints").iterdir())), 2)


class Package(Case):
    def test_of_another_torch(self):
        """Refused in one line, before the extension is loaded, which would crash."""
        with tempfile.TemporaryDirectory() as folder:
            there = os.path.join(folder, "seigh")
            shutil.copytree(os.path.dirname(seigh.__file__), there, ignore=shutil.ignore_patterns("_core*", "__pycache__"))
            build = os.path.join(there, "_build.py")
            with open(build) as file:
                text = file.read()
            os.remove(build)
            with open(build, "w") as file:
                file.write(re.sub('TORCH = ".*"', 'TORCH = "2.7.1"', text))
            done = subprocess.run([sys.executable, "-c", "import seigh"], capture_output=True, text=True,
                                  env={**os.environ, "PYTHONPATH": folder})
        self.assertEqual(done.returncode, 1)
        last = done.stderr.strip().splitlines()[-1]
        self.assertRegex(last, r"^ImportError: this seigh was built with torch 2.7.1, and torch here is 2.*: build it anew, pip install")


class Estimates(Case):
    def test_trace_diagonal_density(self):
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        x, y = torch.randn(20, 4).double(), torch.arange(20) % 3
        h = dense(lambda: F.cross_entropy(model(x), y), list(model.parameters()))
        matrix = seigh.Hessian(model, F.cross_entropy, (x, y))
        exact = seigh.trace(matrix, products=1000)
        self.assertTrue(exact.exact)
        self.close(torch.tensor(float(exact), dtype=torch.float64), h.trace(), 1e-9)
        rough = seigh.trace(matrix, products=30)
        self.assertLess(abs(float(rough) - float(h.trace())), 5 * rough.error)
        diagonal = seigh.diagonal(matrix, products=40)
        self.assertLess(float(((diagonal.values - h.diagonal()).abs() > 5 * diagonal.error).double().mean()), 0.05)
        self.assertEqual(set(diagonal.as_dict()), set(matrix.parameter_names))
        density = seigh.density(matrix, vectors=4, steps=10)
        value, error = density.moment(2)
        self.assertLess(abs(value - float(h.square().sum() / len(h))), 5 * error)
        share, error = density.cumulative([float(h.norm())])
        self.assertLess(1 - float(share), 5 * float(error))
        import scipy.sparse.linalg as sla
        operator = sla.aslinearoperator(h.numpy())
        self.close(torch.tensor(float(seigh.trace(operator, products=1000)), dtype=torch.float64), h.trace(), 1e-9)
        self.assertTrue(str(density.plot().get_xlabel()))

    def test_operators_from_elsewhere(self):
        a = np.random.default_rng(0).normal(size=(40, 40))
        a = (a + a.T) / 2
        values = np.linalg.eigvalsh(a)
        values = values[np.argsort(-abs(values))][:5]
        import scipy.sparse as sp
        import scipy.sparse.linalg as sla
        t = torch.tensor(a)
        for name, given, more in (("array", a, {}), ("tensor", t, {}), ("scipy", sla.aslinearoperator(a), {}), ("sparse", sp.csr_array(a), {}),
                                  ("callable of blocks", lambda v: t @ v, dict(size=40, dtype=torch.float64)),
                                  ("callable of vectors", lambda v: torch.stack([t[i].dot(v) for i in range(40)]), dict(size=40, dtype=torch.float64))):
            with self.subTest(name):
                pairs = seigh.eigh(given, k=5, method="dense", **more)
                self.close(pairs.eigenvalues, values, 1e-10)
                u = torch.as_tensor(np.asarray(pairs.eigenvectors))
                self.close(t @ u, u * torch.as_tensor(np.asarray(pairs.eigenvalues)), 1e-9)
                self.assertEqual(isinstance(pairs.eigenvalues, np.ndarray), name in ("array", "scipy", "sparse"))
        for which, expected in (("LA", np.sort(np.linalg.eigvalsh(a))[::-1][:3]), ("SA", np.sort(np.linalg.eigvalsh(a))[:3])):
            self.close(seigh.eigh(a, k=3, which=which, method="dense").eigenvalues, expected.copy(), 1e-10)

    def test_saved_and_loaded(self):
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        matrix = seigh.Hessian(model, F.cross_entropy, (torch.randn(20, 4), torch.arange(20) % 3))
        pairs = seigh.eigh(matrix, k=6)
        with tempfile.TemporaryDirectory() as folder:
            pairs.save(os.path.join(folder, "pairs.h5"))
            again = seigh.load(os.path.join(folder, "pairs.h5"))
        self.assertTrue(torch.equal(pairs.eigenvalues, again.eigenvalues))
        self.assertTrue(torch.equal(pairs.eigenvectors, again.eigenvectors))
        self.assertEqual(pairs.trust, again.trust)
        self.assertTrue(torch.equal(pairs.enclosure, again.enclosure))
        values, vectors = pairs
        self.assertEqual(vectors.shape, (matrix.shape[0], 6))
        self.assertEqual({k: tuple(v.shape) for k, v in pairs.vector(0).items()}, {k: tuple(v.shape) for k, v in model.state_dict().items()})
        self.assertIn("<svg", pairs._repr_html_())
        self.assertIn("<svg", seigh.overlap(pairs, seigh.masks.magnitude(model))._repr_html_())
        self.assertTrue(pairs.plot().get_title(loc="left"))


if __name__ == "__main__":
    unittest.main()

"""Pruned and rescaled networks, against numpy's own forward and backward passes."""

import csv
import unittest

from support import *

# 64-6-10: images as they are, so that numpy reads the same numbers; full batches, so that their order does not matter.
PRUNED = (RECIPE.replace("image_size = 4", "image_size = 8").replace("batch_size = 50", "batch_size = 500")
          .replace("hidden = [6]", 'hidden = [6]\nactivation = "relu"').replace("steps = [20]\n[overlap]", "steps = []\n[overlap]")
          .replace('method = "seigh"', 'method = "krylov"').replace("products = 30", "products = 0"))
PRUNED += '[prune]\nscores = ["magnitude", "snip", "random", "leverage"]\nsparsities = [0.5, 0.8]\ndraws = 2\n'
COUNT = 64 * 6 + 6 + 6 * 10 + 10


def read_images(folder, prefix, count=None):
    x = np.frombuffer((folder / f"{prefix}-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 64) / 255
    y = np.frombuffer((folder / f"{prefix}-labels-idx1-ubyte").read_bytes()[8:], np.uint8).astype(int)
    return x[:count], y[:count]


def unpack(theta):
    ends = np.cumsum([384, 6, 60, 10])
    w, b, v, c = np.split(theta, ends[:-1])
    return w.reshape(6, 64), b, v.reshape(10, 6), c


def passes(theta, x, y, on=None):
    """-> mean cross-entropy, share classified right, gradient, which hidden units are on; `on`: those that shall be."""
    w, b, v, c = unpack(theta)
    h = x @ w.T + b
    on = h > 0 if on is None else on
    z = (h * on) @ v.T + c
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    d = (p - np.eye(10)[y]) / len(y)
    e = d @ v * on
    gradient = np.concatenate([(e.T @ x).ravel(), e.sum(0), (d.T @ (h * on)).ravel(), d.sum(0)])
    return loss, (z.argmax(1) == y).mean(), gradient, on


def balanced(theta):
    w, b, v, c = (a.copy() for a in unpack(theta))
    scale = np.sqrt(np.linalg.norm(v, axis=0) / np.sqrt((w ** 2).sum(1) + b ** 2))
    return np.concatenate([(w * scale[:, None]).ravel(), b * scale, (v / scale).ravel(), c])


def rows_of(run):
    lines = (run / "pruning.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return [{k: v if k == "score" else float(v) for k, v in row.items()} for row in rows]


class Pruning(Case):
    def run_in(self, name, *settings, text=PRUNED, **more):
        path = self.tmp / "recipe.toml"
        path.write_text(text)
        return self.ok("run", path, "--data", self.data, "--out", self.tmp / name, "--threads", "1", "--resume", "--set", "name=tiny",
                       *(word for s in settings for word in ("--set", s)), **more)

    def parameters(self, run, step=20):
        return flat(read_safetensors(run / f"checkpoints/step_{step:06}.safetensors")[0]).astype(float)[:COUNT]

    def expected(self, theta, scores, kept):
        """Accuracy and loss of the `kept` parameters of the largest scores, ties by index."""
        mask = np.zeros(COUNT)
        mask[np.argsort(-scores, kind="stable")[:kept]] = 1
        return mask, passes(theta * mask, *read_images(self.data, "t10k"))

    def test_against_numpy(self):
        done = self.run_in("run")
        run = self.tmp / "run"
        rows = rows_of(run)
        # The whole network; two masks of each of three scores and four controls of each; four random masks.
        self.assertEqual(len(rows), 1 + 3 * (2 + 4) + 4)
        theta = self.parameters(run)
        with h5py.File(run / "eigen/step_000020_train_hessian_krylov.h5") as file:
            x, y = read_images(self.data, "train", 500)
            indices = file["sample_indices"][()]
            leverage = (file["eigenvectors"][()].astype(float) ** 2).sum(0)
        gradient = passes(theta, x[indices], y[indices])[2]
        scores = {"magnitude": np.abs(theta), "snip": np.abs(theta * gradient), "leverage": leverage}
        for row in rows:
            self.assertEqual((row["step"], row["prunable"]), (20, COUNT))
            self.assertEqual(row["kept"], round((1 - row["sparsity"]) * COUNT))
            self.assertTrue(np.isnan(row["tuned_accuracy"]))
            if row["score"] in scores and not row["control"]:
                _, (loss, accuracy, *_) = self.expected(theta, scores[row["score"]], int(row["kept"]))
                # 200 samples, of which rounding in float32 might turn one.
                self.assertLessEqual(abs(row["accuracy"] - accuracy), 0.0051, row)
                self.assertAlmostEqual(row["loss"], loss, delta=1e-5, msg=row)
        whole = rows[0]
        self.assertEqual(whole["score"], "none")
        self.assertAlmostEqual(whole["loss"], passes(theta, *read_images(self.data, "t10k"))[0], delta=1e-5)
        losses = [r["loss"] for r in rows]
        self.assertEqual(len(set(losses)), len(losses))  # no two masks are the same
        self.assertRegex(done.stdout, r"step 20: test accuracy by share of parameters pruned; of none 0\.\d+")
        self.assertRegex(done.stdout, r"snip, random by layer +0\.\d{4} +0\.\d{4}")

    def test_fine_tuning(self):
        for optimizer, extra in (("sgd", ["train.momentum=0.9"]), ("adamw", ["train.learning_rate=0.01"])):
            with self.subTest(optimizer):
                self.run_in(optimizer, "prune.fine_tune=7", "prune.scores=['magnitude']", f"train.optimizer={optimizer}", *extra)
                run = self.tmp / optimizer
                theta, (x, y) = self.parameters(run), read_images(self.data, "train", 500)
                for row in rows_of(run):
                    if row["control"]:
                        continue
                    mask, _ = self.expected(theta, np.abs(theta), int(row["kept"]))
                    t, m, s = theta * mask, 0, 0
                    for step in range(1, 8):
                        g = passes(t, x, y)[2] * mask
                        if optimizer == "sgd":
                            m = 0.9 * m + g
                            t = t - 0.5 * m
                        else:
                            m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g ** 2
                            t = t - 0.01 * m / (1 - 0.9 ** step) / (np.sqrt(s / (1 - 0.999 ** step)) + 1e-8) * mask
                    loss, accuracy, *_ = passes(t, *read_images(self.data, "t10k"))
                    self.assertLess(abs(row["tuned_loss"] - loss), 1e-3 * loss, row)
                    self.assertLessEqual(abs(row["tuned_accuracy"] - accuracy), 0.0051, row)
                    self.assertNotAlmostEqual(row["tuned_loss"], row["loss"], delta=0.01)

    def test_resume(self):
        self.run_in("run")
        run = self.tmp / "run"
        whole = (run / "pruning.csv").read_text()
        # Killed on the way: what is there stays as it is, the rest comes to the same.
        lines = whole.splitlines(keepends=True)
        marked = lines[:-5]
        at = next(i for i, line in enumerate(lines) if ",none," in line)
        fields = marked[at].split(",")
        fields[7] = "0.125"
        marked[at] = ",".join(fields)
        (run / "pruning.csv").write_text("".join(marked))
        self.ok("prune", run, "--data", self.data)
        again = (run / "pruning.csv").read_text().splitlines(keepends=True)
        self.assertEqual(again[at], marked[at])
        self.assertEqual(again[at + 1:], lines[at + 1:])
        # More masks: those that are there are not made anew.
        self.run_in("run", "prune.sparsities=[0.5, 0.8, 0.9]")
        more = (run / "pruning.csv").read_text().splitlines(keepends=True)
        self.assertEqual(more[:len(again)], again)
        self.assertEqual(len(more), len(again) + 3 * 3 + 2)
        # Nothing that decides them.
        done = self.run_in("run", "overlap.random_masks=9")
        self.assertIn("1 pruning table\n", done.stderr)
        self.assertEqual((run / "pruning.csv").read_text(), "".join(more))
        # Something that does.
        done = self.run_in("run", "prune.fine_tune=2")
        self.assertIn("superseded (prune.fine_tune: 0 / 2): 1 pruning table", done.stderr)
        self.assertTrue(next(run.glob("old/*/pruning.csv")).read_text().startswith("# seigh pruning 1"))
        self.assertFalse(np.isnan(rows_of(run)[0]["tuned_loss"]))
        self.run_in("run", "train.learning_rate=0.25")
        self.assertNotAlmostEqual(rows_of(run)[0]["loss"], float(lines[at].split(",")[8]), places=4)
        # A score that needs what nobody has kept yet.
        before = (run / "eigen/step_000020_train_hessian_krylov.h5").read_bytes()
        self.run_in("run", "train.learning_rate=0.25", "prune.scores=['fisher', 'movement', 'obd']")
        self.assertEqual({r["score"] for r in rows_of(run)},
                         {"none", "magnitude", "snip", "random", "leverage", "fisher", "movement", "obd"})
        self.assertEqual((run / "eigen/step_000020_train_hessian_krylov.h5").read_bytes(), before)
        self.assertIn("pruning", self.ok("show", run).stdout)
        (run / "pruning.csv").write_text("nonsense")
        self.refused("prune", run, "--data", self.data, says=["pruning.csv", "delete the file"])

    def test_parts(self):
        self.run_in("run", "overlap.parameters=['*.weight']", "prune.scores=['magnitude']")
        theta = self.parameters(self.tmp / "run")
        weight = np.repeat([1, 0, 1, 0], [384, 6, 60, 10])
        for row in rows_of(self.tmp / "run"):
            self.assertEqual(row["prunable"], 444)
            if row["score"] == "none" or row["control"]:
                continue
            mask = 1 - weight
            mask[np.argsort(-np.abs(theta) * weight, kind="stable")[:round((1 - row["sparsity"]) * 444)]] = 1
            self.assertAlmostEqual(row["loss"], passes(theta * mask, *read_images(self.data, "t10k"))[0], delta=1e-5)

    def test_wrong_values(self):
        path = self.tmp / "recipe.toml"
        path.write_text(PRUNED)
        for setting, says in (("prune.scores=['largest']", 'no score "largest".*magnitude'),
                              ("prune.scores=['snip','snip']", "twice"), ("prune.scores=magnitude", "must be a list"),
                              ("prune.sparsities=[]", "prune.sparsities is empty"), ("prune.sparsities=[1.0]", "between 0 and 1, not 1"),
                              ("prune.sparsities=[0.5,0.5]", "twice"), ("prune.sparsities=[nan]", "between 0 and 1"),
                              ("prune.draws=0", "prune.draws"), ("prune.fine_tune=-1", "prune.fine_tune"),
                              ("prune.steps=[7]", "prune.steps: step 7 is not among curvature.steps"),
                              ("eigh.vectors=false", "leverage needs eigenvectors"),
                              ("curvature.rescaled=equal", "none.*balanced.*equal")):
            self.refused("run", path, "--data", self.data, "--out", self.tmp / "never", "--set", setting, says=says)
        python = self.tmp / "python.toml"
        python.write_text('[model]\npython = "n.py:f"\n[data]\npython = "n.py:g"\n[prune]\nscores = ["magnitude"]\n')
        self.refused("run", python, "--out", self.tmp / "never", says="prune.scores: networks in Python")
        self.assertFalse((self.tmp / "never").exists())
        self.refused("prune", self.run_copy(), "--data", self.data, says="prunes nothing.*prune.scores")

    def test_rescaled(self):
        settings = "curvature.rescaled=balanced", "overlap.scores=['magnitude','movement']"
        self.run_in("plain", settings[1])
        self.run_in("run", *settings)
        run = self.tmp / "run"
        for path in (self.tmp / "plain/checkpoints").iterdir():
            self.assertEqual(flat(read_safetensors(path)[0]).tolist(), flat(read_safetensors(run / "checkpoints" / path.name)[0]).tolist())
        theta = balanced(self.parameters(run))
        movement = theta - balanced(self.parameters(run, 0))
        name = "step_000020_train_hessian_krylov.h5"
        with h5py.File(run / "eigen" / name) as file:
            values, vectors = file["eigenvalues"][()], file["eigenvectors"][()].astype(float)
            x, y = read_images(self.data, "train", 500)
            x, y = x[file["sample_indices"][()]], y[file["sample_indices"][()]]
        # The Hessian of the rescaled network: differences of numpy's gradient, the same units being on.
        on = passes(theta, x, y)[3]
        step, hessian = 1e-5, np.empty((COUNT, COUNT))
        for i, unit in enumerate(np.eye(COUNT)):
            hessian[i] = (passes(theta + step * unit, x, y, on)[2] - passes(theta - step * unit, x, y, on)[2]) / (2 * step)
        exact = by_magnitude(np.linalg.eigvalsh((hessian + hessian.T) / 2))[:10]
        np.testing.assert_allclose(values[:5], exact[:5], rtol=1e-3)
        with h5py.File(self.tmp / "plain/eigen" / name) as file:
            self.assertGreater(abs(file["eigenvalues"][0] / exact[0] - 1), 0.01)
        with h5py.File(run / "overlap" / name) as file:
            found = {key: value[()] for key, value in file.items() if isinstance(value, h5py.Dataset)}
        np.testing.assert_array_equal(found["mask"], np.argsort(-np.abs(theta), kind="stable")[:10])
        masks = [value for key, value in found.items() if key.endswith("mask") and value.shape == (10,)]
        self.assertTrue(any((m == np.argsort(-np.abs(movement), kind="stable")[:10]).all() for m in masks), found.keys())
        for k in (1, 5, 10):
            self.assertAlmostEqual(found["magnitude"][k - 1], (vectors[:k, found["mask"][:k]] ** 2).sum() / k, places=5)
        orders = [np.argsort(-np.abs(balanced(self.parameters(run, step))), kind="stable") for step in (0, 20)]
        with h5py.File(run / "dynamics.h5") as file:  # of steps 0, 10, 20
            for k, similarity in zip(file["mask_k"][()], file["mask_similarity"][()]):
                one, other = (set(order[:k]) for order in orders)
                self.assertAlmostEqual(similarity[0, 2], len(one & other) / len(one | other))
        # What the masks of the rescaled network leave of the one as trained, which is the same function.
        for row in rows_of(run):
            if row["score"] == "magnitude" and not row["control"]:
                _, (loss, *_) = self.expected(theta, np.abs(theta), int(row["kept"]))
                self.assertAlmostEqual(row["loss"], loss, delta=1e-5)

    def test_rescaling_is_for_relu(self):
        path = self.tmp / "recipe.toml"
        path.write_text(PRUNED)
        self.refused("run", path, "--data", self.data, "--out", self.tmp / "never", "--set", "curvature.rescaled=balanced", "--set",
                     "model.activation=tanh", says=["curvature.rescaled", "tanh", "ReLU"])
        self.assertFalse((self.tmp / "never").exists())


if __name__ == "__main__":
    unittest.main()

"""seigh dynamics: maps of all pairs of steps against numpy, from the files of checkpoints and decompositions alone."""

import itertools
import json
import unittest

from support import *

SHARES = (.005, .01, .05, .2)
MASK_SIZES = [1, 2, 9, 34]  # of 172 parameters: .86, 1.72, 8.6, 34.4


def parameters(run, step):
    return flat(read_safetensors(run / f"checkpoints/step_{step:06}.safetensors")[0])


def vectors(run, step, split, matrix="hessian", method="seigh"):
    with h5py.File(run / f"eigen/step_{step:06}_{split}_{matrix}_{method}.h5") as file:
        return file["eigenvectors"][()].T.astype(float)


def mask(run, step, k):
    return set(np.argsort(-np.abs(parameters(run, step)), kind="stable")[:k].tolist())


def overlap(u, v, k):
    return ((u[:, :k].T @ v[:, :k]) ** 2).sum() / k


def passage(steps, similarity, reference, chance, threshold, ceiling=1):
    """Directly from the definition: of the records before T the first from which on all are above."""
    before = [s for s in steps if s < reference]
    above = {s: (similarity[steps.index(s)] - chance) / (ceiling - chance) > threshold for s in before}
    good = [s for s in before if all(above[t] for t in before if t >= s)]
    step = min(good, default=None)
    earlier = [s for s in before if step is None or s < step]
    return step, max(earlier, default=None)


class Dynamics(Case):
    def check(self, run, steps, splits=("train", "test"), k=(1, 2, 9), checkpoints=(0, 10, 20), method="seigh"):
        """Every number of dynamics.h5."""
        with h5py.File(run / "dynamics.h5") as file:
            content = {name: data[()] for name, data in file.items()}
            self.assertEqual(attributes(file)["method"], method)
        np.testing.assert_array_equal(content["mask_steps"], checkpoints)
        np.testing.assert_array_equal(content["mask_k"], MASK_SIZES)
        np.testing.assert_array_equal(content["mask_rho"], SHARES)
        for i, size in enumerate(MASK_SIZES):
            masks = [mask(run, s, size) for s in checkpoints]
            np.testing.assert_allclose(content["mask_similarity"][i], [[len(a & b) / len(a | b) for b in masks] for a in masks], rtol=1e-12)
        self.assertAlmostEqual(content["mask_chance"][0], 1 / PARAMETERS, delta=1e-14)
        spaces = {split: [vectors(run, s, split, method=method) for s in steps] for split in splits}
        for a, b in [*((s, s) for s in splits), *itertools.combinations(splits, 2)]:
            name = a if a == b else f"{a}_{b}"
            np.testing.assert_array_equal(content[f"{name}_steps"], steps)
            np.testing.assert_array_equal(content[f"{name}_k"], k)
            np.testing.assert_allclose(content[f"{name}_chance"], np.array(k) / PARAMETERS, rtol=1e-12)
            self.assertEqual(f"{name}_other_steps" in content, a != b)
            expected = [[[overlap(u, v, size) for v in spaces[b]] for u in spaces[a]] for size in k]
            np.testing.assert_allclose(content[f"{name}_similarity"], expected, atol=1e-6)  # float32 products
        for name in ("mask", *splits):
            recorded, chance = content[f"{name}_steps"].tolist(), content[f"{name}_chance"]
            for r, reference in enumerate(content[f"{name}_reference"].tolist()):
                row = recorded.index(reference)
                for i in range(len(chance)):
                    similarity = content[f"{name}_similarity"][i][row]
                    self.assertEqual(content[f"{name}_similarity0"][r][i], similarity[0])
                    for t, threshold in enumerate(content["thresholds"]):
                        expected = [-1 if s is None else s for s in passage(recorded, similarity, reference, chance[i], threshold)]
                        self.assertEqual(content[f"{name}_crystallisation"][r, i, t].tolist(), expected)
        return content

    def test_maps_of_a_run(self):
        run = self.shared() / "run"  # at step 20 there is an exact decomposition beside the sketch
        content = self.check(run, (10, 20))
        np.testing.assert_array_equal(content["thresholds"], [.5, .8, .9])
        np.testing.assert_array_equal(content["mask_reference"], [20, 10])  # T and T/2
        np.testing.assert_array_equal(content["train_reference"], [20])  # no record before 10

    def test_json_is_the_file(self):
        run = self.run_copy()
        before = (run / "dynamics.h5").read_bytes()
        shown = json.loads(self.ok("dynamics", run, "--json").stdout)
        self.assertEqual((run / "dynamics.h5").read_bytes(), before)  # it is what it was made of
        with h5py.File(run / "dynamics.h5") as file:
            content = {name: data[()] for name, data in file.items()}
        self.assertEqual([(m["name"], m["kind"], m["k"]) for m in shown["maps"]],
                         [("mask", "iou", k) for k in MASK_SIZES] + [(n, "overlap", k) for n in ("test", "train", "train_test") for k in (1, 2, 9)])
        for m in shown["maps"]:
            i = content[m["name"] + "_k"].tolist().index(m["k"])
            np.testing.assert_allclose(m["values"], content[m["name"] + "_similarity"][i], atol=5.1e-7)
            self.assertEqual((m["rho"], m["steps"]), (content[m["name"] + "_rho"][i], content[m["name"] + "_steps"].tolist()))
            self.assertEqual(m.get("other_steps"), [10, 20] if m["name"] == "train_test" else None)
        self.assertEqual(len(shown["crystallisation"]), 4 * 2 + 3 + 3)
        for c in shown["crystallisation"]:
            r = content[c["what"] + "_reference"].tolist().index(c["reference"])
            i = content[c["what"] + "_k"].tolist().index(c["k"])
            stored = content[c["what"] + "_crystallisation"][r, i]
            self.assertEqual([[-1 if s is None else s for s in p] for p in zip(c["steps"], c["before"])], stored.tolist())
            self.assertEqual(c["thresholds"], [.5, .8, .9])
        for g in shown["gradient"]:
            self.assertEqual((g["steps"], g["k"]), ([10, 20], [1, 2, 9, 10]))
            np.testing.assert_allclose(g["share"], content[g["split"] + "_gradient_share"][:, [0, 1, 8, 9]], atol=5.1e-7)
        self.assertEqual([g["split"] for g in shown["gradient"]], ["test", "train"])
        self.assertEqual((shown["notes"], shown["parameters"]), ([], PARAMETERS))
        text = self.ok("dynamics", run).stdout
        for says in ("similarity with step 20", "similarity with step 10", r"mask +0\.2 +34 ", r"train +0\.05 +9 ", r"train_test .*step 10: 0\.\d+ +step 20: 0\.\d+",
                     "written to .*dynamics.h5"):
            self.assertRegex(text, says)

    def test_follows_the_run(self):
        """Made anew when steps are added, superseded, or made again; otherwise left alone."""
        run, recipe = self.run_copy(), self.recipe
        run_again = lambda *more: self.ok("run", recipe, "--data", self.data, "--out", run, "--resume", "--threads", 1, "--set", "name=tiny", *more)
        self.assertFalse((run / "old").exists())
        run_again("--set", "curvature.steps=[0,10,20]")
        self.check(run, (0, 10, 20))
        self.assertFalse((run / "old").exists())
        run_again("--set", "curvature.steps=[0,10,20]", "--set", "eigh.k=3")
        self.check(run, (0, 10, 20), k=(1, 2, 3))
        self.assertTrue((run / "old/1/dynamics.h5").exists())
        (run / "eigen/step_000010_train_hessian_seigh.h5").unlink()
        shown = json.loads(self.ok("dynamics", run, "--json").stdout)
        self.assertEqual([m["steps"] for m in shown["maps"] if m["name"] == "train"], [[0, 20]] * 3)
        self.assertEqual([(m["steps"], m["other_steps"]) for m in shown["maps"] if m["name"] == "train_test"], [([0, 20], [0, 10, 20])] * 3)
        run_again("--set", "curvature.steps=[0,10,20]", "--set", "eigh.k=3")
        self.check(run, (0, 10, 20), k=(1, 2, 3))
        (run / "dynamics.h5").write_bytes(b"damaged")
        self.ok("dynamics", run)
        self.check(run, (0, 10, 20), k=(1, 2, 3))

    def test_fewer_pairs_at_one_step(self):
        run = self.run_copy()
        with changed(run / "eigen/step_000020_test_hessian_seigh.h5") as file:
            kept = {name: file[name][:4] for name in ("eigenvectors", "eigenvalues", "spectrum")}
            for name in [*file]:
                del file[name]
            for name, values in kept.items():
                file[name] = values
            file.attrs["rank"] = 4
        self.assertIn("not all decompositions have 10 pairs: eigenspaces are compared up to the 4 that all have", self.ok("dynamics", run).stdout)
        self.check(run, (10, 20), k=(1, 2, 4))  # all 4, twice as many as the largest share that fits

    def test_gradient_in_the_top_space(self):
        run = self.run_copy()
        with changed(run / "model/step_000020_train_hessian.h5") as file:
            file["gradient"][:] = 0
        (run / "model/step_000010_test_hessian.h5").unlink()
        shown = {g["split"]: g for g in json.loads(self.ok("dynamics", run, "--json").stdout)["gradient"]}  # made anew
        with h5py.File(run / "dynamics.h5") as file:
            share = {split: file[f"{split}_gradient_share"][()] for split in ("train", "test")}
        for split, row, step in (("train", 0, 10), ("test", 0, 20)):
            with h5py.File(run / f"model/step_{step:06}_{split}_hessian.h5") as file:
                g = file["gradient"][()].astype(float)
            expected = np.cumsum((vectors(run, step, split).T @ g) ** 2) / (g ** 2).sum()
            self.assertTrue(0 < expected[-1] < 1)
            np.testing.assert_allclose(share[split][row], expected, rtol=1e-5)
            self.assertEqual((shown[split]["steps"][row], shown[split]["k"]), (step, [1, 2, 9, 10]))
            np.testing.assert_allclose(shown[split]["share"][row], expected[[0, 1, 8, 9]], atol=1e-5)
        self.assertTrue(np.all(np.isnan(share["train"][1])))
        self.assertEqual((shown["test"]["steps"], shown["train"]["share"][1]), ([20], [None] * 4))
        self.assertRegex(self.ok("dynamics", run).stdout, r"train gradient in the top space: +k = 10: 0\.\d+ at step 10, nan at step 20")

    def test_without_eigenvectors(self):
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "run", "--set", "eigh.vectors=false", "--threads", 1)
        shown = json.loads(self.ok("dynamics", self.tmp / "run", "--json").stdout)
        self.assertEqual({m["name"] for m in shown["maps"]}, {"mask"})
        self.assertRegex(shown["notes"][0], "4 decompositions have no eigenvectors on disk")

    def test_one_step_alone(self):
        run = self.tmp / "one"
        self.ok("run", self.recipe, "--data", self.data, "--out", run, "--threads", 1, "--set", "train.checkpoints=[20]", "--set", "curvature.steps=[20]",
                "--set", "dense.steps=[]")
        self.assertFalse((run / "dynamics.h5").exists())
        self.refused("dynamics", run, says="fewer than two steps")

    def test_with_other_samples(self):
        """What two disjoint samples reach at the reference step is the ceiling of crystallisation."""
        run, other = self.tmp / "first", self.tmp / "second"
        steps = (0, 5, 10, 15, 20)
        for subset, folder in enumerate((run, other)):
            self.ok("run", self.recipe, "--data", self.data, "--out", folder, "--threads", 1, "--set", f"curvature.subset={subset}", "--set",
                    f"train.checkpoints={list(steps)}", "--set", f"curvature.steps={list(steps)}", "--set", "curvature.splits=[\"train\"]", "--set",
                    "dense.steps=[]", "--set", "curvature.samples=10")
        shown = self.ok("dynamics", run, "--with", other).stdout
        self.assertRegex(shown, r"train_hessian_hessian +0\.05 +9 +0\.\d+ +0\.\d+ +0\.\d+")
        name = "train_hessian_hessian"
        with h5py.File(run / "dynamics_with_second.h5") as file:
            content = {key: data[()] for key, data in file.items()}
        np.testing.assert_array_equal(content[f"{name}_reference"], [20, 10])
        for r, reference in enumerate((20, 10)):
            column = steps.index(reference)
            for i, k in enumerate(content[f"{name}_k"]):
                similarity = [overlap(vectors(run, s, "train"), vectors(other, reference, "train"), k) for s in steps]
                chance, ceiling = k / PARAMETERS, similarity[column]
                self.assertLess(ceiling, 1 - 1e-6)
                self.assertAlmostEqual(content[f"{name}_ceiling"][r, i], ceiling, delta=1e-6)
                self.assertAlmostEqual(content[f"{name}_similarity0"][r, i], similarity[0], delta=1e-6)
                for t, threshold in enumerate((.5, .8, .9)):
                    if ceiling > chance:
                        # Of the stored similarities, so that rounding decides nothing.
                        stored = content[f"{name}_similarity"][i][:, column].tolist()
                        expected = passage(list(steps), stored, reference, chance, threshold, stored[column])
                        self.assertEqual([None if s == -1 else s for s in content[f"{name}_crystallisation"][r, i, t].tolist()], list(expected))

    def test_with_another_run(self):
        run, other, seed = self.run_copy(), self.tmp / "ggn", self.tmp / "seed"
        self.ok("run", self.recipe, "--data", self.data, "--out", other, "--threads", 1, "--set", "curvature.matrix=ggn", "--set", "curvature.steps=[0,10,20]")
        shown = json.loads(self.ok("dynamics", run, "--with", other, "--json").stdout)
        self.assertEqual((shown["matrix"], shown["other"], shown["other_matrix"]), ("hessian", "ggn", "ggn"))
        self.assertEqual(sorted({m["name"] for m in shown["maps"]}), ["test_hessian_ggn", "train_hessian_ggn"])
        with h5py.File(run / "dynamics_with_ggn.h5") as file:
            for split in ("train", "test"):
                np.testing.assert_array_equal(file[f"{split}_hessian_ggn_steps"][()], [10, 20])
                np.testing.assert_array_equal(file[f"{split}_hessian_ggn_other_steps"][()], [0, 10, 20])
                expected = [[[overlap(vectors(run, s, split), vectors(other, t, split, "ggn"), k) for t in (0, 10, 20)] for s in (10, 20)]
                            for k in (1, 2, 9)]
                np.testing.assert_allclose(file[f"{split}_hessian_ggn_similarity"][()], expected, atol=1e-6)
        self.assertRegex(self.ok("dynamics", run, "--with", other).stdout, "train_hessian_ggn .*step 10: .*step 20: ")
        # Of another training, another network, other steps; and what is no run.
        self.ok("run", self.recipe, "--data", self.data, "--out", seed, "--threads", 1, "--set", "seed=8")
        self.refused("dynamics", run, "--with", seed, says="checkpoints of step 0 .*differ")
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "wide", "--threads", 1, "--set", "model.hidden=[7]")
        self.refused("dynamics", run, "--with", self.tmp / "wide", says="over other parameters")
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "late", "--threads", 1, "--set", "train.checkpoints=[15]", "--set",
                "curvature.steps=[15]", "--set", "dense.steps=[]")
        self.refused("dynamics", run, "--with", self.tmp / "late", says="no checkpoint of the same step")
        self.refused("dynamics", run, "--with", self.tmp, says="holds no run")
        # A damaged eigenvector is named, not compared.
        path = run / "eigen/step_000010_train_hessian_seigh.h5"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        (run / "dynamics.h5").unlink()
        self.refused("dynamics", run, says="step_000010_train_hessian_seigh.h5")


if __name__ == "__main__":
    unittest.main()

"""Trace, diagonal and density by the command, held against the exact matrix."""

import json
import unittest

from support import *


def read(path):
    """-> ({data set: array}, attributes)"""
    with h5py.File(path) as file:
        return {name: data[()] for name, data in file.items()}, attributes(file)


class OfAMatrix(Case):
    def setUp(self):
        super().setUp()
        n = np.arange(1, 301)
        u, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((300, 300)))
        self.values = np.where(n % 3, 1, -1) / n**1.5
        a = (u * self.values) @ u.T
        self.a = (a + a.T) / 2
        np.save(self.tmp / "A.npy", self.a)

    def run_json(self, command, *arguments):
        return json.loads(self.ok(command, "--matrix", "A.npy", "--json", *arguments, cwd=self.tmp).stdout)

    def test_trace(self):
        exact = np.trace(self.a)
        # Of fixed seeds; the error is 1.5 standard errors, so twice it has been exceeded by one of 20 at the most.
        beyond = 0
        for seed in range(10):
            data = self.run_json("trace", "--products", 60, "--seed", seed)
            self.assertEqual((data["products"], data["seed"], data["parameters"], data["exact"]), (60, seed, 300, False))
            self.assertLess(data["error"], 0.1)
            beyond += abs(data["trace"] - exact) > 2 * data["error"]
        self.assertLessEqual(beyond, 2)
        data = self.run_json("trace", "--products", 1000)
        self.assertEqual((data["products"], data["exact"]), (300, True))
        self.assertAlmostEqual(data["trace"], exact, delta=1e-14)
        text = self.ok("trace", "--matrix", "A.npy", "--products", 60, cwd=self.tmp).stdout
        self.assertRegex(text, r"^trace \S+ \+- \S+ \(one standard deviation, estimated\), 60 products, \S+ s\n$")

    def test_diagonal(self):
        exact = np.diag(self.a)
        text = self.ok("diagonal", "--matrix", "A.npy", "--products", 100, cwd=self.tmp).stdout
        self.assertRegex(text, r"^diagonal of 300 entries, root mean square error \S+ of theirs .* written to A_diagonal.h5\n$")
        data, about = read(self.tmp / "A_diagonal.h5")
        error = abs(data["diagonal"] - exact)
        self.assertEqual(data["error"].shape, (300,))
        self.assertLessEqual((error > 2 * data["error"]).sum(), 20)
        self.assertLess(np.linalg.norm(error), 2 * about["relative_error"] * np.linalg.norm(exact))
        self.assertLess(about["relative_error"], 0.1)
        self.assertEqual(about["products"], 100)
        self.assertAlmostEqual(self.run_json("diagonal")["relative_error"], about["relative_error"], delta=1e-12)
        self.ok("diagonal", "--matrix", "A.npy", "--products", 100, "-o", "d.npy", cwd=self.tmp)
        np.testing.assert_allclose(np.load(self.tmp / "d.npy"), data["diagonal"], atol=1e-14)
        self.assertIn("relative_error", self.ok("show", self.tmp / "A_diagonal.h5").stdout)

    def test_density(self):
        self.ok("density", "--matrix", "A.npy", "--vectors", 4, "--steps", 40, "--points", 200, "-o", "s.h5", cwd=self.tmp)
        data, about = read(self.tmp / "s.h5")
        self.assertEqual((data["nodes"].shape, data["weights"].shape), ((4, 40), (4, 40)))
        np.testing.assert_allclose(data["weights"].sum(1), 1, atol=1e-13)
        grid, width = data["grid"], about["width"]
        exact = (self.values[None] <= grid[:, None]).mean(1)
        self.assertLessEqual((abs(data["cumulative"] - exact) > 2 * data["cumulative_error"]).mean(), 0.05)
        exact = np.exp(-(((grid[:, None] - self.values) / width) ** 2) / 2).mean(1) / (width * np.sqrt(2 * np.pi))
        self.assertLessEqual((abs(data["density"] - exact) > 5 * data["density_error"] + 1e-10 * exact.max()).mean(), 0.05)
        self.assertLess(np.linalg.norm(data["density"] - exact), 0.1 * np.linalg.norm(exact))
        printed = self.run_json("density", "--vectors", 4, "--steps", 40, "--points", 200)
        # Another process: BLAS may add in another order, and Lanczos' later nodes magnify the difference.
        np.testing.assert_allclose(printed["density"], data["density"], rtol=1e-6, atol=1e-9)
        # All of them.
        text = self.ok("density", "--matrix", "A.npy", cwd=self.tmp).stdout
        self.assertRegex(text, r"^300 eigenvalues, nodes from \S+ to 1, .* \(exact to rounding\), 300 products")
        data, about = read(self.tmp / "A_density.h5")
        self.assertEqual(about["exact"], 1)
        np.testing.assert_allclose(data["nodes"][0], np.sort(self.values), atol=1e-14)

    def test_complex(self):
        a = self.a + 0.01j * (np.triu(np.ones((300, 300)), 1) - np.tril(np.ones((300, 300)), -1))
        np.save(self.tmp / "C.npy", a)
        with h5py.File(self.tmp / "C.h5", "w") as file:
            file["a"], file["b"] = a, a[0]
        for command in ("trace", "diagonal", "density"):
            arguments = ("--vectors", 4, "--steps", 20) if command == "density" else ("--products", 60)
            data = json.loads(self.ok(command, "--matrix", "C.h5", "--dataset", "a", "--json", *arguments, cwd=self.tmp).stdout)
            self.assertEqual(data["dtype"], "complex128")
            if command == "trace":
                self.assertLess(abs(data["trace"] - np.trace(self.a)), 3 * data["error"])

    def test_small_and_degenerate(self):
        for name, a, trace in (("one", np.full((1, 1), 7.0), 7), ("two", np.array([[0, 1], [1, 4]]), 4), ("zero", np.zeros((50, 50)), 0)):
            np.save(self.tmp / "s.npy", a)
            for products in (8, 100):
                data = json.loads(self.ok("trace", "--matrix", "s.npy", "--json", "--products", products, cwd=self.tmp).stdout)
                self.assertAlmostEqual(data["trace"], trace, delta=1e-14)
                self.assertLess(data["error"], 1e-13)
                self.ok("diagonal", "--matrix", "s.npy", "--products", products, cwd=self.tmp)
                data, _ = read(self.tmp / "s_diagonal.h5")
                np.testing.assert_allclose(data["diagonal"], np.diag(a), atol=1e-14)
            self.ok("density", "--matrix", "s.npy", "--vectors", 1, "--steps", 1, cwd=self.tmp)
            data, _ = read(self.tmp / "s_density.h5")
            self.assertTrue(all(np.isfinite(array).all() for array in data.values()), name)

    def test_bad_input(self):
        for command in ("trace", "diagonal", "density"):
            self.refused(command, cwd=self.tmp, says=[command, "name a run folder, or a matrix"])
            self.refused(command, "--matrix", "B.npy", cwd=self.tmp, says="B.npy")
            self.refused(command, "--matrix", "A.npy", "--seed", -1, cwd=self.tmp, says="--seed")
            self.refused(command, "--matrix", "A.npy", "--step", 3, cwd=self.tmp, says="--step")
            self.refused(command, "nowhere", cwd=self.tmp, says="nowhere")
        for products in (-5, 0, 1, 7):
            self.refused("trace", "--matrix", "A.npy", "--products", products, cwd=self.tmp, says=["at least 8", str(products)])
            self.refused("diagonal", "--matrix", "A.npy", "--products", products, cwd=self.tmp, says="at least 8")
        self.refused("density", "--matrix", "A.npy", "--vectors", 0, cwd=self.tmp, says="vectors")
        self.refused("density", "--matrix", "A.npy", "--steps", 0, cwd=self.tmp, says="steps")
        self.refused("density", "--matrix", "A.npy", "--width", "1e-300", cwd=self.tmp, says="width")
        self.refused("density", "--matrix", "A.npy", "--points", 1, cwd=self.tmp, says="--points")
        self.refused("diagonal", "--matrix", "A.npy", "-o", "A.npy", cwd=self.tmp, says="the matrix itself")
        self.refused("diagonal", "--matrix", "A.npy", "-o", "d.txt", cwd=self.tmp, says=r"\.h5 or \.npy")
        self.refused("diagonal", "--matrix", "A.npy", "-o", "A.npy/d.h5", cwd=self.tmp, says="A.npy")
        self.refused("density", "--matrix", "A.npy", "-o", "d.npy", cwd=self.tmp, says=r"\.h5")


class OfARun(Case):
    """Against the exact matrix, of which a decomposition holds all eigenpairs."""

    @staticmethod
    @functools.cache
    def matrix():
        with tempfile.TemporaryDirectory(prefix="seigh-cli-spectrum-") as folder:
            folder = Path(folder)
            done = seigh("run", Case.shared() / "recipe.toml", "--data", Case.shared() / "data", "--out", folder / "all", "--threads", 1,
                         "--set", "eigh.method=dense", "--set", f"eigh.k={PARAMETERS}", "--set", "eigh.products=0")
            assert done.returncode == 0, done.stderr
            data, _ = read(folder / "all/eigen/step_000020_test_hessian_dense.h5")
            u = data["eigenvectors"].T.astype(float)
            return (u * data["eigenvalues"]) @ u.T

    def test_the_recipe_s_matrix(self):
        run = self.run_copy()
        before = snapshot(run)
        where = (run, "--data", self.data, "--step", 20, "--split", "test")
        h = self.matrix()
        rounding = 1e-5 * np.linalg.norm(h)  # of products in float32
        data = json.loads(self.ok("trace", *where, "--json", "--products", 100).stdout)
        self.assertEqual((data["matrix"], data["split"], data["step"], data["samples"]), ("hessian", "test", 20, 100))
        self.assertEqual((data["parameters"], data["dtype"], data["exact"]), (PARAMETERS, "float32", False))
        self.assertLess(abs(data["trace"] - np.trace(h)), 3 * data["error"] + rounding)
        self.assertLess(data["error"], 0.1 * abs(np.trace(h)))
        exact = json.loads(self.ok("trace", *where, "--json", "--products", PARAMETERS).stdout)
        self.assertLess(abs(exact["trace"] - np.trace(h)), rounding)
        self.ok("diagonal", *where, "--products", PARAMETERS, cwd=self.tmp)
        data, about = read(self.tmp / "run_step_000020_test_diagonal.h5")
        np.testing.assert_allclose(data["diagonal"], np.diag(h), atol=rounding)
        self.assertIn("fingerprint", about)
        self.ok("density", *where, cwd=self.tmp)
        data, about = read(self.tmp / "run_step_000020_test_density.h5")
        np.testing.assert_allclose(data["nodes"][0], np.linalg.eigvalsh(h), atol=rounding)
        # The recipe's last step and first split.
        data = json.loads(self.ok("trace", run, "--data", self.data, "--json").stdout)
        self.assertEqual((data["split"], data["step"]), ("train", 20))
        self.assertEqual(snapshot(run), before)

    def test_bad_input(self):
        run = self.run_copy()
        self.refused("trace", run, "--data", self.data, "--step", 7, says=["no checkpoint of step 7", "0, 10, 20"])
        self.refused("trace", run, "--data", self.data, "--split", "tests", says="--split")
        shutil.rmtree(run / "checkpoints")
        self.refused("density", run, "--data", self.data, says=["no checkpoint of step 20", "seigh train"])


if __name__ == "__main__":
    unittest.main()

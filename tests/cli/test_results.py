"""What seigh computes and writes, checked with numpy and h5py alone."""

import json
import re
import time
import unittest

from support import *


class RunFiles(Case):
    def test_layout(self):
        run = self.shared() / "run"
        names = ["step_000010_test_hessian_seigh.h5", "step_000010_train_hessian_seigh.h5", "step_000020_test_hessian_dense.h5",
                 "step_000020_test_hessian_seigh.h5", "step_000020_train_hessian_dense.h5", "step_000020_train_hessian_seigh.h5"]
        for folder in ("eigen", "overlap"):
            self.assertEqual(sorted(p.name for p in (run / folder).iterdir()), names)
        self.assertEqual(sorted(p.name for p in (run / "checkpoints").iterdir()),
                         [f"step_{s:06}.safetensors" for s in (0, 10, 20)])
        self.assertEqual([p for p in run.rglob("*") if ".tmp" in p.name], [])

    def test_resolved_recipe_reads_back(self):
        text = (self.shared() / "run/recipe.toml").read_text()
        self.assertIn("checkpoints = [0, 10, 20]", text)
        self.ok("run", self.shared() / "run/recipe.toml", "--data", self.data, "--out", self.tmp / "again")
        self.assertEqual((self.tmp / "again/recipe.toml").read_text(), text)

    def test_log_is_json_lines(self):
        events = [json.loads(line) for line in (self.shared() / "run/log.jsonl").read_text().splitlines()]
        for event in events:
            self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual([e["step"] for e in events if e["event"] == "checkpoint"], [0, 10, 20])

    def test_checkpoints(self):
        for step in (0, 10, 20):
            tensors, metadata = read_safetensors(self.shared() / f"run/checkpoints/step_{step:06}.safetensors")
            self.assertEqual([t.shape for t in tensors.values()], [(6, 16), (6,), (10, 6), (10,)])  # registration order
            self.assertEqual(metadata["step"], str(step))
            self.assertTrue(0 < float(metadata["loss"]) < 5)
            self.assertTrue(0 <= float(metadata["test_accuracy"]) <= 1)
        self.assertGreater(float(metadata["test_accuracy"]), 0.3)  # of the last: it learns

    def test_eigen_files(self):
        for path in (self.shared() / "run/eigen").iterdir():
            with h5py.File(path) as file:
                a, values = attributes(file), file["eigenvalues"][()]
                self.assertEqual(values.dtype, np.float64)
                self.assertEqual(values.shape, (10,))
                self.assertTrue(np.all(np.diff(np.abs(values)) <= 0))
                self.assertEqual(file["eigenvectors"].shape, (10, PARAMETERS))
                for name in ("method", "matrix", "split", "dtype"):
                    self.assertIsInstance(a[name], str)
                exact = path.stem.endswith("dense")
                self.assertEqual(a["method"], "dense" if exact else "seigh")
                self.assertEqual(a["dtype"], "float64" if exact else "float32")
                self.assertEqual((a["k"], a["s"], a["parameters"], a["samples"]), (10, PARAMETERS if exact else 30, PARAMETERS, 100))
                self.assertEqual(a["products"], PARAMETERS if exact else 35)
                self.assertEqual((a["step"], a["split"]), (int(path.stem[5:11]), path.stem.split("_")[2]))
                self.assertGreaterEqual(a["seconds"], 0)
                self.assertGreater(a["frobenius_estimate"], 0)
                self.assertGreater(a["error_estimate"], 0)
                self.assertIn("seed", a)
                self.assertEqual(len(set(file["sample_indices"][()])), 100)

    def test_samples_are_the_first_of_each_class(self):
        labels = {split: np.frombuffer((self.data / f"{name}-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
                  for split, name in (("train", "train"), ("test", "t10k"))}
        labels["train"] = labels["train"][:500]
        for split, y in labels.items():
            expected = np.sort(np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)]))
            with h5py.File(self.shared() / f"run/eigen/step_000020_{split}_hessian_seigh.h5") as file:
                np.testing.assert_array_equal(file["sample_indices"][()], expected)

    def test_exact_eigenvectors(self):
        with h5py.File(self.shared() / "run/eigen/step_000020_train_hessian_dense.h5") as file:
            u, spectrum = file["eigenvectors"][()], file["spectrum"][()]
            np.testing.assert_allclose(u @ u.T, np.eye(10), atol=1e-12)
            tail = np.linalg.norm(by_magnitude(spectrum)[10:])
            self.assertAlmostEqual(file.attrs["error_estimate"], tail, delta=1e-12)
            self.assertAlmostEqual(file.attrs["frobenius_estimate"], np.linalg.norm(spectrum), delta=1e-12)

    def test_overlap_by_its_formula(self):
        for path in (self.shared() / "run/overlap").iterdir():
            checkpoint = flat(read_safetensors(self.shared() / "run/checkpoints" / (path.stem[:11] + ".safetensors"))[0])
            with h5py.File(path) as file, h5py.File(self.shared() / "run/eigen" / path.name) as eigen:
                u, mask = eigen["eigenvectors"][()].T.astype(float), file["mask"][()]
                # Stable: among equal magnitudes the lower index first.
                np.testing.assert_array_equal(mask, np.argsort(-np.abs(checkpoint), kind="stable")[:10])
                magnitude = [(u[mask[:k], :k] ** 2).sum() / k for k in range(1, 11)]
                np.testing.assert_allclose(file["magnitude"][()], magnitude, rtol=1e-5)
                np.testing.assert_allclose(file["chance"][()], np.arange(1, 11) / PARAMETERS, rtol=1e-12)
                # A mask of k coordinates overlaps a fixed space best when it takes the k rows of largest norm.
                best = [np.sort((u[:, :k] ** 2).sum(1))[-k:].sum() / k for k in range(1, 11)]
                np.testing.assert_allclose(file["best"][()], best, rtol=1e-5)
                for name in ("magnitude", "best", "null_uniform_mean", "null_uniform_std", "chance"):
                    self.assertEqual((file[name].dtype, file[name].shape), (np.float64, (10,)))
                self.assertTrue(np.all(file["null_uniform_std"][()] > 0))
                sizes = [np.prod(shape, dtype=int) for _, shape in json.loads(eigen.attrs["tensors"])]
                layer, mean, free = np.repeat(np.arange(len(sizes)), sizes), [], []
                for k in range(1, 11):
                    counts, leverage = np.bincount(layer[mask[:k]], minlength=len(sizes)), (u[:, :k] ** 2).sum(1)
                    mean.append((counts * np.bincount(layer, leverage) / sizes).sum() / k)
                    free.append(counts[counts < sizes].sum() / k)
                np.testing.assert_allclose(file["null_layer_mean"][()], mean, rtol=1e-5)
                np.testing.assert_allclose(file["null_layer_free"][()], free, rtol=1e-12)
                np.testing.assert_array_equal(file["two_way_sizes"][()], [1, 2, 3, 4, 5, 6, 8, 10])
                np.testing.assert_allclose(file["two_way_overlap"][-1], magnitude[-1], rtol=1e-5)
                self.assertTrue(np.all(file["two_way_samples"][()] == 200))

    def test_report_is_self_contained(self):
        page = (self.shared() / "run/report.html").read_text()
        self.assertIsNone(re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page))
        self.assertIsNone(re.search(r"""(url|import|fetch)\s*\(\s*["']?https?://""", page))
        data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
        self.assertEqual(data["title"], "tiny")

    def test_finished_run_resumes_at_once(self):
        run = self.run_copy()
        before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
        begin = time.monotonic()
        # Without data: nothing needs them any more.
        done = self.ok("run", run / "recipe.toml", "--out", run, "--resume", "--data", self.tmp)
        self.assertLess(time.monotonic() - begin, 10)
        after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
        self.assertEqual(before, after)
        lines = (self.shared() / "stdout").read_text().splitlines()
        self.assertEqual(done.stdout.splitlines()[:-2], lines[:-2])
        self.assertEqual(done.stdout.splitlines()[-2], f"report: {run}/report.html")
        self.assertEqual(done.stdout.splitlines()[-1], lines[-1])
        self.assertRegex(lines[-1], r"^\d+ of \d+ certified")

    def test_stages_one_by_one(self):
        run = self.run_copy()
        for name in ("checkpoints", "eigen", "overlap"):
            shutil.rmtree(run / name)
        (run / "report.html").unlink()
        self.refused("eigh", run, "--data", self.data, says="seigh train")
        self.ok("train", run, "--data", self.data, "--threads", 1)
        self.refused("overlap", run, says="seigh eigh")
        self.ok("eigh", run, "--data", self.data, "--threads", 1)
        self.ok("overlap", run, "--threads", 1)
        done = self.ok("report", run, "--threads", 1)
        self.assertIn("report.html", done.stdout)
        self.assertEqual(snapshot(run), snapshot(self.shared() / "run"))

    def test_without_eigenvectors_on_disk(self):
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "run", "--set", "eigh.vectors=false", "--threads", 1)
        name = "step_000020_train_hessian_seigh.h5"
        with h5py.File(self.tmp / "run/eigen" / name) as file:
            self.assertNotIn("eigenvectors", file)
        with h5py.File(self.tmp / "run/overlap" / name) as file, h5py.File(self.shared() / "run/overlap" / name) as kept:
            np.testing.assert_allclose(file["magnitude"][()], kept["magnitude"][()], rtol=1e-5)

    def test_threads_change_nothing_random(self):
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "two", "--set", "name=tiny", "--threads", 2)
        one, two = self.shared() / "run", self.tmp / "two"
        first = "checkpoints/step_000000.safetensors"
        self.assertEqual(flat(read_safetensors(one / first)[0]).tobytes(), flat(read_safetensors(two / first)[0]).tobytes())
        last = "checkpoints/step_000020.safetensors"
        np.testing.assert_allclose(flat(read_safetensors(one / last)[0]), flat(read_safetensors(two / last)[0]), atol=1e-4)
        for path in (one / "eigen").iterdir():
            with h5py.File(path) as a, h5py.File(two / "eigen" / path.name) as b:
                np.testing.assert_array_equal(a["sample_indices"][()], b["sample_indices"][()])
                np.testing.assert_allclose(a["eigenvalues"][()], b["eigenvalues"][()], rtol=1e-4)
            with h5py.File(one / "overlap" / path.name) as a, h5py.File(two / "overlap" / path.name) as b:
                np.testing.assert_array_equal(a["mask"][()], b["mask"][()])
                np.testing.assert_allclose(a["null_layer_mean"][()], b["null_layer_mean"][()], rtol=2e-3)

    def test_seed_decides(self):
        again, other = self.tmp / "again", self.tmp / "other"
        self.ok("run", self.recipe, "--data", self.data, "--out", again, "--set", "name=tiny", "--threads", 1)
        self.assertEqual(snapshot(again), snapshot(self.shared() / "run"))
        self.ok("run", self.recipe, "--data", self.data, "--out", other, "--set", "seed=8", "--threads", 1)
        first = "checkpoints/step_000000.safetensors"
        self.assertNotEqual((other / first).read_bytes(), (again / first).read_bytes())

    def test_gzipped_and_named_data(self):
        import gzip
        (self.tmp / "data/mnist").mkdir(parents=True)
        for path in self.data.iterdir():
            (self.tmp / "data/mnist" / (path.name + ".gz")).write_bytes(gzip.compress(path.read_bytes()))
        self.ok("run", self.recipe, "--data", self.tmp / "data", "--out", self.tmp / "run", "--set", "name=tiny", "--threads", 1)
        self.assertEqual(snapshot(self.tmp / "run"), snapshot(self.shared() / "run"))

    def test_set_overrides(self):
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "run", "--set", "eigh.k=4", "--set", "dense.steps=[]",
                "--set", 'curvature.splits=["test"]', "--set", "model.activation=relu", "--set", "eigh.k=5")
        self.assertEqual(len(list((self.tmp / "run/eigen").iterdir())), 2)
        with h5py.File(self.tmp / "run/eigen/step_000020_test_hessian_seigh.h5") as file:
            self.assertEqual(file["eigenvalues"].shape, (5,))

    def test_default_folder_is_named_by_the_recipe(self):
        shutil.copy(self.recipe, self.tmp / "mine.toml")
        self.ok("run", "mine.toml", "--data", self.data, "--set", "curvature.steps=[0]", "--set", "dense.steps=[]", cwd=self.tmp)
        self.assertTrue((self.tmp / "runs/mine/report.html").exists())


class Matrices(Case):
    def eigh(self, path, *arguments):
        out = self.tmp / "out.h5"
        self.ok("eigh", "--matrix", path, "--out", out, "--vectors", *arguments)
        with h5py.File(out) as file:
            return file["eigenvalues"][()], file["eigenvectors"][()].T, attributes(file)

    def check_low_rank(self, path, a, tolerance, *arguments):
        expected = by_magnitude(np.linalg.eigvalsh(a.astype(float)))[:6]
        values, vectors, _ = self.eigh(path, "--k", 6, *arguments)
        np.testing.assert_allclose(values, expected, atol=tolerance * 10)
        residual = a @ vectors - vectors * values
        self.assertLess(np.linalg.norm(residual), 100 * tolerance)

    def test_low_rank_all_dtypes_and_orders(self):
        for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 1e-4)):
            a, _ = low_rank(80, 6, dtype=dtype)
            for order in "CF":
                for method in (("--method", "seigh", "--products", 14), ("--method", "krylov", "--products", 24), ("--method", "nystrom", "--products", 24),
                               ("--method", "hmt", "--products", 24), ("--method", "dense")):
                    with self.subTest(dtype=dtype, order=order, method=method):
                        np.save(self.tmp / "a.npy", np.asarray(a, order=order))
                        self.check_low_rank(self.tmp / "a.npy", a, tolerance, *method)

    def test_hdf5(self):
        a, _ = low_rank(60, 6)
        with h5py.File(self.tmp / "a.h5", "w") as file:
            file["hessian"] = a
            file["other"] = np.eye(3)
            file["deep/down"] = a.astype(">f8")
        for name in ("hessian", "deep/down"):
            self.check_low_rank(self.tmp / "a.h5", a, 1e-11, "--method", "seigh", "--products", 14, "--dataset", name)
        self.refused("eigh", "--matrix", self.tmp / "a.h5", "--k", 3, says="--dataset")

    def test_complex(self):
        rng = np.random.default_rng(7)
        q, _ = np.linalg.qr(rng.standard_normal((80, 6)) + 1j * rng.standard_normal((80, 6)))
        exact = 10.0 * 0.8 ** np.arange(6) * np.where(np.arange(6) % 3 == 1, -1, 1)
        a = (q * exact) @ q.conj().T
        a = (a + a.conj().T) / 2
        for dtype, tolerance in ((np.complex128, 1e-10), (np.complex64, 1e-3)):
            np.save(self.tmp / "a.npy", a.astype(dtype))
            with h5py.File(self.tmp / "a.h5", "w") as file:
                file["a"] = a.astype(dtype)
            for path in (self.tmp / "a.npy", self.tmp / "a.h5"):
                for method in ("seigh", "krylov", "nystrom", "hmt", "dense"):
                    with self.subTest(dtype=dtype, path=path, method=method):
                        values, vectors, attributes = self.eigh(path, "--k", 6, "--method", method, "--products", 80 if method == "dense" else 24)
                        np.testing.assert_allclose(values, exact, atol=tolerance)
                        self.assertLess(np.linalg.norm(a @ vectors - vectors * values), 10 * tolerance)
                        self.assertEqual(vectors.dtype, np.complex128 if method == "dense" else dtype)
                        self.assertEqual(attributes["dtype"], np.dtype(dtype).name)
        self.assertRegex(self.ok("show", self.tmp / "a.npy").stdout, r"complex64 +80 x 80 .*[0-9]i")
        np.save(self.tmp / "real.npy", np.eye(80))
        self.refused("eigh", "--matrix", self.tmp / "real.npy", "--k", 6, "--method", "krylov", "--start", self.tmp / "out.h5", says="both be real")

    def test_integers(self):
        np.save(self.tmp / "a.npy", np.diag(np.arange(-30, 10)))
        values, _, _ = self.eigh(self.tmp / "a.npy", "--k", 5, "--method", "dense")
        np.testing.assert_allclose(values, [-30, -29, -28, -27, -26], atol=1e-12)

    def test_zero_and_rank_below_k(self):
        np.save(self.tmp / "zero.npy", np.zeros((20, 20)))
        a, _ = low_rank(40, 3)
        np.save(self.tmp / "a.npy", a)
        for method in ("krylov", "seigh", "nystrom", "hmt"):
            done = self.ok("eigh", "--matrix", self.tmp / "zero.npy", "--k", 3, "--method", method, "--out", self.tmp / "z.h5")
            self.assertIn("rank 0", done.stdout)
            self.ok("eigh", "--matrix", self.tmp / "a.npy", "--k", 8, "--method", method, "--out", self.tmp / "a.h5")
            with h5py.File(self.tmp / "a.h5") as file:
                np.testing.assert_allclose(file["eigenvalues"][:3], [10, -8, 6.4], rtol=1e-9)

    def test_every_command_says_how_much_is_certified(self):
        """What is printed, stored and in --json is the same; --strict exits with 3 where not all pairs are certified."""
        np.save(self.tmp / "gaps.npy", np.diag(0.5 ** np.arange(40)))
        np.save(self.tmp / "line.npy", np.diag(np.linspace(1, 0.9, 300)))
        arguments = ("--k", 5, "--method", "krylov", "--out", self.tmp / "c.h5")
        done = self.ok("eigh", "--matrix", self.tmp / "gaps.npy", "--strict", *arguments)
        self.assertEqual(done.stdout.splitlines()[-1], "5 of 5 certified")
        self.assertNotIn("warning", done.stderr)
        data = json.loads(self.ok("eigh", "--matrix", self.tmp / "gaps.npy", "--json", *arguments).stdout)
        self.assertEqual((data["certified"], [pair["trust"] for pair in data["pairs"]]), (5, ["pair"] * 5))
        self.assertEqual([pair["place"] for pair in data["pairs"]], [[i, i] for i in range(1, 6)])
        for pair, exact in zip(data["pairs"], 0.5 ** np.arange(5)):
            self.assertTrue(pair["enclosure"][0] <= exact <= pair["enclosure"][1])
        self.assertEqual(json.loads(self.ok("show", self.tmp / "c.h5", "--json").stdout), data)
        with h5py.File(self.tmp / "c.h5") as file:
            self.assertEqual(file["angle"][()].tolist(), [pair["angle"] for pair in data["pairs"]])
            self.assertEqual(file["enclosure"][()].tolist(), [pair["enclosure"] for pair in data["pairs"]])
        # Without enough products, some are not: said, and an error only with --strict, when all is written.
        few = ("--matrix", self.tmp / "line.npy", "--products", 10, *arguments)
        done = self.ok("eigh", *few)
        self.assertRegex(done.stdout.splitlines()[-1], r"^[0-4] of 5 certified")
        self.assertIn("warning", done.stderr)
        (self.tmp / "c.h5").unlink()
        self.assertEqual(seigh("eigh", *few, "--strict").returncode, 3)
        self.assertTrue((self.tmp / "c.h5").exists())

    def test_signs_are_kept(self):
        """Where the eigenvalues of the sign asked for run out there are fewer pairs, of every method, and it is said."""
        np.save(self.tmp / "a.npy", np.diag(np.concatenate([[3.0, 2.0], -0.9 ** np.arange(58)])))
        for method in ("dense", "krylov", "seigh", "nystrom", "hmt"):
            done = self.ok("eigh", "--matrix", self.tmp / "a.npy", "--k", 6, "--products", 40, "--select", "positive", "--method", method,
                           "--out", self.tmp / "p.h5")
            with h5py.File(self.tmp / "p.h5") as file:
                values = file["eigenvalues"][()]
            self.assertTrue(len(values) < 6 and np.all(values > 0), (method, values))
            if method in ("dense", "krylov"):
                np.testing.assert_allclose(values, [3, 2], rtol=1e-6)
            self.assertIn("positive", done.stdout)

    def test_error_estimate(self):
        rng = np.random.default_rng(3)
        q, _ = np.linalg.qr(rng.standard_normal((100, 100)))
        a = (q * (1.0 / np.arange(1, 101))) @ q.T
        a = (a + a.T) / 2
        np.save(self.tmp / "a.npy", a)
        values, vectors, attributes = self.eigh(self.tmp / "a.npy", "--k", 10, "--products", 40, "--probes", 60, "--method", "seigh")
        error = np.linalg.norm(a - (vectors * values) @ vectors.T)
        # 60 probes: within a factor two but for a probability below 1e-6; the seed is fixed.
        self.assertTrue(0.5 < attributes["error_estimate"] / error < 2)
        self.assertTrue(0.5 < attributes["frobenius_estimate"] / np.linalg.norm(a) < 2)

    def test_seed_and_default_output(self):
        np.save(self.tmp / "a.npy", np.diag(1.0 / np.arange(1, 41)))
        outputs = []
        for seed in (1, 1, 2):
            self.ok("eigh", "--matrix", "a.npy", "--k", 4, "--seed", seed, "--method", "seigh", cwd=self.tmp)
            with h5py.File(self.tmp / "a_seigh.h5") as file:
                outputs.append(file["eigenvalues"][()])
        np.testing.assert_array_equal(outputs[0], outputs[1])
        self.assertTrue(np.any(outputs[0] != outputs[2]))

    def test_krylov_reaches_what_is_asked(self):
        rng = np.random.default_rng(3)
        q, _ = np.linalg.qr(rng.standard_normal((200, 200)))
        exact = (-1.0) ** np.arange(200) / np.arange(1, 201)
        a = (q * exact) @ q.T
        np.save(self.tmp / "a.npy", (a + a.T) / 2)
        values, vectors, attributes = self.eigh(self.tmp / "a.npy", "--k", 10, "--tol", 1e-8, "--method", "krylov")
        np.testing.assert_allclose(values, exact[:10], atol=1e-12)
        self.assertEqual(attributes["converged"], 10)
        self.assertLess(attributes["products"], 230)
        self.assertLess(attributes["orthogonality_loss"], 1e-10)
        # From there, the same again takes less.
        (self.tmp / "out.h5").rename(self.tmp / "start.h5")
        again, _, warm = self.eigh(self.tmp / "a.npy", "--k", 10, "--tol", 1e-8, "--method", "krylov", "--start", self.tmp / "start.h5")
        np.testing.assert_allclose(again, exact[:10], atol=1e-12)
        self.assertLess(warm["products"], attributes["products"])
        for select, wanted in (("positive", np.sort(exact)[::-1][:6]), ("negative", np.sort(exact)[:6])):
            for method in ("krylov", "dense"):
                values, _, attributes = self.eigh(self.tmp / "a.npy", "--k", 6, "--select", select, "--method", method, "--products", 150)
                np.testing.assert_allclose(values, wanted, atol=1e-9)
                self.assertEqual(attributes["selection"], select)
        values, vectors, attributes = self.eigh(self.tmp / "a.npy", "--k", 60, "--error", 0.3, "--method", "krylov", "--probes", 60)
        self.assertTrue(4 < len(values) < 20)  # the best rank for it is 6
        self.assertLess(np.linalg.norm(a - (vectors * values) @ vectors.T) / np.linalg.norm(a), 0.4)


if __name__ == "__main__":
    unittest.main()

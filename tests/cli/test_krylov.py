"""Runs whose eigenpairs come from block Krylov: what its certificates claim, held against the exact decomposition, and what
is left of a decomposition that was killed."""

import atexit
import json
import random
import signal
import time
import unittest

from support import *

KRYLOV = RECIPE.replace('method = "seigh"', 'method = "krylov"').replace("products = 30", "products = 80")
NAME = "step_000020_{}_hessian_{}.h5"
SPLITS = ("train", "test")
NOISE, VALUE, CLUSTER, PAIR = range(4)

# Two to three seconds in each of two decompositions.
LONG = KRYLOV.replace("image_size = 4", "image_size = 8").replace("hidden = [6]", "hidden = [160]").replace("steps = [20]", "steps = []")
LONG = LONG.replace("steps = [10, 20]", 'steps = [10, 20]\nsplits = ["train"]').replace("\nsamples = 100", "\nsamples = 400")
LONG = LONG.replace("k = 10", 'k = 100\ndtype = "float64"\nwarm_start = true').replace("products = 80", "products = 600")


def read(path):
    """-> ({data set: array}, attributes)"""
    with h5py.File(path) as file:
        return {name: data[()] for name, data in file.items()}, attributes(file)


def report_json(run):
    page = (run / "report.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


class Krylov(Case):
    def run_krylov(self, name, *settings):
        arguments = [part for setting in settings for part in ("--set", setting)]
        self.ok("run", self.krylov_run().parent / "recipe.toml", "--data", self.data, "--out", self.tmp / name, "--threads", 1,
                *arguments)
        return self.tmp / name

    @staticmethod
    @functools.cache
    def krylov_run():
        """-> a finished run, not to be changed."""
        folder = Path(tempfile.mkdtemp(prefix="seigh-cli-krylov-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "recipe.toml").write_text(KRYLOV)
        done = seigh("run", folder / "recipe.toml", "--data", Case.shared() / "data", "--out", folder / "run", "--threads", "1")
        assert done.returncode == 0, done.stderr
        return folder / "run"

    @staticmethod
    @functools.cache
    def matrices():
        """-> {split: the whole Hessian of step 20}, from a run with all eigenpairs."""
        folder = Krylov.krylov_run().parent
        done = seigh("run", folder / "recipe.toml", "--data", Case.shared() / "data", "--out", folder / "all", "--threads", "1",
                     "--set", "eigh.method=dense", "--set", f"eigh.k={PARAMETERS}", "--set", "eigh.products=0")
        assert done.returncode == 0, done.stderr
        matrices = {}
        for split in SPLITS:
            data, _ = read(folder / "all/eigen" / NAME.format(split, "dense"))
            u = data["eigenvectors"].T
            matrices[split] = (u * data["eigenvalues"]) @ u.T
        return matrices

    def check_certificates(self, data, h):
        """Residuals and spectrum of a decomposition against the matrix."""
        values, u, bounds = data["eigenvalues"], data["eigenvectors"].T.astype(float), data["residuals"]
        residuals = np.linalg.norm(h @ u - u * values, axis=0)
        self.assertTrue(np.all(residuals <= bounds), (residuals / bounds).max())
        exact = np.linalg.eigvalsh(h)
        distance = np.abs(values[:, None] - exact).min(1)
        self.assertTrue(np.all(distance <= bounds), (distance / bounds).max())
        np.testing.assert_array_equal(data["spectrum"][:len(values)], values)

    def test_residuals_bound_the_truth(self):
        for split in SPLITS:
            data, attributes = read(self.krylov_run() / "eigen" / NAME.format(split, "krylov"))
            self.check_certificates(data, self.matrices()[split])
            self.assertEqual((attributes["method"], attributes["selection"]), ("krylov", "magnitude"))
            self.assertEqual((attributes["s"], attributes["products"]), (80, 85 + 35))
            self.assertLess(attributes["orthogonality_loss"], 1e-5)  # of 80 columns in float32, sqrt(80) eps is 1e-6
            self.assertLessEqual(len(data["spectrum"]), 80)
            # The optimum, ||H|| without its ten leading eigenvalues, by what the probes could not know.
            exact, about = read(self.krylov_run() / "eigen" / NAME.format(split, "dense"))
            self.assertLess(about["sketch_error"], 1.05 * about["error_estimate"])
            self.assertEqual(len(exact["spectrum"]), PARAMETERS)
            self.check_certificates(exact, self.matrices()[split])

    def test_all_solvers(self):
        for method in ("krylov", "seigh", "nystrom", "hmt"):
            with self.subTest(method):
                run = self.run_krylov(method, f"eigh.method={method}", "eigh.probes=30", "dense.steps=[]", "curvature.steps=[20]")
                for split in SPLITS:
                    data, attributes = read(run / "eigen" / NAME.format(split, method))
                    self.assertEqual(attributes["method"], method)
                    self.check_certificates(data, self.matrices()[split])
                    self.assertEqual("converged" in attributes, method == "krylov")

    def test_trust(self):
        """Levels, angles, enclosures and places of the files and of the page keep what they promise."""
        run = self.run_krylov("few", "eigh.products=24", "eigh.k=16", "dense.steps=[20]")
        seen = set()
        for folder in (run, self.krylov_run()):
            for entry in report_json(folder)["decompositions"]:
                data, attributes = read(folder / "eigen" / (entry["id"] + ".h5"))
                self.assertEqual(list(map(int, entry["trust"])), data["trust"].tolist())
                for name in ("residuals", "angle"):
                    np.testing.assert_allclose(entry[name], data[name], rtol=6e-3)  # three digits
                self.assertEqual(attributes["certified"], (data["trust"] >= CLUSTER).sum())
                seen.update(data["trust"].tolist())
                if entry["step"] != 20:
                    continue
                exact, vectors = np.linalg.eigh(self.matrices()[entry["split"]])
                order = np.argsort(-abs(exact))
                exact, vectors = exact[order], vectors[:, order]
                for i, value in enumerate(data["eigenvalues"]):
                    self.assertLessEqual(abs(exact - value).min(), data["residuals"][i])
                    if data["trust"][i] < CLUSTER:
                        continue
                    first, last = data["place"][i]
                    low, high = data["enclosure"][i]
                    mine = slice(first - 1, last)
                    self.assertTrue(np.any((low <= exact[mine]) & (exact[mine] <= high)))
                    u = data["eigenvectors"][i].astype(float) if "eigenvectors" in data else None
                    if u is not None:
                        outside = np.linalg.norm(u - vectors[:, mine] @ (vectors[:, mine].T @ u))
                        self.assertLessEqual(outside, np.sin(data["angle"][i]) + 1e-6)
                    if data["trust"][i] == PAIR:
                        self.assertLessEqual(last, len(data["trust"]))
        self.assertLessEqual({VALUE, PAIR}, seen)

    def test_band_holds_the_exact_overlap(self):
        narrow = 0
        for split in SPLITS:
            data, _ = read(self.krylov_run() / "overlap" / NAME.format(split, "krylov"))
            exact, _ = read(self.krylov_run() / "overlap" / NAME.format(split, "dense"))
            low, high, truth = data["magnitude_low"], data["magnitude_high"], exact["magnitude"]
            self.assertEqual((low.dtype, low.shape), (np.float64, (10,)))
            self.assertTrue(np.all((0 <= low) & (low <= data["magnitude"]) & (data["magnitude"] <= high) & (high <= 1)))
            rounding = 1e-6  # of eigenvectors in float32
            self.assertTrue(np.all((low - rounding <= truth) & (truth <= high + rounding)), np.stack([low, truth, high]))
            narrow += (high - low < 0.1 * truth).sum()
            entry = next(d for d in report_json(self.krylov_run())["decompositions"] if d["id"] == f"step_000020_{split}_hessian_krylov")
            self.assertEqual(entry["overlap"]["k"], list(range(1, 11)))
            np.testing.assert_allclose(entry["overlap"]["magnitude_low"], low, rtol=6e-4)  # four digits
            np.testing.assert_allclose(entry["overlap"]["magnitude_high"], high, rtol=6e-4)
            # Of the exact decomposition it is no more than rounding wide, where eigenvalues are apart.
            self.assertLess((exact["magnitude_high"] - exact["magnitude_low"]).max(), 1e-6)
        self.assertGreater(narrow, 5)  # or the band would say nothing

    def test_no_probes(self):
        """Krylov's residuals need none, a sketch's do."""
        for method in ("krylov", "hmt", "seigh", "nystrom"):
            run = self.run_krylov(method, "eigh.probes=0", f"eigh.method={method}", "dense.steps=[]", "curvature.steps=[20]")
            data, attributes = read(run / "eigen" / NAME.format("train", method))
            self.assertEqual("residuals" in data, method in ("krylov", "hmt"))
            self.assertNotIn("error_estimate", attributes)
            overlap, _ = read(run / "overlap" / NAME.format("train", method))
            self.assertEqual("magnitude_low" in overlap, method in ("krylov", "hmt"))

    def test_tolerance_and_warm_start(self):
        spent = {}
        for warm in ("false", "true"):
            run = self.run_krylov(warm, "eigh.tolerance=1e-4", "eigh.products=0", f"eigh.warm_start={warm}")
            for split in SPLITS:
                data, attributes = read(run / "eigen" / NAME.format(split, "krylov"))
                values = data["eigenvalues"]
                self.assertEqual(attributes["converged"], 10)
                self.assertLessEqual(data["residuals"].max(), 1e-4 * abs(values[0]))
                exact = by_magnitude(np.linalg.eigvalsh(self.matrices()[split]))[:10]
                np.testing.assert_allclose(values, exact, atol=1e-4 * abs(values[0]))
                spent[warm, split] = attributes["products"]
                # The first step has none before it.
                first, _ = read(run / "eigen" / NAME.format(split, "krylov").replace("20", "10", 1))
                spent[warm, split, "first"] = first["eigenvalues"].tobytes()
        for split in SPLITS:
            self.assertLess(spent["false", split], PARAMETERS)  # or stopping early was not tested
            self.assertLessEqual(spent["true", split], spent["false", split])
            self.assertEqual(spent["true", split, "first"], spent["false", split, "first"])

    def test_warm_start_after_a_pause(self):
        """The eigenvectors of the step before are read from its file."""
        run = self.run_krylov("run", "eigh.tolerance=1e-4", "eigh.products=0", "eigh.warm_start=true")
        whole = snapshot(run)
        for folder in ("eigen", "overlap"):
            (run / folder / NAME.format("train", "krylov")).unlink()
        self.ok("run", run / "recipe.toml", "--data", self.data, "--out", run, "--resume", "--threads", 1)
        again = snapshot(run)
        name = "eigen/" + NAME.format("train", "krylov")
        self.assertEqual(again[name + " attributes"]["products"], whole[name + " attributes"]["products"])
        self.assertEqual(again[name], whole[name])

    def test_error(self):
        run = self.run_krylov("run", "eigh.error=0.3", "eigh.products=0", "eigh.k=60", "eigh.probes=30")
        for split in SPLITS:
            data, attributes = read(run / "eigen" / NAME.format(split, "krylov"))
            h, u = self.matrices()[split], data["eigenvectors"].T.astype(float)
            error = np.linalg.norm(h - (u * data["eigenvalues"]) @ u.T) / np.linalg.norm(h)
            self.assertTrue(0.15 < error < 0.45, error)  # 30 probes; neither missed by far nor more pairs than needed
            self.assertLess(attributes["rank"], 60)

    def test_selection(self):
        for selection in ("positive", "negative", "both"):
            run = self.run_krylov(selection, f"eigh.selection={selection}", "eigh.products=150", "eigh.k=6")
            for split in SPLITS:
                data, attributes = read(run / "eigen" / NAME.format(split, "krylov"))
                self.assertEqual(attributes["selection"], selection)
                exact = np.sort(np.linalg.eigvalsh(self.matrices()[split]))
                wanted = {"positive": exact[:-7:-1], "negative": exact[:6],
                          "both": by_magnitude(np.concatenate([exact[:3], exact[-3:]]))}[selection]
                np.testing.assert_allclose(data["eigenvalues"], wanted, atol=1e-5)
            entry = report_json(run)["decompositions"][0]
            self.assertEqual(entry["selection"], selection)

    def test_auto_takes_the_whole_of_a_small_matrix(self):
        run = self.run_krylov("run", "eigh.method=auto")
        self.assertEqual(sorted(p.name for p in (run / "eigen").iterdir()),
                         [f"step_{step:06}_{split}_hessian_dense.h5" for step in (10, 20) for split in ("test", "train")])
        # A tolerance asks for what only krylov does.
        run = self.run_krylov("krylov", "eigh.method=auto", "eigh.tolerance=1e-3", "eigh.products=0", "dense.steps=[]")
        self.assertTrue(all(p.stem.endswith("krylov") for p in (run / "eigen").iterdir()))

    def test_no_state_is_left(self):
        self.assertFalse((self.krylov_run() / "partial").exists())


class KilledInTheMiddle(Case):
    def arguments(self, out):
        return ["run", self.tmp / "recipe.toml", "--data", self.data, "--out", out, "--resume", "--threads", "1"]

    def killed_with_a_state(self, run):
        """Starts the run and kills it in the middle of its second decomposition; -> the products its state knows of."""
        state = run / "partial/step_000020_train_hessian_krylov/state.h5"
        process = subprocess.Popen([SEIGH, *map(str, self.arguments(run))], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=environment())
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        def wait(seconds, until):
            end = time.monotonic() + seconds
            while not until() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.002)
        log = run / "log.jsonl"
        wait(90, lambda: log.exists() and '"plan","file":"step_000020' in log.read_text())
        for _ in range(5):
            wait(0.5, state.exists)
            if state.exists() or process.poll() is not None:
                break
            # The state is kept every five seconds of the clock, which go by while the process does not. It may have been
            # stopped before the solver began.
            process.send_signal(signal.SIGSTOP)
            time.sleep(5.2)
            process.send_signal(signal.SIGCONT)
            wait(5, state.exists)
        process.kill()
        process.communicate()
        self.assertEqual(process.returncode, -signal.SIGKILL, "ended before it could be killed")
        self.assertTrue(state.exists())
        with h5py.File(state) as file:
            return int(file.attrs["products"])

    def test_neither_wrong_bits_nor_other_data_are_gone_on_with(self):
        """A flipped bit once put 39 of 40 pairs outside their bounds, and other data half-way between both answers."""
        (self.tmp / "recipe.toml").write_text(LONG)
        run = self.tmp / "run"
        self.killed_with_a_state(run)
        rng = random.Random(3)
        for pattern in ("state.h5", "basis_*.h5"):
            for i in range(8):
                copy = Path(shutil.copytree(run, self.tmp / f"copy {pattern[:5]} {i}"))
                file = sorted(copy.glob(f"partial/*krylov/{pattern}"))[0]
                content = bytearray(file.read_bytes())
                at = rng.randrange(len(content) if i else 512)
                content[at] ^= 1 << rng.randrange(8)
                file.write_bytes(content)
                done = seigh(*self.arguments(copy), timeout=120)
                self.assertEqual(done.returncode, 2, f"byte {at} of {file}: {done.stderr}")
                self.assertRegex(done.stderr.splitlines()[-1], f"^seigh: .*{file.name}.*(damaged|checksum).*delete")
        other = write_data(self.tmp / "other", seed=1)
        arguments = [other if word == self.data else word for word in self.arguments(run)]
        done = seigh(*arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr.splitlines()[-1], "state.h5 is of another matrix: its samples were others; .*delete")

    def test_goes_on_from_its_last_block(self):
        (self.tmp / "recipe.toml").write_text(LONG)
        self.ok(*self.arguments(self.tmp / "undisturbed"))
        run = self.tmp / "run"
        spent = self.killed_with_a_state(run)
        self.assertTrue(0 < spent < 600, spent)
        self.assertEqual([p.name for p in (run / "eigen").iterdir()], ["step_000010_train_hessian_krylov.h5"])
        other = Path(shutil.copytree(run, self.tmp / "other"))
        file = next((other / "partial").glob("*/state.h5"))
        with changed(file) as state:
            state.attrs["computation"] = "another"
        self.refused(*self.arguments(other), says=["state.h5 belongs to another computation", "delete"])
        self.ok(*self.arguments(run))
        self.assertFalse((run / "partial").exists())
        self.assertEqual([p for p in run.rglob("*.tmp-*")], [])
        name = NAME.format("train", "krylov")
        (a, about_a), (b, about_b) = read(run / "eigen" / name), read(self.tmp / "undisturbed/eigen" / name)
        self.assertEqual(about_a["products"], about_b["products"])
        scale = np.abs(b["eigenvalues"]).max()
        np.testing.assert_allclose(a["eigenvalues"], b["eigenvalues"], rtol=0, atol=1e-12 * scale)
        np.testing.assert_allclose(a["residuals"], b["residuals"], rtol=1e-6, atol=1e-12 * scale)
        # The leading vectors: rounding over the gap, 1e-12.
        cosines = np.abs((a["eigenvectors"][:5] * b["eigenvectors"][:5]).sum(1))
        np.testing.assert_allclose(cosines, 1, atol=1e-9)
        (a, _), (b, _) = read(run / "overlap" / name), read(self.tmp / "undisturbed/overlap" / name)
        np.testing.assert_allclose(a["magnitude"][:5], b["magnitude"][:5], rtol=1e-6)
        np.testing.assert_array_equal(a["mask"], b["mask"])


if __name__ == "__main__":
    unittest.main()

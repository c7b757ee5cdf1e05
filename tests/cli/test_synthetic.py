"""The synthetic study of the metrics from outside: its numbers against ones computed here, resuming, wrong keys, the page."""

import re
import signal
import subprocess
import time
import unittest

from support import *

RECIPE = """\
seed = 9
[synthetic]
pairs = 30
dimensions = [16, 64]
ratios = [0.4, 0.05]
fine_dimensions = [32]
fine_ratios = [1.0, 0.75, 0.25]
"""
CELLS = [(16, .4, 6), (16, .05, 1), (32, 1, 32), (32, .75, 24), (32, .25, 8), (64, .4, 26), (64, .05, 3)]
KINDS = ["Haar-Haar", "mask-mask", "Haar-mask"]
METRICS = ["geodesic", "chordal_2", "chordal_frobenius", "projection_2", "projection_frobenius", "fubini_study", "overlap",
           "intersection_over_union"]


def metrics(cosines):
    """All of one pair, from the cosines of its k principal angles: straight from their definitions."""
    theta, k = np.arccos(np.clip(cosines, 0, 1)), len(cosines)
    chord = 2 * np.sin(theta / 2)
    return {"geodesic": np.linalg.norm(theta) / (np.sqrt(k) * np.pi / 2), "chordal_2": chord.max() / np.sqrt(2),
            "chordal_frobenius": np.linalg.norm(chord) / np.sqrt(2 * k), "projection_2": np.sin(theta).max(),
            "projection_frobenius": np.linalg.norm(np.sin(theta)) / np.sqrt(k),
            "fubini_study": np.arccos(np.prod(np.cos(theta))) / (np.pi / 2), "overlap": np.mean(np.cos(theta) ** 2)}


def simulated(dimension, k, kind, pairs, rng):
    """-> {metric: values}, by whole bases of both subspaces: nothing of complements, nothing shared."""
    def basis(mask):
        if mask:
            return np.eye(dimension)[:, rng.permutation(dimension)[:k]]
        return np.linalg.qr(rng.standard_normal((dimension, k)))[0]
    sides = {"Haar-Haar": (False, False), "mask-mask": (True, True), "Haar-mask": (False, True)}[kind]
    all_of_them = [metrics(np.linalg.svd(basis(sides[0]).T @ basis(sides[1]), compute_uv=False)) for _ in range(pairs)]
    return {name: np.array([one[name] for one in all_of_them]) for name in all_of_them[0]}


class Synthetic(Case):
    @staticmethod
    @functools.cache
    def study():
        """-> a folder with recipe.toml and its finished run out/; to be copied, not changed."""
        folder = Path(tempfile.mkdtemp(prefix="seigh-synthetic-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "recipe.toml").write_text(RECIPE)
        done = seigh("run", folder / "recipe.toml", "--out", folder / "out", "--threads", "2")
        assert done.returncode == 0, done.stderr
        (folder / "stdout").write_text(done.stdout)
        return folder

    def copy(self):
        shutil.copytree(self.study(), self.tmp, dirs_exist_ok=True)
        return self.tmp / "recipe.toml", self.tmp / "out"

    def test_the_numbers_are_those_of_whole_bases(self):
        with h5py.File(self.study() / "out/synthetic.h5") as file:
            values, quantiles = file["values"][()], file["quantiles"][()]
            cells = list(zip(file["dimension"][()], file["ratio"][()], file["k"][()]))
            said = attributes(file)
        self.assertEqual(cells, CELLS)
        self.assertEqual(said["kinds"].split(), KINDS)
        self.assertEqual(said["metrics"].split(), METRICS)
        self.assertEqual(values.shape, (3, 8, len(CELLS), 30))
        np.testing.assert_allclose(np.moveaxis(np.quantile(values, [.05, .25, .5, .75, .95], axis=-1), 0, -1), quantiles, atol=1e-12)
        # Means of 30 pairs against those of 400 simulated ones, at 5 standard errors of the difference (at 147 fixed
        # comparisons below 1e-4 for normal means), plus what a cosine near 1 is off by. Where few parameters are
        # shared, neither sample may have met the rare pair: the simulated deviation then says too little.
        rng = np.random.default_rng(4)
        for i, kind in enumerate(KINDS):
            for j, (dimension, _, k) in enumerate(CELLS):
                other = simulated(dimension, k, kind, 400, rng)
                for name, x in other.items():
                    mine = values[i, METRICS.index(name), j]
                    error = 5 * x.std(ddof=1) * np.sqrt(1 / len(mine) + 1 / len(x))
                    self.assertLess(abs(mine.mean() - x.mean()), error + 1e-6, (kind, dimension, k, name))
        # Of masks: 2 |A and B| = (1 + IoU) |A and B| + IoU (2 k - ...), that is IoU = n / (2 k - n).
        overlap, union = values[1, METRICS.index("overlap")], values[1, METRICS.index("intersection_over_union")]
        for j, (_, _, k) in enumerate(CELLS):
            n = overlap[j] * k
            np.testing.assert_allclose(union[j], n / (2 * k - n), atol=1e-12)
        self.assertTrue(np.isnan(values[[0, 2], METRICS.index("intersection_over_union")]).all())

    def test_the_finding_is_printed_and_is_that_of_the_file(self):
        text = (self.study() / "stdout").read_text()
        self.assertIn("7 cells (D, k/D) of 30 pairs of each kind, 5 of them resolved", text)
        with h5py.File(self.study() / "out/synthetic.h5") as file:
            quantiles, share = file["quantiles"][()], file["k"][()] / file["dimension"][()]
        resolved = np.array([k * k >= d for d, _, k in CELLS])
        for m, name in enumerate(METRICS):
            median = quantiles[:, m, :, 2]
            s = median if m >= 6 else 1 - median
            off = np.abs(s - share)
            line = next(line for line in text.splitlines() if line.startswith(name + " "))
            shown = line.split()
            self.assertEqual(float(shown[1]), round(np.nanmax(off), 3), line)
            self.assertEqual(float(shown[2]), round(np.nanmax(off[:, resolved]), 3), line)
            self.assertEqual(float(shown[3]), round(100 * np.nanmax((s[:, resolved & (share < 1)] < .01).mean(1))), line)
        usable = resolved & (share < 1)
        slopes = [np.polyfit(np.log(share[usable]), np.log(quantiles[i, 6, usable, 2]), 1)[0] for i in range(3)]
        line = next(line for line in text.splitlines() if line.startswith("overlap "))
        self.assertIn(f"{min(slopes):.2f} .. {max(slopes):.2f}", line)
        self.assertRegex(text, r"the median follows k/D|does the median follow")
        self.assertRegex(text, r"(?m)^report: .*/out/report\.html$")

    def test_a_finished_study_is_kept(self):
        recipe, out = self.copy()
        before, page = (out / "synthetic.h5").stat(), (out / "report.html").read_text()
        self.refused("run", recipe, "--out", out, says="already holds this synthetic study.*--resume")
        (out / "report.html").unlink()
        done = self.ok("run", recipe, "--out", out, "--resume")
        self.assertNotIn("synthetic pairs", done.stderr)
        self.assertEqual((out / "synthetic.h5").stat().st_mtime_ns, before.st_mtime_ns)
        self.assertEqual((out / "report.html").read_text(), page)
        self.assertEqual([p.name for p in out.iterdir() if ".tmp-" in p.name], [])
        # A name decides nothing, a seed does.
        self.ok("run", recipe, "--out", out, "--resume", "--set", "name=other")
        self.refused("run", recipe, "--out", out, "--resume", "--set", "seed=10", says="another recipe")

    def test_what_was_stopped_begins_anew_and_is_the_same(self):
        recipe, out = self.copy()
        again = self.tmp / "again"
        more = ("run", recipe, "--out", again, "--threads", "1")
        process = subprocess.Popen([SEIGH, *map(str, more), "--set", "synthetic.pairs=10000"], stderr=subprocess.PIPE, text=True,
                                   env=environment())
        for _ in range(600):
            if (again / "recipe.toml").exists():
                break
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertFalse((again / "synthetic.h5").exists())
        self.assertIn("not finished", self.ok("show", again).stdout)
        self.refused("report", again, says="no finished study yet.*--resume")
        self.ok(*more)  # nothing is finished, so nothing is in the way of another recipe
        self.assertEqual(snapshot(again), snapshot(out))

    def test_show_says_what_it_is(self):
        _, out = self.copy()
        text = self.ok("show", out).stdout
        self.assertTrue(text.startswith("recipe: synthetic study of the Grassmannian metrics, seed 9\n"), text)
        self.assertIn((self.study() / "stdout").read_text().split("report:")[0], text)
        text = self.ok("show", out / "synthetic.h5").stdout
        self.assertRegex(text, r"what +synthetic study of Grassmannian metrics\n")
        self.assertRegex(text, r"/values +float64 +3 x 8 x 7 x 30 ")
        self.assertIn("follow", self.ok("show", out / "report.html").stdout)
        self.assertIn("follow", self.ok("report", out).stdout)
        self.assertRegex(self.ok("run", self.tmp / "recipe.toml", "--dry-run").stdout, "7 cells of 30 pairs")

    def test_the_page_holds_every_panel(self):
        text = (self.study() / "out/report.html").read_text()
        data = json.loads(re.search(r'id="data">\n(.*?)</script>', text, re.S)[1])
        s = data["synthetic"]
        self.assertEqual((s["kinds"], [f["metric"] for f in s["findings"]]), (KINDS, METRICS))
        self.assertEqual([(d, r, k) for d, r, k in zip(s["dimension"], s["ratio"], s["k"])], CELLS)
        self.assertEqual((s["dimensions"], s["ratios"], s["fine_dimensions"], s["fine_ratios"]),
                         ([16, 64], [.4, .05], [32], [1, .75, .25]))
        with h5py.File(self.study() / "out/synthetic.h5") as file:
            quantiles = np.moveaxis(file["quantiles"][()], 3, 2)
        np.testing.assert_allclose(np.array(s["quantiles"], float), quantiles, rtol=1e-5, atol=1e-300)
        self.assertIn(s["verdict"], (self.study() / "stdout").read_text())

    def test_wrong_keys_are_named(self):
        recipe, out = self.copy()
        new = self.tmp / "new"
        for text, says in ((RECIPE + "pair = 3\n", r"recipe\.toml:8: unknown key \"synthetic\.pair\"; .*synthetic\.pairs"),
                           (RECIPE + "[eigh]\nk = 3\n", r"unknown key \"eigh\.k\"; a recipe with \[synthetic\] is about no network"),
                           (RECIPE + "[sweep]\nseeds = 3\n", r"unknown key \"sweep\.seeds\""),
                           (RECIPE.replace("30", "1"), "pairs must lie between 2 and"),
                           (RECIPE.replace("30", '"many"'), r"recipe\.toml:3: synthetic\.pairs must be an integer"),
                           (RECIPE.replace("0.05", "0.0"), "ratios"),
                           (RECIPE.replace("[32]", "[100000]"), "fine_dimensions.* between 2 and 4096, not 100000"),
                           (RECIPE.replace("[16, 64]", "16"), r"synthetic\.dimensions must be a list"),
                           ("name = \"a/b\"\n" + RECIPE, "plain name")):
            recipe.write_text(text)
            self.refused("run", recipe, "--out", new, says=says)
            self.assertFalse(new.exists())
        recipe.write_text("[synthetic]\n")  # the defaults
        self.assertRegex(self.ok("run", recipe, "--dry-run", "--set", "synthetic.dimensions=[16]", "--set",
                                 "synthetic.fine_dimensions=[16]").stdout, r"12 cells of 50 pairs")
        self.assertIn("synthetic.fine_ratios  (numbers, default [1.0, 0.99", self.ok("run", "--keys", "synthetic").stdout)
        # Other commands, and folders of other things.
        self.refused("eigh", out, says="synthetic")
        self.refused("run", self.recipe, "--data", self.data, "--out", out, says="synthetic|another recipe")
        recipe.write_text(RECIPE)
        self.refused("run", recipe, "--out", self.run_copy("network"), says="something other than a synthetic study")

    def test_a_damaged_file_is_named(self):
        recipe, out = self.copy()
        content = bytearray((out / "synthetic.h5").read_bytes())
        content[len(content) // 2] ^= 1
        (out / "synthetic.h5").write_bytes(content)
        self.refused("run", recipe, "--out", out, "--resume", says=r"synthetic\.h5")
        self.refused("show", out, says=r"synthetic\.h5")


if __name__ == "__main__":
    unittest.main()

"""The report page in a browser: what it says against the result files, its controls, its address, what it saves, and how
it looks at 400 and 1400 pixels, light and dark. Without chromium these tests fail."""

import csv
import functools
import io
import json
import re
import shutil
import sys
import unittest
import xml.etree.ElementTree
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
sys.dont_write_bytecode = True

from browser import Browser  # noqa: E402
from support import ROOT, Case  # noqa: E402

EMBEDDED = re.compile(r'(<script type="application/json" id="data">\n?)(.*?)(</script>)', re.S)
DETAILS = 6


def with_data(page, data):
    """The page with other data, embedded as the program does it."""
    text = json.dumps(data).replace("<", "\\u003c")
    return EMBEDDED.sub(lambda m: m[1] + text + m[3], page, count=1)


def number(text):
    """-> the number that the page shows as `text`, three digits of it."""
    text = text.replace("−", "-").replace(",", "").strip()
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    match = re.fullmatch(r"(-?[\d.]+)?(?: × )?(?:10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    return float(match[1] or 1) * 10.0 ** int((match[2] or "⁰").translate(powers))


class Page(Case):
    browser = None

    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    @property
    def report(self):
        return self.shared() / "run/report.html"

    def made(self, data, name="page.html"):
        path = self.tmp / name
        path.write_text(with_data(self.report.read_text(), data))
        return path

    @functools.cached_property
    def sample(self):
        return self.made(json.loads((ROOT / "web/sample.json").read_text()))

    def open(self, path, address="", **more):
        """Opens a page and checks that nothing in it failed, and that it asked for nothing but itself."""
        self.browser.open(path, address, **more)
        self.check()
        return self.browser

    def check(self):
        self.assertEqual(self.browser.errors, [])
        self.assertEqual([url for url in self.browser.requests if not url.startswith(("data:", "blob:", "file://"))], [])
        self.assertLessEqual(sum(url.startswith("file://") for url in self.browser.requests), 1)
        self.assertEqual(self.value("document.documentElement.dataset.errors"), "")
        self.assertNotIn("could not be drawn", self.text("main"))

    def value(self, expression):
        return self.browser.evaluate(expression)

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)}).textContent")

    def tiles(self):
        """-> {name of the tile: (number, range)}"""
        rows = self.value("[...document.querySelectorAll('.tile')].map((t) => ['.what', 'b', '.range'].map((s) => t.querySelector(s).textContent))")
        return {name: (number(value), interval) for name, value, interval in rows}

    def move(self, name, position):
        """Moves a slider as a hand would."""
        self.value(f"""(() => {{ const s = document.querySelector('input[name="{name}"]'); s.value = {position};
                        s.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()""")
        self.browser.settle()

    def choose(self, name, position):
        self.value(f"""(() => {{ const s = document.querySelector('select[name="{name}"]'); s.selectedIndex = {position};
                        s.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()""")
        self.browser.settle()

    def factors(self, run, split, step, size, method="seigh"):
        """-> what the page should say, from the overlap file."""
        with h5py.File(run / f"overlap/step_{step:06}_{split}_hessian_{method}.h5") as file:
            i = list(file["two_way_sizes"][()]).index(size)
            overlap, two_way = file["two_way_overlap"][i], file["two_way_mean"][i]
            layer, chance = file["null_layer_mean"][size - 1], file["null_uniform_mean"][size - 1]
        return {"overlap / chance": overlap / chance, "layer": layer / chance, "units": two_way / layer, "parameter": overlap / two_way}

    # ---- what it says

    def test_says_what_the_files_say(self):
        run = self.shared() / "run"
        for step, split, size in ((20, "train", 10), (20, "test", 4), (10, "train", 6), (10, "test", 1)):
            self.open(self.report, f"step={step}&split={split}&k={size}&method=seigh")
            tiles = self.tiles()
            for name, truth in self.factors(run, split, step, size).items():
                self.assertAlmostEqual(tiles[name][0] / truth, 1, delta=5.1e-3, msg=f"{name}, step {step}, {split}, k = {size}")
            self.assertIn(f"At step {step} the {size} largest of 172 parameters", self.text(".answer"))
        # The exact decomposition is another one.
        self.open(self.report, "step=20&split=train&k=10&method=dense")
        self.assertAlmostEqual(self.tiles()["parameter"][0] / self.factors(run, "train", 20, 10, "dense")["parameter"], 1, delta=5.1e-3)

    def test_verdict(self):
        """From the last factor and whether it is told from its null."""
        data = json.loads(EMBEDDED.search(self.report.read_text())[2])
        for parameter, p, says in ((1.4, 0.01, "Yes."), (1.4, 0.2, "Not as such."), (1.02, 0.01, "Hardly."), (0.97, 0.01, "Not as such."),
                                   (0.6, 0.01, "The contrary."), (0.6, 0.3, "Not as such.")):
            for d in data["decompositions"]:
                for f in d["overlap"]["factors"]:
                    f.update(parameter=parameter, p=p)
            self.open(self.made(data))
            self.assertEqual(self.text(".answer strong"), says, (parameter, p))

    def repetitions(self):
        """-> the folders of three seeds of one recipe, and of another recipe"""
        folders = []
        for name, more in (("a", ["seed=1"]), ("b", ["seed=2"]), ("c", ["seed=3"]), ("other", ["train.weight_decay=0.1"])):
            folders.append(self.tmp / name)
            self.ok("run", self.recipe, "--data", self.data, "--out", folders[-1], "--threads", 1, "--set", "name=tiny",
                    *[part for one in more for part in ("--set", one)])
        return folders

    def test_several_runs(self):
        folders = self.repetitions()
        before = {p: p.stat().st_mtime_ns for folder in folders for p in folder.rglob("*")}
        done = self.ok("report", *folders, "--out", self.tmp / "all.html")
        self.assertEqual(done.stdout, f"report: {self.tmp}/all.html\n")
        self.assertEqual({p: p.stat().st_mtime_ns for folder in folders for p in folder.rglob("*")}, before)  # only looked at
        page = self.tmp / "all.html"
        self.assertIn("tiny: seeds 1, 2, 3", self.ok("show", page).stdout)

        self.open(page, "open=all&step=20&split=test&k=10&method=seigh")
        self.assertEqual(self.value("document.querySelectorAll('.answer').length"), 2)
        tiles = self.tiles()
        for name in ("overlap / chance", "layer", "units", "parameter"):
            logs = np.log([self.factors(folder, "test", 20, 10)[name] for folder in folders[:3]])
            half = 4.302653 * logs.std(ddof=1) / np.sqrt(3)  # Student's t, two degrees of freedom, two-sided 95 %
            self.assertAlmostEqual(tiles[name][0] / np.exp(logs.mean()), 1, delta=5.1e-3)
            for shown, truth in zip(tiles[name][1].split(" to "), np.exp([logs.mean() - half, logs.mean() + half])):
                self.assertAlmostEqual(number(shown) / truth, 1, delta=5.1e-3)
        self.assertIn("differ in the seed alone", self.text("#answer"))
        self.assertIn("train.weight_decay", self.text("#groups"))

        # Any of them by itself, below.
        shown = self.text("#settings")
        self.choose("run", 3)
        self.check()
        self.assertIn("run=3", self.value("location.hash"))
        self.assertIn("weight decay 0.1", self.text("#settings"))
        self.assertNotIn("weight decay", shown)
        # Of one run it is its own page, elsewhere.
        self.ok("report", folders[0], "--out", self.tmp / "one.html")
        self.open(self.tmp / "one.html")
        self.assertEqual(self.text("#title"), "tiny")

    def test_seeds_and_subsets(self):
        """Two directions of repetition: an interval over seeds, another over subsets within a seed, and never one of both."""
        recipe = self.tmp / "subsets.toml"
        recipe.write_text(self.recipe.read_text() + '[sweep]\nseeds = 3\nsubsets = 2\nkey = "train.learning_rate"\nvalues = [0.1]\n')
        out = self.tmp / "subsets"
        self.ok("run", recipe, "--data", self.data, "--out", out, "--threads", 1, "--set", "name=tiny", "--set", "dense.steps=[]")
        names = ("overlap / chance", "layer", "units", "parameter")

        def factors(variant):
            """-> [seed, subset, factor]"""
            return np.array([[[self.factors(out / f"{variant}-seed-{seed}{subset}", "test", 20, 10)[name] for name in names]
                              for subset in ("", "-subset-1")] for seed in (7, 8, 9)])

        def intervals(values):
            """-> geometric mean, its interval over three seeds, and over subsets: pooled within seeds, three degrees of freedom"""
            x = np.log(values)
            mean = x.mean((0, 1))
            run = 4.302653 * x.mean(1).std(0, ddof=1) / np.sqrt(3)
            data = 3.182446 * np.sqrt(x.var(1, ddof=1).mean(0) / 6)
            return [np.exp(v) for v in (mean, mean - run, mean + run, mean - data, mean + data)]

        def close(shown, truth):
            np.testing.assert_allclose([number(x) for x in shown], truth, rtol=5.1e-3)

        page = out / "report.html"
        self.open(page, "step=20&split=test&k=10")
        self.assertEqual(self.value("document.querySelectorAll('.answer').length"), 2)
        for group, variant in enumerate(("base", "learning_rate=0.1")):
            self.open(page, f"step=20&split=test&k=10&run={group}")  # runs go seed by seed, subset by subset
            self.choose("run", next(i for i, text in enumerate(self.value("[...document.querySelector('select[name=run]').options].map((o) => o.text)"))
                                    if f"{variant}-seed-7" in text))
            truth = intervals(factors(variant))
            ranges = self.value("[...document.querySelectorAll('.tile')].map((t) => [...t.querySelectorAll('.range')].map((r) => [r.dataset.of, r.textContent]))")
            for i, name in enumerate(names):
                tile = dict(ranges[i])
                close([self.value(f"document.querySelectorAll('.tile b')[{i}].textContent")], [truth[0][i]])
                close(tile["run"].split(" to "), [truth[1][i], truth[2][i]])
                if "data" in tile:  # not where it is no wider than three digits
                    close(tile["data"].split(" to "), [truth[3][i], truth[4][i]])
            # Named by size, on top.
            said = self.value(f"document.querySelectorAll('#answer .three')[{group}].textContent")
            found = {name: [number(low), number(high)] for name, low, high in re.findall(r"of the (run|sampled data|solver):? \[(\S+), (\S+)\]", said)}
            close(map(str, found["run"]), [truth[1][0], truth[2][0]])
            close(map(str, found["sampled data"]), [truth[3][0], truth[4][0]])
            largest = max(found, key=lambda name: np.log(found[name][1] / max(found[name][0], 1e-300)))
            self.assertIn(f"the largest uncertainty that is known is that of the {largest}:", said)
            self.assertIn("over 3 seeds", said)
            self.assertIn("over 2 disjoint subsets within each seed", said)
            self.assertNotRegex(said, "Not known:.*of the (run|sampled)")
        # One group over the other, run by run.
        rows = {row[0]: row for row in self.value("""[...document.querySelectorAll('#groups tbody tr')].map((r) =>
            [...r.querySelectorAll('td')].map((c) => c.textContent))""")}
        ratio = intervals(factors("learning_rate=0.1") / factors("base"))
        for i in range(4):
            close(re.findall(r"[\d.]+", rows["learning_rate=0.1 over base"][5 + i + 1]), [v[i] for v in ratio[:3]])
        close(re.findall(r"[\d.]+", rows["learning_rate=0.1 over base, over subsets"][6]), [ratio[3][0], ratio[4][0]])
        # Subsets of one seed: the run's uncertainty is not known. Of one run two are not.
        for runs, missing in (((out / "base-seed-7", out / "base-seed-7-subset-1"), ["of the run"]), ((out / "base-seed-7",), ["of the run", "of the sampled data"])):
            self.ok("report", *runs, "--out", self.tmp / "fewer.html")
            self.open(self.tmp / "fewer.html", "step=20&split=test&k=10")
            said = self.text("#answer .three")
            self.assertEqual(re.findall(r"of the (?:run|sampled data)(?= \()", said.split("Not known")[1]), missing)
            self.assertRegex(self.text("#answer"), "nothing here says what another seed would give")

    def test_what_the_solver_knows_is_said(self):
        data = json.loads((ROOT / "web/sample.json").read_text())
        address = "step=2000&split=train&k=60&method="
        self.open(self.made(data), address + "krylov")
        self.assertRegex(self.text("#answer .three"), r"known is that of the solver: \[\S+, \S+\], its worst case\. Not known: of the run .*; of the sampled data ")
        self.open(self.made(data), address + "dense")
        self.assertIn("no uncertainty: the decomposition is exact. Not known: of the run", self.text("#answer .three"))
        for d in data["decompositions"]:
            o = d["overlap"]
            o.pop("magnitude_deviation", None)
            o.update(magnitude_low=[0] * len(o["k"]), magnitude_high=[1] * len(o["k"]))
        self.open(self.made(data), address + "krylov")
        self.assertIn("excludes little", self.text("#answer .three").split("Not known")[1])

    def test_pruning(self):
        """Means over seeds, controls and distances against pruning.csv; then one of the runs by itself."""
        recipe = self.tmp / "prune.toml"
        recipe.write_text(self.recipe.read_text() + '[prune]\nscores = ["magnitude", "snip", "random"]\nsparsities = [0.5, 0.75, 0.9]\n'
                          'draws = 2\nfine_tune = 5\nsteps = [10, 20]\n[sweep]\nseeds = 3\n')
        out = self.tmp / "pruned"
        self.ok("run", recipe, "--data", self.data, "--out", out, "--threads", 1, "--set", "name=tiny")
        rows = []
        for folder in sorted(out.glob("base-seed-*")):
            with open(folder / "pruning.csv") as file:
                rows.append(list(csv.DictReader(line for line in file if not line.startswith("#"))))
        self.assertEqual(len(rows), 3)

        def values(score, control, sparsity, column, step=20):
            """By seed, of draws the mean."""
            return np.array([np.mean([float(r[column]) for r in seed if (int(r["step"]), r["score"], int(r["control"]), float(r["sparsity"]))
                                      == (step, score, control, sparsity)]) for seed in rows])

        def close(shown, values, log=False):
            """ "12.3 [11, 13]" is the mean of `values` with its 95 % t-interval, two degrees of freedom. """
            shown = [number(x) for x in re.findall(r"[−\d.,]*\d(?: × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", shown.replace(", ", " "))]
            x = np.log(values) if log else values
            half = 4.302653 * x.std(ddof=1) / np.sqrt(3)
            for a, b in zip(shown, [x.mean(), x.mean() - half, x.mean() + half]):
                self.assertAlmostEqual(a, np.exp(b) if log else b, delta=5.1e-3 * max(abs(np.exp(b) if log else b), 1e-9))
            self.assertEqual(len(shown), 3)

        page = out / "report.html"
        self.open(page)
        cells = "[...document.querySelectorAll('#pruning tbody tr')].map((r) => [...r.querySelectorAll('td')].map((c) => c.textContent))"
        table = {row[0]: row[1:] for row in self.value(cells)}
        self.assertEqual(set(table), {"magnitude", "snip", "random"})
        for score in ("magnitude", "snip"):
            for i, column in ((0, "accuracy"), (3, "tuned_accuracy")):
                own, control = (100 * values(score, c, 0.75, column) for c in (0, 1))
                for shown, truth in zip(table[score][i:], (own, control, own - control)):
                    close(shown, truth)
        # The sentence names the largest after fine-tuning, and how far it is from its control and from the next one.
        tuned = {score: 100 * values(score, 0, 0.75, "tuned_accuracy") for score in table}
        best = max(tuned, key=lambda score: tuned[score].mean())
        said = self.text("#pruning .answer")
        self.assertIn(f"With 75 % of {rows[0][0]['prunable']} parameters pruned at step 20 and 5 steps of fine-tuning, most is left by {best}: test accuracy", said)
        close(re.search(r"test accuracy (.*?\])", said)[1].replace("%", ""), tuned[best])
        if best != "random":
            close(re.search(r", (\S+ \[[^]]*\]) points above random masks", said)[1], tuned[best] - 100 * values(best, 1, 0.75, "tuned_accuracy"))
        self.assertIn("Means over 3 seeds", self.text("#pruning"))
        self.assertEqual(self.value("document.querySelectorAll('#pruning figure').length"), 2)
        # What is drawn is what is saved.
        _, saved = self.browser.downloaded("document.querySelectorAll('#pruning figure')[1].querySelectorAll('.save button')[2].click()")
        curves = list(csv.DictReader(io.StringIO(saved.decode())))
        self.assertEqual([float(row["share of the prunable parameters that is zero"]) for row in curves], [0.5, 0.75, 0.9])
        for row, sparsity in zip(curves, (0.5, 0.75, 0.9)):
            for score, control, name in (("snip", 0, "snip"), ("snip", 1, "snip, random by layer"), ("random", 0, "random")):
                self.assertAlmostEqual(float(row[name]), 100 * values(score, control, sparsity, "tuned_accuracy").mean(), delta=1e-3)

        # The switch, another step, one score: in the address, and without a fault.
        press = "[...document.querySelectorAll('#pruning .toggle button')].find((b) => b.textContent === '%s').click()"
        self.value(press % "loss")
        self.value(press % "10")
        self.choose("score", 2)
        self.check()
        self.assertRegex(self.value("location.hash"), r"pruned=10.*measure=loss.*score=snip")
        close({row[0]: row[1:] for row in self.value(cells)}["snip"][3], values("snip", 0, 0.75, "tuned_loss", 10), log=True)
        self.assertIn("Loss", self.text("#pruning figure h3"))
        for width in (400, 1400):
            for dark in (False, True):
                self.open(page, "open=all&score=magnitude", width=width, dark=dark)
                self.assertLessEqual(self.value("document.documentElement.scrollWidth"), width)
        # One run has no interval, and says so.
        self.open(out / "base-seed-7/report.html")
        self.assertNotIn("[", self.text("#pruning .answer"))
        self.assertIn("It is one run", self.text("#pruning"))

    def test_concentration(self):
        run = self.shared() / "run"
        for method in ("seigh", "dense"):
            self.open(self.report, f"open=concentration&step=20&split=test&k=6&method={method}")
            _, saved = self.browser.downloaded("document.querySelector('#concentration figure .save button:last-child').click()")
            rows = {int(row["training step"]): row for row in csv.DictReader(io.StringIO(saved.decode()))}
            for split in ("train", "test"):
                with h5py.File(run / f"eigen/step_000020_{split}_hessian_{method}.h5") as file:
                    values, norm = file["eigenvalues"][()], file.attrs["frobenius_estimate"]
                    share = np.sum(values[:6] ** 2) / norm ** 2
                    self.assertAlmostEqual(float(rows[20][split]) / min(share, 1), 1, delta=1e-5)
                    low, high = float(rows[20][f"{split}, low"]), float(rows[20][f"{split}, high"])
                    if method == "dense":
                        self.assertEqual((low, high), (float(rows[20][split]),) * 2)
                    else:
                        self.assertLess(low, float(rows[20][split]))
                        self.assertGreaterEqual(high, float(rows[20][split]))
            # The whole spectrum is known at the dense step alone.
            _, saved = self.browser.downloaded("document.querySelectorAll('#concentration figure')[1].querySelector('.save button:last-child').click()")
            row = {int(row["training step"]): row for row in csv.DictReader(io.StringIO(saved.decode()))}
            self.assertEqual(row[10]["train"], "")
            with h5py.File(run / "eigen/step_000020_train_hessian_dense.h5") as file:
                spectrum = np.abs(file["spectrum"][()])
                self.assertAlmostEqual(float(row[20]["train"]) / (np.abs(file["eigenvalues"][:6]).sum() / spectrum.sum()), 1, delta=1e-5)

    def test_refused_reports(self):
        run = self.shared() / "run"
        self.refused("report", run, self.tmp, "--out", self.tmp / "x.html", says="no run|holds no")
        self.refused("report", run, run, "--out", self.tmp / "x.html", says="one seed")
        (self.tmp / "mine.html").write_text("<p>mine")
        self.refused("report", run, self.tmp, "--out", self.tmp / "mine.html", says="no report page.*--out")
        self.refused("report", run, "--out", self.recipe / "there.html", says="there.html")
        bare = self.run_copy("bare")
        for path in (bare / "overlap").iterdir():
            path.unlink()
        self.refused("report", run, bare, "--out", self.tmp / "x.html", says="holds no overlap curves")
        self.assertFalse((self.tmp / "x.html").exists())

    def test_page_of_another_version_is_replaced(self):
        run = self.run_copy()
        page = run / "report.html"
        text = page.read_text()
        page.write_text(text.replace("--page: #ffffff", "--page: #fffff0"))
        self.ok("report", run)
        self.assertEqual(page.read_text(), text)
        before = page.stat().st_mtime_ns
        self.ok("report", run)
        self.assertEqual(page.stat().st_mtime_ns, before)

    # ---- controls and address

    def test_sliders_and_address(self):
        self.open(self.report, "open=spectrum")
        first, tiles = self.value("document.querySelector('main').innerHTML"), self.tiles()
        self.move("k", 2)
        self.check()
        self.assertRegex(self.value("location.hash"), r"\bk=3\b")
        self.assertNotEqual(self.tiles(), tiles)
        self.move("step", 0)
        self.assertRegex(self.value("location.hash"), r"\bstep=10\b")
        self.choose("split", 1)
        self.check()
        address = self.value("location.hash")[1:]
        moved = self.value("document.querySelector('main').innerHTML")
        self.assertNotEqual(moved, first)
        self.open(self.report, address)

        def drawn(html):  # clip paths are numbered in the order of drawing
            return re.sub(r"clip\d+", "clip", html)
        self.assertEqual(drawn(self.value("document.querySelector('main').innerHTML")), drawn(moved))
        # What no control writes is passed over.
        self.open(self.report, "k=7000&step=x&split=%3Cb%3E&open=nothing.spectrum&theme=blue")
        self.assertEqual(self.tiles(), tiles)

    def test_dragging_keeps_the_slider(self):
        self.open(self.sample)
        self.assertTrue(self.value("""(async () => { const s = document.querySelector('input[name="k"]'); s.focus();
            s.value = 3; s.dispatchEvent(new Event('input', { bubbles: true }));
            await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
            return s.isConnected && document.activeElement === s; })()"""))

    def test_readout_is_outside_of_the_curves(self):
        self.open(self.sample)
        box = self.value("""(() => { const c = document.querySelector('#overview .pair .chart'); c.scrollIntoView({ block: 'center' });
            const r = c.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()""")
        readout = "document.querySelector('#overview .pair .readout')"
        before = self.value(f"{readout}.textContent")
        self.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] / 2, y=box[1] + box[3] / 3)
        after = self.value(f"{readout}.textContent")
        self.assertNotEqual(before, after)
        self.assertRegex(after, r"^k = \d+")
        self.assertGreaterEqual(self.value(f"{readout}.getBoundingClientRect().top"), box[1] + box[3] - 1)
        # Every value in it is the curve's at that k.
        k = int(re.match(r"k = (\d+)", after)[1])
        overlap = next(d for d in json.loads((ROOT / "web/sample.json").read_text())["decompositions"]
                       if (d["step"], d["split"], d["method"]) == (2000, "train", "krylov"))["overlap"]
        shown = re.search(r"k largest ([^ ]+) \(", after)[1]
        self.assertAlmostEqual(number(shown) / overlap["magnitude"][overlap["k"].index(k)], 1, delta=5.1e-3)

    # ---- everything is drawn

    def test_all_parts(self):
        self.open(self.sample, "open=all")
        self.assertEqual(self.value("document.querySelectorAll('details[open]').length"), DETAILS)
        figures = self.value("""[...document.querySelectorAll('figure')].map((f) => [f.querySelector('h3').textContent,
            f.querySelectorAll('.chart > svg path, .chart > svg image, .chart > svg rect, .chart > svg circle').length])""")
        self.assertEqual(str(len(figures)), self.value("document.documentElement.dataset.charts"))
        self.assertTrue(all(marks > 0 for _, marks in figures), figures)
        titles = " | ".join(title for title, _ in figures)
        for wanted in ("Overlap over chance", "Which layer", "Which units", "Which parameter", "Overlap by k", "nulls over time", "Overlap of masks",
                       "Where mask and curvature lie", "Overlap, step 0", "|λ|, step 2,000", "mask IoU", "eigenspace overlap, test", "Gradient",
                       "Positive eigenvalues", "Negative eigenvalues", "Localisation of eigenvectors", "Localisation by layers", "Residuals",
                       "What the top k eigenpairs leave out", "κ by step: the top 60 pairs", "share of Σ|λ|", "Accuracy at once, step 2,000",
                       "Accuracy after 100 steps of fine-tuning", "Training loss", "Test accuracy"):
            self.assertIn(wanted, titles)
        text = self.text("main")
        for wanted in ("12 of 60 pairs may be noise", "snip", "norm.scale", "above 0.8 from step", "As the command says it", "Rank correlation",
                       "for all k together"):
            self.assertIn(wanted, text)
        self.assertFalse(re.search(r"NaN|undefined|Infinity|\[object", text), text)

    def test_negative_eigenvalues_have_their_panel(self):
        self.open(self.sample, "open=spectrum&step=2000&split=train&method=krylov")
        values = next(d for d in json.loads((ROOT / "web/sample.json").read_text())["decompositions"]
                      if (d["step"], d["split"], d["method"]) == (2000, "train", "krylov"))["eigenvalues"]
        name, saved = self.browser.downloaded("[...document.querySelectorAll('#spectrum figure')].find((f) => f.querySelector('h3').textContent === 'Negative eigenvalues').querySelectorAll('.save button')[2].click()")
        rows = list(csv.reader(io.StringIO(saved.decode())))
        self.assertEqual([float(row[1]) for row in rows[1:]], [-v for v in values if v < 0])

    def test_masks(self):
        """The chosen mask is what all figures of overlap show."""
        self.open(self.sample, "split=train&step=2000&method=krylov&k=60")
        before = self.tiles()
        self.choose("mask", 1)
        self.check()
        mask = next(d for d in json.loads((ROOT / "web/sample.json").read_text())["decompositions"]
                    if (d["step"], d["split"], d["method"]) == (2000, "train", "krylov"))["masks"][0]
        self.assertNotEqual(self.tiles(), before)
        self.assertAlmostEqual(self.tiles()["parameter"][0] / mask["overlap"]["factors"][-1]["parameter"], 1, delta=5.1e-3)
        self.assertIn("mask of 60 parameters by snip", self.text(".answer"))

    def test_what_is_missing_is_said(self):
        """Of every key that may be absent, and of data of another kind than expected."""
        data = json.loads((ROOT / "web/sample.json").read_text())
        for change in (lambda d: d.pop("overlap"), lambda d: d["overlap"].pop("nulls"), lambda d: d["overlap"].pop("factors"), lambda d: d.pop("eigenvalues"),
                       lambda d: d.pop("trust"), lambda d: d.update(overlap=None), lambda d: d.update(signs="x", masks=7, tensors=[], scree=3),
                       lambda d: d["overlap"].pop("k"), lambda d: d.pop("step")):
            other = json.loads(json.dumps(data))
            for d in other["decompositions"]:
                change(d)
            self.open(self.made(other), "open=all")
        for other in ({}, {"decompositions": []}, {"title": "t", "decompositions": [{}]}, {"runs": []}, {"runs": [{}, {}], "groups": [{}]}, [], None, 7):
            self.open(self.made(other), "open=all")
            self.assertTrue(self.text("main").strip())

    def test_names_are_text(self):
        bad = "</script><img src=x onerror=\"document.title='broken'\"><b>&amp;"
        data = json.loads((ROOT / "web/sample.json").read_text())

        def spoiled(value, key=""):
            if isinstance(value, dict):
                return {k: spoiled(v, k) for k, v in value.items()}
            if isinstance(value, list):
                return [spoiled(v, key) for v in value]
            return bad + value if isinstance(value, str) and key not in ("split", "operator", "method", "selection") else value
        self.open(self.made(spoiled(data)), "open=all")
        self.assertEqual(self.value("document.querySelectorAll('main img, main b b').length"), 0)
        self.assertNotEqual(self.value("document.title"), "broken")
        self.assertIn("<img", self.text("#title"))
        self.assertIn("<img", self.text("#tensors"))

    # ---- what is saved

    def test_saved_figures(self):
        self.open(self.sample, "open=all&theme=dark")
        count = int(self.value("document.documentElement.dataset.charts"))
        for i in (0, 4, count - 1):
            buttons = f"document.querySelectorAll('figure')[{i}].querySelectorAll('.save button')"
            name, svg = self.browser.downloaded(f"{buttons}[0].click()")
            self.assertTrue(name.endswith(".svg"))
            root = xml.etree.ElementTree.fromstring(svg)
            self.assertTrue(root.tag.endswith("svg"))
            self.assertNotIn(b"var(--", svg)
            self.assertIn(b"#14181e", svg)  # the page's own background, as on the screen
            name, png = self.browser.downloaded(f"{buttons}[1].click()")
            self.assertTrue(png.startswith(b"\x89PNG"), name)
            self.assertGreater(int.from_bytes(png[16:20], "big"), 900)
            name, table = self.browser.downloaded(f"{buttons}[2].click()")
            self.assertGreater(len(list(csv.reader(io.StringIO(table.decode())))), 2)
        self.check()

    def test_saved_table_holds_the_curves(self):
        self.open(self.sample, "split=train&step=2000&method=krylov")
        _, table = self.browser.downloaded("document.querySelector('#overview .pair figure').querySelectorAll('.save button')[2].click()")
        rows = list(csv.reader(io.StringIO(table.decode())))
        overlap = next(d for d in json.loads((ROOT / "web/sample.json").read_text())["decompositions"]
                       if (d["step"], d["split"], d["method"]) == (2000, "train", "krylov"))["overlap"]
        self.assertEqual([float(row[0]) for row in rows[1:]], overlap["k"])
        self.assertEqual([float(row[rows[0].index("k largest parameters")]) for row in rows[1:]], overlap["magnitude"])
        self.assertEqual([float(row[rows[0].index("layer null")]) for row in rows[1:]], overlap["nulls"]["layer"]["mean"])

    # ---- how it looks

    def test_widths_and_themes(self):
        pages = set()
        for page in (self.sample, self.report):
            for width in (400, 1400):
                for dark in (False, True):
                    self.open(page, "open=all", width=width, dark=dark)
                    self.assertLessEqual(self.value("document.documentElement.scrollWidth"), width)
                    wide = self.value("""[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, svg') && e.getBoundingClientRect().right >
                        document.documentElement.clientWidth + 1).map((e) => e.tagName + '.' + e.className)""")
                    self.assertEqual(wide, [])
                    pages.add((dark, self.value("getComputedStyle(document.body).backgroundColor")))
        self.assertEqual(len(pages), 2)
        # The switch overrules what the system says.
        self.open(self.report, "theme=dark")
        self.assertIn((True, self.value("getComputedStyle(document.body).backgroundColor")), pages)
        self.open(self.report, "theme=light", dark=True)
        self.assertIn((False, self.value("getComputedStyle(document.body).backgroundColor")), pages)

    def test_resized(self):
        self.open(self.sample, "open=all")
        self.browser.call("Emulation.setDeviceMetricsOverride", width=400, height=900, deviceScaleFactor=1, mobile=False)
        self.browser.settle()
        self.check()
        self.assertLessEqual(self.value("document.documentElement.scrollWidth"), 400)
        self.assertLessEqual(self.value("Math.max(...[...document.querySelectorAll('.chart > svg')].map((s) => Number(s.getAttribute('width'))))"), 400)

    def test_size_of_a_long_run(self):
        """51 steps of 355 pairs on both splits stay below 3 MB, and what is left out is neither missed nor hidden."""
        run = self.tmp / "long"
        settings = ["model.hidden=[16,8]", 'eigh.method="krylov"', "eigh.k=355", "eigh.products=400", "dense.steps=[]", "train.checkpoints=1", "train.steps=51",
                    "curvature.steps=[1]", "overlap.random_masks=2"]
        self.ok("run", self.recipe, "--data", self.data, "--out", run, "--threads", 1, *[p for s in settings for p in ("--set", s)])
        # One step's results stand for those of all.
        for path in [*run.glob("eigen/*"), *run.glob("overlap/*")]:
            for step in range(2, 52):
                shutil.copy(path, path.with_name(path.name.replace("000001", f"{step:06}")))
        text = (run / "recipe.toml").read_text()
        steps = re.search(r"\[curvature\].*?\nsteps = (\[1\])", text, re.S)
        (run / "recipe.toml").write_text(text[:steps.start(1)] + str(list(range(1, 52))) + text[steps.end(1):])
        self.ok("report", run)
        page = self.tmp / "long/report.html"
        self.assertLess(page.stat().st_size, 3e6)
        data = json.loads(EMBEDDED.search(page.read_text())[2])
        self.assertEqual(len(data["decompositions"]), 102)
        # Of the spectrum the first 50 of each sign, their places, and of all pairs sign and trust.
        d = next(d for d in data["decompositions"] if (d["step"], d["split"]) == (51, "train"))
        with h5py.File(self.tmp / "long/eigen/step_000001_train_hessian_krylov.h5") as file:
            values, residuals, trust = file["eigenvalues"][()], file["residuals"][()], file["trust"][()]
            self.assertLess(len(d["pairs"]), 250)
            at = np.array(d["pairs"]) - 1
            for sign in (values < 0, values >= 0):
                self.assertTrue(set(np.flatnonzero(sign)[:50]) <= set(at))
            np.testing.assert_allclose(d["eigenvalues"], values[at], rtol=6e-5)
            np.testing.assert_allclose(d["residuals"], residuals[at], rtol=6e-3)
            self.assertEqual(d["negative"], "".join(str(int(v < 0)) for v in values))
            self.assertEqual(d["trust"], "".join(map(str, trust)))
            # Scree's upper bound is made of the lower one.
            tail, norm, error = np.sqrt(np.append(np.cumsum(values[::-1] ** 2)[::-1][1:], 0)), np.linalg.norm(values), file.attrs["error_estimate"]
            k = np.array(d["scree"]["k"]) - 1
            np.testing.assert_allclose(d["scree"]["lower"], (tail[k] / norm) ** 2, rtol=6e-3, atol=1e-12)
            np.testing.assert_allclose((np.sqrt(d["scree"]["lower"]) + d["scree"]["error"]) ** 2, ((tail[k] + error) / norm) ** 2, rtol=7e-3)
        self.open(page, "open=spectrum.trust&step=51&split=train")
        spectrum = self.text("#spectrum")
        self.assertIn(f"{np.sum(trust >= 2)} of 355 pairs are certified", spectrum)
        self.assertIn(f"{np.sum((values < 0) & (trust >= 1))} of the {np.sum(trust >= 1)} whose sign is certain are negative", spectrum)
        self.assertIn(f"Drawn are {len(at)} of 355", spectrum)
        self.assertIn(f"{np.sum(values < 0)} of 355 pairs", spectrum)
        # The rank of each negative one that is drawn is that among all of them.
        _, saved = self.browser.downloaded("[...document.querySelectorAll('#spectrum figure')].find((f) => f.querySelector('h3').textContent === 'Negative eigenvalues').querySelectorAll('.save button')[2].click()")
        rows = list(csv.reader(io.StringIO(saved.decode())))[1:]
        negative = values[values < 0]
        np.testing.assert_allclose([float(row[1]) for row in rows], [-negative[int(row[0]) - 1] for row in rows], rtol=6e-5)
        # The slider reaches its k, and the overview says that curves are thinned.
        self.assertRegex(self.text("#overview"), r"Curves are drawn at \d+ of 355 k")
        last = int(self.value("document.querySelector('input[name=k]').max"))
        self.move("k", last - 1)
        self.check()
        self.assertEqual(self.tiles().keys(), {"overlap / chance", "layer", "units", "parameter"})
        # Curves are thinned out, but neither at their ends nor where the two-way null was sampled.
        o = data["decompositions"][0]["overlap"]
        self.assertTrue({*range(1, 51), 355, *o["nulls"]["two_way"]["sizes"]} <= set(o["k"]))
        with h5py.File(self.tmp / "long/overlap/step_000001_train_hessian_krylov.h5") as file:
            np.testing.assert_allclose(o["magnitude"], file["magnitude"][()][np.array(o["k"]) - 1], rtol=6e-5)
            np.testing.assert_allclose(o["nulls"]["layer"]["std"], file["null_layer_std"][()][np.array(o["k"]) - 1], rtol=6e-4)
            band, known = file["band_layer"][()][:, np.array(o["k"]) - 1], ~np.isin(o["k"], o["bands"]["layer"]["without"])
            self.assertEqual(list(known), list(~np.isnan(band[1])))
            np.testing.assert_allclose((np.array(o["nulls"]["layer"]["mean"]) + o["bands"]["layer"]["factor"] * np.array(o["nulls"]["layer"]["std"]))[known],
                                       band[1][known], rtol=6e-4)


if __name__ == "__main__":
    unittest.main()

"""Sweeps: many runs of one recipe in one folder, what they share, what happens when one fails or all are stopped, and the
summary against statistics computed here from the overlap files."""

import csv
import signal
import time
import unittest

from support import *

# D = 4*5 + 5 + 5*3 + 3 = 43.
SWEEP = """\
seed = 3
[data]
x = "x.npy"
y = "y.npy"
test_x = "test_x.npy"
test_y = "test_y.npy"
[model]
inputs = 4
outputs = 3
hidden = [5]
[train]
steps = 60
batch_size = 30
learning_rate = 0.2
checkpoints = 20
[curvature]
samples = 30
[eigh]
method = "dense"
k = 12
[overlap]
random_masks = 5
"""
T975 = {1: 12.706204736, 2: 4.302652730}  # of Student's t, by degrees of freedom
T995 = {2: 9.924843201}
COLUMNS = ("layer", "units", "parameter")


class Sweeps(Case):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(3, 4)) * 1.5
        for name, count in (("", 240), ("test_", 120)):
            y = np.arange(count) % 3
            np.save(self.tmp / f"{name}y.npy", y)
            np.save(self.tmp / f"{name}x.npy", (centres[y] + rng.normal(size=(count, 4))).astype(np.float32))

    def arguments(self, sweep, *more, out="out"):
        (self.tmp / "sweep.toml").write_text(SWEEP + sweep)
        return ("run", self.tmp / "sweep.toml", "--out", self.tmp / out, "--threads", "1", *more)

    def rows(self, out="out"):
        with open(self.tmp / out / "summary.csv", newline="") as file:
            return list(csv.DictReader(file))

    def values(self, out, variant, split, step, column):
        """By seed, of recorded rows."""
        return {int(r["seed"]): float(r["overlap"]) / float(r["chance"]) if column == "over" else float(r[column])
                for r in self.rows(out) if (r["variant"], r["split"], r["step"], r["interpolated"]) == (variant, split, str(step), "0")}

    def interval(self, values, further=0, t=T975):
        logs = np.log(np.array(values))
        n = len(logs)
        half = t[n - 1] * logs.std(ddof=1) * np.sqrt(1 / n + further)
        return np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])

    def cells(self, line, name):
        """Numbers of a line of the table: [mean, low, high] for each column."""
        self.assertTrue(line.startswith(name), line)
        return np.array([float(x) for x in re.findall(r"-?[\d.]+(?:e[-+]\d+)?(?=[ \],]|$)", line[len(name):].replace(" 99 %", ""))])


class Whole(Sweeps):
    def test_factor_seeds_and_summary(self):
        done = self.ok(*self.arguments('[sweep]\nseeds = 3\nkey = "train.learning_rate"\nvalues = [0.05, 0.2]\nat_loss = 0.9\n'))
        out = self.tmp / "out"
        runs = {p.name for p in out.iterdir() if p.is_dir()}
        self.assertEqual(runs, {f"{v}-seed-{s}" for v in ("base", "learning_rate=0.05") for s in (3, 4, 5)})
        self.assertIn("run 6 of 6: learning_rate=0.05, seed 5; about", done.stderr)
        self.assertIn("run 1 of 6: base, seed 3\n", done.stderr)
        self.assertIn("learning_rate = 0.05", (out / "learning_rate=0.05-seed-4/recipe.toml").read_text())
        # Every row is what the run's own files say.
        rows = [r for r in self.rows() if r["interpolated"] == "0"]
        self.assertEqual(len(rows), 6 * 4 * 2)
        for r in rows:
            step = int(r["step"])
            with h5py.File(out / r["folder"] / f"overlap/step_{step:06}_{r['split']}_hessian_dense.h5") as file:
                self.assertAlmostEqual(float(r["overlap"]), file["magnitude"][-1], places=9)
                self.assertAlmostEqual(float(r["parameter"]), file["magnitude"][-1] / file["two_way_mean"][-1], places=8)
                product = np.prod([float(r[c]) for c in ("chance", *COLUMNS)])
                self.assertAlmostEqual(product / float(r["overlap"]), 1, places=7)
            self.assertEqual(int(r["k"]), 12)
        self.check_loss(out, rows)
        self.check_table(done.stdout)
        self.check_at_loss(rows)
        # Looking at it, and writing it anew.
        shown = self.ok("show", out).stdout
        self.assertIn("6 of 6 finished, 0 failed", shown)
        before = (out / "summary.csv").read_bytes()
        (out / "summary.csv").unlink()
        self.assertIn("over base", self.ok("report", out).stdout)
        self.assertEqual((out / "summary.csv").read_bytes(), before)
        # An ordinary run in every way.
        self.assertIn("learning_rate=0.05, seed 3", self.ok("show", out / "learning_rate=0.05-seed-3").stdout)
        self.refused("overlap", out, says=["folder of a sweep", "seigh show"])
        self.refused("run", self.tmp / "sweep.toml", "--out", out, says=["already holds this sweep", "--resume"])
        self.refused("run", self.tmp / "sweep.toml", "--out", out, "--set", "sweep.seeds=2", says="another sweep.*--resume")
        self.refused("run", self.tmp / "sweep.toml", "--out", out / "base-seed-3", says="other than a sweep")
        # Another seed is one run a variant more.
        more = self.ok(*self.arguments('[sweep]\nseeds = 4\nkey = "train.learning_rate"\nvalues = [0.05]\n', "--resume"))
        self.assertIn("6 runs finished before", more.stderr)
        self.assertEqual(len(re.findall("^run ", more.stderr, re.M)), 2)
        # What is written there reads back.
        again = self.ok("run", out / "recipe.toml", "--out", out, "--resume")
        self.assertIn("8 runs finished before", again.stderr)

    def check_loss(self, out, rows):
        """That of the first 1000 training samples (here all), by numpy."""
        x, y = np.load(self.tmp / "x.npy").astype(float), np.load(self.tmp / "y.npy")
        for r in rows[:8]:
            w = list(read_safetensors(out / r["folder"] / f"checkpoints/step_{int(r['step']):06}.safetensors")[0].values())
            logits = np.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3]
            loss = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y])
            self.assertAlmostEqual(float(r["loss"]), loss, places=5)

    def check_table(self, text):
        lines = text.splitlines()
        for split in ("train", "test"):
            begin = next(i for i, l in enumerate(lines) if l.startswith(split + ", last step"))
            block = lines[begin + 2:begin + 10]
            self.assertIn("geometric mean over 3 seeds", lines[begin])
            of = {v: {c: self.values("out", v, split, 60, c) for c in ("over", *COLUMNS)} for v in ("base", "learning_rate=0.05")}
            def close(line, name, expected):
                np.testing.assert_allclose(self.cells(line, name), np.concatenate(expected), rtol=6e-3)
            for variant, line in zip(of, (block[0], block[3])):
                close(line, variant, [self.interval(list(v.values())) for v in of[variant].values()])
            close(block[1], "  one more run", [self.interval(list(v.values()), 1, T995)[1:] for v in of["base"].values()])
            close(block[2], "  at step 0", [self.interval(list(self.values("out", "base", split, 0, c).values()))
                                            for c in ("over", *COLUMNS)])
            ratios = [[of["learning_rate=0.05"][c][s] / of["base"][c][s] for s in (3, 4, 5)] for c in ("over", *COLUMNS)]
            close(block[6], "  over base", [self.interval(r) for r in ratios])

    def check_at_loss(self, rows):
        found = {(r["folder"], r["split"]): r for r in self.rows() if r["interpolated"] == "1"}
        expected = set()
        for folder in {r["folder"] for r in rows}:
            for split in ("train", "test"):
                steps = [r for r in rows if (r["folder"], r["split"]) == (folder, split)]
                for a, b in zip(steps, steps[1:]):
                    la, lb = float(a["loss"]), float(b["loss"])
                    if not la >= .9 >= lb:
                        continue
                    expected.add((folder, split))
                    t, r = (la - .9) / (la - lb), found[folder, split]
                    for c in ("overlap", *COLUMNS):
                        self.assertAlmostEqual(np.log(float(r[c])), (1 - t) * np.log(float(a[c])) + t * np.log(float(b[c])), places=6)
                    self.assertAlmostEqual(float(r["step"]), (1 - t) * float(a["step"]) + t * float(b["step"]), places=5)
                    break
        self.assertEqual(set(found), expected)
        self.assertTrue(expected)

    def test_seed_alone_is_the_run_without_a_sweep(self):
        self.ok(*self.arguments("[sweep]\nseeds = [8]\n"))
        self.assertIn("one seed, so no intervals over seeds", self.ok("show", self.tmp / "out").stdout)
        self.ok(*self.arguments("", "--set", "seed=8", out="alone"))
        one, other = snapshot(self.tmp / "out/base-seed-8"), snapshot(self.tmp / "alone")
        for content in (one, other):
            del content["recipe.toml"]  # the name
        self.assertEqual(one, other)

    def test_dry_run_and_keys(self):
        text = self.ok(*self.arguments("[sweep]\nseeds = 2\nsubsets = 2\n", "--dry-run")).stdout
        self.assertIn("4 runs: 1 variant, 2 seeds, 2 subsets", text)
        self.assertRegex(text, r"(?m)^base +4 runs, .* of results each, about .* each$")
        self.assertRegex(text, r"(?m)^time +about .* in all$")
        self.assertFalse((self.tmp / "out").exists())
        self.assertIn("sweep.seeds", self.ok("run", "--keys", "sweep").stdout)
        # Any recipe is a sweep with one key more.
        self.assertIn("3 seeds", self.ok(*self.arguments("", "--dry-run", "--set", "sweep.seeds=3")).stdout)


class Shared(Sweeps):
    def test_subsets_are_disjoint_and_train_once(self):
        done = self.ok(*self.arguments("[sweep]\nseeds = 2\nsubsets = 3\n[[sweep.factors]]\nkey = \"eigh.k\"\nvalues = [4]\n"))
        out = self.tmp / "out"
        self.assertEqual(len(re.findall(r"^training .*steps", done.stderr, re.M)) <= 2, True)
        y = np.load(self.tmp / "y.npy")
        for seed in (3, 4):
            taken = []
            for subset in ("", "-subset-1", "-subset-2"):
                with h5py.File(out / f"base-seed-{seed}{subset}/eigen/step_000060_train_hessian_dense.h5") as file:
                    index = file["sample_indices"][()]
                self.assertEqual(list(np.bincount(y[index])), [10, 10, 10])
                taken += list(index)
                for variant in ("base", "k=4"):
                    a, b = (out / f"{name}-seed-{seed}{s}/checkpoints/step_000060.safetensors"
                            for name, s in (("base", ""), (variant, subset)))
                    self.assertTrue(a.samefile(b))
                    log = (out / f"{variant}-seed-{seed}{subset}/log.jsonl").read_text()
                    self.assertEqual('"event":"train"' in log, (variant, subset) == ("base", ""))
            self.assertEqual(len(set(taken)), 90)
        self.assertEqual({r["subset"] for r in self.rows()}, {"0", "1", "2"})
        # Means over subsets within a seed, then over the seeds.
        values = {s: [float(r["parameter"]) for r in self.rows() if (r["variant"], r["split"], r["step"], r["seed"]) == ("base", "test", "60", s)]
                  for s in "34"}
        expected = self.interval([np.exp(np.mean(np.log(v))) for v in values.values()])
        lines = done.stdout.splitlines()
        block = lines[next(i for i, l in enumerate(lines) if l.startswith("test, last step")) + 2:]
        np.testing.assert_allclose(self.cells(block[0], "base")[-3:], expected, rtol=6e-3)
        within = np.sqrt(np.mean([np.log(v).var(ddof=1) for v in values.values()]))
        self.assertAlmostEqual(float(re.findall(r"subsets ([\d.]+) %", block[2])[-1]), 100 * within, delta=.06 * 100 * within)
        # What other subsets would make of the mean: pooled within seeds, four degrees of freedom, six runs.
        def over_subsets(values):
            half = 2.776445105 * np.sqrt(np.mean([np.log(v).var(ddof=1) for v in values]) / 6)
            return np.exp(np.mean(np.log(values)) + np.array([-half, half]))
        np.testing.assert_allclose(self.cells(block[1], "  over subsets")[-2:], over_subsets(list(values.values())), rtol=6e-3)
        # Ratios are taken run by run: the same seed on the same subset.
        row = {(r["variant"], r["seed"], r["subset"]): float(r["parameter"]) for r in self.rows() if (r["split"], r["step"]) == ("test", "60")}
        ratios = [[row["k=4", s, j] / row["base", s, j] for j in "012"] for s in "34"]
        at = next(i for i, l in enumerate(block) if l.startswith("  over base"))
        np.testing.assert_allclose(self.cells(block[at], "  over base")[-3:], self.interval([np.exp(np.mean(np.log(r))) for r in ratios]), rtol=6e-3)
        np.testing.assert_allclose(self.cells(block[at + 1], "    over subsets")[-2:], over_subsets(ratios), rtol=6e-3)
        # On the page they are one group, six runs of it, and subsets are a direction of their own.
        data = json.loads(re.search(r'id="data">\n?(.*?)</script>', (out / "report.html").read_text(), re.S)[1])
        self.assertEqual([(g["name"], len(g["runs"])) for g in data["groups"]], [("base", 6), ("k=4", 6)])
        self.assertEqual(sorted({(r["seed"], r["subset"]) for r in data["runs"]}), [(s, j) for s in (3, 4) for j in (0, 1, 2)])
        self.assertIn("base: seeds 3, 4, subsets 0, 1, 2", data["headline"])
        # The solver's bounds: these decompositions are exact.
        for r in self.rows():
            self.assertLessEqual(float(r["overlap_low"]), float(r["overlap"]))
            self.assertLess(float(r["overlap_high"]) - float(r["overlap_low"]), 1e-3)

    def test_too_few_samples_for_so_many_subsets(self):
        done = seigh(*self.arguments("[sweep]\nsubsets = 5\n"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("1 of 5 runs failed", done.stderr.splitlines()[-1])  # the test part has 40 of each class
        self.assertRegex(done.stderr, "base, seed 3, subset 4 failed: .*subsets 0 to 4.*need 50 of class 0 but only 40")


class Stopped(Sweeps):
    def test_one_fails_the_others_go_on(self):
        sweep = '[sweep]\nseeds = 2\nkey = "train.learning_rate"\nvalues = [3e38, 0.1]\n'
        done = seigh(*self.arguments(sweep))
        self.assertEqual(done.returncode, 2, done.stderr)
        last = done.stderr.splitlines()[-1]
        self.assertRegex(last, "^seigh: 2 of 6 runs failed.*--resume")
        self.assertEqual(len(re.findall(r"^seigh: learning_rate=3e\+38, seed . failed: .*lower train.learning_rate", done.stderr, re.M)), 2)
        shown = self.ok("show", self.tmp / "out").stdout
        self.assertIn("4 of 6 finished, 2 failed", shown)
        self.assertRegex(shown, r"learning_rate=3e\+38-seed-3 +failed: .*lower train.learning_rate")
        self.assertRegex(done.stdout, r"(?m)^learning_rate=0.1 ")
        # Once the value is another, nothing fails any more, and what was done stays.
        inodes = {p: p.stat().st_ino for p in (self.tmp / "out").glob("base*/eigen/*")}
        fixed = self.ok(*self.arguments(sweep.replace("3e38", "0.3"), "--resume"))
        self.assertIn("4 runs finished before", fixed.stderr)
        self.assertFalse((self.tmp / "out/failures.json").exists())
        self.assertEqual({p: p.stat().st_ino for p in inodes}, inodes)

    def test_every_recipe_is_checked_before_the_first_run(self):
        self.refused(*self.arguments('[sweep]\nkey = "eigh.k"\nvalues = [10, 5000]\n'), says=["k=5000", "43"])
        self.assertFalse((self.tmp / "out").exists())
        self.refused(*self.arguments('[sweep]\nkey = "eigh.kk"\nvalues = [10]\n'), says="eigh.kk")
        self.refused(*self.arguments('[sweep]\nseeds = "many"\n'), says="sweep.seeds")

    def test_kill_and_resume(self):
        sweep = '[sweep]\nseeds = 2\nsubsets = 2\nkey = "train.weight_decay"\nvalues = [0.1]\n'
        self.ok(*self.arguments(sweep, out="whole"))
        for how in (signal.SIGINT, signal.SIGKILL):
            out = self.tmp / how.name
            process = subprocess.Popen([SEIGH, *map(str, self.arguments(sweep, out=how.name))], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, env=environment())
            place = out / "base-seed-3-subset-1/eigen/step_000020_train_hessian_dense.h5"
            end = time.monotonic() + 600
            while not place.exists() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.002)
            process.send_signal(how)
            _, error = process.communicate(timeout=600)
            if how == signal.SIGINT:
                self.assertEqual(process.returncode, 130, error)
                self.assertRegex(error.splitlines()[-1], "^seigh: interrupted.*--resume")
            self.assertFalse((out / "weight_decay=0.1-seed-4-subset-1").exists())
            done = self.ok(*self.arguments(sweep, "--resume", out=how.name))
            self.assertRegex(done.stderr, "runs? finished before")
            self.assertEqual((out / "summary.csv").read_text(), (self.tmp / "whole/summary.csv").read_text())
            self.assertEqual(snapshot(out), snapshot(self.tmp / "whole"))

    def test_folders_from_elsewhere(self):
        """A link in place of a run leads nowhere; what is damaged is named."""
        self.ok(*self.arguments("[sweep]\nseeds = 2\n"))
        out, other = self.tmp / "out", self.tmp / "other"
        (out / "base-seed-4").rename(other)
        (out / "base-seed-4").symlink_to(other)
        before = snapshot(other)
        self.refused(*self.arguments("[sweep]\nseeds = 2\n", "--resume", "--set", "eigh.k=3"), says="symbolic link")
        self.assertEqual(snapshot(other), before)
        (out / "base-seed-4").unlink()
        (out / "failures.json").write_text("[" * 1000)
        self.refused("show", out, says=["failures.json", "nests"])
        (out / "failures.json").write_text('{"base-seed-4": "a\\u001b[31m", "base-seed-3": 3, "x": [')
        self.assertIn("base-seed-4  not yet", self.ok("show", out).stdout)
        (out / "failures.json").write_text('{"base-seed-4": "a\\u001b[31m"}')
        self.assertIn("failed: a\\x1b[31m", self.ok("show", out).stdout)
        (out / "recipe.toml").write_text("[sweep]\nseeds = 'x'\n")
        self.refused("show", out, says=["recipe.toml:2", "sweep.seeds", "mend"])

    def test_two_at_a_time(self):
        process = subprocess.Popen([SEIGH, *map(str, self.arguments("[sweep]\nseeds = 4\n"))], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=environment())
        self.addCleanup(process.communicate)
        while not (self.tmp / "out/base-seed-3/checkpoints").exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGSTOP)
        try:
            self.refused(*self.arguments("[sweep]\nseeds = 4\n", "--resume"), says=["another seigh", str(process.pid)])
        finally:
            process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()

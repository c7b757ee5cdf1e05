"""A run continued with another recipe: what it supersedes goes to old/, the rest stays, and it ends as if made at once."""

import json
import random
import signal
import time
import unittest

from support import *


def files(run):
    """Every result in a folder, its bytes by its name."""
    return {str(p.relative_to(run)): p.read_bytes() for part in ("checkpoints", "eigen", "overlap", "partial")
            for p in sorted((run / part).rglob("*")) if p.is_file()}


class Resume(Case):
    def resume(self, run, *settings, **more):
        return self.ok("run", self.recipe, "--data", self.data, "--out", run, "--resume", "--threads", "1", "--set", "name=tiny",
                       *(word for s in settings for word in ("--set", s)), **more)

    def afresh(self, name, *settings):
        """-> what a run made at once with these settings has."""
        self.resume(self.tmp / name, *settings)
        return self.tmp / name

    def same_numbers(self, run, fresh):
        """Every file of `fresh` is in `run` with the same numbers, and the recipe is its."""
        mine, theirs = snapshot(run), snapshot(fresh)
        for name, value in theirs.items():
            if name.endswith(" attributes"):
                value, found = dict(value), dict(mine[name])
                self.assertEqual(found, value, name)
            else:
                self.assertEqual(mine[name], value, name)

    def check_all_there(self, before, run):
        """Each of these results is in its place or, as it was, in old/."""
        for name, content in before.items():
            places = [run / name, *run.glob(f"old/*/{name}")]
            self.assertIn(content, [p.read_bytes() for p in places if p.exists()], name)


class Superseded(Resume):
    def test_k(self):
        run = self.run_copy()
        before = files(run)
        done = self.resume(run, "eigh.k=6")
        lines = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
        self.assertEqual(lines, ["note: kept: 3 checkpoints",
                                 f"note: superseded (eigh.k: 10 / 6): 6 decompositions, 6 overlaps; moved to {run}/old/1"])
        after = files(run)
        for name in before:
            if name.startswith("checkpoints"):
                self.assertEqual(after[name], before[name])
            else:
                self.assertEqual((run / "old/1" / name).read_bytes(), before[name])
        self.same_numbers(run, self.afresh("fresh", "eigh.k=6"))
        # What was superseded is still a run.
        self.assertEqual((run / "old/1/recipe.toml").read_bytes(), (self.shared() / "run/recipe.toml").read_bytes())
        headline = (self.shared() / "stdout").read_text().splitlines()[:-2]
        self.assertEqual(self.ok("report", run / "old/1").stdout.splitlines()[:-1], headline)
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        self.assertEqual(sum(e["event"] == "superseded" for e in log), 14)  # dynamics and the report, too
        # And back, with what was made in between beside it.
        self.resume(run, "eigh.k=10")
        self.same_numbers(run, self.shared() / "run")
        self.assertEqual(len(list((run / "old/2/eigen").iterdir())), 6)
        before = snapshot(run)
        self.assertNotIn("note", self.resume(run).stderr)
        self.assertEqual(snapshot(run), before)

    def test_training(self):
        run = self.run_copy()
        before = files(run)
        self.assertIn("superseded (train.learning_rate: 0.5 / 0.25): 3 checkpoints, 6 decompositions, 6 overlaps",
                      self.resume(run, "train.learning_rate=0.25").stderr)
        self.assertEqual(files(run / "old/1"), before)
        self.same_numbers(run, self.afresh("fresh", "train.learning_rate=0.25"))

    def test_overlap_alone(self):
        run = self.run_copy()
        error = self.resume(run, "overlap.random_masks=9").stderr
        self.assertIn("kept: 3 checkpoints, 6 decompositions\n", error)
        self.assertIn("superseded (overlap.random_masks: 8 / 9): 6 overlaps", error)
        self.same_numbers(run, self.afresh("fresh", "overlap.random_masks=9"))

    def test_several_keys(self):
        run = self.run_copy()
        error = self.resume(run, "eigh.k=6", "overlap.random_masks=9").stderr
        self.assertIn("superseded (eigh.k: 10 / 6): 6 decompositions;", error)
        self.assertIn("superseded (eigh.k: 10 / 6, overlap.random_masks: 8 / 9): 6 overlaps;", error)

    def test_without_eigenvectors_overlap_takes_decompositions_along(self):
        run = self.afresh("run", "eigh.vectors=false")
        self.assertIn("superseded (overlap.random_masks: 8 / 9): 6 decompositions, 6 overlaps",
                      self.resume(run, "eigh.vectors=false", "overlap.random_masks=9").stderr)
        self.assertIn("(eigh.vectors: false / true): 6 decompositions", self.resume(run, "overlap.random_masks=9").stderr)
        # Eigenvectors that are there are no less than none.
        self.assertNotIn("superseded", self.resume(run, "overlap.random_masks=9", "eigh.vectors=false").stderr)

    def test_the_exact_one_beside_goes_with_its_method(self):
        """Its file holds the other's error."""
        run = self.run_copy()
        error = self.resume(run, "eigh.method=nystrom").stderr
        self.assertIn("kept: 3 checkpoints, 4 decompositions, 4 overlaps", error)
        self.assertIn('superseded (eigh.method: \'seigh\' / \'nystrom\'): 2 decompositions, 2 overlaps', error)
        self.same_numbers(run, self.afresh("fresh", "eigh.method=nystrom"))
        # Alone it serves: nothing is computed.
        error = self.resume(run, "eigh.method=dense", "curvature.steps=[20]").stderr
        self.assertNotIn("superseded", error)
        # auto takes what is there.
        self.assertNotIn("superseded", self.resume(run, "eigh.method=auto", "curvature.steps=[20]").stderr)

    def test_unfinished(self):
        run = self.run_copy()
        partial = run / "partial/step_000020_test_hessian_seigh"
        partial.mkdir(parents=True)
        (run / "eigen/step_000020_test_hessian_seigh.h5").unlink()
        (partial / "columns_000000.h5").write_text("x")
        (partial / "recipe.toml").write_text("eigh.k = 10\neigh.method = 'seigh'\n")
        self.assertIn("1 unfinished decomposition", self.resume(run, "eigh.k=6").stderr)
        self.assertEqual((run / "old/1/partial/step_000020_test_hessian_seigh/columns_000000.h5").read_text(), "x")
        self.assertFalse((run / "partial").exists() and list((run / "partial").iterdir()))

    def test_with_a_taken_place(self):
        run = self.run_copy()
        (run / "old/1").mkdir(parents=True)
        (run / "old/1/mine.txt").write_text("x")
        self.resume(run, "eigh.k=6")
        self.assertEqual(len(list((run / "old/2/eigen").iterdir())), 6)
        self.assertEqual([p.name for p in (run / "old/1").iterdir()], ["mine.txt"])


class Kept(Resume):
    def test_choices_supersede_nothing(self):
        run = self.run_copy()
        before = files(run)
        for settings in (["curvature.steps=[20]"], ["curvature.splits=[\"test\"]"], ["dense.steps=[]"],
                         ["train.checkpoints=[0,20]", "curvature.steps=[20]"], ["curvature.batch_size=7"], ["eigh.keep_measurements=true"],
                         ["train.steps=25", "train.checkpoints=10"], ["model.groups=16"]):
            with self.subTest(settings):
                self.assertNotIn("superseded", self.resume(run, *settings).stderr)
                self.assertEqual(files(run), before)
        self.assertFalse(list(run.glob("old/*/*[!l]")))

    def test_more_of_everything(self):
        run = self.afresh("run", 'curvature.splits=["train"]')
        before = files(run)
        settings = ("train.checkpoints=[0,5,10,15,20,30]", "train.steps=30", "curvature.steps=[0,10,20,30]", "dense.steps=[10,20]")
        self.assertIn("kept: 3 checkpoints, 3 decompositions, 3 overlaps\n", self.resume(run, *settings).stderr)
        after = files(run)
        for name, content in before.items():
            self.assertEqual(after[name], content, name)
        self.same_numbers(run, self.afresh("fresh", *settings))

    def test_training_goes_on_from_the_last_checkpoint(self):
        run = self.run_copy()
        self.resume(run, "train.steps=30", "train.checkpoints=[30]", "curvature.steps=[30]", "dense.steps=[]")
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        self.assertEqual([(e["from"], e["to"]) for e in log if e["event"] == "train"], [(0, 20), (20, 30)])
        fresh = self.afresh("fresh", "train.steps=30", "train.checkpoints=[30]", "curvature.steps=[30]", "dense.steps=[]")
        self.same_numbers(run, fresh)

    def test_other_matrices_and_methods_stand_side_by_side(self):
        run = self.run_copy()
        before = files(run)
        self.assertNotIn("superseded", self.resume(run, "curvature.matrix=ggn").stderr)
        self.assertNotIn("superseded", self.resume(run).stderr)
        self.assertEqual({n: c for n, c in files(run).items() if "ggn" not in n}, before)

    def test_a_recipe_only_an_earlier_version_wrote(self):
        """Results that do not say of which recipe they are count as those of recipe.toml."""
        def forget(run):
            for path in [*run.glob("eigen/*.h5"), *run.glob("overlap/*.h5")]:
                with changed(path) as file:
                    del file.attrs["recipe"]
            for path in run.glob("checkpoints/*"):
                content = path.read_bytes()
                (length,) = struct.unpack("<Q", content[:8])
                header = json.loads(content[8:8 + length])
                del header["__metadata__"]["recipe"]
                text = json.dumps(header, separators=(",", ":")).encode()
                text += b" " * (-len(text) % 8)
                path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length:])
                seal_again(path)
        run = self.run_copy()
        forget(run)
        before = files(run)
        self.assertNotIn("superseded", self.resume(run, "curvature.steps=[20]").stderr)
        self.assertNotIn("superseded", self.resume(run).stderr)
        self.assertEqual(files(run), before)
        self.assertIn("superseded (eigh.k: 10 / 6): 6 decompositions, 6 overlaps", self.resume(run, "eigh.k=6").stderr)
        self.assertEqual({n: c for n, c in before.items() if n.startswith("checkpoints")},
                         {n: c for n, c in files(run).items() if n.startswith("checkpoints")})

    def test_an_edited_recipe(self):
        """A result does not pass for that of a recipe.toml that was changed under it."""
        run = self.run_copy()
        text = (run / "recipe.toml").read_text()
        (run / "recipe.toml").write_text(text.replace("\nk = 10\n", "\nk = 6\n"))
        for stage in ("train", "eigh", "overlap", "report"):
            self.refused(stage, run, "--data", self.data, says=[r"made by another recipe.*eigh.k: 10 / 6", "--resume"])
        self.assertIn("superseded (eigh.k: 10 / 6): 6 decompositions, 6 overlaps", self.resume(run, "eigh.k=6").stderr)


class Killed(Resume):
    def test_half_moved(self):
        """As a kill leaves it between any two of the moves."""
        shared = self.shared() / "run"
        before = files(shared)
        moved = ["report.html", *sorted((n for n in before if n.startswith("overlap")), reverse=True),
                 *sorted((n for n in before if n.startswith("eigen")), reverse=True)]
        fresh = self.afresh("fresh", "eigh.k=6")
        for count in (0, 1, 4, len(moved) - 1, len(moved)):
            for settings, end in ((["eigh.k=6"], fresh), ([], shared)):
                with self.subTest(count=count, settings=settings):
                    run = self.run_copy(f"run{count}{len(settings)}")
                    (run / "old/1").mkdir(parents=True)
                    shutil.copy(run / "recipe.toml", run / "old/1")
                    for name in moved[:count]:
                        (run / "old/1" / name).parent.mkdir(exist_ok=True)
                        (run / name).rename(run / "old/1" / name)
                    self.resume(run, *settings)
                    self.same_numbers(run, end)
                    self.check_all_there(before, run)
                    self.assertEqual([p.name for p in (run / "old").iterdir()], ["1"])

    def test_kills(self):
        """SIGKILL about the time of the moves, again and again, with recipes in turn; nothing is ever lost."""
        rng = random.Random(4)
        run = self.run_copy()
        kills = 0
        for turn in range(12):
            self.resume(run)  # a finished run to begin with
            before, old = files(run), len(list(run.glob("old/*")))
            arguments = ["run", self.recipe, "--data", self.data, "--out", run, "--resume", "--threads", "1", "--set", "name=tiny",
                         "--set", f"seed={100 + turn}"]
            process = subprocess.Popen([SEIGH, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
            while process.poll() is None and len(list(run.glob("old/*"))) == old:
                time.sleep(0.0002)
            time.sleep(rng.uniform(0, 0.004))
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            self.check_all_there(before, run)
        self.assertGreater(kills, 0)
        self.resume(run)
        self.same_numbers(run, self.shared() / "run")

    def test_interrupted_then_changed(self):
        """Half a run, then another recipe: the rest of the run is the new one's."""
        run = self.run_copy()
        for name in ("eigen/step_000020_test_hessian_seigh.h5", "overlap/step_000020_test_hessian_seigh.h5",
                     "checkpoints/step_000020.safetensors"):
            (run / name).unlink()
        self.resume(run, "eigh.k=6")
        self.same_numbers(run, self.afresh("fresh", "eigh.k=6"))


class Refused(Resume):
    def test_without_resume(self):
        run = self.run_copy()
        before = snapshot(run)
        self.refused("run", self.recipe, "--data", self.data, "--out", run, "--set", "eigh.k=6",
                     says=["another recipe .eigh.k: 10 / 6, ...", "redo what that changes with --resume", "--out"])
        self.assertEqual(snapshot(run), before)

    def test_in_use(self):
        import fcntl
        run = self.run_copy()
        before = snapshot(run)
        with open(run / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.refused("run", self.recipe, "--data", self.data, "--out", run, "--resume", "--set", "eigh.k=6", says="another seigh")
        self.assertEqual(snapshot(run), before)

    def test_impossible_recipe_moves_nothing(self):
        run = self.run_copy()
        before = snapshot(run)
        self.refused("run", self.recipe, "--data", self.data, "--out", run, "--resume", "--set", "eigh.k=173", says="173")
        self.assertEqual(snapshot(run), before)
        self.assertFalse((run / "old").exists())

    def test_no_permission_to_move(self):
        drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all") if os.geteuid() == 0 else ()
        run = self.run_copy()
        before = files(run)
        (run / "eigen").chmod(0o500)
        self.addCleanup((run / "eigen").chmod, 0o700)
        self.refused("run", self.recipe, "--data", self.data, "--out", run, "--resume", "--set", "eigh.k=6", "--set", "name=tiny",
                     says=["cannot move.*eigen.*Permission", "--out"], prefix=drop)
        (run / "eigen").chmod(0o700)
        self.check_all_there(before, run)
        self.resume(run, "eigh.k=6")
        self.check_all_there(before, run)
        self.assertEqual([p.name for p in (run / "old").iterdir()], ["1"])


if __name__ == "__main__":
    unittest.main()

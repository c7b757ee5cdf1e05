"""Three ranks do what one process does, lose nothing when one of them dies, and fail together."""

import os
import signal
import time
import unittest

from support import *

LIBRARY = os.environ.get("SEIGH_PRETENDED_DEVICE", str(ROOT / "build/release/tests/libseigh_pretended_device.so"))
RANKS = 3
MPIRUN = ["mpirun", "-n", str(RANKS), "--oversubscribe", "--allow-run-as-root"]
NAME = "step_000020_test_hessian_"


class Ranks(Case):
    def setUp(self):
        super().setUp()
        self.assertIsNotNone(shutil.which("mpirun"), "mpirun is missing: install openmpi-bin, or scripts/install-deps")
        (self.tmp / "recipe.toml").write_text(STORE)

    def arguments(self, out, *more):
        return ["run", self.tmp / "recipe.toml", "--data", self.data, "--out", out, "--threads", "1", *more]

    def ranks(self, *arguments):
        return seigh(*arguments, prefix=MPIRUN)

    def same(self, one, several, method, tolerance):
        """Values to rounding; of vectors, which are theirs up to sign, what the overlap curves see."""
        for folder, keys in (("eigen", ["eigenvalues"]), ("overlap", ["magnitude", "best", "null_layer_mean", "null_input_unit_std", "two_way_mean", "by_size", "tensor_within", "mask"])):
            with h5py.File(one / folder / f"{NAME}{method}.h5") as a, h5py.File(several / folder / f"{NAME}{method}.h5") as b:
                for key in keys:
                    np.testing.assert_allclose(b[key][()], a[key][()], rtol=0, atol=tolerance, err_msg=key)
                if folder == "eigen":
                    self.assertEqual(a.attrs["products"], b.attrs["products"])
        self.assertTrue((several / "report.html").exists())

    def test_ranks_that_do_not_find_each_other(self):
        done = subprocess.run([SEIGH, "show", str(ROOT / "recipes/mnist-mini.toml")], capture_output=True, text=True,
                              env=environment() | {"OMPI_COMM_WORLD_SIZE": "3"})
        self.check_refused(done, "one of 3 ranks that do not find each other")

    def test_run(self):
        # float64, so that rounding leaves no room for doubt. dense: each rank multiplies a third of the columns.
        for method, more in (("seigh", []), ("krylov", []), ("krylov", ["--set", "eigh.vectors=false"]), ("dense", [])):
            with self.subTest(method=method, more=more):
                one, several = self.tmp / f"one-{method}{len(more)}", self.tmp / f"several-{method}{len(more)}"
                options = ["--set", f'eigh.method="{method}"', "--set", 'eigh.dtype="float64"', "--set", "eigh.k=20", *more]
                alone = self.ok(*self.arguments(one, *options))
                done = self.ranks(*self.arguments(several, *options))
                self.assertEqual(done.returncode, 0, done.stderr)
                self.same(one, several, method, 1e-8)
                # One rank speaks for all.
                self.assertEqual(done.stdout.replace(str(several), str(one)), alone.stdout)
                self.assertFalse((several / "partial").exists())
                # And once more: nothing is left to do.
                self.assertEqual(self.ranks(*self.arguments(several, "--resume", *options)).returncode, 0)

    def test_on_a_device(self):
        if LIBRARY == "none":
            raise unittest.SkipTest("the pretended device needs libtorch 2.13")
        options = ["--set", 'eigh.method="krylov"', "--set", 'eigh.dtype="float64"', "--set", "eigh.k=20"]
        self.ok(*self.arguments(self.tmp / "one", *options))
        there = seigh(*self.arguments(self.tmp / "there", *options, "--device", "pretended"), prefix=[*MPIRUN, "-x", f"LD_PRELOAD={LIBRARY}"])
        self.assertEqual(there.returncode, 0, there.stderr)
        self.assertIn("by way of the host", there.stderr)
        plan = seigh(*self.arguments(self.tmp / "plan", *options, "--device", "pretended", "--dry-run"), prefix=[*MPIRUN, "-x", f"LD_PRELOAD={LIBRARY}"])
        self.assertEqual(plan.returncode, 0, plan.stderr)
        self.assertRegex(plan.stdout, "device +pretended:0")
        for name, keys in (("eigen", ["eigenvalues"]), ("overlap", ["magnitude", "mask_sizes"])):
            with h5py.File(self.tmp / "one" / name / f"{NAME}krylov.h5") as a, h5py.File(self.tmp / "there" / name / f"{NAME}krylov.h5") as b:
                for key in keys:
                    np.testing.assert_allclose(b[key][()], a[key][()], atol=1e-4 * np.abs(a[key][()]).max(), err_msg=key)  # trained in float32

    def test_samples_are_shared_out(self):
        write_data(self.tmp / "large", train=4000, test=3000)
        options = ["--set", 'eigh.method="krylov"', "--set", 'eigh.dtype="float64"', "--set", "curvature.samples=3000", "--set", "eigh.k=8"]
        for name, run in (("one", seigh), ("several", self.ranks)):
            arguments = self.arguments(self.tmp / name, *options)
            arguments[arguments.index("--data") + 1] = self.tmp / "large"
            done = run(*arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.same(self.tmp / "one", self.tmp / "several", "krylov", 1e-8)

    def test_measure_and_recover(self):
        self.ok(*self.arguments(self.tmp / "one"))
        run = self.tmp / "several"
        (run / "checkpoints").mkdir(parents=True)
        shutil.copy(self.tmp / "one/recipe.toml", run)
        shutil.copytree(self.tmp / "one/checkpoints", run / "checkpoints", dirs_exist_ok=True)
        done = self.ranks("measure", run, "--data", self.data, "--threads", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(list((run / "partial").glob("*/columns_*.h5"))), 40)
        done = self.ranks("recover", run, "--data", self.data, "--threads", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("40 pairs from 80 products", done.stdout)
        with h5py.File(self.tmp / "one/eigen" / f"{NAME}seigh.h5") as a, h5py.File(run / "eigen" / f"{NAME}seigh.h5") as b:
            # float32: blocks of another size, other kernels.
            np.testing.assert_allclose(b["eigenvalues"][:10], a["eigenvalues"][:10], rtol=1e-3)

    def test_a_rank_dies(self):
        """The job ends with an error; columns that were finished are there, and nothing is measured twice."""
        run = self.tmp / "run"
        # A product takes long enough for the ranks to be met at work.
        options = ["--set", "curvature.samples=200", "--set", 'curvature.splits=["train"]', "--set", "eigh.k=80", "--set", "eigh.products=160"]
        process = subprocess.Popen([*MPIRUN, SEIGH, *map(str, self.arguments(run, *options))], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=environment())
        shards = lambda: sorted(p.name for p in run.glob("partial/*/columns_*.h5"))
        while process.poll() is None and len(shards()) < 5:
            time.sleep(0.001)
        victims = [pid for pid in self.children(process.pid)]
        self.assertEqual(len(victims), RANKS)
        os.kill(victims[1], signal.SIGKILL)
        _, error = process.communicate(timeout=900)
        self.assertNotEqual(process.returncode, 0, error)
        before = shards()
        self.assertGreaterEqual(len(before), 5)
        times = {name: next(run.glob(f"partial/*/{name}")).stat().st_mtime_ns for name in before}
        measured = self.ranks("measure", run, "--data", self.data, "--threads", "1")
        self.assertEqual(measured.returncode, 0, measured.stderr)
        self.assertEqual(len(shards()), 80)
        for name, time_then in times.items():
            self.assertEqual(next(run.glob(f"partial/*/{name}")).stat().st_mtime_ns, time_then, name)
        self.assertEqual(self.ranks(*self.arguments(run, "--resume", *options)).returncode, 0)
        # Another recipe: the root moves what it supersedes, all make it anew.
        done = self.ranks(*self.arguments(run, "--resume", *options, "--set", "eigh.k=40"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("superseded (eigh.k: 80 / 40): 1 decomposition, 1 overlap; moved to"), 1, done.stderr)
        for folder, rank in ((run, 40), (run / "old/1", 80)):
            with h5py.File(folder / "eigen" / f"{NAME}seigh.h5".replace("test", "train")) as file:
                self.assertEqual(file.attrs["rank"], rank)

    def children(self, pid):
        """The ranks: children of mpirun, by number."""
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return sorted(int(child) for child in file.read().split())

    def test_sweep(self):
        """A run whose training diverges, on the root alone, keeps no other from going on; the rest is what one process finds."""
        (self.tmp / "recipe.toml").write_text(STORE + '[sweep]\nkey = "train.learning_rate"\nvalues = [3e38, 0.2]\n')
        options = ["--set", 'eigh.method="krylov"', "--set", 'eigh.dtype="float64"', "--set", "eigh.k=20"]
        alone, several = seigh(*self.arguments(self.tmp / "one", *options)), self.ranks(*self.arguments(self.tmp / "several", *options))
        for done in (alone, several):
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertEqual(done.stderr.count("learning_rate=3e+38, seed 7 failed: "), 1, done.stderr)
            self.assertEqual(done.stderr.count("1 of 3 runs failed"), 1, done.stderr)
        for run in ("base-seed-7", "learning_rate=0.2-seed-7"):
            self.same(self.tmp / "one" / run, self.tmp / "several" / run, "krylov", 1e-8)
        self.assertEqual(several.stdout.replace("several", "one"), alone.stdout)
        fixed = self.ranks(*self.arguments(self.tmp / "several", "--resume", "--set", "sweep.values=[0.3]", *options))
        self.assertEqual(fixed.returncode, 0, fixed.stderr)

    def test_bad_input_is_said_once(self):
        for arguments, words in ((["run", self.tmp / "nowhere.toml"], "nowhere.toml"),
                                 (["measure", self.tmp / "no-run"], "holds no run"),
                                 (self.arguments(self.tmp / "x", "--set", "eigh.k=1000"), "k")):
            done = self.ranks(*arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            said = [line for line in done.stderr.splitlines() if "seigh: " in line]
            self.assertEqual(len(said), 1, done.stderr)
            self.assertIn(words, said[0])


if __name__ == "__main__":
    unittest.main()

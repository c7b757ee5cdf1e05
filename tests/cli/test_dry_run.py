"""seigh run --dry-run: what would be done, with and without a folder, with and without data; and nothing is written."""

import fcntl
import unittest

from support import *


class DryRun(Case):
    def dry(self, *arguments, data=None, out=None, **more):
        done = self.ok("run", self.recipe, "--data", data or self.data, "--out", out or self.tmp / "run", "--dry-run", "--threads", "1",
                       "--set", "name=tiny", *arguments, **more)
        self.assertNotIn("seigh:", done.stderr)  # no warning; what takes long on a busy machine may say how far it is
        lines = {}
        for line in done.stdout.splitlines():
            head, text = line[:16].strip(), line[16:]
            name = head or name
            lines[name] = lines[name] + "\n" + text if not head else text
        return lines

    def test_before_the_run(self):
        lines = self.dry()
        self.assertEqual(list(self.tmp.iterdir()), [])
        self.assertEqual(lines["folder"], f"{self.tmp}/run is not there yet")
        self.assertEqual(lines["network"], "mlp 16-6-10, tanh, matrices over 172 parameters")
        self.assertRegex(lines["training"], r"^20 steps, to checkpoints 0, 10, 20: [\d.e-]+ ms a step, ")
        self.assertRegex(lines["decompositions"], r"^4, each by seigh: at most 35 products, .* of memory, .* on disk meanwhile\n.* ms a product, .* the check of the matrix by two further ones.*\n(about|less than) .* each$")
        self.assertRegex(lines["exact"], r"^2, each by dense: at most 172 products, .*\n.* ms a product, .* the check of the matrix")
        self.assertRegex(lines["overlap"], "^6 sets of curves")
        self.assertRegex(lines["memory"], "^924 KiB for the decomposition, .* for a block of products; .* available$")
        self.assertRegex(lines["disk"], "^55.8 KiB of results, 16.1 KiB more meanwhile; .* free$")
        self.assertRegex(lines["time"], " s$")

    def test_of_a_matrix_too_large_for_the_dense_method(self):
        lines = self.dry("--set", "model.hidden=[2000]", "--set", "dense.steps=[]")
        self.assertRegex(lines["decompositions"], "^4, each by seigh: ")
        self.assertNotIn("exact", lines)
        self.assertIn(" s", lines["time"])

    def test_why_a_method(self):
        lines = self.dry("--set", "eigh.method=auto", "--set", "dense.steps=[]")
        self.assertRegex(lines["decompositions"], r"^4, each by dense \(the matrix is small\): at most 172 products")
        self.assertNotIn("exact", lines)
        lines = self.dry("--set", "eigh.method=auto", "--set", "eigh.tolerance=0.01")
        self.assertRegex(lines["decompositions"], r"^4, each by krylov \(.*\): at most ")
        self.assertRegex(lines["time"], "less where what is asked for is reached early")

    def test_without_data(self):
        lines = self.dry(data=self.tmp)
        self.assertRegex(lines["time"], "^not measured: the data set mnist is not here")
        self.assertEqual(lines["training"], "20 steps, to checkpoints 0, 10, 20")
        self.assertRegex(lines["decompositions"], "^4, each by seigh: at most 35 products")
        self.assertRegex(self.dry("--set", "curvature.samples=5000")["time"], "^not measured: curvature.samples, .*fewer")

    def test_with_a_run(self):
        """It touches nothing, and promises what --resume then does."""
        run = self.run_copy()
        (run / ".lock").unlink()
        state = lambda: {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in run.rglob("*")}
        before = state()
        lines = self.dry(out=run)
        self.assertEqual(lines["folder"], f"{run} holds a run: continue it with --resume\nkept: 3 checkpoints, 6 decompositions, 6 overlaps")
        for stage in ("training", "decompositions", "overlap"):
            self.assertEqual(lines[stage], "nothing to do")
        lines = self.dry("--resume", "--set", "eigh.k=6", "--set", "train.checkpoints=[0,10,15,20]", out=run)
        self.assertIn(f"superseded (eigh.k: 10 / 6): 6 decompositions, 6 overlaps; would be moved to {run}/old/1", lines["folder"])
        self.assertRegex(lines["training"], "^5 steps, to checkpoints 15: ")
        self.assertRegex(lines["decompositions"], "^4, each by seigh")
        # Without data: nothing needs them.
        self.assertEqual(self.dry(data=self.tmp, out=run)["time"], "none")
        self.assertEqual(state(), before)
        with open(run / ".lock", "w") as lock:  # at work
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.dry(out=run)
        (run / "eigen/step_000010_test_hessian_seigh.h5").unlink()
        lines = self.dry(out=run)
        self.assertRegex(lines["decompositions"], "^1 by seigh")
        self.assertEqual(lines["overlap"], "nothing to do")

    def test_networks_of_ones_own(self):
        try:
            import torch
        except ImportError:
            self.skipTest("needs PyTorch")
        torch.jit.script(torch.nn.Linear(4, 3)).save(str(self.tmp / "net.pt"))
        (self.tmp / "recipe.toml").write_text('[model]\nmodule = "net.pt"\n[data]\nx = "x.npy"\ny = "y.npy"\n'
                                              '[curvature]\nsamples = 12\n[eigh]\nk = 3\n')
        arguments = "run", "recipe.toml", "--dry-run"
        text = self.ok(*arguments, cwd=self.tmp).stdout
        self.assertRegex(text, "(?m)^training +from files, to checkpoints 0$")
        self.assertRegex(text, "(?m)^time +not measured: .*x.npy: No such file")
        np.save(self.tmp / "x.npy", np.zeros((12, 4), np.float32))
        np.save(self.tmp / "y.npy", np.arange(12) % 3)
        text = self.ok(*arguments, cwd=self.tmp).stdout
        self.assertRegex(text, "(?m)^training +from files, to checkpoints 0: ")
        self.assertRegex(text, "(?m)^time +less than")
        self.assertFalse((self.tmp / "runs").exists())

    def test_refused(self):
        arguments = "run", self.recipe, "--data", self.data, "--dry-run"
        self.refused(*arguments, "--set", "eigh.k=173", says="173")
        (self.tmp / "thesis.tex").write_text("x")
        self.refused(*arguments, "--out", self.tmp, says="not empty.*--out")
        self.refused(*arguments, "--out", self.tmp / "thesis.tex", says="not a folder")
        run = self.run_copy()
        (run / "recipe.toml").write_text("[eigh")
        self.refused(*arguments, "--out", run, says="mend")

    def test_too_little(self):
        lines = self.dry("--set", "model.hidden=[400]", "--set", "dense.steps=[]", "--set", "eigh.method=hmt", "--set", "eigh.k=3000", "--set", "eigh.products=6000",
                         "--memory", "300M")
        self.assertRegex(lines["memory"], "too little, so the run would be refused")


if __name__ == "__main__":
    unittest.main()

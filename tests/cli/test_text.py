"""A character transformer from recipe to report, and optimizers that remember: tiny sizes, seconds."""

import unittest

from support import *

WORDS = "the cat sat on a mat and the dog ran to the cat so the mat sat on the dog ".split()
TEXT = """\
seed = 7
[data]
name = "text"
text = "words"
context = 8
vocabulary = VOCABULARY
[model]
kind = "transformer"
width = 8
depth = 1
heads = 2
mlp_ratio = 2
[train]
steps = 40
batch_size = 20
learning_rate = 0.01
optimizer = "adamw"
weight_decay = 0.1
schedule = "cosine"
warmup = 4
checkpoints = "log"
[curvature]
samples = 12
steps = [0, 40]
[eigh]
k = 8
method = "seigh"
products = 24
probes = 5
[overlap]
random_masks = 8
"""


class Text(Case):
    def setUp(self):
        super().setUp()
        words = np.random.default_rng(1).choice(WORDS, 2000)
        self.text = " ".join(words)
        (self.tmp / "words.txt").write_text(self.text)
        self.vocabulary = len(set(self.text))
        self.toml = self.tmp / "text.toml"
        self.toml.write_text(TEXT.replace("VOCABULARY", str(self.vocabulary)))

    def arguments(self, out, *more):
        return "run", self.toml, "--data", self.tmp, "--out", self.tmp / out, "--threads", 1, *more

    def test_end_to_end(self):
        self.ok(*self.arguments("run"))
        run = self.tmp / "run"
        self.assertEqual(sorted(p.name for p in (run / "checkpoints").iterdir()),
                         [f"step_{s:06}.safetensors" for s in (0, 1, 2, 4, 8, 16, 32, 40)])
        # D by the formula of the transformer: (V + T + 2) W + L (4 W^2 + 8 W + 2 W H + H + W), W = 8, H = 16.
        parameters = (self.vocabulary + 8 + 2) * 8 + 4 * 64 + 8 * 8 + 2 * 8 * 16 + 16 + 8
        tensors, first = read_safetensors(run / "checkpoints/step_000000.safetensors")
        self.assertEqual(flat(tensors).size, parameters)  # and no state of the optimizer yet
        tensors, last = read_safetensors(run / "checkpoints/step_000040.safetensors")
        state = {name: t for name, t in tensors.items() if name.startswith("optimizer.")}
        self.assertEqual(sum(t.size for t in state.values()), 2 * parameters)
        self.assertEqual({name.split(".")[1] for name in state}, {"first_moment", "second_moment"})
        self.assertAlmostEqual(float(first["loss"]), np.log(self.vocabulary), delta=0.1)
        self.assertLess(float(last["loss"]), float(first["loss"]) - 0.3)
        # Accuracy is per token: the test part's are this many.
        tokens = (len(self.text) - len(self.text) * 9 // 10 - 1) // 8 * 8
        correct = float(last["test_accuracy"]) * tokens
        self.assertAlmostEqual(correct, round(correct), places=6)
        self.assertGreater(correct / tokens, 0.12)
        for step in (0, 40):
            with h5py.File(run / f"eigen/step_{step:06}_test_hessian_seigh.h5") as file:
                self.assertEqual(file.attrs["parameters"], parameters)
                np.testing.assert_array_equal(file["sample_indices"][()], np.arange(12))
        shown = self.ok("show", run / "report.html").stdout
        self.assertIn("words, sequences of 8 characters", shown)
        self.assertIn("40 steps of AdamW, weight decay 0.1, learning rate 0.01 (cosine) after 4 steps of warm-up", shown)
        self.assertIn("hessian on the first 12 sequences", shown)
        self.assertIn(f"{'parameters in all':28} {parameters}\n", self.ok("show", run / "checkpoints/step_000040.safetensors").stdout)

    def test_resumed_training_is_bitwise_the_same(self):
        for number, optimizer in enumerate((["train.optimizer=adamw"], ["train.optimizer=sgd", "train.momentum=0.9"])):
            settings = [word for setting in optimizer + ["curvature.steps=[0]"] for word in ("--set", setting)]
            out = f"run{number}"
            self.ok(*self.arguments(out, *settings))
            whole = snapshot(self.tmp / out)
            for step in (16, 32, 40):
                (self.tmp / out / f"checkpoints/step_{step:06}.safetensors").unlink()
            self.ok(*self.arguments(out, *settings, "--resume"))
            self.assertEqual(snapshot(self.tmp / out), whole)

    def test_experts_and_untied(self):
        self.ok(*self.arguments("run", "--set", "model.experts=3", "--set", "model.chosen=1", "--set", "model.tied=false",
                                "--set", "curvature.matrix=ggn", "--set", "train.steps=5", "--set", "curvature.steps=[5]",
                                "--set", 'curvature.splits=["train"]'))
        names = read_safetensors(self.tmp / "run/checkpoints/step_000005.safetensors")[0]
        for name in ("lm_head.weight", "transformer.h.0.mlp.gate.weight", "transformer.h.0.mlp.experts.2.c_fc.weight"):
            self.assertIn(name, names)

    def test_diverging_training_keeps_its_checkpoints(self):
        for number, optimizer in enumerate((["train.optimizer=adamw"], ["train.optimizer=sgd", "train.momentum=0.9"])):
            out = f"run{number}"
            settings = [word for setting in optimizer + ["train.learning_rate=1e38", "train.schedule=constant"]
                        for word in ("--set", setting)]
            self.refused(*self.arguments(out, *settings), says="training diverged.*lower train.learning_rate")
            self.assertTrue((self.tmp / out / "checkpoints/step_000000.safetensors").exists())

    def test_refused(self):
        def refused(says, *settings):
            self.refused(*self.arguments("never", *(w for s in settings for w in ("--set", s))), says=says)
        refused(f"words has {self.vocabulary} different characters.*set data.vocabulary = {self.vocabulary}", "data.vocabulary=65")
        refused("text other is not here.*other.txt", "data.text=other")
        refused("subset of 5000 samples", "curvature.samples=5000")
        refused("subset of 12 samples cannot be taken of 0", 'curvature.splits=["validation"]')
        refused("too few for a context of 5000", "data.context=5000")
        refused("3 heads do not divide the width 8", "model.heads=3")
        refused("of 1 experts", "model.experts=1")
        refused("transformer", "model.kind=mlp")
        refused("images take", "data.name=mnist")
        refused("train.milestones and train.schedule", "train.schedule=step")


class Images(Case):
    def test_vit(self):
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "run", "--set", "model.kind=vit", "--set", "model.patch=2",
                "--set", "model.width=4", "--set", "model.depth=1", "--set", "model.heads=2", "--set", "dense.steps=[]",
                "--set", "curvature.steps=[20]", "--set", 'curvature.splits=["test"]', "--set", "train.label_smoothing=0.1")
        self.assertIn("vit, patch 2, width 4, depth 1, 2 heads", self.ok("show", self.tmp / "run/report.html").stdout)
        self.assertIn("label smoothing 0.1", self.ok("show", self.tmp / "run/report.html").stdout)


if __name__ == "__main__":
    unittest.main()

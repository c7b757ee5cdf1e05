"""What modules say of their tensors: layers in the rows of one, and hidden units that may change places."""

import itertools
import os
import pathlib
import shutil
import subprocess
import tempfile

import h5py

from support import *

from seigh import _units


def chosen_of(model):
    return list(model.named_parameters())


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads, self.qkv = 2, nn.Linear(8, 24)


class Units(Case):
    def test_layers_in_the_rows_of_a_tensor(self):
        model = nn.ModuleDict({"grouped": nn.Conv2d(4, 6, 3, groups=2), "depthwise": nn.Conv1d(4, 4, 3, groups=4), "up": nn.ConvTranspose2d(4, 6, 3, groups=2),
                               "attention": nn.MultiheadAttention(8, 2), "fused": Heads(), "plain": nn.Linear(3, 6)})
        found = {name: layout for (name, _), layout in zip(chosen_of(model), _units.layouts(model, chosen_of(model)))}
        named = {"grouped.weight": (2, False), "up.weight": (2, True), "attention.in_proj_weight": (6, False), "attention.in_proj_bias": (6, False),
                 "fused.qkv.weight": (6, False), "fused.qkv.bias": (6, False)}
        for name, layout in found.items():
            self.assertEqual(layout, named.get(name, (1, False)), name)
        self.assertEqual(seigh.masks.magnitude(model).layouts, list(found.values()))

    def test_hidden_units_may_change_places(self):
        torch.manual_seed(3)
        for model, x in (
            (nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 5, bias=False), nn.GELU()), nn.Linear(5, 3)), torch.randn(7, 6)),
            (nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                           nn.Dropout(), nn.Linear(12, 5), nn.Sigmoid(), nn.Linear(5, 2)), torch.randn(5, 2, 8, 8)),
            (nn.Sequential(nn.Conv1d(2, 4, 3, stride=2), nn.InstanceNorm1d(4, affine=True), nn.SiLU(), nn.Conv1d(4, 3, 2)), torch.randn(5, 2, 12)),
        ):
            model = model.double().eval()
            with torch.no_grad():
                for p in model.parameters():
                    p += 0.3 * torch.randn_like(p)
                y = model(x.double())
                groups = _units.hidden_units(model, chosen_of(model))
                self.assertEqual(len(groups), sum(isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)) for part in model.modules()) - 1)
                moved = set()
                for count, blocks in groups:
                    places = torch.randperm(count).roll(1)
                    for tensor, outer, inner in blocks:
                        p = chosen_of(model)[tensor][1]
                        p.copy_(p.reshape(outer, count, inner)[:, places].reshape(p.shape))
                        moved.add(tensor)
                self.close(model(x.double()), y, 1e-12)
                # All but the bias of the outputs.
                self.assertEqual(len(moved), len(chosen_of(model)) - 1)

    def test_what_is_no_chain_has_none(self):
        for model in (Heads(), nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2)), nn.Sequential(nn.Conv1d(4, 4, 3, groups=2), nn.Conv1d(4, 2, 1)),
                      nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2))):
            self.assertEqual(seigh.masks.magnitude(model).hidden_units, [])
        one = nn.Linear(4, 4)
        self.assertEqual(seigh.masks.magnitude(nn.Sequential(one, nn.Tanh(), one)).hidden_units, [])

    def test_the_joint_null_agrees_with_all_permutations(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        x, y = torch.randn(20, 3).double(), torch.arange(20) % 2
        pairs, mask = seigh.eigh(seigh.Hessian(model, F.cross_entropy, (x, y)), k=6, method="dense"), seigh.masks.magnitude(model)
        found = seigh.overlap(pairs, mask, random_masks=4000)
        for i, k in enumerate(found.sizes.tolist()):
            leverage = pairs.eigenvectors[:, :k].square().sum(1)
            held = torch.zeros(26, dtype=torch.float64)
            held[mask.order(k)] = 1
            values = []
            for places in itertools.permutations(range(4)):
                places = list(places)
                moved = torch.cat([held[:12].view(4, 3)[places].flatten(), held[12:16][places], held[16:24].view(2, 4)[:, places].flatten(), held[24:]])
                values.append(float(moved @ leverage) / k)
            mean, std = np.mean(values), np.std(values)
            # Five standard errors of 4000 draws.
            self.assertLess(abs(float(found.joint["mean"][i]) - mean), 5 * std / 4000**0.5 + 1e-12)
            self.assertLess(abs(float(found.joint["std"][i]) - std), 10 * std / 4000**0.5 + 1e-12)
        self.assertIsNone(seigh.overlap(pairs, seigh.masks.Mask(mask.scores, mask.shapes, mask.names, "by hand")).joint)

    def test_a_run_keeps_them_for_whoever_has_no_python(self):
        tmp = pathlib.Path(tempfile.mkdtemp(prefix="seigh-units-"))
        self.addCleanup(shutil.rmtree, tmp)
        (tmp / "net.py").write_text('''
import torch
from torch import nn

def make():
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv1d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3)) if GROUPED else nn.Sequential(
        nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))

def data(split):
    torch.manual_seed(3)
    return torch.randn(30, 4, 4), torch.arange(30) % 3
''')
        for grouped in (False, True):
            (tmp / "recipe.toml").write_text('model.python = "net.py:make"\ndata.python = "net.py:data"\ncurvature.splits = ["train"]\neigh.k = 6\n'
                                             'eigh.method = "dense"\n')
            (tmp / "net.py").write_text((tmp / "net.py").read_text().replace("if GROUPED" if not grouped else "if False", f"if {grouped}"))
            folder = pathlib.Path(seigh.run(tmp / "recipe.toml", out=tmp / f"run{grouped}"))
            path = next((folder / "overlap").iterdir())

            def content():
                with h5py.File(path) as file:
                    return {name: file[name][()] for name in file}

            before = content()
            self.assertEqual("joint_mean" in before, not grouped)
            path.unlink()
            done = subprocess.run([os.environ["SEIGH"], "overlap", folder], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            after = content()
            self.assertEqual(sorted(before), sorted(after))
            for name, value in before.items():
                np.testing.assert_array_equal(value, after[name], name)


if __name__ == "__main__":
    unittest.main()

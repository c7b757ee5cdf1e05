"""Masks: which parameters are the largest, by magnitude or by any other score."""

import math

import torch

from seigh import _units
from seigh._source import beneath, choose_parameters


class Mask:
    """Parameters in the order of falling |score|: the first k are the mask of k parameters, for every k at once.

    Attributes:
        scores: [D], in the order of the matrix.
        shapes, names: of the tensors, in that order; layers: how many parameters each has.
        name: what the scores are.
        layouts: (parts, transposed) of each tensor: layers one after the other in its rows (queries, keys and values of every head, groups of a
            convolution), and whether it is [in, out, ...]. hidden_units: [(count, [(tensor, outer, inner)])], units that may change places;
            empty where they are not known, as in anything but a chain of layers.
    """

    def __init__(self, scores, shapes, names, name, layouts=None, hidden_units=()):
        self.scores, self.shapes, self.names, self.name = scores, [list(shape) for shape in shapes], list(names), name
        self.layers = [math.prod(shape) for shape in self.shapes]
        self.layouts = list(layouts) if layouts is not None else [(1, False)] * len(self.shapes)
        self.hidden_units = list(hidden_units)

    def order(self, k):
        """The k parameters of largest |score|: int64 [k]."""
        from seigh import _core

        return _core.magnitude_order(self.scores, k)

    def of(self, k):
        """The mask of k parameters as {name: bool tensor [n]}, flat for each tensor."""
        flat = torch.zeros(self.scores.numel(), dtype=torch.bool)
        flat[self.order(k)] = True
        return dict(zip(self.names, flat.split(self.layers)))

    def __repr__(self):
        return f"<seigh mask by {self.name}, {self.scores.numel()} parameters in {len(self.layers)} tensors>"


def _mask(module, chosen, flat, name):
    return Mask(flat, [p.shape for _, p in chosen], [key for key, _ in chosen], name, _units.layouts(module, chosen), _units.hidden_units(module, chosen))


def magnitude(model, params=None):
    """The mask of the parameters largest in magnitude, at their values now. `params` as of `seigh.Hessian`, so that the two fit."""
    module = beneath(model)
    chosen = choose_parameters(module, params)
    return _mask(module, chosen, torch.cat([p.detach().reshape(-1) for _, p in chosen]), "magnitude")


def scores(model, values, params=None, name="score"):
    """The mask of any score. `values`: {name: tensor of the parameter's shape}, or a vector [D]."""
    module = beneath(model)
    chosen = choose_parameters(module, params)
    if isinstance(values, dict):
        missing = [name for name, _ in chosen if name not in values]
        if missing:
            raise KeyError(f"values has no entry {missing[0]!r}")
        for key, p in chosen:
            if tuple(values[key].shape) != tuple(p.shape):
                raise ValueError(f"the score of {key!r} has shape {list(values[key].shape)}, the parameter {list(p.shape)}")
        flat = torch.cat([torch.as_tensor(values[key]).detach().reshape(-1) for key, _ in chosen])
    else:
        flat = torch.as_tensor(values).detach().reshape(-1)
    layers = [p.numel() for _, p in chosen]
    if flat.numel() != sum(layers):
        raise ValueError(f"values holds {flat.numel()} numbers, the parameters {sum(layers)}")
    return _mask(module, chosen, flat if flat.is_floating_point() else flat.double(), name)


def load(model, path, params=None):
    """The mask of scores in a file: .npy, a vector [D], or safetensors, a tensor for each parameter by its name (what it does not name counts as 0).

    A mask of zeros and ones, as of a lottery ticket, works as it is: with m ones, its parameters are the first m of the order, `of(m)`.

    Raises:
        FileNotFoundError, ValueError: no such file, another shape, no name of the model's, NaN.
    """
    import os

    import numpy as np

    from seigh import _core

    path = os.fspath(path)
    if path.endswith(".npy"):
        values = torch.from_numpy(np.load(path, allow_pickle=False))
    else:
        found = _core.read_tensors(path)
        chosen = choose_parameters(beneath(model), params)
        if not any(name in found for name, _ in chosen):
            raise ValueError(f"{path} has none of the parameters' names, {', '.join(name for name, _ in chosen[:3])} ...; it has {', '.join(list(found)[:3])} ...")
        values = {name: found.get(name, torch.zeros(p.shape)) for name, p in chosen}
    mask = scores(model, values, params, os.path.basename(path))
    if not torch.isfinite(mask.scores).all():
        raise ValueError(f"{path} holds NaN or infinity")
    return mask

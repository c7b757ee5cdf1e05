"""Do the largest parameters lie in the directions of largest curvature?"""

import fnmatch
import math

import torch

from seigh import _core
from seigh._context import core_of
from seigh._eigh import EigenPairs
from seigh.masks import Mask

class Overlap:
    """Overlap of the span of a mask's k parameters with that of the k leading eigenvectors, for k = 1..K.

    Curves are float64 [K], the k-th value at index k - 1; K is the number of eigenvectors, or of the parameters that masks may hold if
    that is less.

    Attributes:
        overlap: of the mask: (1/k) Σ U_ij² over its k parameters i and the k leading eigenvectors j.
        chance: what random masks reach on average: k / D where masks may hold all D parameters.
        random_mean, random_std: of uniformly random masks, exact as the next six are.
        by_layer_mean, by_layer_std: of random masks with as many parameters in each tensor as the mask has: what of `overlap` is
            the choice of layers alone.
        by_output_unit_mean, by_output_unit_std, by_input_unit_mean, by_input_unit_std: the same with as many in each output unit
            (a row of a linear layer, a channel of a convolution), in each input unit.
        factors: a list of dictionaries for some ten sizes k, 1 and K among them: overlap = chance x layer x units x parameter, with z and p
            of the last in the null that keeps the counts of every row and every column of every tensor (sampled by swaps; acceptance and
            effective number of samples beside). Only `parameter` is about magnitudes as such; a few per cent below 1 mean nothing.
        best: the most that any mask of k parameters reaches.
        low, high: where the overlap with the true eigenspaces lies, by the certificates of the pairs; None where nothing is known.
        spread: the standard deviation that comes of a sketch having these columns and not others (a spread, no bound); None for other
            methods.
        bands: {"layer" | "output_unit" | "input_unit": (low [K], high [K], p)}: between which curves a random mask with the same counts lies for
            all k at once with probability .95, and the permutation p of this mask's largest deviation.
        sizes: int64 [n], the k of `factors`, and of ceiling: {null: [n]}, (overlap - null) / (best mask with the same counts - null).
        joint: {"mean", "std", "p", "free": [n]} at `sizes`: the same mask on hidden units that have changed places at random, its two-sided p, and the
            share of the mask that some can move; None where the hidden units are not known (`Mask.hidden_units`).
        rank_correlation: {null: (value, standard deviation)} of the ranks of |score| and leverage within the null's groups ("two_way": with row
            and column means taken away): what masks of all sizes have in common.
        tensors: a list of dictionaries by tensor at k = K: name, parameters, and shares of space, of mask, and the overlap within.
        energy [T, K], participation [K]: Σ U_ij² of every eigenvector by tensor, and Σ_i U_ij⁴ (1 on one parameter, 3 / (D + 2) at random).
        mask_sizes [m], by_size [m, n], by_size_layer [m, n]: masks of m parameters against the space of k: (1/m) Σ of leverages, and its mean over
            masks with the same counts by tensor.
        eligible, tied: how many parameters masks may hold; how many have the score of the mask's last (index decides between them).
        mask: int64 [K], the parameters in the order of the mask. name: what they are the largest by. dimension: D.
    Source: Fernandez, Schneider, Mahsereci, Hennig, "Connecting parameter magnitudes and Hessian eigenspaces at scale using sketched methods",
    TMLR 2025.
    """

    def __init__(self, curves, name, dimension, tensors=()):
        self.overlap, self.chance, self.best = curves["magnitude"], curves["chance"], curves["best"]
        self.random_mean, self.random_std = curves["random_mean"], curves["random_deviation"]
        self.by_layer_mean, self.by_layer_std = curves["layer_mean"], curves["layer_deviation"]
        self.by_output_unit_mean, self.by_output_unit_std = curves["output_unit_mean"], curves["output_unit_deviation"]
        self.by_input_unit_mean, self.by_input_unit_std = curves["input_unit_mean"], curves["input_unit_deviation"]
        self.factors = curves["factors"]
        self.low, self.high, self.spread, self.mask = (curves[key] for key in ("magnitude_low", "magnitude_high", "magnitude_deviation", "mask"))
        for key in ("bands", "sizes", "ceiling", "rank_correlation", "energy", "participation", "mask_sizes", "by_size", "by_size_layer",
                    "eligible", "tied", "joint"):
            setattr(self, key, curves[key])
        k = len(self)
        space, counts, within = self.energy[:, :k].sum(1) / k, curves["counts"][:, -1], curves["within"][:, -1]
        self.tensors = [{"name": tensor, "parameters": math.prod(shape), "space": float(space[i]), "mask": int(counts[i]) / k,
                         "within": float(within[i]) / int(counts[i]) if counts[i] else math.nan} for i, (tensor, shape) in enumerate(tensors)]
        self.name, self.dimension = name, dimension

    def __len__(self):
        return self.overlap.numel()

    def at(self, k):
        """A dictionary of all that is known at k: overlap, its ratio to chance and to random masks of the same layers, how many standard deviations it
        is above those, and at the sizes of `factors` layer, units, parameter, z and p."""
        if not 1 <= k <= len(self):
            raise ValueError(f"k = {k} is not between 1 and {len(self)}, the number of eigenvectors")
        i = k - 1
        value, by_layer, deviation = float(self.overlap[i]), float(self.by_layer_mean[i]), float(self.by_layer_std[i])
        known = {"k": k, "overlap": value, "chance": float(self.chance[i]), "over_chance": value / float(self.chance[i]),
                 "by_layer": by_layer, "over_by_layer": value / by_layer if by_layer > 0 else math.nan,
                 "z_by_layer": (value - by_layer) / deviation if deviation > 0 else math.nan, "best": float(self.best[i])}
        for one in self.factors:
            if one["k"] == k:
                known.update({name: one[name] for name in ("layer", "units", "parameter", "z", "p", "free")})
        if self.low is not None:
            known["low"], known["high"] = float(self.low[i]), float(self.high[i])
        if self.spread is not None:
            known["spread"] = float(self.spread[i])
        return known

    def __repr__(self):
        k = len(self)
        a = self.at(k)
        text = (f"overlap of the {k} largest parameters ({self.name}) of {self.dimension} with the top {k} eigenvectors: {a['overlap']:.4g}\n"
                f"  = chance {a['chance']:.3g} x layer {a['layer']:.3g} x units {a['units']:.3g} x parameter {a['parameter']:.3g} "
                + (f"(p {a['p']:.2g}, {a['free']} entries free to move)" if a["free"] < 100 else f"(z {a['z']:.1f})") +
                f"\n  the best mask reaches {a['best']:.4g}")
        if "low" in a:
            text += f"; of the true eigenspace it is between {a['low']:.4g} and {a['high']:.4g}"
        if "spread" in a:
            text += f"; ± {a['spread']:.2g} by the sketch's spread"
        return text

    def _repr_html_(self):
        from seigh import _drawing

        return _drawing.overlap_html(self)

    def plot(self, ax=None):
        """The curves over k with their bands; returns the matplotlib Axes."""
        from seigh import _drawing

        return _drawing.plot_overlap(self, ax)


def overlap(pairs, mask, *, among=None, random_masks=200, seed=0, context=None):
    """Overlap of a mask (`seigh.masks`) with the eigenspaces of `pairs`, beside its null models.

    Args:
        pairs: EigenPairs with eigenvectors. mask: of the same parameters.
        among: names of the tensors that masks may hold, with the wildcards * ? [] ("*.weight", or a list); None: all. Where a network has norms,
            a mask of magnitudes is first of all one of their scales.
        random_masks: random masks behind the simultaneous bands, at least 2, and behind the two-way null, there at least 200; seed: of them.
    Returns:
        Overlap.
    Raises:
        ValueError: mask and pairs are of different parameters; no eigenvectors; nothing among= names.
    """
    if not isinstance(mask, Mask):
        raise TypeError(f"mask is {type(mask).__name__}; make one by seigh.masks.magnitude(model), or seigh.masks.scores(model, values)")
    if not isinstance(pairs, EigenPairs):
        raise TypeError(f"pairs is {type(pairs).__name__}; give what seigh.eigh() returns")
    if not pairs._result.has_vectors:
        raise ValueError("these pairs have no eigenvectors to compare with" if len(pairs) else "no eigenpairs were found, so there is nothing to compare with")
    if mask.scores.numel() != pairs._size or pairs._names is not None and mask.names != pairs._names:
        raise ValueError(f"the mask is over {mask.scores.numel()} parameters, the eigenvectors over {pairs._size}; give both the same params=")
    scores = mask.scores if mask.scores.dtype in (torch.float32, torch.float64) else mask.scores.float()
    tensors = list(zip(mask.names, mask.shapes))
    layouts = [(name, shape, *layout) for (name, shape), layout in zip(tensors, mask.layouts)]
    patterns = None if among is None else [among] if isinstance(among, str) else list(among)
    for pattern in patterns or ():
        if not fnmatch.filter(mask.names, pattern):
            raise ValueError(f"among= names {pattern!r}, which is none of the tensors: {', '.join(mask.names[:5])}{' ...' if len(mask.names) > 5 else ''}")
    eligible = [patterns is None or any(fnmatch.fnmatchcase(name, p) for p in patterns) for name in mask.names]
    curves = _core.overlap(pairs._result, scores.cpu(), layouts, mask.hidden_units, eligible, random_masks, seed, core_of(context))
    return Overlap(curves, mask.name, pairs._size, tensors)

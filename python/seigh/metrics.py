"""How near two subspaces are: principal angles and the Grassmannian metrics made of them, between any two of eigenspaces, masks and
orthonormal bases.

Source: Björck and Golub, "Numerical methods for computing angles between linear subspaces", 1973; Fernandez and others, TMLR 2025, Sec. 4.
"""

import math

import numpy as np
import torch

from seigh import _core
from seigh._eigh import EigenPairs
from seigh.masks import Mask

_NAMES = ("geodesic", "chordal_2", "chordal_frobenius", "projection_2", "projection_frobenius", "fubini_study", "overlap")


class _Space:
    """The span of the first k of: eigenvectors, a mask's parameters (unit vectors), a basis' columns."""

    def __init__(self, of, k):
        self.mask = self.basis = None
        if isinstance(of, Mask):
            if k is None:
                raise ValueError("a mask has parameters in an order; say how many are in it: k=")
            self.mask, self.dimension, self.k = of.order(k), of.scores.numel(), k
            return
        if isinstance(of, EigenPairs):
            count, self.dimension = len(of), of._size
            if k is not None and k > count:
                raise ValueError(f"k = {k} is more than the {count} eigenvectors that there are")
            self.k = count if k is None else k
            self.basis = of._vectors()[:, :self.k]
        else:
            basis = torch.as_tensor(of).detach() if isinstance(of, (torch.Tensor, np.ndarray)) else torch.zeros(0)
            if basis.ndim != 2 or not basis.is_floating_point():
                raise TypeError(f"give EigenPairs, a mask, or an orthonormal basis [D, k], not {type(of).__name__}")
            if k is not None and k > basis.shape[1]:
                raise ValueError(f"k = {k} is more than the {basis.shape[1]} columns of the basis")
            self.dimension, self.k = basis.shape[0], basis.shape[1] if k is None else k
            self.basis = basis[:, :self.k]
        self.basis = self.basis.double().cpu()


def _pair(a, b, k):
    if k is None:
        k = next((_Space(s, None).k for s in (a, b) if not isinstance(s, Mask)), None)
    k = k if isinstance(k, tuple) else (k, k)
    a, b = _Space(a, k[0]), _Space(b, k[1])
    if a.dimension != b.dimension:
        raise ValueError(f"the two are subspaces of R^{a.dimension} and R^{b.dimension}; both must be over the same parameters (params=)")
    return a, b


def principal_angles(a, b, k=None):
    """The principal angles between two subspaces of R^D, radians: float64 [k], rising, right to rounding both near 0 and near π/2.

    Args:
        a, b: each EigenPairs, a mask (`seigh.masks`), or an orthonormal basis [D, k] (torch or NumPy).
        k: the first k vectors or parameters of each; needed where both are masks. A pair (m, k): m of the first and k of the second, of
            which there are min(m, k) angles, all 0 where one lies within the other. None: all of the one that is no mask.
    Raises:
        ValueError: of other dimensions, or a basis that is not orthonormal to 1e-3.
    Source: of different dimensions, Ye and Lim, "Schubert varieties and distances between subspaces of different dimensions", 2016.
    """
    a, b = _pair(a, b, k)
    if a.mask is not None and b.mask is not None:
        common, fewer = int(torch.isin(a.mask, b.mask).sum()), min(a.k, b.k)
        return torch.cat([torch.zeros(common, dtype=torch.float64), torch.full((fewer - common,), math.pi / 2, dtype=torch.float64)])
    if a.mask is None and b.mask is None:
        return _core.principal_angles(a.basis, b.basis)
    mask, basis = (a.mask, b.basis) if a.mask is not None else (b.mask, a.basis)
    if float((basis.T @ basis - torch.eye(basis.shape[1], dtype=basis.dtype)).abs().max()) > 1e-3:
        raise ValueError("the basis is not orthonormal to 1e-3; take torch.linalg.qr(basis).Q")
    # Cosines are the singular values of the rows within the mask; sines, of the smaller space, those of what the other leaves of it.
    inside = basis[mask]
    cosines = torch.linalg.svdvals(inside)
    if len(mask) >= basis.shape[1]:
        others = torch.ones(basis.shape[0], dtype=torch.bool)
        others[mask] = False
        left = basis[others]
    else:
        left = basis @ -inside.T
        left[mask, range(len(mask))] += 1
    sines = torch.linalg.svdvals(torch.linalg.qr(left, mode="r").R) if len(left) else torch.zeros(0, dtype=basis.dtype)
    sines = torch.cat([sines, torch.zeros(max(len(cosines) - len(sines), 0), dtype=basis.dtype)])[:len(cosines)].flip(0)
    return torch.atan2(sines, cosines)


def compare(a, b, k=None):
    """All metrics between two subspaces, {name: float}: geodesic, chordal_2, chordal_frobenius, projection_2, projection_frobenius and fubini_study,
    distances between 0 (equal, or of different dimensions one within the other) and 1 (orthogonal); overlap, a similarity, the sum of squared
    cosines over their number; and of two masks iou, their intersection over their union. Arguments as of `principal_angles`."""
    angles = principal_angles(a, b, k)
    found = {name: float(_core.metric(name, angles)) for name in _NAMES}
    if isinstance(a, Mask) and isinstance(b, Mask):
        a, b = _pair(a, b, k)
        common = int(torch.isin(a.mask, b.mask).sum())
        found["iou"] = common / (a.k + b.k - common)
    return found


def overlap_curve(a, b, K=None):
    """Overlap of the first k of `a` with the first k of `b`, for every k = 1..K at once: float64 [K]. a, b as of `principal_angles`; K: of all
    that there are. For a mask beside eigenvectors `seigh.overlap` has the null models too."""
    if K is None:
        K = min((_Space(s, None).k for s in (a, b) if not isinstance(s, Mask)), default=None)
    a, b = _Space(a, K), _Space(b, K)
    if a.dimension != b.dimension:
        raise ValueError(f"the two are subspaces of R^{a.dimension} and R^{b.dimension}; both must be over the same parameters (params=)")
    if a.mask is not None and b.mask is not None:
        block = (a.mask[:, None] == b.mask[None, :]).double()
    elif a.mask is not None:
        block = b.basis[a.mask]
    elif b.mask is not None:
        block = a.basis[b.mask].T
    else:
        block = a.basis.T @ b.basis
    return _core.nested_overlap(block.contiguous())

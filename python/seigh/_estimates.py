"""Trace, diagonal and spectral density of anything that multiplies, each with its error."""

import math

import torch

from seigh import _core
from seigh._context import core_of
from seigh._curvature import Curvature
from seigh._eigh import as_operator


class Trace(float):
    """A trace, with `error` (a standard error, rounding included), `exact`, `products` and `seconds`."""

    def __new__(cls, value, error, exact, products, seconds):
        self = super().__new__(cls, value)
        self.error, self.exact, self.products, self.seconds = error, exact, products, seconds
        return self

    def __repr__(self):
        return f"{float(self):.8g} ± {self.error:.2g} ({self.products} products{', exact' if self.exact else ''})"


class Diagonal:
    """`values` [D] and `error` [D] (standard errors), float64; `relative_error` of the whole; `exact`, `products`, `seconds`;
    `as_dict()` by parameter."""

    def __init__(self, found, numpy, curvature):
        values, error, self.relative_error, self.exact, self.products, self.seconds = found
        self.values, self.error = (values.numpy(), error.numpy()) if numpy else (values, error)
        self._curvature = curvature

    def as_dict(self):
        """{name: tensor}, shaped as the parameters."""
        if self._curvature is None:
            raise ValueError("this diagonal is of a matrix that is no network's; take .values")
        return self._curvature.as_dict(self.values)

    def __repr__(self):
        return f"<diagonal of {len(self.values)} entries, relative error {self.relative_error:.2g}, {self.products} products>"


class Density:
    """The density of all eigenvalues. `nodes` and `weights`, float64 [vectors, steps]: quadratures of the start vectors' measures.

    `curve(grid=None, width=None)`, `cumulative(grid)`, `moment(p)`, each with its error; `plot()`."""

    def __init__(self, found):
        self._found = found
        self.nodes, self.weights, self.exact, self.products, self.seconds = found.nodes, found.weights, found.exact, found.products, found.seconds

    def curve(self, grid=None, width=None, points=1000):
        """(grid, density, error): the density, of integral 1, smoothed by a Gaussian of standard deviation `width` (None: what the
        nodes resolve)."""
        width = self._found.resolved_width if width is None else float(width)
        grid = self._found.grid(points, width) if grid is None else torch.as_tensor(grid, dtype=torch.float64)
        return (grid, *self._found.smoothed(grid, width))

    def cumulative(self, grid):
        """(share, error) of the eigenvalues that are at most x, for each x of the grid."""
        return self._found.cumulative(torch.as_tensor(grid, dtype=torch.float64))

    def moment(self, p):
        """(value, error) of the mean of the eigenvalues' p-th powers."""
        return self._found.moment(p)

    def plot(self, ax=None, width=None):
        """The smoothed density with its error; returns the matplotlib Axes."""
        from seigh import _drawing

        return _drawing.plot_density(self, ax, width)

    def __repr__(self):
        return (f"<density of eigenvalues between {self._found.lowest:.4g} and {self._found.highest:.4g}, {self.products} products"
                f"{', exact' if self.exact else ''}>")


def _given(a, size, dtype, context):
    given = as_operator(a, size, dtype)
    return given, a._core_context(context) if isinstance(a, Curvature) else core_of(context)


def trace(A, *, products=100, seed=0, size=None, dtype=None, context=None):
    """The trace of a symmetric matrix, a float with its `error`. A, size, dtype as of `eigh`.

    Source: XTrace (Epperly, Tropp, Webber, "XTrace: making the most of every sample in stochastic trace estimation", 2024)."""
    given, core = _given(A, size, dtype, context)
    return Trace(*_core.trace(given.operator, products, seed, core))


def diagonal(A, *, products=100, seed=0, size=None, dtype=None, context=None):
    """The diagonal of a symmetric matrix, with the error of every entry: `Diagonal`. A, size, dtype as of `eigh`.

    Source: XDiag, in the same paper as `trace`."""
    given, core = _given(A, size, dtype, context)
    return Diagonal(_core.diagonal(given.operator, products, seed, core), given.numpy, given.curvature)


def density(A, *, vectors=8, steps=64, seed=0, size=None, dtype=None, context=None):
    """The spectral density of a symmetric matrix by stochastic Lanczos quadrature, vectors x steps products: `Density`. A, size, dtype as of
    `eigh`.

    Source: Ubaru, Chen, Saad, SIAM J. Matrix Anal. Appl. 38(4), 2017; all basis vectors are kept orthogonal."""
    given, core = _given(A, size, dtype, context)
    return Density(_core.density(given.operator, vectors, steps, seed, core))

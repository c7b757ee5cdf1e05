"""Leading eigenpairs, each with what is known of it."""

import math
import operator
import os

import numpy as np
import torch

from seigh import _core
from seigh._context import core_of
from seigh._curvature import Curvature

_WHICH = {"LM": "magnitude", "LA": "positive", "SA": "negative", "BE": "both"}
_TRUST = ("noise", "value", "cluster", "pair")


class _Given:
    """What eigh() is to decompose, and what its eigenvectors are vectors of."""

    def __init__(self, operator, numpy, curvature=None, check=False):
        self.operator, self.numpy, self.curvature, self.check = operator, numpy, curvature, check


def _check_symmetry(operator, context):
    """Two products: <u, A v> is <v, A u> of a symmetric matrix. Rounding in the operator's dtype is far below a hundredth."""
    dtype = getattr(torch, operator.dtype_name)
    block = torch.randn(operator.size, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    product = operator.apply(block, context)
    u, v, au, av = block[:, 0], block[:, 1], product[:, 0], product[:, 1]
    there, back = torch.vdot(u, av), torch.vdot(v, au).conj()
    off = abs(complex(there - back)) * math.sqrt(operator.size / 2) / float(u.norm() * v.norm())
    if off > 1e-2 * float(torch.maximum(au.norm() / u.norm(), av.norm() / v.norm())):
        raise ValueError(f"the matrix is not symmetric: <u, A v> = {complex(there).real:.6g}, <v, A u> = {complex(back).real:.6g}; eigh is for symmetric "
                         "(complex: Hermitian) ones")


def as_operator(a, size=None, dtype=None):
    """Anything that is a symmetric matrix, or multiplies like one."""
    if isinstance(a, Curvature):
        return _Given(a._operator, False, a)
    if isinstance(a, np.ndarray):
        return _Given(_core.matrix(torch.from_numpy(np.array(a if np.issubdtype(a.dtype, np.inexact) else a.astype(np.float64))), "matrix"), True)
    if isinstance(a, torch.Tensor):
        if a.ndim != 2 or a.shape[0] != a.shape[1]:
            raise ValueError(f"a matrix must be square, not of shape {list(a.shape)}")
        wide = a.detach() if a.is_floating_point() or a.is_complex() else a.double()
        if wide.dtype in (torch.float16, torch.bfloat16):
            wide = wide.float()
        return _Given(_core.matrix(wide.cpu(), "matrix"), False)
    if hasattr(a, "shape") and (hasattr(a, "__matmul__") or hasattr(a, "matmat")):
        if len(a.shape) != 2 or a.shape[0] != a.shape[1]:
            raise ValueError(f"a matrix must be square, not of shape {tuple(a.shape)}")
        size = int(a.shape[0])
        multiply = lambda x: a @ x
    elif callable(a):
        if size is None:
            raise TypeError("eigh of a callable needs size=, the length of the vectors that it multiplies")
        multiply = a
    else:
        raise TypeError(f"eigh takes a seigh matrix, a tensor, an array, a SciPy LinearOperator, anything with .shape and @, or a callable with "
                        f"size=, not {type(a).__name__}")
    own = dtype if dtype is not None else getattr(a, "dtype", None)
    numpy, name = _kind_of(a, own)

    def product(block):
        x = block.contiguous().numpy() if numpy else block
        try:
            y = multiply(x)
        except Exception:
            if block.shape[1] != 1:  # it takes vectors alone
                columns = [multiply(x[:, j]) for j in range(x.shape[1])]
                y = (np.stack if numpy else torch.stack)(columns, 1)
            else:
                y = multiply(x[:, 0])
        y = torch.as_tensor(np.asarray(y) if numpy else y).detach().to(block.dtype)
        if y.numel() != block.numel():
            raise ValueError(f"a product with a block {list(block.shape)} has shape {list(y.shape)}; it must have the same")
        return y.reshape(block.shape)

    return _Given(_core.callable(product, size, name, "operator"), numpy, check=True)


def _kind_of(a, dtype):
    """Whether it speaks NumPy, and the name of its dtype."""
    if isinstance(dtype, torch.dtype):
        name = str(dtype).replace("torch.", "")
        return False, name if name in ("float32", "float64", "complex64", "complex128") else "float64"
    numpy = not type(a).__module__.startswith("torch") and not callable(a) or type(a).__module__.startswith(("scipy", "numpy"))
    if dtype is None:
        return numpy, "float64" if numpy else str(torch.get_default_dtype()).replace("torch.", "")
    name = np.dtype(dtype).name
    return numpy, name if name in ("float32", "float64", "complex64", "complex128") else "float64"


def eigh(A, k=6, *, which="LM", tol=0.0, error=0.0, products=0, method="auto", start=None, seed=0, probes=30, checks=35, size=None, dtype=None,
         context=None):
    """The k leading eigenpairs of a symmetric matrix, each with an enclosure and a certificate.

    Args:
        A: `Hessian` and its like; a tensor or array [D, D]; a SciPy LinearOperator; anything with `.shape` and `@`; or a callable of a
            block [D, b] (or of a vector [D]) with `size`=D.
        k: how many; with `error` the most there may be.
        which: as SciPy's: "LM" by magnitude, "LA" the largest, "SA" the lowest, "BE" both ends. Of "LA" and "SA" only positive and
            negative ones: fewer than k pairs where they run out.
        tol: residuals |Au - λu|, and what may have been missed, below tol |λ₁|. 0: the products decide.
        error: instead as few pairs as bring the estimated error below this times the Frobenius norm of the matrix.
        products: how many to spend; 0: the method's choice (krylov goes on until every pair is enclosed to 1e-3 |λ₁|, at most 2k or
            20 blocks of them).
        method: "auto", "krylov" (most accurate for its products), "seigh" and "nystrom" (sketches, independent products), "hmt", or
            "dense" (all D products).
        start: vectors [D, c] for krylov to begin from, such as the eigenvectors of a step before.
        seed: of everything random.
        probes: products that estimate the error, and certify sketches; 0: none.
        checks: of krylov, products that bound what was not found; 0: none, and hardly any pair is certified.
        dtype: of products of A where it does not say; default float64 for NumPy, torch's default for torch.
        context: limits (`Context`).
    Returns:
        EigenPairs.
    Raises:
        ValueError: k or another value out of range, a matrix that is not symmetric or not finite. MemoryError: too little.
    Source: the methods are described in docs/theory.md.
    """
    if which not in _WHICH and which not in _WHICH.values():
        raise ValueError(f"which must be \"LM\", \"LA\", \"SA\" or \"BE\", not {which!r}")
    core = A._core_context(context) if isinstance(A, Curvature) else core_of(context)
    try:
        k = operator.index(k)
    except TypeError:
        raise TypeError(f"k must be a whole number, not {k!r}") from None
    given = as_operator(A, size, dtype)
    if products > given.operator.size and method in ("seigh", "nystrom", "hmt"):
        raise ValueError(f"products = {products} is more than the {given.operator.size} rows of the matrix, all of which method=\"dense\" takes")
    if k > given.operator.size:
        raise ValueError(f"k = {k} is more than the {given.operator.size} rows of the matrix; ask for at most {given.operator.size}")
    options = dict(k=int(k), selection=_WHICH.get(which, which), tolerance=float(tol), error=float(error), products=int(products), method=method,
                   seed=int(seed), probes=int(probes), checks=int(checks))
    if start is not None:
        if isinstance(start, EigenPairs):
            start = start._vectors()
        start = torch.as_tensor(start).detach().to(getattr(torch, given.operator.dtype_name))
        if start.ndim not in (1, 2) or start.shape[0] != given.operator.size:
            raise ValueError(f"start must hold vectors [{given.operator.size}, c], not {list(start.shape)}")
        options["start"] = start.reshape(given.operator.size, -1)
    if given.check:
        _check_symmetry(given.operator, core)
    result = _core.eigh(given.operator, options, core)
    names = shapes = None
    info = {"k": int(k), "matrix": "matrix", "samples": 0}
    if given.curvature is not None:
        names, shapes = given.curvature.parameter_names, given.curvature.parameter_shapes
        info.update(matrix=given.curvature.kind, samples=given.curvature._source.samples)
    return EigenPairs(result, given.operator.size, given.operator.dtype_name, names, shapes, given.numpy, info)


class EigenPairs:
    """Eigenpairs and what is known of them; as `values, vectors = pairs` too.

    Tensors, or NumPy arrays where the matrix spoke NumPy.

    Attributes:
        eigenvalues: float64 [k], leading one first.
        eigenvectors: [D, k], orthonormal columns, of the matrix' dtype; made when first asked for.
        residuals: float64 [k], upper bounds on |Au - λu|, rounding included; of sketches None without probes, and then trust,
            enclosure, places and angle too.
        trust: k of "pair" (certified: eigenvalue, eigenvector and place), "cluster" (certified together with others it cannot be
            separated from), "value" (an eigenvalue, but the vector may be a mixture) and "noise".
        enclosure: float64 [k, 2], between which numbers the eigenvalue of that place lies.
        places: int64 [k, 2], which places, counted from 1, the pair may have.
        angle: float64 [k], radians: upper bounds on the angle to the true eigenvector, or eigenspace of a cluster; π/2: none.
        error: estimated relative error |A - UΛUᵀ|_F / |A|_F, a float; None without probes (but for dense).
        certified: how many pairs are certified, alone or in clusters.
        products, seconds, method: what it took.
    """

    def __init__(self, result, size, dtype_name, names, shapes, numpy, info):
        self._result, self._names, self._shapes, self._numpy, self._info = result, names, shapes, numpy, info
        self._size, self._dtype_name = size, dtype_name
        self._columns = None
        self._certificates = result.certificates()

    def _out(self, tensor):
        return tensor if tensor is None or not self._numpy else tensor.numpy()

    def _vectors(self):
        if self._columns is None:
            if not self._result.has_vectors:
                raise ValueError("these pairs have no eigenvectors: their file holds none (seigh eigh --vectors, eigh.vectors = true)")
            self._columns = self._result.columns(0, self._result.rank)
        return self._columns

    @property
    def eigenvalues(self):
        return self._out(self._result.eigenvalues)

    @property
    def eigenvectors(self):
        return self._out(self._vectors())

    @property
    def residuals(self):
        return self._out(self._result.residuals)

    @property
    def trust(self):
        codes = self._certificates["trust"]
        return None if codes is None else [_TRUST[code] for code in codes.tolist()]

    @property
    def enclosure(self):
        low, high = self._certificates["low"], self._certificates["high"]
        return None if low is None else self._out(torch.stack([low, high], 1))

    @property
    def places(self):
        first, last = self._certificates["first"], self._certificates["last"]
        return None if first is None else self._out(torch.stack([first, last], 1))

    @property
    def angle(self):
        return self._out(self._certificates["angle"])

    @property
    def subspace_error(self):
        """float64 [k]: upper bounds on |sin Θ|_F / sqrt(j) between the spans of the first j computed and true eigenvectors."""
        return self._out(self._certificates["subspace"])

    @property
    def error(self):
        error = self._result.error
        if error is not None:
            return error["relative"]
        if self._result.method != "dense" or not self._result.frobenius > 0:
            return None
        kept = float(self._result.eigenvalues.square().sum())
        return math.sqrt(max(self._result.frobenius**2 - kept, 0)) / self._result.frobenius

    @property
    def certified(self):
        return self._result.certified()

    @property
    def products(self):
        return self._result.products

    @property
    def seconds(self):
        return self._result.seconds

    @property
    def method(self):
        return self._result.method

    @property
    def spectrum(self):
        """float64: all Ritz values that are known, the eigenvalues first; all D of dense."""
        return self._out(self._result.spectrum)

    @property
    def parameter_names(self):
        """Names of the parameters the vectors are of; None of matrices that are no network's."""
        return self._names

    def vector(self, i):
        """Eigenvector i as {name: tensor}, shaped as in state_dict(); the plain vector [D] of matrices that are no network's."""
        rank = len(self)
        if not -rank <= i < rank:
            raise IndexError(f"there are {rank} eigenvectors, 0 to {rank - 1}; {i} is none of them")
        column = self._result.columns(i % rank, 1)[:, 0] if self._columns is None else self._columns[:, i]
        if self._names is None:
            return self._out(column)
        pieces = column.split([math.prod(shape) for shape in self._shapes])
        return {name: piece.reshape(shape) for name, shape, piece in zip(self._names, self._shapes, pieces)}

    def save(self, path):
        """Writes everything to an HDF5 file (docs/file_format.md), whole or not at all; `load()` reads it."""
        _core.save(os.fspath(path), self._result, self._info["matrix"], self._size, self._info["samples"], self._info["k"], self._dtype_name,
                   list(zip(self._names or [], map(list, self._shapes or []))), core_of(None))

    def __len__(self):
        return self._result.rank

    def __iter__(self):
        return iter((self.eigenvalues, self.eigenvectors))

    def _summary(self):
        wanted = self._result.wanted(self._info["k"])
        text = f"{len(self)} eigenpairs of {self._size} rows by {self.method}, {self.products} products in {self.seconds:.3g} s"
        if self._result.residuals is not None:
            text += f"; {self.certified} of {wanted} certified"
        if self.error is not None:
            text += f"; error {self.error:.2g} of the Frobenius norm"
        return text

    def __repr__(self):
        rows = [self._summary()]
        residuals, trust, angle = self._result.residuals, self.trust, self._certificates["angle"]
        shown = range(len(self)) if len(self) <= 12 else list(range(8)) + [-1]
        for i in shown:
            if i == -1:
                rows.append("  ...")
            place = i % max(len(self), 1)
            line = f"  {place + 1:<5} {float(self._result.eigenvalues[i]): .9g}"
            if residuals is not None:
                line = f"{line:<26} ± {float(residuals[i]):.2g}".ljust(40) + trust[i]
                if trust[i] in ("pair", "cluster"):
                    line = f"{line:<49}angle ≤ {float(angle[i]):.2g}"
            rows.append(line)
        return "\n".join(rows)

    def _repr_html_(self):
        from seigh import _drawing

        return _drawing.pairs_html(self)

    def plot(self, ax=None):
        """The spectrum over the index, certified pairs filled, with enclosures; returns the matplotlib Axes."""
        from seigh import _drawing

        return _drawing.plot_pairs(self, ax)


def load(path, context=None):
    """The EigenPairs of a file that `EigenPairs.save()`, `seigh eigh` or a run wrote. Raises OSError or ValueError where there is none, or
    it is damaged."""
    result, info = _core.load(os.fspath(path), core_of(context))
    names = [name for name, _ in info["tensors"]] or None
    return EigenPairs(result, info["parameters"], info["dtype"], names, names and [tuple(shape) for _, shape in info["tensors"]], False, info)

"""The curvature matrices of a network: products, never the matrix."""

import os
import sys
import inspect
import threading
import warnings

import numpy as np
import torch

from seigh import _core
from seigh._context import core_of
from seigh._losses import takes_model
from seigh._source import Source


def _outside():
    """How far up the caller of this package is, for warnings to name its line."""
    here, level, frame = os.path.dirname(__file__), 1, sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == here:
        frame, level = frame.f_back, level + 1
    return level


class SeighWarning(UserWarning):
    """Something about a matrix that its user should know."""


def blocks_of(x, size, dtype, name):
    """A vector [D] or block [D, b] as a torch block of `dtype`, and what makes the product of its kind again."""
    from_numpy = isinstance(x, np.ndarray)
    tensor = torch.from_numpy(np.ascontiguousarray(x)) if from_numpy else x
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} multiplies a torch.Tensor or a NumPy array, not {type(x).__name__}")
    if tensor.ndim not in (1, 2) or tensor.shape[0] != size:
        raise ValueError(f"{name} is {size} x {size}; it multiplies a vector [{size}] or a block [{size}, b], not {list(tensor.shape)}")
    if tensor.is_complex() and not dtype.is_complex:
        raise TypeError(f"{name} is real; multiply the real and the imaginary part apart")
    block = tensor.detach() if tensor.ndim == 2 else tensor.detach().unsqueeze(1)
    if block.dtype != dtype:
        block = block.to(dtype)

    def back(product):
        if tensor.ndim == 1:
            product = product.select(1, 0)
        return product.numpy() if from_numpy else product

    return block, back


class Curvature:
    """A curvature matrix of the loss of `data` at the parameters of `model`, D x D, known by its products.

    Use one of `Hessian`, `GGN`, `EmpiricalFisher`, `MCFisher`; all take the same arguments.

    Args:
        model: a torch.nn.Module in evaluation mode, as it stands: its own parameters are used, not a copy, and its buffers, its
            training flag and all `.grad` stay as they are. The matrix is over the trainable parameters (requires_grad), a tied
            one once, in the order of named_parameters().
        loss: a callable of (outputs, targets) that returns the mean, or the sum (`reduction`), over what the batch holds; or of
            (model, batch) where its first parameter is called `model` (`module`, `net`, `network`), as for models that return their own
            loss.
        data: (inputs, targets), tensors or arrays of N samples (inputs may be a tuple or a dictionary of them, which the model
            then gets as arguments); or anything that can be iterated twice: a DataLoader, a list of batches, of any sizes. A batch is
            (inputs, targets), or a dictionary with the targets as "labels", "label", "targets", "target" or "y". Batches are kept in
            memory.
        params: which parameters; the others stay fixed. Names of tensors or layers with wildcards ("conv1", ["*.weight"]), a list of
            parameters, or a predicate of (name, parameter). None: all.
        reduction: what the loss makes of a batch. "mean": the matrix is that of the mean over all the data, whatever the batches;
            "sum": of the sum.
        weight: a callable of a batch, its weight in the mean (the number of targets in it). Only asked for where it cannot be
            found from the loss.
        dtype: of vectors and products, torch.float32 or torch.float64; None: the model's. Another one than the model's is computed
            on a copy.
        l2: adds l2/2 |θ|² to the loss: l2 to the diagonal.
        products: "autograd" (second derivatives), one of its ways, "graph" (through one graph, vector by vector), "batched" (a
            block of vectors at once, by forward over reverse mode) or "stacked" (a block at once, by the formulas of fully connected
            networks: an nn.Sequential of Linear layers with biases and one kind of activation), "difference" (central differences of the gradient in float64, for networks with
            operations that have no second derivative or a wrong one), or "auto": those where need be.
        precision: "float32", or faster: "tf32", on CUDA devices convolutions and matrix products take their operands to 11 bits, wrong by 1 to
            3 % of a product's length; "bf16", they are in bfloat16, 8 bits (PyTorch's autocast; on the CPU too), wrong by several %. That is
            measured (`product_error`); eigenpairs found with it are refined and certified by k further products in float32.
        replay: on devices, whether the kernels of a product are recorded once and replayed as one (CUDA graphs), for small networks whose
            products wait for launches; None: whichever is faster, but on CUDA, where this has not been run yet, not. True: RuntimeError
            or ValueError where they cannot be.
        batch_size: samples whose activations are in memory at once; 0: chosen. Only of tensors.
        check: products are checked before the first is given out: same twice, symmetric, other mini-batches and order,
            float64, differences of the gradient. Costs some twenty products, once.
        sharded: data are this process's part of those of all processes of the context's group, whose matrix it is: what a
            DistributedSampler gives. Parts of a mean have the weight of their targets (or of `weight`). Products are then made by all
            processes together, each from its part; without `sharded`, of the same data in all, each makes some of a block's.
        context: limits, and a group of processes (`Context`).
    Raises:
        ValueError, TypeError: what does not fit, in one line. NotImplementedError: a matrix this loss does not have.
        RuntimeError: the parameters were changed in place since; see `refresh()`.

    Attributes:
        parameter_names, parameter_shapes: of the tensors that the rows are, in their order. offsets: where each begins, and D.

    Products agree with those of an explicit matrix to `product_error`. Of a mean loss L(θ) = 1/N Σ l_n(f_n(θ)) over N targets, with
    J_n = ∂f_n/∂θ (Martens, "New insights and perspectives on the natural gradient method", 2020).
    """

    kind = None
    _own_options = {}
    __array_ufunc__ = None  # numpy leaves @ to this class
    __array_priority__ = 1000

    def __init__(self, model, loss, data, *, params=None, reduction="mean", weight=None, dtype=None, l2=0.0, products="auto", precision="float32", replay=None,
                 batch_size=0, check=True, sharded=False, context=None):
        if self.kind != "hessian" and callable(loss) and takes_model(loss):
            raise NotImplementedError(f"a loss of model and batch has a Hessian only: its {self.kind} needs the outputs apart from the loss; give a "
                                      "loss of (outputs, targets)")
        if sharded and (context is None or context._group is None):
            raise ValueError("sharded=True needs the processes that have the other parts: context=seigh.Context(group=...)")
        make = lambda: Source(model, loss, data, params=params, reduction=reduction, weight=weight)
        self._source = make() if context is None else context._together(make)
        if dtype is not None and dtype != self._source.dtype:
            if dtype not in (torch.float32, torch.float64):
                raise TypeError(f"dtype must be torch.float32 or torch.float64, not {dtype}")
            source = self._source.again(None, str(dtype).replace("torch.", ""))
            if source is None:
                raise ValueError(f"the model cannot be copied into {dtype}; convert it: model.to({dtype})")
            source.own_module, source.own_parameters = self._source.own_module, self._source.own_parameters
            self._source = source
        if not self._source.supports(self.kind):
            raise NotImplementedError(_unsupported(self.kind, self._source))
        self._options = dict(kind=self.kind, dtype=self._source.dtype_name, l2=float(l2), products=products, precision=precision, replay=replay, batch_size=batch_size,
                             **self._own_options)
        self._check, self._context, self._sharded = check, context, sharded
        self._limits = None if context is None else context._of_device(self._source.device)
        self._label = f"the {self._name}"
        self._lock = threading.Lock()
        self._made = None
        names = self._source.parameters()
        self.parameter_names = [name for name, _ in names]
        self.parameter_shapes = [tuple(shape) for _, shape in names]
        self.offsets = [0]
        for shape in self.parameter_shapes:
            self.offsets.append(self.offsets[-1] + int(np.prod(shape, dtype=np.int64)))
        self._remember()
        if sharded:
            self._operator  # which all processes make together

    # ---- the parameters it belongs to

    def _remember(self):
        self._state = self._fingerprint()

    def _fingerprint(self):
        parameters = self._source.own_parameters
        return [p._version for p in parameters], _core.checksum(parameters)

    def _current(self):
        if self._state != self._fingerprint():  # by an optimizer, or past autograd, by .data
            raise RuntimeError("the model's parameters were changed in place since this matrix was made (by an optimizer?); call refresh() "
                               "to have that of the new ones, or make another")

    def refresh(self):
        """Moves the matrix to the parameters that the model has now."""
        with self._lock:
            self._made = None
            if self._source.own_parameters[0] is not self._source._parameters[0]:  # a copy in another precision
                with torch.no_grad():
                    for to, of in zip(self._source._parameters, self._source.own_parameters):
                        to.copy_(of)
            self._source._prepare()
            self._remember()
        if self._sharded:
            self._operator
        return self

    # ---- products

    @property
    def _operator(self):
        self._current()
        with self._lock:
            if self._made is None:
                made = self._make()
                self._notes = list(dict.fromkeys(self._source.notes() + made.notes()))
                for note in dict.fromkeys(self._source.notes() + made.warnings()):
                    warnings.warn(note, SeighWarning, stacklevel=_outside())
                self._made = made
            return self._made

    def _core_context(self, other=None):
        """Of its own context, or of another one for a call."""
        if other is None:
            return core_of(None) if self._limits is None else self._limits
        if self._sharded and other._group is None:
            raise ValueError("this matrix is that of the data of several processes: give no context, or one with their group")
        return other._of_device(self.device)

    def _make(self):
        if not self._sharded:
            return _core.curvature(self._source, self._options, self._name, self._check, self._core_context())
        # Of this process's own matrix the options and its share in that of all. No process waits for one that has failed.
        together, group, options, share = self._context._together, self._context._group, self._options, 1.0
        weights = group.gathered(together(self._source.total_weight))
        if self.kind == "mc_fisher":
            self._source.first_sample = sum(group.gathered(self._source.samples)[:group.rank])
        self._compare(group)
        if self._source.reduced_by_sum:
            options = dict(options, l2=options["l2"] / len(weights))
        else:
            if not min(weights) > 0:
                raise ValueError(f"the parts of the data have the weights {weights[:5]}; each must have some")
            share = weights[group.rank] / sum(weights)
        own = together(lambda: _core.curvature(self._source, options, self._name, self._check, self._core_context()))
        return _core.sharded(own, share, self._core_context())

    def _compare(self, group):
        """Raises in all processes where their models, or what is asked of them, differ."""
        mine = {key: self._options[key] for key in ("kind", "dtype", "l2", "precision")} | {
            "rows": self.offsets[-1], "sum": _core.checksum([*self._source.own_module.parameters(), *self._source.own_module.buffers()])}
        all_of_them = group.gathered(mine)
        first = all_of_them[0]
        for rank, theirs in enumerate(all_of_them):
            for key in mine:
                if theirs[key] == first[key] or key == "sum" and abs(theirs[key] - first[key]) <= 1e-6 * abs(first[key]):
                    continue
                what = "other parameters than the first" if key == "sum" else f"{key} = {theirs[key]} where the first has {first[key]}"
                raise ValueError(f"{self._label}: process {rank} has {what}; all must have the same model and ask for the same matrix")

    @property
    def _name(self):
        return {"hessian": "Hessian", "ggn": "GGN", "empirical_fisher": "empirical Fisher", "mc_fisher": "Monte-Carlo Fisher"}[self.kind]

    @property
    def shape(self):
        """(D, D)."""
        return self.offsets[-1], self.offsets[-1]

    @property
    def dtype(self):
        """Of vectors and products: torch.float32 or torch.float64."""
        return self._source.dtype

    @property
    def device(self):
        """Where the model is."""
        return self._source.device

    @property
    def product_error(self):
        """What was measured of the length of a product's error, of unit vectors, in the units of the matrix; of "float32" 0 without `check`."""
        return self._operator.product_error

    @property
    def by_differences(self):
        """Whether products are differences of the gradient."""
        return self._operator.by_differences

    @property
    def way(self):
        """How products are made: "stacked", "graph", "batched" or "differences", with sizes; "replayed" where their kernels are recorded."""
        return self._operator.way

    @property
    def notes(self):
        """What should be known of how products are computed, a list of lines."""
        return self._operator and list(self._notes)

    def __matmul__(self, x):
        """The product with a vector [D] or a block [D, b], torch or NumPy; of the same kind, in the matrix' dtype."""
        block, back = blocks_of(x, self.offsets[-1], self._source.dtype, self._label)
        if block.shape[1] == 0:
            return back(block)
        return back(self._operator.apply(block, self._core_context()))

    matvec = matmat = __matmul__

    def to_scipy(self):
        """A scipy.sparse.linalg.LinearOperator of the same products."""
        from scipy.sparse.linalg import LinearOperator

        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        multiply = lambda x: self @ np.asarray(x)
        return LinearOperator(self.shape, matvec=multiply, rmatvec=multiply, matmat=multiply, rmatmat=multiply, dtype=dtype)

    def loss(self):
        """The loss whose curvature this is, a float, with the l2 term if any."""
        return self._operator.loss()

    def gradient(self):
        """Its gradient, a tensor [D] of dtype."""
        return self._operator.gradient()

    def as_dict(self, vector):
        """{name: tensor}, shaped as the parameters, of a vector [D] (torch or NumPy)."""
        if tuple(vector.shape) != self.shape[:1]:
            raise ValueError(f"as_dict() takes a vector [{self.shape[0]}], not {list(vector.shape)}")
        return {name: vector[a:b].reshape(shape) for name, shape, a, b in
                zip(self.parameter_names, self.parameter_shapes, self.offsets, self.offsets[1:])}

    def as_vector(self, tensors):
        """The vector [D] of {name: tensor}, as of `as_dict()` or a state_dict()."""
        missing = [name for name in self.parameter_names if name not in tensors]
        if missing:
            raise KeyError(f"no entry {missing[0]!r} among {len(tensors)} tensors; the matrix is over {', '.join(self.parameter_names[:5])} ...")
        for name, shape in zip(self.parameter_names, self.parameter_shapes):
            if tuple(tensors[name].shape) != shape:
                raise ValueError(f"{name} has the shape {list(shape)}, not {list(tensors[name].shape)}")
        return torch.cat([torch.as_tensor(tensors[name]).detach().reshape(-1) for name in self.parameter_names])

    def __repr__(self):
        return f"<seigh.{type(self).__name__} {self.shape[0]} x {self.shape[1]}, {str(self.dtype).replace('torch.', '')}, {len(self.parameter_names)} parameter tensors>"


def _unsupported(kind, source):
    if kind == "mc_fisher":
        return ("the Monte-Carlo Fisher matrix needs a loss whose distribution is known: cross_entropy, mse_loss or "
                "binary_cross_entropy_with_logits, without weights; GGN takes any loss")
    return f"this loss has no {kind} matrix here: it takes outputs [N, C], one tensor; Hessian takes any"


class Hessian(Curvature):
    kind = "hessian"


class GGN(Curvature):
    """The generalised Gauss-Newton matrix 1/N Σ J_nᵀ l_n''(f_n) J_n (Schraudolph 2002), positive semidefinite for a convex loss."""
    kind = "ggn"


class EmpiricalFisher(Curvature):
    """1/N Σ g_n g_nᵀ, g_n the gradient of one target's loss."""
    kind = "empirical_fisher"


class MCFisher(Curvature):
    """The empirical Fisher matrix at `draws` targets drawn from the network's own distribution for each target, by `seed`: an unbiased
    estimate of the Fisher matrix, which is the GGN for cross-entropy."""
    kind = "mc_fisher"

    def __init__(self, model, loss, data, *, draws=1, seed=0, **more):
        self._own_options = dict(draws=draws, seed=seed)
        super().__init__(model, loss, data, **more)


Hessian.__doc__ = "The Hessian ∂²L/∂θ² of the loss L.\n\n" + inspect.cleandoc(Curvature.__doc__)
for matrix in (GGN, EmpiricalFisher, MCFisher):
    matrix.__doc__ = inspect.cleandoc(matrix.__doc__) + "\n\nArguments and errors are those of `Hessian`."

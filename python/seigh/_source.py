"""A module, its loss and its data as what the library differentiates (curvature/graph_source.h)."""

import contextlib
import copy
import sys
import threading
import warnings
import weakref

import torch
from torch import nn

from seigh import _core
from seigh._data import Samples, read_data
from seigh._losses import Shares, recognise, scalar, takes_model
from seigh._tree import floats_to, is_sequence

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
_DROPOUTS = (nn.modules.dropout._DropoutNd,)
_locks = {}  # (weak reference, lock) of each module, by id: its graphs are built one after the other
_locks_lock = threading.Lock()


def _lock_of(module):
    # No WeakKeyDictionary: as a module dies it runs Python code, in which Ctrl-C would be lost.
    with _locks_lock:
        known = _locks.get(id(module))
        if known is None or known[0]() is not module:
            for dead in [key for key, (of, _) in _locks.items() if of() is None]:
                del _locks[dead]
            known = _locks[id(module)] = (weakref.ref(module), threading.RLock())
        return known[1]


def beneath(module):
    """The module under torch.compile, DataParallel or DistributedDataParallel."""
    while True:
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        else:
            return module


def check_whole(module):
    """Raises where parameters are parts of tensors, the others being elsewhere."""
    fsdp, tensor = sys.modules.get("torch.distributed.fsdp"), sys.modules.get("torch.distributed.tensor")
    sharded = tensor is not None and any(isinstance(t, tensor.DTensor) for t in [*module.parameters(), *module.buffers()])
    if sharded or fsdp is not None and any(isinstance(part, fsdp.FullyShardedDataParallel) for part in module.modules()):
        raise NotImplementedError("the model's parameters are sharded (DTensor, FSDP), and seigh takes whole ones: load the full state_dict (that of "
                                  "torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True) into a model that is not")


def check_evaluation(module):
    """Raises where the outputs of a sample would be random, or depend on others of its batch."""
    for name, part in module.named_modules():
        where = f"{type(part).__name__} {name!r}" if name else type(part).__name__
        if isinstance(part, _DROPOUTS) and part.training and part.p > 0:
            raise ValueError(f"dropout is active in {where}: call model.eval() first")
        if isinstance(part, (nn.RNNBase, nn.MultiheadAttention)) and part.training and part.dropout > 0:
            raise ValueError(f"dropout is active in {where}: call model.eval() first")
        if isinstance(part, _BATCH_NORMS) and (part.training or part.running_mean is None):
            raise ValueError(f"{where} takes the statistics of each batch: call model.eval() first" if part.running_mean is not None
                             else f"{where} has no running statistics (track_running_stats=False), so that outputs of a sample depend "
                             "on the others of its batch; make it with running statistics, and call model.eval()")


def choose_parameters(module, wanted):
    """[(name, parameter)] of the trainable ones, a tied one once, in the order of named_parameters()."""
    import fnmatch

    every = dict(module.named_parameters())
    trainable = {name: p for name, p in every.items() if p.requires_grad}
    if not every:
        raise ValueError("the model has no parameters")
    if not trainable:
        raise ValueError("all parameters of the model are frozen (requires_grad=False); there is nothing to differentiate")
    if wanted is None:
        chosen = trainable
    elif callable(wanted):
        chosen = {name: p for name, p in trainable.items() if wanted(name, p)}
        if not chosen:
            raise ValueError("params= chooses none of the parameters: " + _some(trainable))
    else:
        try:
            patterns = [wanted] if isinstance(wanted, (str, torch.Tensor)) else list(wanted)
        except TypeError:
            raise TypeError(f"params= is {type(wanted).__name__}; give names, a list of parameters, or a predicate of (name, parameter)") from None
        if not patterns:
            raise ValueError("params= is empty and chooses none of the parameters: " + _some(trainable))
        if wrong := [pattern for pattern in patterns if not isinstance(pattern, (str, torch.Tensor))]:
            raise TypeError(f"params= holds {type(wrong[0]).__name__}; give names, a list of parameters, or a predicate of (name, parameter)")
        chosen = {}
        for pattern in patterns:
            if isinstance(pattern, torch.Tensor):
                found = {name: p for name, p in every.items() if p is pattern}
                what = "a tensor that is no parameter of the model"
            else:
                found = {name: p for name, p in every.items()
                         if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, pattern + ".*")}
                what = repr(pattern)
            if not found:
                raise ValueError(f"params= names {what}; there are {_some(every)}")
            if integer := [name for name, p in found.items() if not p.is_floating_point()]:
                raise TypeError(f"params= names {integer[0]!r}, which holds {every[integer[0]].dtype}: integers have no derivatives")
            if not any(name in trainable for name in found):
                raise ValueError(f"params= names {what}, which is frozen; call requires_grad_(True) on it to have it in the matrix")
            chosen.update(found)
        chosen = {name: p for name, p in trainable.items() if name in chosen}
    for name, p in chosen.items():
        if p.is_complex():
            raise TypeError(f"parameter {name!r} is complex, which is not served; choose others with params=")
    return list(chosen.items())


def _some(names):
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


_transforms = {"loaded": False}


def _load_transforms():
    """torch.func loads some of its rules when it is first called from Python."""
    if _transforms["loaded"]:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own torch.jit
        try:
            torch.func.vmap(lambda t: torch.func.jvp(torch.sin, (t,), (t,))[1])(torch.zeros(1))
        except RuntimeError:  # another thread is in forward mode: the next time
            return
    _transforms["loaded"] = True


@contextlib.contextmanager
def _plain_attention():
    """Without the fused layers that torch's own transformers take where nothing requires a gradient: forward mode does not know them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Together(nn.Module):
    """A loss of model and batch as one module, whose parameters functional_call() replaces."""

    def __init__(self, module, loss):
        super().__init__()
        self.module = module
        object.__setattr__(self, "_loss", loss)  # no part of it, though it may be a module

    def forward(self, batch):
        return self._loss(self.module, batch)


class Source:
    """The loss of `data` at the parameters of `module` as they are.

    Methods and attributes without an underscore are called by the extension, from whatever thread works. In its terms the
    loss is a sum over targets, divided by their number; of a sum (`reduction`) that number is 1. What a part contributes is
    its own loss times its share in that of all."""

    def __init__(self, module, loss, data, *, params=None, reduction="mean", weight=None):
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be \"mean\" or \"sum\", what the loss makes of its batch, not {reduction!r}")
        if not isinstance(module, nn.Module):
            raise TypeError(f"model is {type(module).__name__}, not a torch.nn.Module")
        if isinstance(loss, nn.Module) and getattr(loss, "reduction", reduction) not in (reduction, "none"):
            raise ValueError(f"the loss has reduction=\"{loss.reduction}\", and the matrix is of a {reduction}; " + (
                "give reduction=\"sum\" here too" if loss.reduction == "sum" else "leave reduction= at \"mean\""))
        if not callable(loss):
            raise TypeError(f"loss is {type(loss).__name__}, which cannot be called; give a callable of outputs and targets")
        module = beneath(module)
        check_whole(module)
        check_evaluation(module)
        self._notes = []
        chosen = choose_parameters(module, params)
        self.own_module, self.own_parameters = module, [p for _, p in chosen]
        devices = {p.device for p in module.parameters()} | {b.device for b in module.buffers()}
        if len(devices) > 1:
            raise ValueError(f"the model lies on several devices ({', '.join(sorted(map(str, devices)))}); move it to one: model.to(...)")
        dtypes = {p.dtype for p in module.parameters() if p.is_floating_point()}
        if len(dtypes) > 1 or next(iter(dtypes)) not in _DTYPES:
            names = ", ".join(sorted(str(d).replace("torch.", "") for d in dtypes))
            self._notes.append(f"the model holds {names}: the matrix is of a copy in float32")
            module = copy.deepcopy(module).float()
            byname = dict(module.named_parameters())
            chosen = [(name, byname[name]) for name, _ in chosen]
        self._module = module
        self._names = [name for name, _ in chosen]
        self._parameters = [p for _, p in chosen]
        self.dtype = self._parameters[0].dtype
        self.device = self._parameters[0].device
        if self.device.type == "cuda" and torch.backends.cudnn.enabled and any(isinstance(part, nn.RNNBase) for part in module.modules()):
            raise NotImplementedError("cuDNN's recurrent layers have no second derivative; set torch.backends.cudnn.enabled = False first, or move model "
                                      "and data to the CPU")
        self._loss, self._reduction, self._weight = loss, reduction, weight
        self._pairs = not takes_model(loss)
        self._data, notes = read_data(data, self.dtype, self.device, self._pairs)
        self._notes += notes
        self._order = None
        self.first_sample = 0  # its number among those of all processes: draws go by numbers
        self._prepare()

    # ---- what it is

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _prepare(self):
        """Runs the network once: what kind of loss it is, and the shares of the parts."""
        # A copy has a lock of its own: taking it out of the table as it dies is Python code, in which Ctrl-C would be lost.
        self._lock = _lock_of(self._module) if self._module is self.own_module else threading.RLock()
        self._twin = None
        self._buffers = [(b, b.detach().clone()) for b in self._module.buffers()]
        self._named, self._shares, self._known, self._sizes_met = None, None, {}, set()
        self.samples = self._data.count
        self._begins = list(self._data.begins)
        ranges = self._data.ranges()
        first = ranges[0] if self._begins else (0, min(2, self.samples))
        if not self._pairs:
            self._find_weights(ranges)
            value = self._value(*first)
            if not value.requires_grad:
                raise ValueError("the loss does not depend on the model's parameters; was it computed under torch.no_grad()?")
            return
        outputs = self._outputs(*first)
        _, y = self._data.get(*first)
        self._plain_outputs = isinstance(outputs, torch.Tensor) and outputs.is_floating_point() and outputs.ndim >= 1
        if isinstance(y, torch.Tensor) and self._weight is None and self._plain_outputs:
            self._named = recognise(self._loss, self._reduction, outputs, y)
            if self._named is not None and self._begins:  # all batches must be so
                for begin, end in ranges:
                    if recognise(self._loss, self._reduction, self._sample_outputs(begin, end), self._data.get(begin, end)[1]) is None:
                        self._named = None
                        break
            elif self._named is not None:
                self._named = recognise(self._loss, self._reduction, self._like_all(outputs), self._data.y)
        if self._named is not None:
            return
        value = scalar(self._loss(outputs, y))
        if not value.requires_grad:
            raise ValueError("the loss does not depend on the model's parameters; was it computed under torch.no_grad(), or detached?")
        if self._weight is not None:
            self._find_weights(ranges)
        elif self._begins and len(self._begins) == 1:
            self._known[ranges[0]] = 1.0
        elif self._plain_outputs:
            self._find_shares(ranges)
        elif len(ranges) > 1 and self._reduction == "mean":
            raise ValueError(f"the model returns {type(outputs).__name__}, so that the share of a batch in the loss of all cannot be found; "
                             "give weight=, a callable of a batch: the number of targets in it, for a mean over them")
        elif not self._begins:
            self._begins = [0]

    def _like_all(self, outputs):
        """Stands for the outputs of all samples where only shapes count."""
        return outputs[:1].expand(self.samples, *outputs.shape[1:]) if outputs.ndim >= 1 and outputs.shape[0] else outputs

    def _sample_outputs(self, begin, end):
        with torch.no_grad():
            return self._outputs(begin, end)

    def _find_weights(self, ranges):
        if self._reduction == "sum" or len(ranges) == 1 and self._begins:
            return
        if not self._begins:
            self._begins = [0]  # tensors as one batch
            ranges = [(0, self.samples)]
            return
        if self._weight is None:
            raise ValueError("the loss is one of model and batch, so that the share of a batch in the loss of all cannot be found; give "
                             "weight=, a callable of a batch: the number of targets in it, for a mean over them, or "
                             "reduction=\"sum\"")
        weights = [float(self._weight(self._data.batch(begin, end))) for begin, end in ranges]
        if not all(0 <= w < float("inf") for w in weights) or sum(weights) <= 0:
            raise ValueError(f"weight= gives {weights[:5]} for the batches; weights must not be negative, and not all zero")
        self._known = {r: w / sum(weights) for r, w in zip(ranges, weights)}

    def _find_shares(self, ranges):
        pieces, targets, self._rows = [], [], {}
        chunk = 64  # bounds the activations in memory
        at = 0
        for begin, end in ranges if self._begins else [(b, min(b + chunk, self.samples)) for b in range(0, self.samples, chunk)]:
            f = self._sample_outputs(begin, end)
            pieces.append(f)
            targets.append(self._data.get(begin, end)[1])
            if not self._begins and f.shape[0] != end - begin:
                self._begins = [0]  # not a row for each sample: as one batch
                self._notes.append("the outputs have another first dimension than the samples: all are taken at once")
                return
            self._rows[begin, end] = (at, at + f.shape[0])
            at += f.shape[0]
        if not all(isinstance(y, torch.Tensor) for y in targets):
            raise ValueError("the targets of a batch are no tensor, so that the share of a batch in the loss of all cannot be found; give "
                             "weight=, a callable of a batch: the number of targets in it, for a mean over them")
        self._shares = Shares(self._loss, pieces, targets, self._reduction)
        parts = ranges if self._begins else [(0, self.samples // 2), (self.samples // 2, self.samples)]
        if self.samples == 1 or len(parts) == 1:
            return
        found = [self._shares.find(*self._rows_of(b, e), (e - b) / self.samples) for b, e in parts]
        if any(share is None for share in found):
            if self._begins:
                raise ValueError("the loss of a batch is no share of the loss of all batches together, so that they do not add up (as "
                                 "with a ratio of sums); make it a mean or a sum over targets, or give all samples in one batch")
            self._notes.append("the loss of a part of the samples is no share of that of all: all are taken at once")
            self._begins, self._shares = [0], None
            return
        one = 1e-3
        if self._reduction == "sum":
            if any(abs(share - 1) > one for share in found):
                raise ValueError("the loss of all samples is not the sum of the losses of the batches; it looks like a mean: leave "
                                 "reduction= at \"mean\"")
        elif abs(sum(found) - 1) > one:
            raise ValueError(f"the loss of {len(found)} batches together is {1 / (sum(found) / len(found)):.3g} of what they give on average, no mean"
                             + ("; it is their sum: give reduction=\"sum\"" if all(abs(s - 1) < one for s in found) else
                                "; divide by the number of targets, or give weight="))
        if self._begins:
            self._known = dict(zip(parts, found))

    def _rows_of(self, begin, end):
        return self._rows[begin, end] if (begin, end) in self._rows else (begin, end)

    def _share(self, begin, end):
        """Of the loss of these samples in the loss of all."""
        if self._reduction == "sum" or (begin == 0 and end == self.samples):
            return 1.0
        if (begin, end) not in self._known:
            share = self._shares.find(*self._rows_of(begin, end), (end - begin) / self.samples)
            if share is None:
                raise ValueError(f"the loss of samples {begin} to {end - 1} is no share of that of all {self.samples}; divide by a number that "
                                 "depends on the targets alone, or give all samples as one batch: data=[(x, y)]")
            self._known[begin, end] = share
        return self._known[begin, end]

    # ---- what the extension asks

    @property
    def dtype_name(self):
        return _DTYPES[self.dtype]

    @property
    def batches(self):
        return self._begins

    def ranges(self):
        """The parts that the loss is a sum over."""
        return self._data.ranges() if self._begins and len(self._begins) > 1 else [(0, self.samples)]

    def parameters(self):
        return [(name, list(p.shape)) for name, p in zip(self._names, self._parameters)]

    def leaves(self):
        return self._parameters

    def fixed(self):
        """Rows of embeddings that stand for padding: PyTorch gives them no gradient, though the loss depends on them."""
        found, at = [], 0
        owners = [(part, p) for part in self._module.modules() for p in part._parameters.values() if p is not None]
        for p in self._parameters:
            of = [part for part, q in owners if q is p]
            if len(of) == 1 and isinstance(of[0], (nn.Embedding, nn.EmbeddingBag)) and of[0].padding_idx is not None:
                row = of[0].padding_idx % p.shape[0]
                found.append(torch.arange(at + row * p.shape[1], at + (row + 1) * p.shape[1]))
            at += p.numel()
        return torch.cat(found) if found else None

    def targets(self, begin, end):
        if self._reduction == "sum":
            return 1
        if self._named is None:
            return end - begin
        parts = [r for r in self._data.ranges() if begin <= r[0] and r[1] <= end] if self._begins else [(begin, end)]
        return sum(_core.target_count(self._named.targets(self._data.get(*r)[1])) for r in parts)

    @property
    def reduced_by_sum(self):
        return self._reduction == "sum"

    def total_weight(self):
        """Of all these data beside those of others, in a mean over both."""
        if self._weight is not None:
            ranges = self._data.ranges() if self._begins else [(0, self.samples)]
            return sum(float(self._weight(self._data.batch(begin, end))) for begin, end in ranges)
        if self._named is None and not self.reduced_by_sum:
            raise ValueError("this loss does not tell what share a part of the data has in the mean over all; give weight=, a callable of a batch: the "
                             "number of targets in it (of weighted targets, the sum of their weights), or reduction=\"sum\"")
        return self.targets(0, self.samples)

    def supports(self, kind):
        if kind == "hessian":
            return True
        if not self._pairs or not self._plain_outputs:
            return False
        if kind == "ggn":
            return True
        if kind == "mc_fisher":
            return self._named is not None
        return self._named is not None or self._shares is not None and self._shares.outputs.ndim == 2

    def notes(self):
        return self._notes

    def sample_number(self, i):
        return i if self._data.numbers is None else int(self._data.numbers[i])

    def again(self, order, dtype_name):
        dtype = getattr(torch, dtype_name)
        try:
            module = copy.deepcopy(self._module).to(dtype)
            loss = copy.deepcopy(self._loss).to(dtype) if isinstance(self._loss, nn.Module) else self._loss
        except Exception:  # some modules cannot be copied; then there is nothing to compare with
            return None
        other = copy.copy(self)
        other._module, other._loss, other.dtype = module, loss, dtype
        byname = dict(module.named_parameters())
        other._parameters = [byname[name] for name in self._names]
        other._data = self._data.converted(order, dtype)
        other._order = order if self._order is None or order is None else self._order[order]
        other._notes = []
        weight, other._weight = self._weight, self._weight
        other._prepare()
        other._notes = list(self._notes)
        return other

    def _in_place_of(self, leaves):
        """Whether they are other tensors of the parameters' own memory."""
        return leaves[0] is not self._parameters[0] and leaves[0].data_ptr() == self._parameters[0].data_ptr()

    def loss(self, leaves, begin, end):
        if leaves[0] is self._parameters[0]:
            return self._value(begin, end)
        if self._in_place_of(leaves):
            return self.loss_at(leaves, begin, end)
        # At other values: on a copy, whose parameters take them; then the gradient at the leaves is all that is asked for.
        twin = self._shifted(leaves)
        with twin._lock, torch.enable_grad():
            value = twin._value(begin, end)
            gradients = torch.autograd.grad(value, twin._parameters, allow_unused=True)
            result = value.detach()
            for leaf, g in zip(leaves, gradients):
                if g is not None and leaf.requires_grad:
                    result = result + ((leaf - leaf.detach()) * (g.to_dense() if g.is_sparse else g)).sum()
        return result

    def prepare(self, begin, end):
        """Before `loss_at` or `outputs_at` of these: what is found by calling torch.autograd, what torch.func loads late, and what a network
        keeps of each size of batches, which must be no tensor of torch.func's."""
        _load_transforms()
        if self._named is None:
            self._share(begin, end)
        if end - begin not in self._sizes_met:
            with torch.no_grad():
                self._value(begin, end)
            self._sizes_met.add(end - begin)

    def loss_at(self, leaves, begin, end):
        """The loss with tensors of torch.func's layers in the place of the parameters."""
        with _plain_attention():
            return self._value(begin, end, self._replaced(leaves))

    def outputs_at(self, leaves, begin, end):
        with _plain_attention():
            f = self._outputs(begin, end, self._replaced(leaves))
        return f if self._named is None else self._named.rows(f)

    def _replaced(self, leaves):
        """By name; and copies of the buffers, which torch.func would not let a network change."""
        return dict(zip(self._names, leaves)) | {name: b.clone() for name, b in self._module.named_buffers()}

    def outputs(self, leaves, begin, end):
        if self._in_place_of(leaves):
            return self.outputs_at(leaves, begin, end)
        module = self if leaves[0] is self._parameters[0] else self._shifted(leaves)
        f = module._outputs(begin, end)
        return f if self._named is None else self._named.rows(f)

    def output_gradient(self, outputs, begin, end):
        _, y = self._data.get(begin, end)
        if self._named is not None:
            return _core.output_gradient(self._named.kind, self._named.smoothing, outputs, self._named.targets(y))
        with torch.enable_grad():
            leaf = outputs.detach().clone().requires_grad_(True)
            (g,) = torch.autograd.grad(self._scaled(leaf, y, begin, end), leaf, allow_unused=True)
        return torch.zeros_like(outputs) if g is None else g

    def output_hessian_product(self, outputs, begin, end, u):
        _, y = self._data.get(begin, end)
        if self._named is not None:
            return _core.output_hessian_product(self._named.kind, self._named.smoothing, outputs, self._named.targets(y), u)
        with torch.enable_grad():
            leaf = outputs.detach().clone().requires_grad_(True)
            (g,) = torch.autograd.grad(self._scaled(leaf, y, begin, end), leaf, create_graph=True, allow_unused=True)
            if g is None or not g.requires_grad:
                return torch.zeros_like(u)
            (h,) = torch.autograd.grad(g, leaf, u, allow_unused=True)
        return torch.zeros_like(u) if h is None else h

    def sampled_output_gradient(self, outputs, begin, end, seed, draw):
        rows = outputs.shape[1] if outputs.ndim == 3 else 1
        name, smoothing = self._named.kind, self._named.smoothing
        first = self.first_sample
        if self._order is None:
            return _core.sampled_output_gradient(name, smoothing, outputs, seed, draw, (first + begin) * rows)
        return torch.cat([_core.sampled_output_gradient(name, smoothing, outputs[i:i + 1], seed, draw, (first + int(self._order[begin + i])) * rows)
                          for i in range(end - begin)])  # a sample's draws belong to it, wherever it stands

    def stack(self):
        """What the stacked products of a fully connected network need, where this is one; else None."""
        if self._named is None or self._reduction != "mean" or self.first_sample > 0:  # its draws are numbered from 0
            return None
        try:
            return _stack_of(self)
        except torch.OutOfMemoryError:
            return None

    # ---- how

    def _outputs(self, begin, end, parameters=None):
        inputs, _ = self._data.get(begin, end) if self._pairs else (self._data.batch(begin, end), None)
        with self._lock:
            versions = [b._version for b, _ in self._buffers]
            arguments, named = ((), inputs) if isinstance(inputs, dict) else (tuple(inputs) if is_sequence(inputs) else (inputs,), {})
            if parameters is None:
                f = self._module(*arguments, **named)
            else:
                f = torch.func.functional_call(self._module, parameters, arguments, named)
            self._restore(versions)
        # Under autocast the loss is one of float32 all the same.
        return f.to(self.dtype) if torch.is_autocast_enabled(self.device.type) and isinstance(f, torch.Tensor) and f.is_floating_point() else f

    def _restore(self, versions):
        """Buffers that the network changed are what they were."""
        if any(b._version != v for (b, _), v in zip(self._buffers, versions)):
            with torch.no_grad():
                for b, was in self._buffers:
                    b.copy_(was)

    def _value(self, begin, end, parameters=None):
        """The loss of these samples, as a sum over targets in the extension's sense."""
        if not self._pairs:
            with self._lock:
                versions = [b._version for b, _ in self._buffers]
                batch = self._data.batch(begin, end)
                if parameters is None:
                    value = scalar(self._loss(self._module, batch))
                else:
                    named = {f"module.{name}": leaf for name, leaf in parameters.items()}
                    value = scalar(torch.func.functional_call(_Together(self._module, self._loss), named, (batch,)))
                self._restore(versions)
            return value * (self._share(begin, end) * self._scale())
        f = self._outputs(begin, end, parameters)
        _, y = self._data.get(begin, end)
        if self._named is not None:
            return _core.loss_sum(self._named.kind, self._named.smoothing, self._named.rows(f), self._named.targets(y))
        return self._scaled(f, y, begin, end)

    def _scale(self):
        return 1 if self._reduction == "sum" else self.samples

    def _scaled(self, f, y, begin, end):
        share = self._share(begin, end)
        if share == 0:  # its own loss may be 0/0
            return 0 * f.square().sum()
        return scalar(self._loss(f, y)) * (share * self._scale())

    def _shifted(self, leaves):
        if self._twin is None:
            self._twin = copy.copy(self)
            module = copy.deepcopy(self._module)
            byname = dict(module.named_parameters())
            self._twin._module, self._twin._parameters = module, [byname[name] for name in self._names]
            self._twin._lock = threading.RLock()
            self._twin._buffers = [(b, b.detach().clone()) for b in module.buffers()]
        with torch.no_grad():
            for p, leaf in zip(self._twin._parameters, leaves):
                p.copy_(leaf)
        return self._twin


_ACTIVATIONS = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.GELU: "gelu"}


def _unrolled(module):
    """The parts of nested nn.Sequential, or None where one has hooks."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return None
    if type(module) is not nn.Sequential:
        return [module]
    parts = [_unrolled(part) for part in module]
    return None if any(part is None for part in parts) else [one for part in parts for one in part]


def _stack_of(source):
    parts = _unrolled(source._module)
    if parts is None:
        return None
    parts = [part for part in parts if type(part) is not nn.Identity and not (isinstance(part, _DROPOUTS) and not part.training)]
    flattened = bool(parts) and type(parts[0]) is nn.Flatten and (parts[0].start_dim, parts[0].end_dim) == (1, -1)
    if flattened:
        parts = parts[1:]
    linears, activations = parts[::2], parts[1::2]
    if len(parts) % 2 == 0 or not all(type(part) is nn.Linear and part.bias is not None for part in linears):
        return None
    kinds = {_ACTIVATIONS.get(type(part)) for part in activations}
    if None in kinds or len(kinds) > 1 or any(isinstance(part, nn.GELU) and part.approximate != "none" for part in activations):
        return None
    if len({id(part) for part in linears}) != len(linears):  # one layer in two places
        return None
    try:
        x, y = source._data.whole()
    except (TypeError, RuntimeError):
        return None
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.ndim < 2 or x.ndim > 2 and not flattened:
        return None
    named = [(f"layers.{i}.{kind}", tensor) for i, part in enumerate(linears) for kind, tensor in (("weight", part.weight), ("bias", part.bias))]
    mine = [id(p) for p in source._parameters]
    chosen = [name for name, tensor in named if id(tensor) in mine]
    if [id(tensor) for _, tensor in named if id(tensor) in mine] != mine:  # another order, or others
        return None
    return {"widths": [linears[0].in_features] + [part.out_features for part in linears],
            "activation": kinds.pop() if kinds else "tanh", "loss": source._named.kind, "smoothing": source._named.smoothing,
            "chosen": [] if len(chosen) == len(named) else chosen,
            "parameters": torch.cat([tensor.detach().flatten() for _, tensor in named]), "x": x,
            "y": source._named.targets(y)}

"""The user's loss: what it is of each part of the data, so that the parts add up to what it is of all."""

import inspect

import torch
from torch import nn
from torch.nn import functional as F

from seigh import _core

_MODEL_NAMES = {"model", "module", "net", "network"}


def takes_model(loss):
    """Whether `loss` is a callable of model and batch: its first argument is called so."""
    if isinstance(loss, nn.Module):
        return False
    try:
        first = next(iter(inspect.signature(loss).parameters), "")
    except (TypeError, ValueError):
        return False
    return first in _MODEL_NAMES


class Named:
    """A loss that the library knows, exactly and with derivatives that keep their digits: a mean over all targets."""

    def __init__(self, kind, smoothing=0.0):
        self.kind, self.smoothing = kind, smoothing

    def rows(self, outputs):
        """The outputs as [N, C] or [N, T, C]."""
        if outputs.ndim == 1:
            return outputs.unsqueeze(1)
        if self.kind == "cross_entropy" and outputs.ndim > 2:
            return outputs.movedim(1, -1).flatten(1, -2)
        return outputs if outputs.ndim == 2 else outputs.flatten(1)

    def targets(self, y, outputs=None):
        if self.kind == "cross_entropy":
            return y if y.ndim <= 1 else y.flatten(1)
        return y.unsqueeze(1) if y.ndim == 1 else (y if y.ndim == 2 else y.flatten(1))


def recognise(loss, reduction, outputs, y):
    """The Named loss that `loss` is on these outputs and targets, or None."""
    def plain(weight=None, reduction_=None, ignore_index=None):
        return weight is None and reduction_ == reduction and not (
            ignore_index is not None and not y.is_floating_point() and bool((y == ignore_index).any()))

    module = type(loss) if isinstance(loss, nn.Module) else None
    if isinstance(loss, nn.Module) and (loss._forward_hooks or loss._forward_pre_hooks):
        return None
    found = None
    if module is nn.CrossEntropyLoss and plain(loss.weight, loss.reduction, loss.ignore_index):
        found = Named("cross_entropy", loss.label_smoothing)
    elif module is nn.MSELoss and plain(None, loss.reduction):
        found = Named("mean_squared_error")
    elif module is nn.BCEWithLogitsLoss and plain(loss.weight, loss.reduction) and loss.pos_weight is None:
        found = Named("binary_cross_entropy")
    elif reduction == "mean" and loss is F.cross_entropy and plain(None, "mean", -100):
        found = Named("cross_entropy")
    elif reduction == "mean" and loss is F.mse_loss:
        found = Named("mean_squared_error")
    elif reduction == "mean" and loss is F.binary_cross_entropy_with_logits:
        found = Named("binary_cross_entropy")
    if found is None or not isinstance(outputs, torch.Tensor):
        return None
    if reduction == "sum" and found.kind != "cross_entropy" and outputs[:1].numel() != 1:
        return None  # the library's is a mean over the numbers of a sample
    if found.kind == "cross_entropy":
        fits = not y.is_floating_point() and outputs.ndim >= 2 and y.shape == outputs.shape[:1] + outputs.shape[2:]
    else:
        fits = y.is_floating_point() and y.shape == outputs.shape
    if found.kind == "binary_cross_entropy":
        fits = fits and bool(((y >= 0) & (y <= 1)).all())
    return found if fits else None


def scalar(value, name="loss"):
    """`value` if it is a loss to differentiate; says what is wrong with it otherwise."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} returns {type(value).__name__}, not a tensor; return the scalar tensor, without .item()")
    if value.numel() != 1:
        raise ValueError(f"{name} returns a tensor of shape {list(value.shape)}; one number is needed, the mean or the sum over the "
                         "batch: reduction=\"mean\", or .mean()")
    if not value.is_floating_point():
        raise TypeError(f"{name} returns {value.dtype}; it must be floating")
    return value.reshape(())


class Shares:
    """What the loss of all samples has of the loss of some of them: d(all)/df = share * d(these)/df.

    1/2 of each half for a mean, another number where classes are weighted or targets ignored. Found on the outputs `f` of
    all samples, a tensor for each piece of the data."""

    def __init__(self, loss, outputs, targets, reduction):
        self._loss, self._reduction = loss, reduction
        double = lambda t: t.double() if t.is_floating_point() else t
        try:
            whole = torch.cat([double(f) for f in outputs]), torch.cat([double(y) for y in targets])
        except (RuntimeError, TypeError) as error:
            raise ValueError("the outputs (or targets) of the batches do not fit into one tensor, so that the share of a batch in "
                             "the loss of all cannot be found; give weight=, a callable of a batch: the number of targets in "
                             "it, for a mean over them") from error
        try:
            gradient = self._gradient(*whole)
        except RuntimeError:  # it does not run in float64
            whole = torch.cat(list(outputs)), torch.cat(list(targets))
            gradient = self._gradient(*whole)
        self.outputs, self.targets, self.gradient = *whole, gradient
        self._same = 1e-7 if gradient.dtype == torch.float64 and whole[0].dtype == torch.float64 else 1e-3
        self._norm = float(gradient.norm())
        if not torch.isfinite(gradient).all():
            raise ValueError("the loss of all samples together has a derivative that is NaN or infinite; look at its outputs and "
                             "targets")

    def _gradient(self, f, y):
        with torch.enable_grad():
            leaf = f.detach().clone().requires_grad_(True)
            value = scalar(self._loss(leaf, y))
            if not value.requires_grad:
                raise ValueError("the loss has no derivative in the outputs of the model; write it without detach() and no_grad()")
            (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
        return torch.zeros_like(leaf) if gradient is None else gradient.detach()

    def find(self, begin, end, plain):
        """The share of the rows [begin, end), or None where no number is it; `plain`: of a plain mean."""
        everything = self.gradient[begin:end]
        f, y = self.outputs[begin:end], self.targets[begin:end]
        if not everything.any():  # nothing of them counts, or they fit perfectly; their own loss may be 0/0
            with torch.no_grad():
                return plain if bool(torch.isfinite(scalar(self._loss(f, y)))) else 0.0
        own = self._gradient(f, y)
        square = float(own.square().sum())
        if not 0 < square < float("inf"):
            return None
        share = float((everything * own).sum()) / square
        left = float((everything - own * share).norm())
        if left > self._same * float(everything.norm()) + self._same**2 * self._norm:
            return None
        return plain if abs(share / plain - 1) < self._same else share

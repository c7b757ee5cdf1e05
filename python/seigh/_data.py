"""The user's data: tensors that can be cut anywhere, or batches as they come."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from seigh._tree import floats_to, is_sequence, leaves, rows_of, tree_map

_TARGETS = ("labels", "label", "targets", "target", "y")


class Samples:
    """Inputs (tensors, or tuples or dictionaries of them) and targets [N, ...] of N samples."""

    begins = []

    def __init__(self, x, y, numbers=None):
        self.x, self.y, self.numbers = x, y, numbers
        self.count = rows_of(y)
        for tensor in leaves(x):
            if tensor.ndim == 0 or tensor.shape[0] != self.count:
                raise ValueError(f"data: an input has shape {list(tensor.shape)}, the targets {list(y.shape)}; the first dimension "
                                 "is the samples, the same of all")
        if self.count == 0:
            raise ValueError("data holds no samples")

    def get(self, begin, end):
        cut = lambda tensor: tensor[begin:end]
        return tree_map(cut, self.x), cut(self.y)

    def batch(self, begin, end):
        return self.get(begin, end)

    def converted(self, order, dtype):
        x, y = floats_to(self.x, dtype), floats_to(self.y, dtype)
        numbers = self.numbers
        if order is not None:
            pick = lambda tensor: tensor.index_select(0, order.to(tensor.device))
            x, y = tree_map(pick, x), pick(y)
            numbers = order if numbers is None else numbers[order]
        return Samples(x, y, numbers)

    def whole(self):
        return self.x, self.y

    def ranges(self):
        return [(0, self.count)]


class Batches:
    """Batches that cannot be cut, of any sizes."""

    numbers = None

    def __init__(self, items):
        self.items = items
        sizes = [rows_of(item) for item in items]
        if not items or not all(sizes):
            raise ValueError("data holds no samples" if not items or all(size == 0 for size in sizes if size is not None)
                             else "data: a batch holds no tensors, or none of any sample")
        self.begins = [0]
        for size in sizes[:-1]:
            self.begins.append(self.begins[-1] + size)
        self.count = self.begins[-1] + sizes[-1]
        self._index = {begin: i for i, begin in enumerate(self.begins)}

    def batch(self, begin, end):
        return self.items[self._index[begin]]

    def get(self, begin, end):
        """Inputs and targets."""
        return split_batch(self.items[self._index[begin]])

    def converted(self, order, dtype):
        return Batches([floats_to(item, dtype) for item in self.items])

    def whole(self):
        """Inputs and targets of all; raises where batches do not fit together."""
        pairs = [self.get(begin, None) for begin in self.begins]
        return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])

    def ranges(self):
        return list(zip(self.begins, self.begins[1:] + [self.count]))


def split_batch(batch):
    """Inputs and targets of a batch: the last of a tuple, or the entry "labels", "targets" or "y" of a dictionary."""
    if isinstance(batch, Mapping):
        for key in _TARGETS:
            if key in batch:
                return {k: v for k, v in batch.items() if k != key}, batch[key]
        raise ValueError(f"data: a batch with the entries {', '.join(map(str, batch))} has none of {', '.join(_TARGETS)} for the loss "
                         "to compare with; give a loss of model and batch: lambda model, batch: model(**batch).loss")
    if is_sequence(batch) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), batch[-1]
    raise ValueError("data: a batch is no pair of inputs and targets; give such pairs, or a loss of model and batch: "
                     "def loss(model, batch): ...")


def _same(a, b):
    a, b = leaves(a), leaves(b)
    return len(a) == len(b) and all(p.shape == q.shape and torch.equal(p, q) for p, q in zip(a, b))


def read_data(data, dtype, device, pairs):
    """Samples or Batches of what the user gave, and what to tell them. `pairs`: the loss takes outputs and targets."""
    as_tensors = lambda item: tree_map(
        lambda t: t.to(dtype) if t.is_floating_point() and t.device.type == "cpu" and t.dtype == torch.float64 != dtype else t, item)
    if isinstance(data, TensorDataset) and len(data.tensors) >= 2:
        tensors = data.tensors
        data = (tensors[0] if len(tensors) == 2 else tuple(tensors[:-1]), tensors[-1])
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], (torch.Tensor, np.ndarray)) and data[1].ndim > 0 and pairs:
        x = tree_map(lambda t: t, data[0])
        y = torch.as_tensor(data[1])
        for numpy_item, holder in ((data[0], "x"), (data[1], "y")):
            if isinstance(numpy_item, np.ndarray):
                if holder == "x":
                    x = as_tensors(torch.as_tensor(numpy_item))
                else:
                    y = as_tensors(y)
        found, notes = Samples(x, y), []
    else:
        found, notes = _batches(data, pairs)
    _check_device(found, device)
    return found, notes


def _check_device(found, device):
    tensors = leaves([found.x, found.y]) if isinstance(found, Samples) else leaves(found.items[0])
    for tensor in tensors:
        if tensor.device != device:
            raise ValueError(f"the model is on {device}, the data are on {tensor.device}; move one of them: model.to(...), or "
                             "batches of tensors .to(...)")


def _batches(data, pairs):
    if isinstance(data, Mapping):
        data = [data]
    if isinstance(data, torch.Tensor):
        raise TypeError("data is one tensor; give (inputs, targets), or an iterable of batches")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        data = DataLoader(data, batch_size=128)
    try:
        first = iter(data)
    except TypeError:
        raise TypeError(f"data is {type(data).__name__}, neither (inputs, targets) nor an iterable of batches") from None
    if isinstance(data, Iterator) or first is data:
        raise TypeError("data can be iterated only once: a generator or an iterator; give a list of its batches, or a DataLoader")
    keep = lambda item: tree_map(lambda t: t.detach(), item)
    items = [keep(item) for item in first]
    found = Batches(items)
    notes = []
    if not isinstance(data, (list, tuple)):
        again = [keep(item) for item in data]
        if not again:
            raise ValueError("data is empty when it is iterated a second time; give a list of its batches, or a DataLoader")
        if len(again) != len(items) or not all(_same(a, b) for a, b in zip(items, again)):
            sampler = getattr(data, "sampler", None)
            why = "shuffle=True, or random augmentation" if not isinstance(sampler, torch.utils.data.RandomSampler) else "shuffle=True"
            notes.append(f"data gives other batches each time it is iterated ({why}?): the matrix is over those of the first pass; "
                         "pass a loader with shuffle=False to have the same in every process")
    if pairs:
        split_batch(items[0])
    return found, notes

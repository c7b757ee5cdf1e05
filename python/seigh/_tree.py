"""Tensors inside tuples, lists, dictionaries, and what Hugging Face and PyTorch put them in."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence


def is_sequence(item):
    """A tuple or list that means several things, and not one that is a value of its own."""
    return isinstance(item, (tuple, list)) and not isinstance(item, PackedSequence) and not hasattr(item, "_fields")


def tree_map(function, item):
    """`item` with `function` applied to every tensor in it; arrays become tensors."""
    if isinstance(item, torch.Tensor):
        return function(item)
    if isinstance(item, np.ndarray):
        return function(torch.from_numpy(item))
    if isinstance(item, Mapping):
        return {key: tree_map(function, value) for key, value in item.items()}
    if isinstance(item, PackedSequence):
        return item._replace(data=function(item.data))
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(tree_map(function, value) for value in item))
    if isinstance(item, (tuple, list)):
        return type(item)(tree_map(function, value) for value in item)
    return item


def leaves(item):
    """All tensors in `item`, in order."""
    found = []
    tree_map(lambda tensor: found.append(tensor) or tensor, item)
    return found


def floats_to(item, dtype):
    """`item` with its floating tensors in `dtype`."""
    return tree_map(lambda t: t.to(dtype) if t.is_floating_point() else t, item)


def rows_of(item):
    """How many samples a batch holds: the length of its first tensor (of a packed sequence, of its longest step)."""
    if isinstance(item, PackedSequence):
        return int(item.batch_sizes[0])
    if isinstance(item, Mapping):
        item = list(item.values())
    if isinstance(item, (tuple, list)):
        for value in item:
            if (rows := rows_of(value)) is not None:
                return rows
        return None
    if isinstance(item, (torch.Tensor, np.ndarray)):
        return item.shape[0] if item.ndim > 0 else 1
    return None

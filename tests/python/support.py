"""What the tests of the package share: dense matrices made by PyTorch alone, in float64."""

import copy
import os
import sys
import unittest
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "2")
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import seigh

__all__ = ["F", "Case", "copy", "dense", "flat", "nn", "np", "seigh", "torch", "unittest", "warnings"]


def flat(tensors, like):
    return torch.cat([(torch.zeros_like(p) if t is None else t.to_dense() if t.is_sparse else t).reshape(-1) for t, p in zip(tensors, like)])


def dense(value, parameters):
    """The Hessian of the scalar value() in `parameters`: float64 [D, D], a row at a time."""
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        gradient = torch.autograd.grad(value(), parameters, create_graph=True, allow_unused=True)
        rows = []
        for g, p in zip(gradient, parameters):
            for entry in ([] if g is None else g.reshape(-1)):
                row = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True) if entry.requires_grad else [None] * len(parameters)
                rows.append(flat(row, parameters).double())
            if g is None:
                rows += [torch.zeros(sum(q.numel() for q in parameters), dtype=torch.float64)] * p.numel()
    return torch.stack(rows)


class Case(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        warnings.simplefilter("error", seigh.SeighWarning)

    def tearDown(self):
        warnings.resetwarnings()

    def close(self, found, expected, tolerance):
        """To `tolerance` of the length of what is expected."""
        found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
        self.assertEqual(found.shape, expected.shape)
        off = float((found - expected).norm()) / max(float(expected.norm()), 1e-300)
        self.assertLess(off, tolerance)

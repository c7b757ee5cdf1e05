"""What of a parameter tensor is a layer of its own, and which hidden units may change places: as the modules say it."""

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

_FUSED = ("qkv", "c_attn", "query_key_value", "in_proj")

# Work on every unit by itself, or on the places of a channel alike.
_EQUIVARIANT = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign, nn.Sigmoid, nn.Tanh,
                nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink, nn.Identity, _DropoutNd, _MaxPoolNd, _AvgPoolNd,
                _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)


def layouts(module, chosen):
    """[(parts, transposed)] of the chosen [(name, parameter)]: layers one after the other in the rows of a tensor (queries, keys and values of every
    head, groups of a convolution), and whether it is [in, out, ...]."""
    found = {}
    for path, part in module.named_modules():
        for key, p in part._parameters.items():
            parts, transposed = 1, False
            if isinstance(part, _ConvNd) and key == "weight":
                # Of a depthwise convolution every channel would be a layer: its rows say as much.
                parts, transposed = part.groups if part.weight.shape[1] > 1 else 1, part.transposed
            elif isinstance(part, nn.MultiheadAttention) and key.startswith("in_proj"):
                parts = 3 * part.num_heads
            elif isinstance(part, nn.Linear) and any(word in path.rpartition(".")[2] for word in _FUSED):
                heads = getattr(module.get_submodule(path.rpartition(".")[0]), "num_heads", None)
                parts = 3 * heads if isinstance(heads, int) and heads > 0 and part.out_features % (3 * heads) == 0 else 1
            elif type(part).__name__ == "Conv1D" and hasattr(part, "nf") and key == "weight":  # of transformers: a linear layer [in, out]
                transposed = True
            if p is not None:
                found.setdefault(id(p), (parts, transposed))
    return [found.get(id(p), (1, False)) for _, p in chosen]


def hidden_units(module, chosen):
    """[(count, [(tensor, outer, inner)])] of a chain of linear and convolutional layers, norms and elementwise functions (nested Sequential): tensor
    number `tensor` of the chosen is [outer, count, inner], and unit u has what is at (., u, .). Empty where the module is no such chain."""
    def chain(part):
        if not isinstance(part, nn.Sequential):
            return [part]
        return [one for child in part for one in chain(child)] if type(part).forward is nn.Sequential.forward else [part]

    number = {id(p): i for i, (_, p) in enumerate(chosen)}
    groups, blocks, count = [], None, 0  # blocks: of the units made last; None: these are inputs
    seen = set()
    for part in chain(module):
        if any(id(p) in seen for p in part.parameters()):
            return []
        seen.update(id(p) for p in part.parameters())
        if type(part) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d) and getattr(part, "groups", 1) == 1:
            weight = part.weight
            if blocks is not None:
                if weight.shape[1] % count:
                    return []
                if id(weight) in number:
                    blocks.append((number[id(weight)], weight.shape[0], weight.shape[1] // count * math.prod(weight.shape[2:])))
                groups.append((count, blocks))
            count, blocks = weight.shape[0], []
            for p in (weight, part.bias):
                if p is not None and id(p) in number:
                    blocks.append((number[id(p)], 1, p.numel() // count))
        elif isinstance(part, (_BatchNorm, _InstanceNorm)) or isinstance(part, nn.LayerNorm) and tuple(part.normalized_shape) == (count,):
            for p in (part.weight, part.bias):
                if p is not None and id(p) in number:
                    if blocks is None or p.numel() != count:
                        return []
                    blocks.append((number[id(p)], 1, 1))
        elif isinstance(part, nn.Flatten):
            if part.start_dim != 1 or part.end_dim != -1:
                return []
        elif not isinstance(part, _EQUIVARIANT):
            return []
    return [(n, of) for n, of in groups if n > 1 and of]

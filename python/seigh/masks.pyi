import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from seigh import _Parameters

class Mask:
    scores: torch.Tensor
    shapes: list[list[int]]
    layers: list[int]
    names: list[str]
    name: str
    layouts: list[tuple[int, bool]]
    hidden_units: list[tuple[int, list[tuple[int, int, int]]]]
    def __init__(self, scores: torch.Tensor, shapes: Iterable[Iterable[int]], names: Iterable[str], name: str,
                 layouts: Iterable[tuple[int, bool]] | None = None, hidden_units: Iterable[tuple[int, list[tuple[int, int, int]]]] = ()) -> None: ...
    def order(self, k: int) -> torch.Tensor: ...
    def of(self, k: int) -> dict[str, torch.Tensor]: ...

def magnitude(model: torch.nn.Module, params: _Parameters = None) -> Mask: ...
def scores(model: torch.nn.Module, values: Mapping[str, Any] | Any, params: _Parameters = None, name: str = "score") -> Mask: ...
def load(model: torch.nn.Module, path: str | os.PathLike[str], params: _Parameters = None) -> Mask: ...

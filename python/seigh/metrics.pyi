from typing import Any

import numpy.typing as npt
import torch

from seigh import EigenPairs
from seigh.masks import Mask

_Space = EigenPairs[Any] | Mask | torch.Tensor | npt.NDArray[Any]

def principal_angles(a: _Space, b: _Space, k: int | tuple[int, int] | None = None) -> torch.Tensor: ...
def compare(a: _Space, b: _Space, k: int | tuple[int, int] | None = None) -> dict[str, float]: ...
def overlap_curve(a: _Space, b: _Space, K: int | None = None) -> torch.Tensor: ...

# Tensor aliases and the names of shapes, used in the whole package.
#
# N images (examples) in a batch, R regions, M classes, V views, C channels, H height, W width.
from __future__ import annotations

from typing import Any, TypeAlias

import torch

Tensors: TypeAlias = tuple[torch.Tensor, ...]
TensorOrTensors: TypeAlias = torch.Tensor | Tensors
Shape: TypeAlias = tuple[int, ...]

# A class is a number or, where the network's categories are known, a name.
Target: TypeAlias = (
    int
    | str
    | tuple[int, ...]
    | tuple[str, int, int]
    | torch.Tensor
    | list[int]
    | list[str]
    | list[tuple[int, ...]]
    | None
)
Baselines: TypeAlias = float | torch.Tensor | tuple[float | torch.Tensor, ...] | None
AdditionalForwardArgs: TypeAlias = Any

# The stand-in of imputers whose values depend on what is hidden.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._types import Tensors


@dataclass(frozen=True, eq=False)
class Filled:
    """Each view's picture, its hidden pixels filled in from the visible ones.

    Attributes:
        inputs: Floating-point images (n, C, H, W).
        fill: From pictures (V, C, H, W), in float32 or float64, and what is hidden of them, bool
            (V, 1 or C, H, W), to filled pictures (V, C, H, W).
    """

    inputs: Tensors
    fill: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """Each view's own picture, filled in."""
        return tuple(
            # Nothing of this input is hidden, so that any values of its shape will do.
            x[:1] if mask is None else self._filled(x.detach()[images], mask)
            for x, mask in zip(self.inputs, hidden, strict=True)
        )

    def _filled(self, pictures: Tensor, mask: Tensor) -> Tensor:
        mask = mask.expand(len(pictures), -1, *pictures.shape[2:])
        return self.fill(wide(pictures), mask).to(pictures)


def wide(x: Tensor) -> Tensor:
    """The same values in float32 at least: half precision is too coarse for sums."""
    return x if x.dtype.itemsize >= 4 else x.float()


def visible_means(pictures: Tensor, hidden: Tensor) -> Tensor:
    """Mean of each channel's visible pixels, of all its pixels where none is visible.

    Args:
        pictures: (V, C, H, W).
        hidden: Bool (V, 1 or C, H, W).

    Returns:
        (V, C, 1, 1).
    """
    visible = ~hidden | hidden.all(-1, keepdim=True).all(-2, keepdim=True)
    count = visible.sum((2, 3), keepdim=True)
    return torch.where(visible, pictures, 0).sum((2, 3), keepdim=True) / count

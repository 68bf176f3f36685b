# Pools as windows, whatever they do at the map's border.
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask.engines.incremental.boxes import Table
from captum_infomask.engines.incremental.spans import Pair, Shape
from captum_infomask.engines.incremental.windows import Window


def max_pool(shape: Shape, whole: Callable[[Tensor], Tensor]) -> Window:
    """The largest element of each window; what is around the map never is."""

    def apply(maps: Tensor, stride: Pair) -> Tensor:
        return F.max_pool2d(maps, shape.kernel, stride, 0, shape.dilation)

    return Window(shape, float("-inf"), apply, whole, shape.area)


def average_pool(shape: Shape, whole: Callable[[Tensor], Tensor], like: Tensor) -> Window:
    """The mean of each window, whatever its divisor is.

    Zeros around the map and the full window's divisor give a mean that is wrong at the border by a
    factor of the position alone; ``whole`` of a map of ones tells the factor.

    Args:
        shape: How the window moves.
        whole: The pool of whole maps.
        like: A map (1, C, H, W) that it takes.
    """

    def apply(maps: Tensor, stride: Pair) -> Tensor:
        return F.avg_pool2d(maps, shape.kernel, stride)

    ones = torch.ones_like(like[:1, :1])
    wanted = whole(ones)
    after = (wanted.shape[2], wanted.shape[3])
    bottom, right = shape.beyond((like.shape[2], like.shape[3]), after)
    top, left = shape.padding
    plain = apply(F.pad(ones, (left, right, top, bottom)), shape.stride)
    factors = (wanted / plain[:, :, : after[0], : after[1]]).permute(0, 2, 3, 1)
    table = Table(factors.contiguous(), (0, 0), after)
    is_plain = bool((factors == 1).all())
    return Window(shape, 0.0, apply, whole, shape.area, None if is_plain else table)

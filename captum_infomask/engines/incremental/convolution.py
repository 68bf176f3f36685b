# A convolution's weights, and how windows of maps go through them.
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn import functional as F

from captum_infomask.engines.incremental.spans import Pair, Shape
from captum_infomask.engines.incremental.winograd import Winograd, suits, wins


@dataclass(frozen=True, eq=False)
class Convolution:
    """Fixed weights, and Winograd's form of them where it wins.

    Attributes:
        weight: (C_out, C_in / groups, k, k).
        bias: (C_out,), or None.
        shape: How its window moves.
        groups: Groups of channels.
        may_winograd: Whether it has the shape for Winograd's form and is allowed to take it.
    """

    weight: Tensor
    bias: Tensor | None
    shape: Shape
    groups: int
    may_winograd: bool

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, shape: Shape, groups: int, *, winograd: bool
    ) -> Convolution:
        """Hold weights; ``winograd`` allows its form where it can win."""
        fits = shape.kernel == shape.reach == (3, 3) and shape.stride == (1, 1) and groups == 1
        return cls(weight, bias, shape, groups, winograd and fits and suits(weight))

    @cached_property
    def winograd(self) -> Winograd | None:
        """Winograd's form, made when it is first needed."""
        return Winograd.of(self.weight, self.bias) if self.may_winograd else None

    @property
    def cost(self) -> float:
        """Multiplications per element that it makes."""
        return float(self.weight[0].numel())

    def apply(self, maps: Tensor, stride: Pair) -> Tensor:
        """Convolve maps that are padded already."""
        fast = self._winograd_for(len(maps), maps.shape[2] - 2, maps.shape[3] - 2)
        if fast is not None:
            return fast(maps)
        dilation = self.shape.dilation
        return F.conv2d(maps, self.weight, self.bias, stride, 0, dilation, self.groups)

    def whole(self, maps: Tensor) -> Tensor:
        """Convolve whole maps."""
        top, left = self.shape.padding
        height, width = (
            n + 2 * p - 2 for n, p in zip(maps.shape[2:], self.shape.padding, strict=True)
        )
        fast = self._winograd_for(len(maps), height, width)
        if fast is not None:
            return fast(F.pad(maps, (left, left, top, top)))
        shape = self.shape
        return F.conv2d(
            maps, self.weight, self.bias, shape.stride, shape.padding, shape.dilation, self.groups
        )

    def _winograd_for(self, views: int, height: int, width: int) -> Winograd | None:
        return self.winograd if self.may_winograd and wins(views, height, width) else None

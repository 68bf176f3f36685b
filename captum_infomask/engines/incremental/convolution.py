# A convolution's weights, and how windows of maps go through them.
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from captum_infomask.engines.incremental.spans import Pair, Shape
from captum_infomask.engines.incremental.winograd import Winograd, suits, wins


@dataclass(frozen=True, eq=False)
class Convolution:
    """Fixed weights, and Winograd's form of them where there is one.

    Attributes:
        weight: (C_out, C_in / groups, k, k).
        bias: (C_out,), or None.
        shape: How its window moves.
        groups: Groups of channels.
        winograd: For 3 × 3 windows of stride 1 over many channels, else None.
    """

    weight: Tensor
    bias: Tensor | None
    shape: Shape
    groups: int
    winograd: Winograd | None

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, shape: Shape, groups: int, *, winograd: bool
    ) -> Convolution:
        """Prepare weights; ``winograd`` allows its form where it can win."""
        fits = shape.kernel == shape.reach == (3, 3) and shape.stride == (1, 1) and groups == 1
        made = Winograd.of(weight, bias) if winograd and fits and suits(weight) else None
        return cls(weight, bias, shape, groups, made)

    @property
    def cost(self) -> float:
        """Multiplications per element that it makes."""
        return float(self.weight[0].numel())

    def apply(self, maps: Tensor, stride: Pair) -> Tensor:
        """Convolve maps that are padded already."""
        if self.winograd is not None and wins(len(maps), maps.shape[2] - 2, maps.shape[3] - 2):
            return self.winograd(maps)
        dilation = self.shape.dilation
        return F.conv2d(maps, self.weight, self.bias, stride, 0, dilation, self.groups)

    def whole(self, maps: Tensor) -> Tensor:
        """Convolve whole maps."""
        top, left = self.shape.padding
        height, width = (
            n + 2 * p - 2 for n, p in zip(maps.shape[2:], self.shape.padding, strict=True)
        )
        if self.winograd is not None and wins(len(maps), height, width):
            return self.winograd(F.pad(maps, (left, left, top, top)))
        shape = self.shape
        return F.conv2d(
            maps, self.weight, self.bias, shape.stride, shape.padding, shape.dilation, self.groups
        )

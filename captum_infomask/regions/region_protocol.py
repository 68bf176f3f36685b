# What every kind of regions can do.
from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Shape, TensorOrTensors, Tensors

Overlap = str
OVERLAPS = ("mean", "mixture", "max")


@runtime_checkable
class Regions(Protocol):
    """Sets of elements of the inputs, each scored as one.

    Images of a batch may differ in their regions (a feature mask per image); region r of an image
    that does not have it is absent.
    """

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of one example of each input."""
        ...

    def __len__(self) -> int:
        """R, the number of regions."""
        ...

    def check_batch(self, n: int) -> None:
        """Refuse a batch of n examples that the regions were not made for."""
        ...

    def present(self, n: int) -> Tensor:
        """Which image has which region: bool (n, R)."""
        ...

    def masks(
        self, images: Tensor, regions: Tensor, device: torch.device
    ) -> tuple[Tensor | None, ...]:
        """Per input, which elements belong to each view's region.

        Args:
            images: The views' images, long (V,), on the CPU.
            regions: The views' regions, long (V,), on the CPU.
            device: Where the masks are wanted.

        Returns:
            Bool tensors that broadcast to ``(V, *shape)``; None where no region touches the input.
        """
        ...

    def rectangles(self) -> Tensor | None:
        """(n or 1, R, 4): y0, x0, y1, x1 of every region, half-open.

        None where some region is not a full rectangle, over all channels, of one image.
        """
        ...

    def paint(self, scores: Tensor, overlap: Overlap, nats_per_unit: float) -> Tensors:
        """Region scores (n, R) → one attribution ``(n, *shape)`` per input.

        Where regions overlap: ``mean`` of their scores, ``mixture`` (log of the mean exponential),
        or ``max``. Elements in no region get 0.
        """
        ...

    def describe(self, region: int) -> str:
        """Name a region in a message."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors from which ``regions.stored.restore`` makes the same regions again."""
        ...


def example_shapes(inputs: TensorOrTensors) -> tuple[Shape, ...]:
    """The shape of one example of each input."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor) or tensor.dim() == 0:
            raise ArgumentError(
                f"Expected `inputs` to be a tensor with a batch dimension, or a tuple of such "
                f"tensors; got {describe(tensor)}."
            )
    return tuple(tuple(tensor.shape[1:]) for tensor in tensors)


def image_shape(inputs: object) -> tuple[int, int, int]:
    """(C, H, W) of images (N, C, H, W)."""
    if not isinstance(inputs, Tensor) or inputs.dim() != 4 or not inputs.numel():
        raise ArgumentError(f"Expected `inputs` to be images (N, C, H, W); got {describe(inputs)}.")
    channels, height, width = inputs.shape[1:]
    return channels, height, width

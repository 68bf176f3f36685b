# The protocol of all kinds of regions.
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

    Images of a batch may have different regions (a feature mask per image). If an image does not
    have region r, the region is absent there.
    """

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of one example of each input."""
        ...

    def __len__(self) -> int:
        """R, the number of regions."""
        ...

    def check_batch(self, n: int) -> None:
        """Refuse a batch of n examples if the regions were not made for it."""
        ...

    def of_images(self, images: Tensor) -> Regions:
        """The same R regions for some images of the batch, long (k,), on the CPU."""
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
            device: The device of the masks.

        Returns:
            Bool tensors that broadcast to ``(V, *shape)``; None if no region touches the input.
        """
        ...

    def rectangles(self) -> Tensor | None:
        """(n or 1, R, 2 · D): where every region starts in the D places, and where it stops.

        For images these are y0, x0, y1, x1, half-open. None if some region is not a full box, over
        all channels, of one input with places.
        """
        ...

    def paint(self, scores: Tensor, overlap: Overlap, nats_per_unit: float) -> Tensors:
        """Region scores (n, R) → one attribution ``(n, *shape)`` per input.

        If regions overlap, an element gets the ``mean`` of their scores, the ``mixture`` (log of
        the mean exponential), or the ``max``. Elements in no region get 0.
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


def place_sizes(inputs: object) -> Shape:
    """The sizes after the channels: (T,) of signals, (H, W) of images, (D, H, W) of volumes."""
    if not isinstance(inputs, Tensor) or inputs.dim() < 3 or not inputs.numel():
        hint = ""
        if isinstance(inputs, Tensor) and inputs.dim() in (1, 2) and inputs.numel():
            missing = "[None]" * (3 - inputs.dim())
            hint = f" For one signal, inputs{missing} adds what is missing."
        raise ArgumentError(
            f"Expected `inputs` to be images (N, C, H, W), signals (N, C, T) or volumes (N, C, D, "
            f"H, W); got {describe(inputs)}.{hint}"
        )
    return tuple(inputs.shape[2:])


def box_columns(places: int) -> list[str]:
    """The names of a box's numbers: x0, y0, x1, y1 of images, t0, t1 of signals."""
    axes = "t" if places == 1 else "xyzt"[:places]
    return [f"{axis}{end}" for end in (0, 1) for axis in axes]


def over_all_channels(shapes: tuple[Shape, ...]) -> Shape | None:
    """The sizes of the places of one input that has some; None for other inputs."""
    return shapes[0][1:] if len(shapes) == 1 and len(shapes[0]) > 1 else None


def image_shape(inputs: object) -> tuple[int, int, int]:
    """(C, H, W) of images (N, C, H, W)."""
    if not isinstance(inputs, Tensor) or inputs.dim() != 4 or not inputs.numel():
        raise ArgumentError(f"Expected `inputs` to be images (N, C, H, W); got {describe(inputs)}.")
    channels, height, width = inputs.shape[1:]
    return channels, height, width

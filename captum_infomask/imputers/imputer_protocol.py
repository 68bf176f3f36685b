# The protocol of imputers, their checks, and pictures with filled hidden parts.
from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_infomask._checks import random_seed, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors


class StandIn(Protocol):
    """An imputer that is prepared for one batch of inputs."""

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """Values for the elements that some views hide.

        Args:
            images: The views' images, long (V,), on the device of the inputs.
            hidden: Per input, a bool tensor that broadcasts to ``(V, *shape)``: the elements that
                each view hides. None if the views hide nothing of that input.

        Returns:
            Per input, a tensor that broadcasts to ``(V, *shape)``. Only its hidden elements are
            used.
        """
        ...


@runtime_checkable
class Imputer(Protocol):
    """The settings that say how to replace hidden pixels; it holds no tensors of a batch."""

    def prepare(self, inputs: Tensors) -> StandIn:
        """Check the inputs, do the work that all views share, and return a stand-in."""
        ...


@runtime_checkable
class RandomImputer(Imputer, Protocol):
    """A family of imputers, one for each random draw; engines average over draws.

    If it is used as a plain imputer, it is the first draw of seed 0. Its values depend on the seed,
    the index, the image and the hidden part. They do not depend on the other images of a batch or
    on chunks. Standard errors rest on draws of different indices that are independent, or that take
    each value of a list once.
    """

    def draw(self, seed: int, index: int) -> Imputer:
        """The imputer of one draw, the same each time.

        Args:
            seed: The seed of a series of draws.
            index: The place of the draw in its series, from 0.
        """
        ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """The stand-in of imputers whose values do not depend on what is hidden.

    Attributes:
        pictures: Per input, a tensor (n or 1, ...) that broadcasts to the input.
    """

    pictures: Tensors

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """The picture of each view."""
        return tuple(p[images] if len(p) > 1 else p for p in self.pictures)


def float_images(imputer: str, inputs: Tensors, instead: str = "") -> None:
    """Refuse inputs that are not floating-point images (N, C, H, W)."""
    for x in inputs:
        if x.dim() != 4 or not x.dtype.is_floating_point:
            raise ArgumentError(
                f"Expected floating-point images (N, C, H, W) for the imputer {imputer}; got "
                f"inputs of shape {tuple(x.shape)} and dtype {x.dtype}.{instead}"
            )


def float_places(imputer: str, inputs: Tensors) -> None:
    """Refuse inputs that are not floating-point, or have no places after their channels."""
    for x in inputs:
        if x.dim() < 3 or not x.dtype.is_floating_point:
            raise ArgumentError(
                f"Expected floating-point images (N, C, H, W), signals (N, C, T) or volumes (N, C, "
                f"D, H, W) for the imputer {imputer}; got inputs of shape {tuple(x.shape)} and "
                f"dtype {x.dtype}."
            )


def float_inputs(imputer: str, inputs: Tensors) -> None:
    """Refuse inputs that are not floating-point; their shape may be any."""
    for x in inputs:
        if not x.dtype.is_floating_point:
            raise ArgumentError(
                f"Expected floating-point inputs for the imputer {imputer}; got inputs of shape "
                f"{tuple(x.shape)} and dtype {x.dtype}."
            )


def draw_number(seed: object, index: object) -> tuple[int, int]:
    """Return the seed of a series of draws and the number of one of them."""
    if not isinstance(index, numbers.Integral) or isinstance(index, bool) or index < 0:
        raise ArgumentError(
            f"Expected `index` to be an integer of at least 0; got {short_repr(index)}."
        )
    return random_seed(seed), int(index)


@dataclass(frozen=True, eq=False)
class Filled:
    """Each view's picture, with its hidden pixels filled in from the visible ones.

    Attributes:
        inputs: Floating-point images (n, C, H, W), signals or volumes (n, C, ...).
        fill: A function from pictures (V, C, ...), in float32 or float64, and their hidden pixels,
            bool (V, 1 or C, ...), to filled pictures (V, C, ...).
    """

    inputs: Tensors
    fill: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, images: Tensor, hidden: tuple[Tensor | None, ...]) -> Tensors:
        """The filled picture of each view."""
        return tuple(
            # Nothing of this input is hidden, so any values of its shape are correct.
            x[:1] if mask is None else self._filled(x.detach()[images], mask)
            for x, mask in zip(self.inputs, hidden, strict=True)
        )

    def _filled(self, pictures: Tensor, mask: Tensor) -> Tensor:
        mask = mask.expand(len(pictures), -1, *pictures.shape[2:])
        return self.fill(wide(pictures), mask).to(pictures)


def wide(x: Tensor) -> Tensor:
    """The same values in float32 or more: half precision is too coarse for sums."""
    return x if x.dtype.itemsize >= 4 else x.float()


def visible_means(pictures: Tensor, hidden: Tensor) -> Tensor:
    """Mean of each channel's visible pixels, or of all its pixels if none is visible.

    Args:
        pictures: (V, C, H, W), or with other places (V, C, ...).
        hidden: Bool (V, 1 or C, ...).

    Returns:
        (V, C, 1, 1), with as many places.
    """
    places = tuple(range(2, pictures.dim()))
    nothing_seen = hidden.flatten(2).all(2).reshape(*hidden.shape[:2], *[1] * len(places))
    visible = ~hidden | nothing_seen
    count = visible.sum(places, keepdim=True)
    return torch.where(visible, pictures, 0).sum(places, keepdim=True) / count

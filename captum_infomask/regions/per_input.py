# Regions of several inputs: those of each input, made apart.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._types import Shape, Tensors
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.scales import placed

_TOGETHER = 64  # regions whose elements are looked at together


@dataclass(frozen=True, eq=False, repr=False)
class PerInput:
    """Regions of each of several inputs, such as superpixels of a picture and columns of a table.

    Attributes:
        parts: The regions of each input, made for it alone. They are numbered through the inputs
            in order.
    """

    parts: tuple[Regions, ...]

    def __repr__(self) -> str:
        """The text that a prompt shows."""
        return f"PerInput({', '.join(map(repr, self.parts))})"

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of one example of each input."""
        return tuple(part.shapes[0] for part in self.parts)

    @property
    def counts(self) -> list[int]:
        """The number of regions of each input."""
        return [len(part) for part in self.parts]

    def __len__(self) -> int:
        return sum(self.counts)

    def check_batch(self, n: int) -> None:
        """Refuse a batch if the regions of some input were not made for it."""
        for part in self.parts:
            part.check_batch(n)

    def of_images(self, images: Tensor) -> PerInput:
        """The same regions for some examples."""
        return PerInput(tuple(part.of_images(images) for part in self.parts))

    def present(self, n: int) -> Tensor:
        """Which example has which region."""
        return torch.cat([part.present(n) for part in self.parts], dim=1)

    def masks(
        self, images: Tensor, regions: Tensor, device: torch.device
    ) -> tuple[Tensor | None, ...]:
        """Which elements belong to each view's region, which lies in one input."""
        masks: list[Tensor | None] = []
        first = 0
        for part, shape in zip(self.parts, self.shapes, strict=True):
            rows = ((regions >= first) & (regions < first + len(part))).nonzero()[:, 0]
            own: Tensor | None = None
            if len(rows):
                (own,) = part.masks(images[rows], regions[rows] - first, device)
            masks.append(None if own is None else placed(None, own, rows, (len(regions), *shape)))
            first += len(part)
        return tuple(masks)

    def rectangles(self) -> None:
        """None: they are not of one image."""

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """Paint each input by its own regions."""
        of_inputs = scores.split(self.counts, dim=1)
        return tuple(
            part.paint(own, overlap, nats_per_unit)[0]
            for part, own in zip(self.parts, of_inputs, strict=True)
        )

    def describe(self, region: int) -> str:
        """Name a region by its input's own description."""
        for k, part in enumerate(self.parts):
            if region < len(part):
                return f"{part.describe(region)} of input {k}"
            region -= len(part)
        raise IndexError(region)

    def state(self) -> dict[str, Tensor]:
        """The tensors of all inputs."""
        return {
            f"input.{k}.{name}": tensor
            for k, part in enumerate(self.parts)
            for name, tensor in part.state().items()
        }


def inputs_of(regions: Regions, image: int) -> Tensor:
    """The input in which each region of an example lies, long (R,); −1 if in several or in none.

    Example:
        >>> import torch
        >>> from captum_infomask import sliding_windows
        >>> from captum_infomask.regions.per_input import inputs_of
        >>> pair = torch.zeros(1, 1, 4, 4), torch.zeros(1, 3)
        >>> inputs_of(sliding_windows(pair, ((1, 4, 2), (1,)), ((1, 4, 2), (1,))), 0)
        tensor([0, 0, 1, 1, 1])
    """
    found = []
    for some in torch.arange(len(regions)).split(_TOGETHER):
        masks = regions.masks(torch.full_like(some, image), some, torch.device("cpu"))
        touched = torch.stack(
            [
                torch.zeros(len(some), dtype=torch.bool) if mask is None else _any(mask, len(some))
                for mask in masks
            ]
        )
        single = touched.sum(0) == 1
        found.append(torch.where(single, touched.long().argmax(0), -1))
    return torch.cat(found)


def _any(mask: Tensor, count: int) -> Tensor:
    return mask.flatten(1).any(1).expand(count)

# Regions at several scales: several kinds of regions of the same input, scored together.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._types import Shape, Tensors
from captum_infomask.regions.region_protocol import Regions


@dataclass(frozen=True, eq=False, repr=False)
class Scales:
    """Several kinds of regions as one object; an element's value is the mean over the scales.

    Attributes:
        parts: The regions of each scale, made for the same inputs. They are numbered through all
            scales in order.
    """

    parts: tuple[Regions, ...]

    def __repr__(self) -> str:
        """The text that a prompt shows."""
        return f"Scales({', '.join(map(repr, self.parts))})"

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of one example of each input."""
        return self.parts[0].shapes

    @property
    def counts(self) -> list[int]:
        """The number of regions of each scale."""
        return [len(part) for part in self.parts]

    @property
    def scale_of(self) -> Tensor:
        """The scale of each region, long (R,)."""
        return torch.arange(len(self.parts)).repeat_interleave(torch.tensor(self.counts))

    def __len__(self) -> int:
        return sum(self.counts)

    def check_batch(self, n: int) -> None:
        """Refuse a batch if the regions of some scale were not made for it."""
        for part in self.parts:
            part.check_batch(n)

    def of_images(self, images: Tensor) -> Scales:
        """The regions of all scales for some images."""
        return Scales(tuple(part.of_images(images) for part in self.parts))

    def present(self, n: int) -> Tensor:
        """Which image has which region of any scale."""
        return torch.cat([part.present(n) for part in self.parts], dim=1)

    def masks(
        self, images: Tensor, regions: Tensor, device: torch.device
    ) -> tuple[Tensor | None, ...]:
        """Which elements belong to each view's region, at any scale."""
        scales = self.scale_of[regions]
        masks: list[Tensor | None] = [None] * len(self.shapes)
        first = 0
        for scale, part in enumerate(self.parts):
            rows = (scales == scale).nonzero()[:, 0]
            if len(rows):
                found = part.masks(images[rows], regions[rows] - first, device)
                for k, (mask, shape) in enumerate(zip(found, self.shapes, strict=True)):
                    if mask is not None:
                        masks[k] = placed(masks[k], mask, rows, (len(regions), *shape))
            first += len(part)
        return tuple(masks)

    def rectangles(self) -> Tensor | None:
        """The rectangles of all scales, if all regions are rectangles."""
        found = [part.rectangles() for part in self.parts]
        known = [rectangles for rectangles in found if rectangles is not None]
        if len(known) < len(found):
            return None
        n = max(map(len, known))
        return torch.cat([rectangles.expand(n, -1, -1) for rectangles in known], dim=1)

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """Paint each scale separately, then take the mean over the scales that cover an element."""
        of_scales = scores.split(self.counts, dim=1)
        ones = torch.where(scores.isnan(), scores, 1).split(self.counts, dim=1)
        painted, covered = (
            zip(
                *(
                    part.paint(values, rule, nats_per_unit)
                    for part, values in zip(self.parts, split, strict=True)
                ),
                strict=True,
            )
            for split, rule in ((of_scales, overlap), (ones, "max"))
        )
        return tuple(
            torch.stack(values).sum(0) / torch.stack(counts).sum(0).clamp_min(1)
            for values, counts in zip(painted, covered, strict=True)
        )

    def describe(self, region: int) -> str:
        """Name a region by its scale's own description."""
        scale = int(self.scale_of[region])
        own = region - sum(self.counts[:scale])
        return f"{self.parts[scale].describe(own)} at scale {scale}"

    def state(self) -> dict[str, Tensor]:
        """The tensors of all scales."""
        return {
            f"scale.{scale}.{name}": tensor
            for scale, part in enumerate(self.parts)
            for name, tensor in part.state().items()
        }


def scales_of(regions: Regions) -> Tensor:
    """The scale of each region, long (R,); all 0 if there is only one scale."""
    if isinstance(regions, Scales):
        return regions.scale_of
    return torch.zeros(len(regions), dtype=torch.long)


def placed(masks: Tensor | None, own: Tensor, rows: Tensor, shape: Shape) -> Tensor:
    """Put the masks of some views into the masks of all views."""
    if masks is None:
        masks = own.new_zeros(shape)
    masks[rows.to(own.device)] = own.expand(-1, *shape[1:])
    return masks

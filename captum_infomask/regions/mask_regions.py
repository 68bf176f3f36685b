# Regions from masks of any shape. They may overlap and need not cover the image.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import default_on_cpu
from captum_infomask._run_length import decode
from captum_infomask._types import Shape, Tensors
from captum_infomask.regions.region_protocol import image_shape, place_sizes

_GROUP = 16  # masks that are counted at a time

Masks = Tensor | npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class MaskRegions:
    """Masks over all channels of images. An image does not have a region whose mask is empty.

    Attributes:
        shapes: The shape of one example, (C, H, W), in a 1-tuple; (C, ...) for other places.
        pixels: Bool (n or 1, R, H, W): the pixels of each region.
    """

    shapes: tuple[Shape, ...]
    pixels: Tensor

    def __repr__(self) -> str:
        """The text that a prompt shows."""
        return f"MaskRegions({len(self)} regions of {self.shapes[0]})"

    def __len__(self) -> int:
        return self.pixels.shape[1]

    @property
    def uncovered(self) -> Tensor:
        """The pixels in no region, bool (n or 1, H, W): their attribution is 0."""
        return ~self.pixels.any(1)

    def check_batch(self, n: int) -> None:
        """Refuse a batch of another size, if masks differ per image."""
        if len(self.pixels) not in (1, n):
            raise ArgumentError(
                f"Expected `regions` made for 1 or {n} images; got regions for {len(self.pixels)}."
            )

    def of_images(self, images: Tensor) -> MaskRegions:
        """The masks of some images; masks that all images share stay as they are."""
        pixels = self.pixels
        return MaskRegions(
            self.shapes, pixels[images.to(pixels.device)] if len(pixels) > 1 else pixels
        )

    def present(self, n: int) -> Tensor:
        """Which image has pixels in which mask."""
        return self.pixels.flatten(2).any(2).cpu().expand(n, -1)

    def masks(
        self, images: Tensor, regions: Tensor, device: torch.device
    ) -> tuple[Tensor | None, ...]:
        """Each view's mask, (V, 1, H, W)."""
        own = self.pixels[images if len(self.pixels) > 1 else 0, regions]
        return (own[:, None].to(device),)

    def rectangles(self) -> Tensor | None:
        """The masks' bounding boxes, if each mask fills its own."""
        found = []
        for some in self.pixels.flatten(0, 1).split(_GROUP):
            first, last = spans_of(some)
            count = some.flatten(1).sum(1)
            if bool(((count != (last - first).prod(1)) & (count > 0)).any()):
                return None
            found.append(torch.cat([first, last], dim=1))
        return torch.cat(found).reshape(*self.pixels.shape[:2], -1).cpu()

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """Combine the scores of the regions that cover each pixel."""
        pixels = self.pixels.to(scores.device)
        n, (_, *sizes) = len(scores), self.shapes[0]
        # One region after another, because all at once would take R float pictures. So would a sum
        # of booleans: PyTorch first turns all of them into whole numbers.
        columns = [
            (pixels[:, region], scores[:, region].reshape(-1, *[1] * len(sizes)))
            for region in range(len(self))
        ]
        highest = scores.new_full((n, *sizes), -torch.inf)
        cover = torch.zeros_like(pixels[:, 0], dtype=scores.dtype)
        for own, _ in columns:
            cover += own
        if overlap != "mean":
            for own, score in columns:
                highest = torch.where(own, torch.maximum(highest, score), highest)
        canvas = highest
        if overlap != "max":
            canvas = torch.zeros_like(highest)
            for own, score in columns:
                mixed = overlap == "mixture"
                value = ((score - highest) * nats_per_unit).exp() if mixed else score
                canvas = torch.where(own, canvas + value, canvas)
            canvas = canvas / cover
            if overlap == "mixture":
                canvas = highest + canvas.log() / nats_per_unit
        canvas = torch.where(cover > 0, canvas, 0)
        return (canvas[:, None].expand(n, *self.shapes[0]).contiguous(),)

    def describe(self, region: int) -> str:
        """Name a region by its size, in the images that have it."""
        counts = self.pixels[:, region].flatten(1).sum(1)
        least, most = int(counts[counts > 0].min()), int(counts.max())
        return f"of {least} pixels" if least == most else f"of {least} to {most} pixels"

    def state(self) -> dict[str, Tensor]:
        """The masks and the shape as tensors."""
        return {"pixels": self.pixels, "shape.0": torch.tensor(self.shapes[0]).long()}


def spans_of(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest box around each mask: its first places, and the places after its last.

    Args:
        masks: Bool (B, ...), with D places; none is empty, or the numbers mean nothing.

    Returns:
        Long (B, D) each.
    """
    first, last = [], []
    for dim in range(1, masks.dim()):
        along = masks.movedim(dim, 1)
        lines = along.reshape(*along.shape[:2], -1).any(2).int()
        first.append(lines.argmax(1))
        last.append(lines.shape[1] - lines.flip(1).argmax(1))
    return torch.stack(first, dim=1), torch.stack(last, dim=1)


@default_on_cpu()
def from_masks(inputs: Tensor, masks: Masks | list[Masks] | tuple[Masks, ...]) -> MaskRegions:
    """Regions from masks of any shape, such as objects or organs; they may overlap or leave gaps.

    Pixels in no mask belong to no region and get an attribution of 0. The property ``uncovered`` of
    the result marks them.

    Args:
        inputs: Images (N, C, H, W), signals (N, C, T) or volumes (N, C, D, H, W); only the shape
            and the device are read.
        masks: Bool (R, H, W) for all images, or (N, R, H, W). Or a list with one (R_i, H, W) per
            image; regions are then numbered from 0 in each image. An image does not have a region
            whose mask is empty there. Masks of signals are (R, T), those of volumes (R, D, H, W).

    Returns:
        The regions, in the order of their masks.

    Raises:
        ArgumentError: ``masks`` are not boolean or have another shape; or one is empty in every
            image.

    Example:
        >>> import torch
        >>> from captum_infomask import from_masks
        >>> left, right = torch.zeros(2, 4, 6, dtype=torch.bool)
        >>> left[:, :3] = right[1:3, 2:5] = True
        >>> regions = from_masks(torch.zeros(1, 3, 4, 6), torch.stack([left, right]))
        >>> len(regions), int(regions.uncovered.sum())
        (2, 8)
    """
    shape = place_sizes(inputs)
    places = len(shape)
    per_image = isinstance(masks, list | tuple)
    tensors = [_tensor(part) for part in (masks if per_image else [masks])]
    good = [part.dtype == torch.bool and part.shape[-places:] == shape for part in tensors]
    if per_image:
        good += [len(tensors) == len(inputs), *(part.dim() == 1 + places for part in tensors)]
    else:
        good += [part.shape[: -1 - places] in ((), (len(inputs),)) for part in tensors]
        good += [part.dim() > places for part in tensors]
    if not all(good):
        sizes = ", ".join(map(str, shape))
        raise ArgumentError(
            f"Expected `masks` to be boolean, (R, {sizes}) or ({len(inputs)}, R, {sizes}), or a "
            f"list of {len(inputs)}, one (R_i, {sizes}) per image; got {describe(masks)}."
        )
    most = max(part.shape[-1 - places] for part in tensors)
    if most == 0:
        raise ArgumentError("Expected `masks` with at least one mask; got none.")
    if per_image:
        pixels = torch.zeros(len(tensors), most, *shape, dtype=torch.bool)
        for own, part in zip(pixels, tensors, strict=True):
            own[: len(part)] = part
    else:
        pixels = tensors[0].reshape(-1, most, *shape)
    empty = (~pixels.flatten(2).any(2).any(0)).nonzero()
    if len(empty):
        raise ArgumentError(
            f"Expected every mask of `masks` to hold a pixel in some image; mask {int(empty[0])} "
            f"holds none."
        )
    # A copy, because the user may still write to the masks.
    pixels = pixels.to(inputs.device, copy=True).contiguous()
    return MaskRegions((tuple(inputs.shape[1:]),), pixels)


def _tensor(part: object) -> Tensor:
    """A mask as a tensor; an empty tensor for anything else."""
    if isinstance(part, np.ndarray) and part.dtype == np.bool_:
        return torch.from_numpy(part.copy())  # PyTorch warns about read-only arrays
    return part if isinstance(part, Tensor) else torch.empty(0)


RunLengths = Mapping[str, Any]


@default_on_cpu()
def from_run_lengths(
    inputs: Tensor, masks: Sequence[RunLengths] | Sequence[Sequence[RunLengths]]
) -> MaskRegions:
    """Regions from masks in COCO's run-length form, which may overlap and leave gaps.

    Args:
        inputs: Images (N, C, H, W); only the shape and the device are read.
        masks: A list of ``{"size": [H, W], "counts": ...}``, one for each region, for all images.
            Or a list with one such list per image. Counts are a list of run lengths, or the
            compressed str or bytes.

    Returns:
        The regions, in the order of their masks, as from ``from_masks``.

    Raises:
        ArgumentError: An entry does not have COCO's form, has another size than the images, has
            counts that do not add up to the pixels, or is empty in every image.

    Example:
        >>> import torch
        >>> from captum_infomask import from_run_lengths
        >>> mask = {"size": [4, 6], "counts": [8, 4, 12]}
        >>> len(from_run_lengths(torch.zeros(1, 3, 4, 6), [mask]))
        1

    Source: the form is that of COCO's annotations (Lin et al., ECCV 2014).
    """
    _, height, width = image_shape(inputs)
    if not isinstance(masks, list | tuple) or not masks:
        raise ArgumentError(
            f"Expected `masks` to be a list of run-length masks, or one such list per image; got "
            f"{describe(masks)}."
        )

    def stacked(parts: Sequence[Any], name: str) -> Tensor:
        decoded = [
            decode(part, name=f"{name}[{k}]", size=(height, width)) for k, part in enumerate(parts)
        ]
        return torch.stack(decoded) if decoded else torch.zeros(0, height, width, dtype=torch.bool)

    if not any(isinstance(part, list | tuple) for part in masks):
        return from_masks(inputs, stacked(masks, "masks"))
    for image, part in enumerate(masks):
        if not isinstance(part, list | tuple):
            raise ArgumentError(
                f"Expected `masks` to hold a list for each image; entry {image} is "
                f"{describe(part)}."
            )
    if len(masks) != len(inputs):
        raise ArgumentError(
            f"Expected `masks` to hold a list for each of the {len(inputs)} images; got "
            f"{len(masks)}."
        )
    return from_masks(inputs, [stacked(part, f"masks[{k}]") for k, part in enumerate(masks)])

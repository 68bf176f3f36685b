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
from captum_infomask._run_length import decode
from captum_infomask._types import Shape, Tensors
from captum_infomask.regions.region_protocol import image_shape

Masks = Tensor | npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class MaskRegions:
    """Masks over all channels of images. An image does not have a region whose mask is empty.

    Attributes:
        shapes: The shape of one example, (C, H, W), in a 1-tuple.
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
        spans = []
        for lines in (self.pixels.any(3), self.pixels.any(2)):
            start = lines.int().argmax(2)
            stop = lines.shape[2] - lines.flip(2).int().argmax(2)
            spans.append(torch.stack([start, stop], dim=-1))
        (y0, y1), (x0, x1) = (span.unbind(-1) for span in spans)
        count = self.pixels.flatten(2).sum(2)
        if bool(((count != (y1 - y0) * (x1 - x0)) & (count > 0)).any()):
            return None
        return torch.stack([y0, x0, y1, x1], dim=-1).cpu()

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """Combine the scores of the regions that cover each pixel."""
        pixels = self.pixels.to(scores.device)
        n, (_, height, width) = len(scores), self.shapes[0]
        # One region after another, because all at once would take R float pictures.
        columns = [
            (pixels[:, region], scores[:, region, None, None]) for region in range(len(self))
        ]
        highest = scores.new_full((n, height, width), -torch.inf)
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
            canvas = canvas / pixels.sum(1)
            if overlap == "mixture":
                canvas = highest + canvas.log() / nats_per_unit
        canvas = torch.where(pixels.any(1), canvas, 0)
        return (canvas[:, None].expand(n, *self.shapes[0]).contiguous(),)

    def describe(self, region: int) -> str:
        """Name a region by its size, in the images that have it."""
        counts = self.pixels[:, region].flatten(1).sum(1)
        least, most = int(counts[counts > 0].min()), int(counts.max())
        return f"of {least} pixels" if least == most else f"of {least} to {most} pixels"

    def state(self) -> dict[str, Tensor]:
        """The masks and the shape as tensors."""
        return {"pixels": self.pixels, "shape.0": torch.tensor(self.shapes[0]).long()}


def from_masks(inputs: Tensor, masks: Masks | list[Masks] | tuple[Masks, ...]) -> MaskRegions:
    """Regions from masks of any shape, such as objects or organs; they may overlap or leave gaps.

    Pixels in no mask belong to no region and get an attribution of 0. The property ``uncovered`` of
    the result marks them.

    Args:
        inputs: Images (N, C, H, W); only the shape and the device are read.
        masks: Bool (R, H, W) for all images, or (N, R, H, W). Or a list with one (R_i, H, W) per
            image; regions are then numbered from 0 in each image. An image does not have a region
            whose mask is empty there.

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
    _, height, width = image_shape(inputs)
    shape = (height, width)
    per_image = isinstance(masks, list | tuple)
    tensors = [_tensor(part) for part in (masks if per_image else [masks])]
    good = [part.dtype == torch.bool and part.shape[-2:] == shape for part in tensors]
    if per_image:
        good += [len(tensors) == len(inputs), *(part.dim() == 3 for part in tensors)]
    else:
        good += [part.dim() == 3 or part.shape[:-3] == (len(inputs),) for part in tensors]
    if not all(good):
        raise ArgumentError(
            f"Expected `masks` to be boolean, (R, {height}, {width}) or ({len(inputs)}, R, "
            f"{height}, {width}), or a list of {len(inputs)}, one (R_i, {height}, {width}) per "
            f"image; got {describe(masks)}."
        )
    most = max(part.shape[-3] for part in tensors)
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

# Regions by COCO's run-length masks.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._run_length import decode
from captum_infomask.regions.mask_regions import MaskRegions, from_masks
from captum_infomask.regions.windows import image_shape

RunLengths = Mapping[str, Any]


def from_run_lengths(
    inputs: Tensor, masks: Sequence[RunLengths] | Sequence[Sequence[RunLengths]]
) -> MaskRegions:
    """Regions from masks in COCO's run-length form, which may overlap and leave gaps.

    Args:
        inputs: Images (N, C, H, W); only the shape and the device are read.
        masks: ``{"size": [H, W], "counts": ...}`` of each region for all images; or a list with one
            such list per image. Counts are a list of run lengths, or the compressed str or bytes.

    Returns:
        The regions, in the order of their masks; as ``from_masks`` makes them.

    Raises:
        ArgumentError: An entry is not of COCO's form, of another size than the images, its counts
            do not add up to the pixels, or it is empty in every image.

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

# Regions by boxes that detectors, annotations or `bounding_boxes` give.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.regions.boxes import BoxRegions
from captum_infomask.regions.mask_regions import MaskRegions, from_masks
from captum_infomask.regions.windows import image_shape


def from_boxes(
    inputs: Tensor, boxes: Tensor | npt.NDArray[Any] | Sequence[Any]
) -> BoxRegions | MaskRegions:
    """Regions from boxes, which may overlap and leave gaps.

    Pixels in no box get an attribution of 0.

    Args:
        inputs: Images (N, C, H, W); only the shape and the device are read.
        boxes: x0, y0, x1, y1 in whole pixels, half-open: (R, 4) for all images, a tensor, an array
            or a list; or a list with one (R_i, 4) per image, as ``bounding_boxes`` returns, whose
            boxes are numbered from 0 in each.

    Returns:
        The regions, in the order of their boxes.

    Raises:
        ArgumentError: ``boxes`` have another shape, numbers that are not whole, no pixel inside, or
            a corner outside the image.

    Example:
        >>> import torch
        >>> from captum_infomask import from_boxes
        >>> len(from_boxes(torch.zeros(2, 3, 8, 8), [[0, 0, 5, 4], [3, 2, 8, 8]]))
        2
    """
    channels, height, width = image_shape(inputs)
    if not _is_per_image(boxes):
        table = _checked(boxes, "", height, width)
        spans = torch.tensor([0, channels]).expand(len(table), 1, 2)
        corners = table[:, [1, 3, 0, 2]].reshape(-1, 2, 2)
        if not len(table):
            raise ArgumentError("Expected `boxes` with at least one box; got none.")
        return BoxRegions((tuple(inputs.shape[1:]),), (torch.cat([spans, corners], dim=1),))
    if len(boxes) != len(inputs):
        raise ArgumentError(
            f"Expected `boxes` to hold a table of boxes for each of the {len(inputs)} images; got "
            f"{len(boxes)}."
        )
    tables = [
        _checked(part, f" of image {image}", height, width) for image, part in enumerate(boxes)
    ]
    if not any(len(table) for table in tables):
        raise ArgumentError("Expected `boxes` with at least one box; got none.")
    masks: list[Any] = []
    for table in tables:
        filled = torch.zeros(len(table), height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(filled, table.tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        masks.append(filled)
    return from_masks(inputs, masks)


def _is_per_image(boxes: Any) -> bool:
    """Whether these are tables of boxes, one per image, rather than one table."""
    if not isinstance(boxes, list | tuple):
        return False
    return any(
        hasattr(part, "__len__")
        and (len(part) == 0 or (hasattr(part[0], "__len__") and np.ndim(part[0]) > 0))
        for part in boxes
    )


def _checked(boxes: Any, where: str, height: int, width: int) -> Tensor:
    """One table of boxes as a long tensor (R, 4)."""
    try:
        array = boxes.detach().cpu().numpy() if isinstance(boxes, Tensor) else np.asarray(boxes)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.size == 0 and array.ndim < 3 and array.dtype.kind in "iuf":
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf":
        raise ArgumentError(
            f"Expected `boxes`{where} to be (R, 4), x0, y0, x1, y1 in pixels; got "
            f"{describe(boxes)}."
        )
    for row, box in enumerate(array.tolist()):
        x0, y0, x1, y1 = box
        if not all(float(value).is_integer() for value in box):
            fault = "whole numbers of pixels"
        elif not (x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height):
            fault = f"inside the image, of width {width} and height {height}"
        elif not (x0 < x1 and y0 < y1):
            fault = "with a pixel inside, x0 < x1 and y0 < y1"
        else:
            continue
        raise ArgumentError(f"Expected `boxes`{where} {fault}; box {row} is {box}.")
    return torch.from_numpy(array.astype(np.int64))

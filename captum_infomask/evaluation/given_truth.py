# The ground truth of each picture, from any of the forms that data sets use.
from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.evaluation.coco_files import ImageBoxes
from captum_infomask.evaluation.object_localisation import checked_boxes
from captum_infomask.masks.outlines import component_boxes

GroundTruth: TypeAlias = (
    Tensor | ImageBoxes | Sequence[Tensor | ImageBoxes] | tuple[Tensor, int | Sequence[int]]
)

_FORMS = (
    "a boolean mask (N, C, H, W), (N, H, W) or (H, W), boxes (K, 4), a list of either, a label map "
    "of integers (N, H, W), or a pair of a label map and the right labels"
)


@dataclass(frozen=True, eq=False)
class Truth:
    """The ground truth of one picture.

    Args:
        mask: (H, W), boolean, with at least one True.
        boxes: (K, 4), float64, K ≥ 1: x0, y0, x1, y1 in pixels, half-open.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.given_truth import Truth
        >>> Truth(torch.ones(2, 4).bool(), torch.tensor([[0.0, 0.0, 4.0, 2.0]])).mask.shape
        torch.Size([2, 4])
    """

    mask: Tensor
    boxes: Tensor


def ground_truth(given: GroundTruth, inputs: Tensor, targets: Sequence[int]) -> tuple[Truth, ...]:
    """Turn ground truth into one mask and its boxes per picture.

    If only boxes are known, the mask is their union: the pixels whose centre lies in a box. If only
    a mask is known, the boxes are those of its connected parts.

    Args:
        given: One of

            - a boolean mask: (N, C, H, W), of which any channel counts, or (N, H, W), where the
              first dimension may be 1 for all pictures; or (H, W) for one picture; or a list with
              (H, W) or (C, H, W) for each picture;
            - boxes, x0, y0, x1, y1 in pixels, half-open: (K, 4) for one picture, or a list with
              (K, 4) or :class:`ImageBoxes` for each picture;
            - a label map: integers (N, H, W), or (H, W) for one picture, right where the label is
              the picture's target;
            - a pair of a label map and which label is right, one for all pictures or one each.

            Tensors may be numpy arrays.
        inputs: The pictures, (N, C, H, W); only the shape is read.
        targets: The N classes.

    Returns:
        One :class:`Truth` per picture, on the CPU.

    Raises:
        ArgumentError: The form or shape is wrong; a picture has no right pixel; or boxes are for
            pictures of another size.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.given_truth import ground_truth
        >>> boxes = torch.tensor([[1, 0, 3, 2]])
        >>> ground_truth(boxes, torch.zeros(1, 3, 2, 4), [0])[0].mask.int()
        tensor([[0, 1, 1, 0],
                [0, 1, 1, 0]], dtype=torch.int32)
    """
    count, (height, width) = len(inputs), inputs.shape[-2:]
    value: Any = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
    if isinstance(value, list | tuple) and value and all(map(_is_mask, value)):
        value = _stacked(value)
    if isinstance(value, ImageBoxes) or (_is_numbers(value) and value.shape[1:] == (4,)):
        value = [value]
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        masks = _mask(value, count, height, width)
    elif _is_integers(value):
        masks = _labels(value, targets, count, height, width)
    elif _is_pair(value):
        masks = _labels(value[0], value[1], count, height, width)
    elif isinstance(value, list | tuple) and all(map(_is_boxes, value)):
        return _boxes(value, count, height, width)
    else:
        raise ArgumentError(
            f"Expected `ground_truth` to be {_FORMS}; got {describe(given)}.{_meant(value)}"
        )
    labels = ""
    if _is_integers(value):
        labels = " Integers are labels, right where they are the target's; a mask is boolean."
    for place, mask in enumerate(masks):
        if not mask.any():
            raise ArgumentError(
                f"Expected `ground_truth` with a right pixel in every picture; picture {place} has "
                f"none. Leave such pictures out.{labels}"
            )
    return tuple(
        Truth(mask, torch.from_numpy(component_boxes(mask.numpy(), "all")).double())
        for mask in masks
    )


def _meant(value: object) -> str:
    """The form that the user probably meant."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return " Did you mean ground_truth > 0?"
    if isinstance(value, list | tuple) and all(isinstance(one, list | tuple) for one in value):
        return " Make tensors of boxes, [torch.tensor(boxes), ...]."
    if isinstance(value, list | tuple) and len(value) == 4:
        return " Did you mean one box, torch.tensor([[x0, y0, x1, y1]])?"
    return ""


def _is_numbers(value: object) -> bool:
    """Whether these are numbers in two dimensions or more."""
    return isinstance(value, Tensor) and value.dtype != torch.bool and value.ndim > 1


def _is_integers(value: object) -> bool:
    """Whether this may be a label map."""
    return isinstance(value, Tensor) and _is_numbers(value) and not value.is_floating_point()


def _is_boxes(value: object) -> bool:
    """Whether this holds the boxes of one picture."""
    return isinstance(value, ImageBoxes | Tensor | np.ndarray)


def _is_mask(value: object) -> bool:
    """Whether this is a mask of one picture, (H, W) or (C, H, W)."""
    if not isinstance(value, Tensor | np.ndarray):
        return False
    return value.dtype in (torch.bool, np.bool_) and value.ndim in (2, 3)


def _stacked(masks: Sequence[Any]) -> Tensor:
    """One mask for each picture as (N, H, W)."""
    tensors = [torch.as_tensor(mask).detach().cpu() for mask in masks]
    planes = [mask.any(0) if mask.ndim == 3 else mask for mask in tensors]
    sizes = {tuple(plane.shape) for plane in planes}
    if len(sizes) > 1:
        raise ArgumentError(f"Expected `ground_truth` of one size; got masks of {sorted(sizes)}.")
    return torch.stack(planes)


def _is_pair(value: object) -> bool:
    """Whether this is a label map with the right labels, rather than two pictures' boxes."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    which = value[1]
    return isinstance(which, numbers.Integral | list | tuple) or (
        isinstance(which, Tensor | np.ndarray) and which.ndim < 2
    )


def _mask(value: Tensor, count: int, height: int, width: int) -> Tensor:
    """A boolean mask as (N, H, W)."""
    mask = value.detach().cpu()
    if mask.ndim == 4:
        mask = mask.any(1)
    mask = mask[None] if mask.ndim == 2 and count == 1 else mask
    if mask.shape not in ((count, height, width), (1, height, width)):
        raise ArgumentError(
            f"Expected `ground_truth` to be a mask of {_pictures(count, height, width)}; got "
            f"{describe(value)}."
        )
    return mask.expand(count, -1, -1)


def _labels(given: Any, which: Any, count: int, height: int, width: int) -> Tensor:
    """The pixels of a label map with the right label, (N, H, W)."""
    labels = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
    if not _is_integers(labels) or (labels[None] if labels.ndim == 2 else labels).shape != (
        count,
        height,
        width,
    ):
        raise ArgumentError(
            f"Expected `ground_truth` to be a label map of integers for "
            f"{_pictures(count, height, width)}; got {describe(given)}."
        )
    right = which.tolist() if isinstance(which, Tensor | np.ndarray) else which
    right = list(right) if isinstance(right, list | tuple) else [right] * count
    whole = all(isinstance(label, numbers.Integral) for label in right)
    if len(right) != count or not whole:
        raise ArgumentError(
            f"Expected `ground_truth`'s right labels to be one integer, or one for each of the "
            f"{count} pictures; got {describe(which)}."
        )
    return labels.detach().cpu().reshape(count, height, width) == torch.tensor(right)[:, None, None]


def _boxes(value: Sequence[Any], count: int, height: int, width: int) -> tuple[Truth, ...]:
    """Boxes together with their unions."""
    if len(value) != count:
        raise ArgumentError(
            f"Expected `ground_truth` to hold boxes (K, 4) for each of the {count} pictures; got "
            f"{len(value)}."
        )
    truths = []
    for place, entry in enumerate(value):
        if isinstance(entry, ImageBoxes) and entry.size != (height, width):
            raise ArgumentError(
                f"Expected `ground_truth`[{place}] for a picture of {height} × {width} pixels; got "
                f"boxes for {entry.size[0]} × {entry.size[1]}. ImageBoxes.resized converts them."
            )
        raw = entry.boxes if isinstance(entry, ImageBoxes) else entry
        raw = torch.from_numpy(raw) if isinstance(raw, np.ndarray) else raw
        boxes = checked_boxes(f"ground_truth[{place}]", raw).cpu()
        mask = _union(boxes, height, width)
        if not mask.any():
            raise ArgumentError(
                f"Expected `ground_truth`[{place}] with a box that covers a pixel of the picture; "
                f"got {describe(boxes.tolist())}. Leave pictures without objects out."
            )
        truths.append(Truth(mask, boxes))
    return tuple(truths)


def _union(boxes: Tensor, height: int, width: int) -> Tensor:
    """The pixels whose centre lies in a box, (H, W)."""
    rows, columns = (torch.arange(length).double()[None] + 0.5 for length in (height, width))
    x0, y0, x1, y1 = (side[:, None] for side in boxes.unbind(1))
    down, across = (rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1)
    return (down[:, :, None] & across[:, None]).any(0)


def _pictures(count: int, height: int, width: int) -> str:
    """The pictures' number and size, in words."""
    return f"{count} picture{'s' if count > 1 else ''} of {height} × {width} pixels"

# Smooths masks of images, and removes small specks and holes.
from __future__ import annotations

import math
import numbers

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.masks.mask_planes import mask_planes


def clean_masks(masks: Tensor, *, smooth: int = 0, min_area: float = 0) -> Tensor:
    r"""Smooth the outlines of masks of images, and remove specks and holes.

    .. math::

        M'_p = \bigl[\, |M \cap D_r(p)| > \tfrac12 |D_r| \,\bigr]

    A pixel p is in the new mask if the mask covers more than half of the disk of radius r
    (``smooth``) around it. This is a median filter. It treats mask and background in the same way,
    so it favours neither. Then connected parts, and holes, of fewer than ``min_area`` pixels are
    removed. Parts are connected at edges or corners, holes at edges only. A pixel counts if any
    channel has it, and all channels of the result are equal.

    The filter works on the mask, not on the attributions. A blur would lower peaks and mix them
    with their neighbours, so a threshold in bits would no longer be one.

    Args:
        masks: Boolean (N, C, H, W).
        smooth: Radius of the disk in pixels; 0 leaves outlines as they are.
        min_area: Pixels as an int, or a share of the picture, below 1, as a float; 0 leaves
            everything.

    Returns:
        Boolean masks of the same shape, on the same device.

    Raises:
        ArgumentError: ``masks`` is not boolean or has another shape; ``smooth`` is not an integer
            of at least 0; ``min_area`` is neither a share nor a number of pixels that the pictures
            have.

    Example:
        >>> import torch
        >>> from captum_infomask.masks.clean_up import clean_masks
        >>> mask = torch.tensor([[[[1, 1, 1, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0]]]]).bool()
        >>> clean_masks(mask, min_area=2)[0, 0].int()
        tensor([[1, 1, 1, 0, 0],
                [1, 1, 1, 0, 0],
                [1, 1, 1, 0, 0]], dtype=torch.int32)

    Source: ``skimage.filters.median``, which mirrors the picture at its border, and
    ``skimage.measure.label``.
    """
    check_clean_up(smooth, min_area)
    planes = mask_planes(masks)
    pixels = _pixels(min_area, planes.shape[1:])
    cleaned = np.stack([_without_specks(_smoothed(plane, smooth), pixels) for plane in planes])
    return torch.from_numpy(cleaned)[:, None].to(masks.device).expand(masks.shape).contiguous()


def check_clean_up(smooth: object, min_area: object) -> None:
    """Refuse settings that suit no picture."""
    if not isinstance(smooth, numbers.Integral) or isinstance(smooth, bool) or smooth < 0:
        raise ArgumentError(
            f"Expected `smooth` to be a radius in pixels, an integer of at least 0; got "
            f"{short_repr(smooth)}."
        )
    share_below = math.inf if isinstance(min_area, numbers.Integral) else 1
    if (
        not isinstance(min_area, numbers.Real)
        or isinstance(min_area, bool)
        or not 0 <= float(min_area) < share_below
    ):
        raise ArgumentError(
            f"Expected `min_area` to be a number of pixels (an int from 0) or a share of the "
            f"picture (a float below 1); got {describe(min_area)}."
        )


def _pixels(min_area: float, size: tuple[int, ...]) -> int:
    """The smallest area that stays, in pixels of a picture of (height, width)."""
    whole = math.prod(size)
    if isinstance(min_area, numbers.Integral):
        if min_area > whole:
            raise ArgumentError(
                f"Expected `min_area` of at most {whole} pixels, the whole picture; got {min_area}."
            )
        return int(min_area)
    return math.ceil(min_area * whole)


def _smoothed(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    """The value of most pixels of the disk around each pixel."""
    from skimage.filters import median
    from skimage.morphology import disk

    if radius == 0:
        return mask
    result: npt.NDArray[np.bool_] = median(
        mask.astype(np.uint8), disk(radius), mode="reflect"
    ).astype(bool)
    return result


def _without_specks(mask: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    """The mask without small parts, then without small holes."""
    parts = _large_parts(mask, pixels, connectivity=2)
    return ~_large_parts(~parts, pixels, connectivity=1)


def _large_parts(
    mask: npt.NDArray[np.bool_], pixels: int, *, connectivity: int
) -> npt.NDArray[np.bool_]:
    """The connected parts of at least so many pixels."""
    # remove_small_objects is not used: its size has other names in other scikit-image versions.
    from skimage.measure import label

    parts = label(mask, connectivity=connectivity)
    large = np.bincount(parts.ravel()) >= pixels
    result: npt.NDArray[np.bool_] = mask & large[parts]
    return result

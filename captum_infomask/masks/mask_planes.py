# Masks as planes of pixels: how they are checked, smoothed and cleaned up.
from __future__ import annotations

import math
import numbers

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError


def mask_places(masks: object) -> npt.NDArray[np.bool_]:
    """Masks of images, signals or volumes without channels: a pixel counts if any channel has it.

    Args:
        masks: Boolean (N, C, H, W), (N, C, T) or (N, C, D, H, W), a tensor or a 1-tuple of one, on
            any device.

    Returns:
        (N, H, W), (N, T) or (N, D, H, W), boolean, in its own memory.

    Raises:
        ArgumentError: ``masks`` is something else, or has no pixels.

    Example:
        >>> import torch
        >>> from captum_infomask.masks.mask_planes import mask_places
        >>> mask_places(torch.tensor([[[[True, False]], [[False, False]]]])).tolist()
        [[[True, False]]]
    """
    mask = _only_one(masks)
    if (
        not isinstance(mask, Tensor)
        or mask.dtype != torch.bool
        or not 3 <= mask.dim() <= 5
        or mask.numel() == 0
    ):
        raise ArgumentError(
            f"Expected `masks` to be a boolean tensor (N, C, H, W), or (N, C, T) or (N, C, D, H, W)"
            f"; got {describe(mask)}.{_meant(mask)}"
        )
    return mask.any(1).cpu().numpy()


def mask_planes(masks: object) -> npt.NDArray[np.bool_]:
    """Masks of images as (N, H, W): a pixel counts if any channel has it.

    Args:
        masks: Boolean (N, C, H, W), a tensor or a 1-tuple of one, on any device.

    Returns:
        (N, H, W), boolean, in its own memory.

    Raises:
        ArgumentError: ``masks`` is something else, or has no pixels.
    """
    mask = _only_one(masks)
    if isinstance(mask, Tensor) and mask.dim() != 4 and mask.dtype == torch.bool:
        hint = " masks.unsqueeze(0) adds a batch dimension, masks.unsqueeze(1) one of channels."
        if mask.dim() == 5:
            hint = " masks[:, :, k] is slice k of volumes."
        raise ArgumentError(
            f"Expected `masks` of images, boolean (N, C, H, W); got {describe(mask)}."
            f"{hint if mask.dim() in (3, 5) else ''}"
        )
    return mask_places(mask)


def _only_one(masks: object) -> object:
    return masks[0] if isinstance(masks, tuple) and len(masks) == 1 else masks


def _meant(given: object) -> str:
    """How to make a mask from something else."""
    if callable(getattr(given, "boxes", None)):
        return " Its own mask(rule) makes them, and boxes(rule) their boxes."
    if isinstance(given, np.ndarray):
        return " torch.from_numpy(masks) makes one of an array."
    if not isinstance(given, Tensor):
        return ""
    if given.is_floating_point():
        return " threshold_mask(attributions, rule) makes masks of attributions."
    if given.dtype == torch.bool and given.dim() == 2:
        return " masks[None, None] adds the dimensions of a batch and of channels."
    return "" if given.dtype == torch.bool else " masks > 0 is boolean."


def attribution_planes(attributions: object) -> list[npt.NDArray[np.float64]]:
    """Attributions of images as one plane (H, W) each: the mean over channels.

    Args:
        attributions: Floating-point (N, C, H, W), a tensor or a 1-tuple of one. For pictures of
            several sizes, a list of (C, H, W).

    Returns:
        One (H, W), float64, per picture, in its own memory.

    Raises:
        ArgumentError: ``attributions`` is something else, or holds NaN or infinity.

    Example:
        >>> import torch
        >>> from captum_infomask.masks.mask_planes import attribution_planes
        >>> attribution_planes(torch.tensor([[[[1.0, 2.0]], [[3.0, 2.0]]]]))
        [array([[2., 2.]])]
    """
    given = attributions
    if isinstance(given, tuple) and len(given) == 1:
        given = given[0]
    listed = isinstance(given, list)
    pictures = list(given) if isinstance(given, list) else [given]
    if not pictures:
        raise ArgumentError("Expected `attributions` of at least one picture; got an empty list.")
    planes: list[npt.NDArray[np.float64]] = []
    for place, picture in enumerate(pictures):
        if (
            not isinstance(picture, Tensor)
            or not picture.is_floating_point()
            or picture.dim() != (3 if listed else 4)
            or picture.numel() == 0
        ):
            raise ArgumentError(
                "Expected `attributions` to be a floating-point tensor (N, C, H, W) or a list of "
                f"(C, H, W); got {describe(picture)}{f' at place {place}' if listed else ''}."
            )
        if not bool(picture.isfinite().all()):
            raise ArgumentError("Expected `attributions` without NaN or infinity; got some.")
        planes.extend(
            picture.detach().double().mean(-3).reshape(-1, *picture.shape[-2:]).cpu().numpy()
        )
    return planes


def normalised(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scale a picture's values to [0, 1] by its minimum and maximum; a constant picture to 0.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.masks.mask_planes import normalised
        >>> normalised(np.array([[-1.0, 0.0, 3.0]]))
        array([[0.  , 0.25, 1.  ]])
    """
    low, high = plane.min(), plane.max()
    if low == high:
        return np.zeros_like(plane)
    # We halve the values, because the range of finite values may be infinite.
    values: npt.NDArray[np.float64] = (plane / 2 - low / 2) / (high / 2 - low / 2)
    return np.clip(values, 0, 1)


def clean_masks(masks: Tensor, *, smooth: int = 0, min_area: float = 0) -> Tensor:
    r"""Smooth the outlines of masks of images, and remove specks and holes.

    .. math::

        M'_p = \bigl[\, |M \cap D_r(p)| > \tfrac12 |D_r| \,\bigr]

    A pixel p is in the new mask if the mask covers more than half of the disk of radius r
    (``smooth``) around it; for signals an interval, for volumes a ball. This is a median filter. It
    treats mask and background in the same way,
    so it favours neither. Then connected parts, and holes, of fewer than ``min_area`` pixels are
    removed. Parts are connected at edges or corners, holes at edges (of voxels: faces) only. A
    pixel counts if any
    channel has it, and all channels of the result are equal.

    The filter works on the mask, not on the attributions. A blur would lower peaks and mix them
    with their neighbours, so a threshold in bits would no longer be one.

    Args:
        masks: Boolean (N, C, H, W), (N, C, T) or (N, C, D, H, W).
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
        >>> from captum_infomask.masks.mask_planes import clean_masks
        >>> mask = torch.tensor([[[[1, 1, 1, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0]]]]).bool()
        >>> clean_masks(mask, min_area=2)[0, 0].int()
        tensor([[1, 1, 1, 0, 0],
                [1, 1, 1, 0, 0],
                [1, 1, 1, 0, 0]], dtype=torch.int32)

    Source: ``scipy.ndimage.median_filter``, which mirrors the picture at its border, and
    ``skimage.measure.label``.
    """
    check_clean_up(smooth, min_area)
    planes = mask_places(masks)
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
    """The smallest area that stays, in pixels of a picture of these sides."""
    whole = math.prod(size)
    if isinstance(min_area, numbers.Integral):
        if min_area > whole:
            raise ArgumentError(
                f"Expected `min_area` of at most {whole} pixels, the whole picture; got {min_area}."
            )
        return int(min_area)
    return math.ceil(min_area * whole)


def _smoothed(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    """The value of most pixels of the disk, or the ball, around each pixel."""
    from scipy.ndimage import median_filter

    if radius == 0:
        return mask
    places = np.ogrid[(slice(-radius, radius + 1),) * mask.ndim]
    near = sum(place**2 for place in places) <= radius**2
    result: npt.NDArray[np.bool_] = median_filter(
        mask.astype(np.uint8), footprint=near, mode="reflect"
    ).astype(bool)
    return result


def _without_specks(mask: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    """The mask without small parts, then without small holes."""
    parts = _large_parts(mask, pixels, connectivity=mask.ndim)
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

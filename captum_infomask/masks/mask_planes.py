# Turns masks and attributions in Captum's format into one plane per example.
from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError


def mask_planes(masks: object) -> npt.NDArray[np.bool_]:
    """Masks of images as (N, H, W): a pixel counts if any channel has it.

    Args:
        masks: Boolean (N, C, H, W), a tensor or a 1-tuple of one, on any device.

    Returns:
        (N, H, W), boolean, in its own memory.

    Raises:
        ArgumentError: ``masks`` is something else, or has no pixels.

    Example:
        >>> import torch
        >>> from captum_infomask.masks.mask_planes import mask_planes
        >>> mask_planes(torch.tensor([[[[True, False]], [[False, False]]]])).tolist()
        [[[True, False]]]
    """
    mask = masks[0] if isinstance(masks, tuple) and len(masks) == 1 else masks
    if (
        not isinstance(mask, Tensor)
        or mask.dtype != torch.bool
        or mask.dim() != 4
        or mask.numel() == 0
    ):
        raise ArgumentError(
            f"Expected `masks` to be a boolean tensor (N, C, H, W); got {describe(mask)}."
            f"{_meant(mask)}"
        )
    return mask.any(1).cpu().numpy()


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
    if given.dtype == torch.bool and given.dim() == 3:
        return " masks.unsqueeze(0) adds a batch dimension, masks.unsqueeze(1) one of channels."
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

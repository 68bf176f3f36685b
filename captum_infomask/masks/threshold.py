# Attributions → masks, in Captum's attribution format.
from __future__ import annotations

from typing import overload

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask._types import TensorOrTensors, Tensors
from captum_infomask.masks.mask_planes import check_clean_up, clean_masks, mask_places
from captum_infomask.masks.rules import (
    Hysteresis,
    MaxFraction,
    Rule,
    as_rule,
    check_no_rule,
    hanging_together,
)


@overload
def threshold_mask(
    attributions: Tensor,
    rule: Rule | float = ...,
    *,
    smooth: int = ...,
    min_area: float = ...,
    invert: bool = ...,
) -> Tensor: ...
@overload
def threshold_mask(
    attributions: Tensors,
    rule: Rule | float = ...,
    *,
    smooth: int = ...,
    min_area: float = ...,
    invert: bool = ...,
) -> Tensors: ...
def threshold_mask(
    attributions: TensorOrTensors,
    rule: Rule | float = MaxFraction(0.2),
    *,
    smooth: int = 0,
    min_area: float = 0,
    invert: bool = False,
) -> TensorOrTensors:
    """Mask of the elements whose attribution passes a rule, from any Captum method.

    Each example is cut separately. With a tuple of inputs, the rule sees all of an example's
    tensors together. Only positive values pass. Clean-up, for images, signals and volumes, comes
    after the rule.

    Args:
        attributions: (N, ...), a tensor or a tuple of tensors.
        rule: ``MaxFraction``, ``TopFraction``, ``Otsu``, ``AtLeast`` or ``Hysteresis``; a number
            between 0 and 1 means ``MaxFraction``.
        smooth: Radius in pixels of the disk, interval or ball that smooths outlines; 0 leaves them
            as they are.
        min_area: Smaller connected parts and holes are removed. An int counts pixels; a float below
            1 is a share of the picture.
        invert: True gives the opposite mask, which hides the target instead of keeping it.

    Returns:
        Boolean masks of the same type and shapes; ``inputs * mask`` shows the kept part. With
        clean-up or ``Hysteresis`` all channels are equal, and a pixel counts if any channel passes.

    Raises:
        ArgumentError: Attributions are not floating-point tensors or hold NaN; the rule is unknown;
            the settings of the clean-up fit no picture; or clean-up or ``Hysteresis`` is used for
            attributions that have no places, (N, F).

    Warns:
        UserWarning: The mask of an example is empty; the warning says why.

    Example:
        >>> import torch
        >>> from captum_infomask import threshold_mask
        >>> threshold_mask(torch.tensor([[-1.0, 0.1, 1.0]]))
        tensor([[False, False,  True]])

    Source: arXiv 1910.02629, Sec. 5 (info-masking); :func:`clean_masks` says what clean-up does.
    """
    check_no_rule(attributions)
    cut = as_rule(rule)
    check_clean_up(smooth, min_area)
    tensors = _check_attributions(attributions)
    if smooth or min_area or isinstance(cut, Hysteresis):
        _check_images(tensors, cut)
    masks = _passing(tensors, cut)
    if isinstance(cut, Hysteresis):
        strong = _passing(tensors, cut.high)
        masks = tuple(_connected(low, high) for low, high in zip(masks, strong, strict=True))
    counts = _pixels_kept(masks)
    if smooth or min_area:
        masks = tuple(clean_masks(mask, smooth=smooth, min_area=min_area) for mask in masks)
    for example, left in enumerate(_pixels_kept(masks)):
        if not left:
            why = _why_empty(tensors, cut, example, counts[example])
            warn(f"The mask of example {example} is empty: {why}.")
    if invert:
        masks = tuple(~mask for mask in masks)
    return masks if isinstance(attributions, tuple) else masks[0]


def _passing(tensors: Tensors, rule: Rule) -> Tensors:
    """Which elements reach the rule's threshold, example by example."""
    n = len(tensors[0])
    flat = torch.cat([tensor.detach().reshape(n, -1) for tensor in tensors], dim=1)
    kept = torch.zeros_like(flat, dtype=torch.bool)
    for values, row in zip(flat, kept, strict=True):
        if float(values.max()) > 0:
            row.copy_((values >= rule.threshold(values)) & (values > 0))
    parts = kept.split([tensor[0].numel() for tensor in tensors], dim=1)
    return tuple(
        part.reshape(tensor.shape).contiguous() for part, tensor in zip(parts, tensors, strict=True)
    )


def _connected(low: Tensor, high: Tensor) -> Tensor:
    """The parts of ``low`` that contain a pixel of ``high``; all channels are equal."""
    planes = zip(mask_places(low), mask_places(high), strict=True)
    chosen = torch.from_numpy(np.stack([hanging_together(*pair) for pair in planes]))
    return chosen[:, None].to(low.device).expand(low.shape).contiguous()


def _pixels_kept(masks: Tensors) -> list[int]:
    """How many elements each example keeps."""
    counts = torch.stack([mask.flatten(1).sum(1) for mask in masks]).sum(0)
    return [int(count) for count in counts]


def _why_empty(tensors: Tensors, rule: Rule, example: int, passed: int) -> str:
    """Say why a mask is empty."""
    largest = max(float(tensor[example].max()) for tensor in tensors)
    if largest <= 0:
        return (
            f"no attribution is positive (the largest is {largest:.3g}), so nothing speaks for the "
            "target"
        )
    if passed:
        return f"clean-up took out all {passed} elements that {rule} keeps"
    return f"the largest attribution, {largest:.3g}, does not reach {rule}"


def _check_images(tensors: Tensors, rule: Rule) -> None:
    """Refuse attributions whose elements have no neighbours."""
    for tensor in tensors:
        if not 3 <= tensor.dim() <= 5:
            what = f"`rule`={rule}" if isinstance(rule, Hysteresis) else "`smooth` or `min_area`"
            raise ArgumentError(
                f"Expected `attributions` of images, (N, C, H, W), or of signals or volumes, with "
                f"{what}; got {describe(tensor)}."
            )


def _meant(given: object) -> str:
    """How to make attributions from something else."""
    if callable(getattr(given, "mask", None)):
        return " Its own mask(rule) cuts it."
    if isinstance(given, np.ndarray):
        return " torch.from_numpy(attributions) makes a tensor of an array."
    if isinstance(given, Tensor) and given.dtype == torch.bool:
        return " This is a mask already."
    return ""


def _check_attributions(attributions: TensorOrTensors) -> Tensors:
    """Return the attributions as a tuple of tensors of one batch size."""
    tensors = attributions if isinstance(attributions, tuple) else (attributions,)
    for tensor in tensors:
        if (
            not isinstance(tensor, Tensor)
            or not tensor.dtype.is_floating_point
            or tensor.dim() == 0
            or tensor.numel() == 0
        ):
            raise ArgumentError(
                f"Expected `attributions` to be floating-point tensors (N, ...); got "
                f"{describe(tensor)}.{_meant(tensor)}"
            )
        if bool(tensor.isnan().any()):
            raise ArgumentError("Expected `attributions` without NaN; got some.")
    if not tensors or len({len(tensor) for tensor in tensors}) != 1:
        raise ArgumentError(
            f"Expected `attributions` of one batch size; got {[len(t) for t in tensors]}."
        )
    return tensors

# Attributions → masks, in Captum's attribution format.
from __future__ import annotations

import warnings
from typing import overload

import torch
from torch import Tensor

from captum_infomask._checks import ArgumentError, describe
from captum_infomask._types import TensorOrTensors, Tensors
from captum_infomask.masks.rules import MaxFraction, Rule, check_rule


@overload
def threshold_mask(attributions: Tensor, rule: Rule = ..., *, invert: bool = ...) -> Tensor: ...
@overload
def threshold_mask(attributions: Tensors, rule: Rule = ..., *, invert: bool = ...) -> Tensors: ...
def threshold_mask(
    attributions: TensorOrTensors, rule: Rule = MaxFraction(0.2), *, invert: bool = False
) -> TensorOrTensors:
    """Mask of the elements whose attribution passes a rule, from any Captum method.

    Each example is cut by itself; with a tuple of inputs the rule sees all of an example's tensors
    together. Only positive values are ever kept.

    Args:
        attributions: (N, ...), a tensor or a tuple of tensors.
        rule: ``MaxFraction``, ``TopFraction``, ``Otsu`` or ``AtLeast``.
        invert: True hides the target (False where it is) instead of keeping it.

    Returns:
        Boolean masks of the same type and shapes, so that ``inputs * mask`` shows what is kept.

    Raises:
        ArgumentError: Attributions that are no floating-point tensors or hold NaN; an unknown rule.

    Warns:
        UserWarning: Nothing reaches the rule's threshold in an example, and why.

    Example:
        >>> import torch
        >>> from captum_infomask import threshold_mask
        >>> threshold_mask(torch.tensor([[-1.0, 0.1, 1.0]]))
        tensor([[False, False,  True]])

    Source: arXiv 1910.02629, Sec. 5 (info-masking).
    """
    check_rule(rule)
    tensors = _check_attributions(attributions)
    n = len(tensors[0])
    flat = torch.cat([tensor.detach().reshape(n, -1) for tensor in tensors], dim=1)
    kept = torch.stack([_keep(values, rule, i) for i, values in enumerate(flat)])
    if invert:
        kept = ~kept
    parts = kept.split([tensor[0].numel() for tensor in tensors], dim=1)
    masks = tuple(
        part.reshape(tensor.shape).contiguous() for part, tensor in zip(parts, tensors, strict=True)
    )
    return masks if isinstance(attributions, tuple) else masks[0]


def _keep(values: Tensor, rule: Rule, example: int) -> Tensor:
    largest = float(values.max())
    if largest <= 0:
        warnings.warn(
            f"The mask of example {example} is empty: no attribution is positive (the largest is "
            f"{largest:.3g}), so nothing speaks for the target.",
            UserWarning,
            stacklevel=4,
        )
        return torch.zeros_like(values, dtype=torch.bool)
    threshold = rule.threshold(values)
    kept = (values >= threshold) & (values > 0)
    if not bool(kept.any()):
        warnings.warn(
            f"The mask of example {example} is empty: the largest attribution, {largest:.3g}, does "
            f"not reach {rule}.",
            UserWarning,
            stacklevel=4,
        )
    return kept


def _check_attributions(attributions: TensorOrTensors) -> Tensors:
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
                f"{describe(tensor)}."
            )
        if bool(tensor.isnan().any()):
            raise ArgumentError("Expected `attributions` without NaN; got some.")
    if not tensors or len({len(tensor) for tensor in tensors}) != 1:
        raise ArgumentError(
            f"Expected `attributions` of one batch size; got {[len(t) for t in tensors]}."
        )
    return tensors

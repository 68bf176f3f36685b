# What imputers check: their settings, and that inputs are images where only images make sense.
from __future__ import annotations

import numbers

from captum_infomask._checks import random_seed, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors


def float_images(imputer: str, inputs: Tensors) -> None:
    """Refuse inputs that are no floating-point images (N, C, H, W)."""
    for x in inputs:
        if x.dim() != 4 or not x.dtype.is_floating_point:
            raise ArgumentError(
                f"Expected floating-point images (N, C, H, W) for the imputer {imputer}; got "
                f"inputs of shape {tuple(x.shape)} and dtype {x.dtype}."
            )


def float_inputs(imputer: str, inputs: Tensors) -> None:
    """Refuse inputs that are not floating-point; their shape may be any."""
    for x in inputs:
        if not x.dtype.is_floating_point:
            raise ArgumentError(
                f"Expected floating-point inputs for the imputer {imputer}; got inputs of shape "
                f"{tuple(x.shape)} and dtype {x.dtype}."
            )


def draw_number(seed: object, index: object) -> tuple[int, int]:
    """Return the seed of a series of draws and the number of one of them."""
    if not isinstance(index, numbers.Integral) or isinstance(index, bool) or index < 0:
        raise ArgumentError(
            f"Expected `index` to be an integer of at least 0; got {short_repr(index)}."
        )
    return random_seed(seed), int(index)

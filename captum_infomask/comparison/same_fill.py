# What hidden pixels become, the same for all methods and metrics of a comparison.
from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor

from captum_infomask._checks import describe, plain
from captum_infomask._errors import ArgumentError
from captum_infomask.imputers.constant import Constant

Fill: TypeAlias = float | Tensor


def checked_fill(inputs: Tensor, baselines: Any) -> Fill:
    """Return a number, or one picture for all examples; 0 if None."""
    if baselines is None:
        return 0.0
    number = plain(baselines)
    picture: Tensor = Constant(number).prepare((inputs,)).pictures[0]
    if len(picture) != 1:
        raise ArgumentError(
            f"Expected `baselines` to be a number or one picture {(1, *inputs.shape[1:])} for all "
            f"inputs; got {describe(baselines)}."
        )
    return picture if isinstance(number, Tensor) else float(number)


def fill_picture(inputs: Tensor, fill: Fill) -> Tensor:
    """The fill as a picture, (1, C, H, W)."""
    picture: Tensor = Constant(fill).prepare((inputs,)).pictures[0]
    return picture.expand(1, *inputs.shape[1:])


def fill_words(fill: Fill) -> str:
    """Say what the fill is."""
    return f"{fill:g}" if isinstance(fill, float) else "the picture given as `baselines`"

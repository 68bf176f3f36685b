# What compare() is given, checked: pictures, targets, names, and the same fill for all methods.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from torch import Tensor

from captum_infomask._checks import check_callable, check_inputs, describe, plain
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Target
from captum_infomask.imputers.constant import Constant
from captum_infomask.scores.targets import ONE_LOGIT, target_table


def checked_images(model: object, inputs: object) -> Tensor:
    """Return finite images (N, C, H, W), without a graph."""
    check_callable("model", model)
    if isinstance(inputs, tuple) or check_inputs(inputs)[0].dim() != 4:
        is_one = isinstance(inputs, Tensor) and inputs.dim() == 3
        hint = " inputs.unsqueeze(0) adds a batch dimension." if is_one else ""
        raise ArgumentError(
            f"Expected `inputs` to be one tensor of images (N, C, H, W); got {describe(inputs)}."
            f"{hint}"
        )
    images = check_inputs(inputs)[0].detach()
    if not bool(images.isfinite().all()):
        raise ArgumentError("Expected `inputs` to be finite; got NaN or infinity.")
    return images


def checked_target(target: Target, n: int) -> list[int] | None:
    """Return one class per picture; None where the network is asked."""
    table = target_table(target, n)
    if table is not None and table.shape[1] != 1:
        raise ArgumentError(
            f"Expected `target` with one class per picture, for logits (N, M); got "
            f"{describe(target)}. A class for each is a list, such as {table[0].tolist()}."
        )
    return None if table is None else [int(label) for label in table[:, 0]]


def checked_categories(categories: object) -> tuple[str, ...]:
    """Return the classes' names; nothing if None."""
    if categories is None:
        return ()
    if isinstance(categories, str) or not isinstance(categories, Sequence) or not categories:
        raise ArgumentError(
            f"Expected `categories` to hold the classes' names; got {describe(categories)}."
        )
    return tuple(str(name) for name in categories)


def targets_among(table: list[int] | None, answers: Tensor, names: tuple[str, ...]) -> list[int]:
    """The targets, now that the network's answers (N, M) are there."""
    classes = answers.shape[1]
    if names and len(names) != classes:
        raise ArgumentError(
            f"Expected `categories` to hold {classes} names, one per class; got {len(names)}."
        )
    if table is None:
        return [int(label) for label in answers.argmax(1)]
    wrong = [label for label in table if label >= classes]
    if wrong and classes == 1:
        raise ArgumentError(
            f"Expected `target` 0 or None for one logit per picture; got {wrong[0]}. {ONE_LOGIT}"
        )
    if wrong:
        raise ArgumentError(f"Expected `target` from 0 to {classes - 1}; got {wrong[0]}.")
    return table


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

# The settings of a score: their types, and the checks of a prior and a temperature.
from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Sequence
from typing import Any, Literal, SupportsFloat, TypedDict

import torch
from torch import Tensor

from captum_infomask._checks import describe, finite_number, folded, one_of, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.heads import HEADS, SOFTMAX_HEADS, AnyHead, Head
from captum_infomask.scores.targets import Groups
from captum_infomask.scores.value_heads import Normal, ValueHead

Unit = Literal["bits", "nats"]
TrainedWith = Literal["cross_entropy", "pc_softmax"]
Balanced = Literal["balanced"]
Prior = float | Sequence[float] | Tensor | Balanced | Normal | None

_FEW_CLASSES = 5  # up to so many classes are written out

# The names of losses and heads that users may write for a head of values.
_VALUE_HEADS = {
    **dict.fromkeys(("gaussian", "normal", "regression", "mse", "l2"), "Gaussian(sigma)"),
    **dict.fromkeys(("laplace", "mae", "l1"), "Laplace(scale)"),
}

NATS_PER_UNIT = {"bits": math.log(2), "nats": 1.0}


class PosteriorSettings(TypedDict, total=False):
    """The settings of :class:`Score` that give p(y | v), except the temperature."""

    head: Head | ValueHead
    prior: Prior
    trained_with: TrainedWith


class ScoreSettings(PosteriorSettings, total=False):
    """All settings of :class:`Score`, for functions that take them by name."""

    temperature: SupportsFloat
    unit: Unit
    groups: Groups


def as_argument(name: str, value: Any) -> str:
    """A setting as Python, or the number of its classes if they are many."""
    if name == "temperature":
        return f"{value:g}"
    if name == "prior" and isinstance(value, list) and len(value) > _FEW_CLASSES:
        return f"<{len(value)} classes>"
    if name == "groups":
        held = sum(map(len, value))
        is_short = held <= _FEW_CLASSES
        return repr(list(map(list, value))) if is_short else f"<{held} classes in {len(value)}>"
    return repr(value)


def checked_temperature(temperature: object, head: AnyHead = "logits") -> float:
    """A number above 0, from a number, a fitted temperature, or a tensor of one element."""
    if isinstance(temperature, SupportsFloat) and not isinstance(temperature, numbers.Number):
        given = temperature.detach() if isinstance(temperature, Tensor) else temperature
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            temperature = float(given)
    found = finite_number("temperature", temperature, above=0)
    if found != 1 and isinstance(head, ValueHead):
        raise ArgumentError(
            f"Expected `temperature` 1 for head={head!r}, whose own scale says how sure the "
            f"network is; got {found:g}. {type(head).__name__}.of_errors(errors) fits that scale."
        )
    return found


def checked_head(head: object) -> AnyHead:
    """A head by its name, or a head of values."""
    if isinstance(head, ValueHead) and not isinstance(head, type):
        return head
    known = _VALUE_HEADS.get(folded(getattr(head, "__name__", str(head))))
    if known is not None:
        raise ArgumentError(
            f"Expected `head` to be {known}, of captum_infomask, for the value of a regression "
            f"network; got {short_repr(head)}."
        )
    return one_of("head", head, HEADS)


def checked_density(prior: object, head: ValueHead) -> Normal:
    """The distribution of the values, for the same columns of the output as the head."""
    if not isinstance(prior, Normal):
        raise ArgumentError(
            f"Expected `prior` to be the distribution of the values, Normal(mean, std), for "
            f"head={head!r}; got {short_repr(prior)}. estimate_prior(values, of='values') gives "
            f"it for the values of training."
        )
    if prior.columns and head.columns and prior.columns != head.columns:
        raise ArgumentError(
            f"Expected `prior` and `head` for the same columns of the output; got {prior} and "
            f"{head!r}."
        )
    return prior


def checked_prior(prior: object, head: AnyHead) -> Tensor | Balanced | None:
    """A prior as float64 on the CPU, one probability per class; None or a word if uniform."""
    if prior is None:
        return None
    if isinstance(prior, Normal):
        raise ArgumentError(
            f"Expected `prior` to hold one probability per class for head={head!r}; got {prior}, "
            f"which is for values. Pass head=Gaussian(sigma) for a regression network."
        )
    if isinstance(prior, str):
        return _checked_word(prior, head)
    if head == "raw":
        raise ArgumentError("Expected `prior` to be None for head='raw', which does not use it.")
    try:
        values = torch.as_tensor(prior, dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(
            f"Expected `prior` to hold one probability per class; got {describe(prior)}."
        ) from None
    if values.dim() > 1 or (values.dim() == 0 and head != "sigmoid") or values.numel() == 0:
        raise ArgumentError(
            f"Expected `prior` to be one-dimensional, a probability per class; got "
            f"{describe(values)}."
        )
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ArgumentError(
            f"Expected `prior` to hold probabilities between 0 and 1; got {describe(prior)}."
        )
    if head == "sigmoid":
        if not bool(((values > 0) & (values < 1)).all()):
            raise ArgumentError(
                f"Expected `prior` strictly between 0 and 1 for head='sigmoid'; got "
                f"{describe(prior)}."
            )
    elif abs(float(values.sum()) - 1) > 1e-3:
        raise ArgumentError(f"Expected `prior` to sum to 1; got a sum of {float(values.sum()):g}.")
    return values


def _checked_word(prior: str, head: AnyHead) -> Balanced:
    """The word for a uniform prior that is known to be that of the labels."""
    if prior != "balanced" or head not in SOFTMAX_HEADS:
        raise ArgumentError(
            f"Expected `prior` to hold one probability per class, or to be 'balanced' for a "
            f"softmax whose labels are known to be equally likely; got {short_repr(prior)} for "
            f"head={head!r}."
        )
    return "balanced"

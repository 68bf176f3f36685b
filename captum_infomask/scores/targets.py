# Turns all of Captum's forms of `target` into one table of indices. A row is an example; a column
# is an output dimension.
from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Target

_FORMS = {
    "target": "an int, a tuple of ints, a one-element tensor, a list of ints or 1-D tensor with "
    "one target per example, or a list of tuples",
    "contrast": "a class, a list of ints or 1-D tensor with one class per example, or 'runner_up'",
}

ONE_LOGIT = "The other one of two classes is asked for by the negative logit: lambda x: -model(x)."


def target_table(target: Target, n: int, name: str = "target") -> Tensor | None:
    """Return the targets as a long tensor of shape (n, number of indexed dimensions), or None.

    Args:
        target: In any of Captum's forms.
        n: The number of examples.
        name: The argument's name, ``target`` or ``contrast``, for messages.
    """
    if target is None:
        return None
    rows = _rows(target, n, name)
    if len(rows) != n:
        several = " inputs.repeat_interleave(k, 0) asks of each of k classes." if n == 1 else ""
        raise ArgumentError(
            f"Expected `{name}` to hold one {name} per example, {n} in all; got {len(rows)}."
            f"{several}"
        )
    if len({len(row) for row in rows}) != 1:
        raise ArgumentError(f"Expected `{name}` tuples of one length; got {describe(target)}.")
    wrong = [index for row in rows for index in row if not 0 <= index < 2**63]
    if wrong:
        raise ArgumentError(f"Expected `{name}` to hold indices of at least 0; got {wrong[0]}.")
    return torch.tensor(rows, dtype=torch.long)


def _rows(target: Any, n: int, name: str) -> list[tuple[int, ...]]:
    if isinstance(target, Tensor | np.ndarray):
        values = torch.as_tensor(target)
        if values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool:
            scores = " scores.argmax(1) gives a class per example." if values.dim() == 2 else ""
            raise ArgumentError(
                f"Expected `{name}` to hold integers; got {describe(values)}.{scores}"
            )
        if values.numel() == 1:
            return [(int(values.item()),)] * n
        if values.dim() != 1:
            flat = f" {name}.flatten() is one." if values.numel() == n else ""
            raise ArgumentError(
                f"Expected `{name}` to be {_FORMS[name]}; got {describe(values)}.{flat}"
            )
        return [(int(value),) for value in values.tolist()]
    if isinstance(target, list):
        if not target:
            raise ArgumentError(f"Expected `{name}` to be {_FORMS[name]}; got an empty list.")
        return [_indices(entry, target, name) for entry in target]
    return [_indices(target, target, name)] * n


def _indices(entry: object, target: object, name: str) -> tuple[int, ...]:
    entries = entry if isinstance(entry, tuple) else (entry,)
    if isinstance(entry, Tensor) and entry.numel() == 1 and not entry.dtype.is_floating_point:
        entries = (int(entry.item()),)
    if not entries or not all(
        isinstance(value, numbers.Integral) and not isinstance(value, bool) for value in entries
    ):
        named = ""
        if any(isinstance(value, str) for value in entries):
            named = " Classes are told by number: class_names.index(name)."
        raise ArgumentError(
            f"Expected `{name}` to be {_FORMS[name]}; got {describe(target)}.{named}"
        )
    return tuple(int(value) for value in entries)


def check_range(table: Tensor | None, shape: tuple[int, ...], name: str = "target") -> None:
    """Refuse targets that do not pick exactly one value per example of an output of this shape."""
    sizes = shape[1:]
    if table is None:
        if any(size != 1 for size in sizes):
            raise ArgumentError(
                f"Expected `{name}` to pick one value per example of the output of shape "
                f"{shape}; got None. Pass target=<class index>."
            )
        return
    if not sizes and table.shape[1] == 1 and not bool(table.any()):
        return  # a single number per example is class 0
    if table.shape[1] != len(sizes):
        given = tuple(table[0].tolist())
        hint = f"Reduce the output in `forward_func`, or give a tuple of {len(sizes)} indices."
        if len(sizes) == 1:
            hint = f"A class per example is a list, such as {list(given)}."
        raise ArgumentError(
            f"Expected `{name}` to pick one value per example of the output of shape {shape}, "
            f"with {len(sizes)} indices; got {given if len(given) != 1 else given[0]}. {hint}"
        )
    for dim, size in enumerate(sizes):
        column = table[:, dim]
        wrong = column[(column < 0) | (column >= size)]
        if len(wrong) and size == 1:
            raise ArgumentError(
                f"Expected `{name}` 0 or None for the one value per example of the output of shape "
                f"{shape}; got {int(wrong[0])}. {ONE_LOGIT}"
            )
        if len(wrong):
            raise ArgumentError(
                f"Expected `{name}` between 0 and {size - 1} in dimension {dim + 1} of the output "
                f"of shape {shape}; got {int(wrong[0])}."
            )


def select(values: Tensor, table: Tensor | None) -> Tensor:
    """Pick each example's value: (B, ...) and (B, k) → (B,)."""
    if table is None or values.dim() == 1:
        return values.reshape(len(values))
    columns = table.to(values.device).unbind(1)
    return values[(torch.arange(len(values), device=values.device), *columns)]

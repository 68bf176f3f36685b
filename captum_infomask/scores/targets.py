# Targets in any form that Captum takes, and groups of classes that count as one target.
from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from captum_infomask._categories import checked_categories
from captum_infomask._checks import describe, plain, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Target
from captum_infomask.scores.heads import SOFTMAX_HEADS, AnyHead

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
    return torch.tensor(rows, dtype=torch.long, device="cpu")


def _rows(target: Any, n: int, name: str) -> list[tuple[int, ...]]:
    if isinstance(target, Tensor | np.ndarray):
        values = torch.as_tensor(target, device="cpu")
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
        numbers_held = [plain(getattr(value, "category", None)) for value in entries]
        if isinstance(numbers_held[0] if numbers_held else None, int):  # pytorch-grad-cam's
            named = f" Its class is its number: {name}={numbers_held[0]}."
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


Groups: TypeAlias = Sequence[Sequence[int] | Tensor] | None
CheckedGroups: TypeAlias = tuple[tuple[int, ...], ...]

_FORM = "a list of groups, each a list of class numbers of at least 0"


def check_possible(
    classes: Tensor, prior: Tensor | None, groups: CheckedGroups | None, argument: str
) -> None:
    """Refuse targets that the prior, (M,), (G,) or (), or the groups show to be out of range."""
    known = groups if prior is None or prior.dim() == 0 else prior
    if known is None:
        return
    count = len(known)
    wrong = classes[(classes < 0) | (classes >= count)]
    if len(wrong):
        why = f"`prior` has {count} classes"
        if groups is not None:
            why = f"{argument}s count the {count} `groups`"
        raise ArgumentError(
            f"Expected `{argument}` between 0 and {count - 1}, as {why}; got {int(wrong[0])}."
        )
    impossible = classes[:0] if prior is None else classes[prior[classes] == 0]
    if len(impossible):
        kind = "class" if groups is None else "group"
        raise ArgumentError(
            f"Expected `prior` above 0 for the {argument}; {kind} {int(impossible[0])} has 0, "
            f"and the information about an impossible {kind} is not defined."
        )


def checked_groups(groups: object, head: AnyHead, prior: Tensor | None) -> CheckedGroups | None:
    """Return groups as tuples of class numbers.

    Raises:
        ArgumentError: The head has no probabilities that add up; a group is empty, or a class is in
            two of them, or the prior has no such class.
    """
    if groups is None:
        return None
    if head not in SOFTMAX_HEADS:
        why = "outputs are no probabilities of classes"
        why = "labels are independent" if head == "sigmoid" else why
        raise ArgumentError(
            f"Expected no `groups` for head={head!r}, whose {why} and do not add up; got "
            f"{short_repr(groups)}."
        )
    if not isinstance(groups, list | tuple) or not groups:
        raise ArgumentError(f"Expected `groups` to be {_FORM}; got {describe(groups)}.")
    found = tuple(_members(group, groups) for group in groups)
    twice = [number for number, count in Counter(chain(*found)).items() if count > 1]
    if twice:
        raise ArgumentError(
            f"Expected `groups` to hold each class at most once; class {twice[0]} comes again."
        )
    if prior is not None:
        check_members(found, len(prior), f"`prior` has {len(prior)} classes")
    return found


def check_members(groups: CheckedGroups, classes: int, because: str) -> None:
    """Refuse groups with members that are not among the network's classes."""
    wrong = [number for number in chain(*groups) if number >= classes]
    if wrong:
        raise ArgumentError(
            f"Expected `groups` to hold classes from 0 to {classes - 1}, as {because}; got "
            f"{wrong[0]}."
        )


def merged_classes(values: Tensor, groups: CheckedGroups) -> Tensor:
    """Log Σ exp over each group's classes: (N, M, ...) → (N, G, ...)."""
    by_size: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        by_size.setdefault(len(group), []).append(place)
    parts = []
    for size, places in by_size.items():  # few, because these are sizes of disjoint groups
        members = torch.tensor([groups[place] for place in places], device=values.device)
        picked = values.index_select(1, members.flatten()).unflatten(1, members.shape)
        parts.append(picked[:, :, 0] if size == 1 else torch.logsumexp(picked, dim=2))
    order = torch.tensor(list(chain(*by_size.values())), device="cpu").argsort()
    return torch.cat(parts, dim=1).index_select(1, order.to(values.device))


def with_rest(groups: CheckedGroups, classes: int) -> CheckedGroups:
    """The groups, and a last group of all classes that are in none, if there are any."""
    rest = tuple(sorted(set(range(classes)) - set(chain(*groups))))
    return (*groups, rest) if rest else groups


def group_names(names: Sequence[str], groups: CheckedGroups | None) -> tuple[str, ...]:
    """The names of targets: the classes' names, or a group's first class and its size.

    Raises:
        ArgumentError: A group has a class without a name.
    """
    if groups is None:
        return tuple(names)
    check_members(groups, len(names), f"the network has {len(names)} classes")
    return tuple(
        names[group[0]] + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        for group in groups
    )


@runtime_checkable
class Named(Protocol):
    """A network with the names of its classes, such as a ``Classifier``."""

    @property
    def network(self) -> Callable[..., Any]:
        """The network."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of its classes, in the order of its outputs."""
        ...


def network_and_names(
    model: Callable[..., Any] | Named, categories: object, groups: CheckedGroups | None
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Return a model's network, and the names of what its targets count, if they are known.

    Args:
        model: The network, or one with the names of its classes.
        categories: The names of the targets; None takes the model's own, if it has some.
        groups: Classes that count as one.

    Raises:
        ArgumentError: ``categories`` are no names.
    """
    names = checked_categories(categories)
    if callable(model) or not isinstance(model, Named):
        return model, names
    return model.network, names or group_names(model.categories, groups)


def network_of(model: Callable[..., Any] | Named) -> Callable[..., Any]:
    """Return a model's network: that of a ``Classifier``, or the model itself."""
    return network_and_names(model, None, None)[0]


def _members(group: object, groups: object) -> tuple[int, ...]:
    numbers = group.tolist() if isinstance(group, Tensor | np.ndarray) else group
    if not isinstance(numbers, list | tuple | range):
        hint = f" One group of these classes is [{short_repr(groups)}]."
        is_flat = isinstance(plain(numbers), int)
        raise ArgumentError(
            f"Expected `groups` to be {_FORM}; got {describe(groups)}.{hint if is_flat else ''}"
        )
    if not numbers:
        raise ArgumentError(f"Expected `groups` without an empty one; got {describe(groups)}.")
    members = [plain(number) for number in numbers]
    for number in members:
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ArgumentError(
                f"Expected `groups` to be {_FORM}; got {short_repr(number)} in one."
            )
    return tuple(members)

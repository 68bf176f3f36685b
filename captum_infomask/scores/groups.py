# Groups of classes, merged by adding their probabilities.
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe, plain, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.heads import SOFTMAX_HEADS

Groups: TypeAlias = Sequence[Sequence[int] | Tensor] | None
CheckedGroups: TypeAlias = tuple[tuple[int, ...], ...]

_FORM = "a list of groups, each a list of class numbers of at least 0"


def checked_groups(groups: object, head: str, prior: Tensor | None) -> CheckedGroups | None:
    """Return groups as tuples of class numbers.

    Raises:
        ArgumentError: The head has no probabilities that add up; a group is empty, or a class is in
            two of them, or the prior has no such class.
    """
    if groups is None:
        return None
    if head not in SOFTMAX_HEADS:
        why = "labels are independent" if head == "sigmoid" else "outputs are no probabilities"
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
    order = torch.tensor(list(chain(*by_size.values()))).argsort()
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

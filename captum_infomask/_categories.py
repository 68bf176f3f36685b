# The names of classes: their checks, and a target by its name.
from __future__ import annotations

import difflib
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from captum_infomask._checks import describe, folded, short_repr
from captum_infomask._errors import ArgumentError

_FEW = 10  # so many names fit in a message


def checked_categories(categories: object) -> tuple[str, ...]:
    """Return the classes' names; nothing if None."""
    if categories is None:
        return ()
    if isinstance(categories, str) or not isinstance(categories, Sequence) or not categories:
        raise ArgumentError(
            f"Expected `categories` to hold the classes' names; got {describe(categories)}."
        )
    return tuple(str(name) for name in categories)


def check_count(categories: Sequence[str], classes: int) -> None:
    """Refuse names that are more or fewer than the classes."""
    if categories and len(categories) != classes:
        raise ArgumentError(
            f"Expected `categories` to hold {classes} names, one per class; got {len(categories)}."
        )


def numbered(argument: str, given: Any, categories: Sequence[str], where: str) -> Any:
    """Return a target, or several, with numbers in the place of the classes' names.

    Args:
        argument: The argument's name, for messages.
        given: A class, a place, or a list of these; anything that is no name stays as it is.
        categories: The classes' names; empty if they are not known.
        where: The call that takes the names, such as ``InfoMask(model, categories=names)``.

    Raises:
        ArgumentError: A name is unknown, names several classes, or no names are known.
    """
    if isinstance(given, str):
        if not categories:
            raise ArgumentError(
                f"Expected `{argument}` to be a class number, because the network's category names "
                f"are not known; got {short_repr(given)}. {where} takes names. "
                f"{argument}=names.index({short_repr(given)}) is the number."
            )
        return resolve_target(given, categories, argument)
    if isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "UO":
        given = given.tolist()
    if isinstance(given, list):
        return [numbered(argument, each, categories, where) for each in given]
    if isinstance(given, tuple) and given and isinstance(given[0], str):
        first = numbered(argument, given[0], categories, where)
        # A tuple of names is one name per example; a name and numbers are a place.
        rest = [numbered(argument, each, categories, where) for each in given[1:]]
        return [first, *rest] if isinstance(given[-1], str) else (first, *rest)
    return given


def resolve_target(target: int | str, categories: Sequence[str], argument: str = "target") -> int:
    """Return the index of a target that is given as an index or as a category name.

    An exact name is tried first, then an index, then a name that differs only in case, spaces,
    hyphens and underscores.

    Args:
        target: An index in [0, M), or a category name.
        categories: The M category names.
        argument: The argument's name, for messages.

    Returns:
        The index.

    Raises:
        ArgumentError: if the index is out of range, or if the name is unknown (the error gives the
            nearest names) or names more than one category.

    Example:
        >>> from captum_infomask.models.classifier import resolve_target
        >>> resolve_target("Tiger_Cat", ["cup", "tiger cat"])
        1
    """
    count = len(categories)
    index = _as_index(target, categories)
    if index is not None:
        if not 0 <= index < count:
            raise ArgumentError(
                f"Expected `{argument}` to be an index from 0 to {count - 1} or a category name; "
                f"got {short_repr(target)}."
            )
        return index
    known, given = [folded(name) for name in categories], folded(str(target))
    matches = [i for i, name in enumerate(categories) if name == target]
    matches = matches or [i for i, name in enumerate(known) if name == given]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ArgumentError(
            f"Expected `{argument}` to name one category; {target!r} names the indices {matches}. "
            "Give an index."
        )
    word = str(target).casefold()
    near = [name for name in categories if word in name.casefold().split()]
    near += [categories[known.index(name)] for name in difflib.get_close_matches(given, known)]
    hint = f" Nearest: {', '.join(dict.fromkeys(near[:5]))}." if near else ""
    if not near and count <= _FEW:
        hint = f" They are: {', '.join(categories)}."
    raise ArgumentError(
        f"Expected `{argument}` to be one of the network's {count} category names or an index from "
        f"0 to {count - 1}; got {short_repr(target)}.{hint}"
    )


def _as_index(target: int | str, categories: Sequence[str]) -> int | None:
    """Read a target as an index; None if it is a category's exact name or not a number."""
    if isinstance(target, numbers.Integral) and not isinstance(target, bool):
        return int(target)
    if isinstance(target, str) and target not in categories:
        try:
            return int(target)
        except ValueError:
            return None
    return None

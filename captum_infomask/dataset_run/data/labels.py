# Maps the labels of the data to the network's classes.
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.models.classifier import resolve_target
from captum_infomask.scores.groups import CheckedGroups

Label: TypeAlias = str | int | None

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def label_classes(
    labels: Sequence[Label],
    categories: Sequence[str],
    *,
    folders: bool = False,
    given: bool = False,
) -> tuple[int | None, ...]:
    """Return the network's class for every label.

    An integer is an index. If all folders have names of categories, each folder means this
    category. Otherwise, if there are as many folders as classes, the sorted folders are the classes
    in order, as in torchvision's ``ImageFolder``. Each word of a column is a name or an index. If
    no word is either, words are treated like folders.

    If the name of a folder is a number, its meaning does not depend on the other folders. Its place
    in the order must be its number, or the categories must be given by these names.

    Args:
        labels: N labels.
        categories: The M categories' names.
        folders: Whether the labels are names of folders, which must all mean a class.
        given: Whether ``categories`` were given with the data. If not, categories that are only
            indices name no folder.

    Returns:
        N classes from 0 to M − 1; None if a label means no class (``label_error`` says why).

    Raises:
        ArgumentError: if the names of folders do not say which class each is; the message shows the
            possible meanings.

    Example:
        >>> from captum_infomask.dataset_run.data.labels import label_classes
        >>> label_classes(["n02", "n01", "n02"], ["cat", "dog"])
        (1, 0, 1)
        >>> label_classes(["dog", "0", 1, None, "cow", 2], ["cat", "dog"])
        (1, 0, 1, None, None, None)
        >>> label_classes(["1", "10", "2"], ["1", "2", "10"], folders=True, given=True)
        (0, 2, 1)
    """
    folded = {name.casefold() for name in categories}
    known = {label: _class_of(label, categories, folded) for label in set(labels)}
    words = sorted(label for label in known if isinstance(label, str) and (folders or label))
    if folders:
        are_names = given or list(categories) != [str(k) for k in range(len(categories))]
        known.update(_folder_classes(words, known, folded if are_names else set(), len(categories)))
    elif len(words) == len(categories) and not any(
        word.casefold() in folded or _NUMBER.fullmatch(word) for word in words
    ):
        known.update({word: place for place, word in enumerate(words)})
    return tuple(known[label] for label in labels)


def groups_of(
    classes: Sequence[int | None], groups: CheckedGroups | None
) -> tuple[int | None, ...]:
    """The group of each class; None if it is in no group. Without groups, the classes.

    Example:
        >>> from captum_infomask.dataset_run.data.labels import groups_of
        >>> groups_of([4, 2, None, 0], ((0, 4), (1,)))
        (0, None, None, 0)
    """
    if groups is None:
        return tuple(classes)
    places = {member: place for place, group in enumerate(groups) for member in group}
    return tuple(None if one is None else places.get(one) for one in classes)


def label_error(label: Label, categories: Sequence[str], *, grouped: bool = False) -> str:
    """Say why a label means no class, or no class in a group.

    Example:
        >>> from captum_infomask.dataset_run.data.labels import label_error
        >>> label_error(7, ["cat", "dog"])
        'Expected the label to be an index from 0 to 1 or a category name; got 7.'
    """
    given = "none" if label is None else short_repr(label)
    return (
        f"Expected the label to be an index from 0 to {len(categories) - 1} or a category name"
        f"{', of a class in one of the `groups`' * grouped}; got {given}."
    )


def _folder_classes(
    words: Sequence[str], known: Mapping[Label, int | None], names: set[str], count: int
) -> dict[str, int]:
    """The classes of all folders, sorted; ``known`` has the classes of names and numbers."""
    found = {word: known[word] for word in words if word.casefold() in names}
    classes = {word: index for word, index in found.items() if index is not None}
    if len(classes) == len(words):
        return classes
    numbers = [word for word in words if _NUMBER.fullmatch(word)]
    if not found and len(words) == count:
        places = {word: place for place, word in enumerate(words)}
        unlike = [word for word in numbers if places[word] != int(word)]
        if not unlike:
            return places
        readings = (
            f"{unlike[0]!r} may be class {places[unlike[0]]}, its place among the sorted names as "
            f"in torchvision's ImageFolder, or {_by_number(unlike[0], count)}"
        )
    elif not found and len(numbers) == len(words):
        readings = (
            f"{words[-1]!r} may be {_by_number(words[-1], count)}, or its place among the sorted "
            f"names of all {count} folders, as in torchvision's ImageFolder, of which "
            f"{len(words)} are there"
        )
    else:
        unknown = next(word for word in words if word not in classes)
        is_what = "names several categories" if unknown in found else "is no category"
        readings = f"{len(words)} sub-folders, and {short_repr(unknown)} {is_what}"
    raise ArgumentError(
        f"Expected the sub-folders to be named as the network's {count} categories are, or to be "
        f"{count} whose sorted order is the categories'; got {readings}. Pass `categories`, the "
        "sub-folders' names in the order of the network's outputs (ImageFolder's `classes`; a "
        "file for --categories), or the target 'prediction'."
    )


def _by_number(word: str, count: int) -> str:
    """The meaning of a number as an index."""
    index = int(word)
    return f"class {index}, its number" if 0 <= index < count else "no class by its number"


def _class_of(label: Label, categories: Sequence[str], folded: set[str]) -> int | None:
    """One label's class."""
    # Without this, `resolve_target` would search for near names, which takes long.
    if isinstance(label, str) and label.casefold() not in folded and not _NUMBER.fullmatch(label):
        return None
    if label is None:
        return None
    try:
        return resolve_target(label, categories)
    except ArgumentError:
        return None

# From what the data says of a picture's class to the network's class.
from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from captum_infomask._checks import ArgumentError, short_repr
from captum_infomask.models.classifier import resolve_target

Label: TypeAlias = str | int | None


def label_classes(
    labels: Sequence[Label], categories: Sequence[str], *, folders: bool = False
) -> tuple[int | None, ...]:
    """Return the network's class for every label.

    An integer is an index. A word is a category's name or an index. If not all of the words are,
    none is a name, and there are exactly as many different ones as categories, the words in order
    stand for the categories in order, as in torchvision's ``ImageFolder`` (WordNet's ids, or 1 to
    102).

    Args:
        labels: N labels.
        categories: The M categories' names.
        folders: Whether the labels are names of folders, which must then all stand for a class.

    Returns:
        N classes from 0 to M − 1; None where a label stands for none (``label_error`` says why).

    Raises:
        ArgumentError: if ``folders`` and the words are neither.

    Example:
        >>> from captum_infomask.dataset_run.data.labels import label_classes
        >>> label_classes(["n02", "n01", "n02"], ["cat", "dog"])
        (1, 0, 1)
        >>> label_classes(["dog", "0", 1, None, "cow", 2], ["cat", "dog"])
        (1, 0, 1, None, None, None)
    """
    folded = {name.casefold() for name in categories}
    known = {label: _class_of(label, categories, folded) for label in set(labels)}
    words = sorted(label for label in known if isinstance(label, str))
    unknown = [word for word in words if known[word] is None]
    has_names = any(word.casefold() in folded and not _is_number(word) for word in words)
    if unknown and len(words) == len(categories) and not has_names:
        known.update({word: index for index, word in enumerate(words)})
    elif unknown and folders:
        raise ArgumentError(
            f"Expected the sub-folders to be named as the network's {len(categories)} categories "
            f"are, or by index, or to be {len(categories)} whose order is the categories'; got "
            f"{len(words)} sub-folders, and {short_repr(unknown[0])} is no category. "
            "Targets may be predictions instead."
        )
    return tuple(known[label] for label in labels)


def label_error(label: Label, categories: Sequence[str]) -> str:
    """Say why a label stands for no class.

    Example:
        >>> from captum_infomask.dataset_run.data.labels import label_error
        >>> label_error(7, ["cat", "dog"])
        'Expected the label to be an index from 0 to 1 or a category name; got 7.'
    """
    given = "none" if label is None else short_repr(label)
    return (
        f"Expected the label to be an index from 0 to {len(categories) - 1} or a category name; "
        f"got {given}."
    )


def _class_of(label: Label, categories: Sequence[str], folded: set[str]) -> int | None:
    """One label's class."""
    # Without this, `resolve_target` would look for names that are near, which takes long.
    if isinstance(label, str) and label.casefold() not in folded and not _is_number(label):
        return None
    if label is None:
        return None
    try:
        return resolve_target(label, categories)
    except ArgumentError:
        return None


def _is_number(word: str) -> bool:
    """Whether a word can be an index."""
    try:
        int(word)
    except ValueError:
        return False
    return True

# The list of a run's pictures with their keys and labels.
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import whole_file
from captum_infomask.dataset_run.data.data_pictures import DataPictures
from captum_infomask.dataset_run.data.reading import LoadedPicture, Skipped
from captum_infomask.dataset_run.shards import read_sealed, stops_without_space, write_sealed
from captum_infomask.models.classifier import resolve_target
from captum_infomask.scores.targets import CheckedGroups

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
        >>> from captum_infomask.dataset_run.listing import label_classes
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
        >>> from captum_infomask.dataset_run.listing import groups_of
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
        >>> from captum_infomask.dataset_run.listing import label_error
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


LISTING_NAME = "keys.parquet"


@dataclass(frozen=True, eq=False)
class Listing:
    """A run's pictures in their fixed order; added pictures come after them.

    Attributes:
        keys: All pictures' keys.
        classes: Each picture's target, or None if its label names no class. Empty for predictions.
        labels: Each picture's label if it names no class, else None. Empty for predictions.
        ends: The number of pictures at first, and after each extension.
    """

    keys: Sequence[str]
    classes: Sequence[int | None]
    labels: Sequence[str | None]
    ends: Sequence[int]

    @classmethod
    def of(cls, pictures: DataPictures, classes: Sequence[int | None] | None) -> Listing:
        """The list of a new run."""
        keys, found = pictures.keys, classes or ()
        given: Iterable[Label] = () if classes is None else pictures.labels or ()
        labels = [_words(label, k) for label, k in zip(given, found, strict=True)]
        return cls(keys, found, labels, [len(keys)])

    def shards(self, size: int) -> list[range]:
        """The places of each shard's pictures; an extension begins with a new shard."""
        return [
            range(first, min(first + size, end))
            for start, end in pairwise([0, *self.ends])
            for first in range(start, end, size)
        ]

    def save(self, folder: Path, run: str) -> None:
        """Write it, whole or not at all."""
        sizes = [end - start for start, end in pairwise([0, *self.ends])]
        parts = np.repeat(np.arange(len(sizes)), sizes)
        columns = {"key": pa.array(self.keys, pa.string()), "part": pa.array(parts)}
        if self.classes:
            columns |= {
                "class": pa.array(self.classes, pa.int64()),
                "label": pa.array(self.labels, pa.string()),
            }
        path = folder / LISTING_NAME
        with stops_without_space(path), whole_file(path) as beside:
            write_sealed(beside, pa.table(columns), _what(run))

    @classmethod
    def load(cls, folder: Path, run: str) -> Listing:
        """Read a file that ``save`` wrote; raise ``DamagedError`` if it has changed."""
        table = read_sealed(folder / LISTING_NAME, _what(run))
        columns = {name: table[name].to_pylist() for name in table.column_names}
        ends = np.cumsum(np.bincount(table["part"].to_numpy())).tolist()
        return cls(columns["key"], columns.get("class", ()), columns.get("label", ()), ends)

    def going_on(self, now: Listing, folder: Path, *, extend: bool) -> tuple[Listing, list[int]]:
        """The list of the continued run, and the present place of each of its pictures in the data.

        Args:
            now: The list of a new run over the same data.
            folder: The run's folder, for messages.
            extend: Whether pictures may be added.

        Raises:
            ArgumentError: Pictures are gone, are new, or have other labels; the message names one.
        """
        places = {key: k for k, key in enumerate(now.keys)}
        known = set(self.keys)
        gone = [key for key in self.keys if key not in places]
        new = [key for key in now.keys if key not in known]
        if gone:
            raise ArgumentError(
                f"Expected the pictures that the run in {folder} began with; {_some(gone)} gone. "
                f"With other pictures begin a new `out`."
            )
        if new and not extend:
            raise ArgumentError(
                f"Expected the pictures that the run in {folder} began with; {_some(new)} new. "
                f"extend=True (--extend) scores only what is new."
            )
        kept = [places[key] for key in self.keys]
        if now.classes:
            self._check_labels(now, kept, folder)
        if not new:
            return self, kept
        order = [*kept, *(places[key] for key in new)]
        grown = Listing(
            [now.keys[k] for k in order],
            [now.classes[k] for k in order] if now.classes else (),
            [now.labels[k] for k in order] if now.labels else (),
            [*self.ends, len(order)],
        )
        return grown, order

    def _check_labels(self, now: Listing, places: Sequence[int], folder: Path) -> None:
        """Refuse other classes than before."""
        before = list(zip(self.classes, self.labels, strict=True))
        after = [(now.classes[k], now.labels[k]) for k in places]
        changed = [k for k, was in enumerate(before) if was != after[k]]
        if changed:
            keys = [self.keys[k] for k in changed]
            raise ArgumentError(
                f"Expected the labels that the run in {folder} began with; "
                f"{_some(keys, 'has', 'have')} another one ({_label(before[changed[0]])} before, "
                f"{_label(after[changed[0]])} now). With other labels begin a new `out`."
            )


@dataclass(frozen=True, repr=False, eq=False)
class Ordered:
    """The pictures of a data set in the order of a run."""

    pictures: DataPictures
    keys: Sequence[str]
    labels: Sequence[Label] | None
    labels_are_folders: bool
    places: Sequence[int]

    @classmethod
    def of(cls, pictures: DataPictures, places: Sequence[int]) -> DataPictures:
        """The pictures in this order; the same object if the order does not change."""
        if list(places) == list(range(len(pictures.keys))):
            return pictures
        keys, labels = pictures.keys, pictures.labels
        return cls(
            pictures,
            [keys[k] for k in places],
            None if labels is None else [labels[k] for k in places],
            pictures.labels_are_folders,
            places,
        )

    @property
    def skipped(self) -> Skipped:
        """The skipped files of the data set."""
        return self.pictures.skipped

    @property
    def keys_are_numbers(self) -> bool:
        """Whether keys are numbers."""
        return self.pictures.keys_are_numbers

    @property
    def class_names(self) -> Sequence[str] | None:
        """The data set's names of the classes."""
        return self.pictures.class_names

    def load(self, k: int) -> LoadedPicture:
        """Return picture k, not yet decoded."""
        return self.pictures.load(self.places[k])


def _words(label: Label, k: int | None) -> str | None:
    """The part of a label to keep: all of it if it names no class."""
    return None if k is not None or label is None else str(label)


def _label(found: Sequence[object]) -> str:
    """A class, or a label that names no class."""
    return f"class {found[0]}" if found[0] is not None else short_repr(found[1])


def _some(keys: Sequence[str], one: str = "is", more: str = "are") -> str:
    """The number of pictures, and the first of them, in words."""
    first = short_repr(keys[0])
    return f"{first} {one}" if len(keys) == 1 else f"{len(keys)} ({first} first) {more}"


def _what(run: str) -> str:
    return f"pictures of run {run}"

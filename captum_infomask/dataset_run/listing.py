# The list of a run's pictures, written before the first is scored. A continued run uses it.
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import whole_file
from captum_infomask.dataset_run.data.data_pictures import DataPictures
from captum_infomask.dataset_run.data.labels import Label
from captum_infomask.dataset_run.data.reading import Skipped
from captum_infomask.dataset_run.shards import read_sealed, stops_without_space, write_sealed

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

    def read(self, k: int) -> bytes:
        """Return the bytes of picture k's file."""
        return self.pictures.read(self.places[k])


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

# Pictures in the rows of Parquet files.
from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow.parquet as pq

from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.data.files import Files, Skipped, readable
from captum_infomask.dataset_run.data.parquet_columns import (
    Table,
    label_column,
    read_table,
    row_keys,
)

_ROWS = 16  # are decoded at once
_BYTES = 2**20  # are read at once


@dataclass(frozen=True, repr=False, eq=False)
class ParquetPictures:
    """Pictures in the column ``image`` of Parquet files, in the order of files and rows."""

    files: Files
    keys: Sequence[str]
    labels: Sequence[str | int | None] | None
    firsts: Sequence[int]  # the number of every row group's first row
    groups: Sequence[tuple[int, int]]  # every row group's file, and its number there
    columns: Sequence[Sequence[str]]  # where each file has the bytes, and paths to files
    labels_are_folders: bool = False
    _reading: dict[str, _Reading] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, files: Files, target: str) -> ParquetPictures:
        """Read everything but the pictures."""
        column = None if target == "prediction" else target
        tables = [_table(files, number, column) for number in range(len(files.names))]
        groups, firsts, rows = [], [], 0
        for number, table in enumerate(tables):
            for group, count in enumerate(table.group_rows):
                groups.append((number, group))
                firsts.append(rows)
                rows += count
        if not rows:
            raise ArgumentError(f"Expected `data` to hold pictures; {files.names[0]} has no rows.")
        try:
            labels, keys = None if column is None else label_column(tables), row_keys(tables)
        except UnicodeDecodeError as error:
            raise ArgumentError(
                f"Expected keys, paths and labels in {files.root} to be UTF-8; got {error}."
            ) from error
        places = [table.image_columns for table in tables]
        return cls(files, keys, labels, firsts, groups, places)

    @property
    def skipped(self) -> Skipped:
        """What lies among the files and is not read."""
        return self.files.skipped

    def read(self, k: int) -> bytes:
        """Return the bytes of picture k's file; fast where k grows from call to call."""
        place = bisect.bisect_right(self.firsts, k) - 1
        row = k - self.firsts[place]
        reading = self._reading.pop("last", None)  # taken out: two threads must not share it
        if reading is None or not reading.reaches(place, row):
            number, group = self.groups[place]
            reading = _Reading(self.files.source(number), place, group, self.columns[number])
        content, path = reading.row(row)
        self._reading["last"] = reading
        if content is None and path:
            return self.files.read_beside(self.groups[place][0], path)
        if content is None:
            raise OSError("The row holds no picture.")
        return content

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files out."""
        return {**self.__dict__, "_reading": {}}


class _Reading:
    """One row group, read from its start on: as a whole it may not fit into memory."""

    def __init__(
        self, source: str | IO[bytes], place: int, group: int, columns: Sequence[str]
    ) -> None:
        self._at, self._first = (os.getpid(), place), 0
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BYTES)
        self._batches = file.iter_batches(_ROWS, [group], list(columns), use_threads=False)
        self._rows: Any = ()

    def reaches(self, place: int, row: int) -> bool:
        """Whether a row lies ahead, in this row group and this process."""
        return self._at == (os.getpid(), place) and row >= self._first

    def row(self, row: int) -> tuple[bytes | None, str | None]:
        """Read on to a row, and return its bytes and its path, if it has any."""
        while row >= self._first + len(self._rows):
            self._first += len(self._rows)
            self._rows = next(self._batches).column(0)
        content = self._rows[row - self._first].as_py()
        if isinstance(content, dict):
            return content["bytes"], content.get("path")
        return content, None


def _table(files: Files, number: int, label: str | None) -> Table:
    """Read what one file says of its pictures."""
    name = readable(files.names[number])
    try:
        with pq.ParquetFile(files.source(number)) as file:
            return read_table(file, name, label)
    except ArgumentError:
        raise
    except Exception as error:
        raise ArgumentError(
            f"Expected `data` to be Parquet; {name} cannot be read: {error}."
        ) from error

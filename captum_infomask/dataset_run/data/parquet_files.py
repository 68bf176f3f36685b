# Pictures in the rows of Parquet files: their bytes, keys and labels.
from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.data.reading import Files, LoadedPicture, Skipped, readable


@dataclass(frozen=True)
class ParquetTable:
    """The columns of one file, except the pictures; missing columns are None."""

    name: str
    group_rows: Sequence[int]
    image_columns: Sequence[str]
    struct_paths: Any
    keys: Any
    paths: Any
    labels: Any


def read_table(file: Any, name: str, label: str | None) -> ParquetTable:
    """Read the small columns of an opened Parquet file.

    Args:
        file: A ``pyarrow.parquet.ParquetFile``.
        name: Its name, for errors and keys.
        label: The column of labels; None for none.

    Returns:
        The file's columns.

    Raises:
        ArgumentError: if it has no column of pictures, or no column of labels.
    """
    schema = file.schema_arrow
    kind = _column_type(schema, "image", f"Expected a column 'image' of pictures in {name}")
    if not _is_bytes(kind) and not _is_bytes(_part(kind, "bytes")):
        raise ArgumentError(
            f"Expected the column 'image' to hold bytes, or structs of bytes and path; in {name} "
            f"it holds {kind}."
        )
    if label is not None:
        kind_of_label = _column_type(
            schema, label, f"Expected `target` to be a column of {name}; got {label!r}"
        )
        _check_labels(kind_of_label, label, name)

    def column(wanted: str | None) -> Any:
        if wanted not in schema.names:
            return None
        return file.read([wanted], use_threads=False).column(0)

    structs, image_columns = None, ["image" if _is_bytes(kind) else "image.bytes"]
    if _is_text(_part(kind, "path")):
        structs = file.read(["image.path"], use_threads=False).column(0)
        image_columns.append("image.path")
    for key in {"key", "path"} & set(schema.names):
        kind_of_key = schema.field(key).type
        if pa.types.is_nested(kind_of_key):
            raise ArgumentError(
                f"Expected the column {key!r} to hold words or numbers; in {name} it holds "
                f"{kind_of_key}."
            )
    metadata = file.metadata
    return ParquetTable(
        name=name,
        group_rows=[metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)],
        image_columns=image_columns,
        struct_paths=structs,
        keys=column("key"),
        paths=column("path"),
        labels=column(label),
    )


def row_keys(tables: Sequence[ParquetTable]) -> list[str]:
    """Return a key for every row: the structs' paths, a column's, or the rows' numbers.

    Raises:
        ArgumentError: if a column ``key`` or ``path`` is empty in a row, or equal in two rows.
    """
    if all(table.struct_paths is not None for table in tables):
        structs = [row for table in tables for row in table.struct_paths.to_pylist()]
        keys = [row and row["path"] for row in structs]
        if all(keys) and len(set(keys)) == len(keys):
            return keys
    for column, name in (("keys", "key"), ("paths", "path")):
        columns = [getattr(table, column) for table in tables]
        if all(values is not None for values in columns):
            return _unique([key for values in columns for key in values.to_pylist()], name)
    return [f"{table.name}#{row}" for table in tables for row in range(sum(table.group_rows))]


def label_column(tables: Sequence[ParquetTable]) -> list[str | int | None]:
    """Return every row's label; equal labels share one object."""
    known: dict[str | int | None, str | int | None] = {}
    return [
        known.setdefault(label, label) for table in tables for label in table.labels.to_pylist()
    ]


def _unique(keys: Sequence[object], column: str) -> list[str]:
    """A column's values as keys, if it has one for every row."""
    seen: set[object] = set()
    for key in keys:
        if key is None or key in seen:
            given = "a row has none" if key is None else f"{key!r} names two"
            raise ArgumentError(
                f"Expected the column {column!r} to name every picture once; {given}. Without "
                "such a column, files' names and rows' numbers are the keys."
            )
        seen.add(key)
    return [str(key) for key in keys]


def _column_type(schema: Any, column: str, expected: str) -> Any:
    """A column's type, if there is such a column."""
    if column not in schema.names:
        raise ArgumentError(f"{expected}; it has {', '.join(schema.names)}.")
    return schema.field(column).type


def _check_labels(kind: Any, column: str, name: str) -> None:
    """Refuse labels that are neither integers nor words."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise ArgumentError(
            f"Expected the column {column!r} to hold integers or words; in {name} it holds {kind}."
        )


def _part(kind: Any, name: str) -> Any:
    """The type of a struct's field; the type of null if there is none."""
    found = pa.types.is_struct(kind) and kind.get_field_index(name) >= 0
    return kind.field(name).type if found else pa.null()


def _is_bytes(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


_ROWS = 16  # rows that are decoded at once
_BYTES = 2**20  # bytes that are read at once


@dataclass(frozen=True, repr=False, eq=False)
class ParquetPictures:
    """Pictures in the column ``image`` of Parquet files, in the order of files and rows."""

    files: Files
    keys: Sequence[str]
    labels: Sequence[str | int | None] | None
    firsts: Sequence[int]  # the number of every row group's first row
    groups: Sequence[tuple[int, int]]  # every row group's file, and its number there
    columns: Sequence[Sequence[str]]  # the columns of each file for bytes, and for paths to files
    labels_are_folders: bool = False
    class_names: Sequence[str] | None = None
    keys_are_numbers: bool = False
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
        """The files that are not read."""
        return self.files.skipped

    def read(self, k: int) -> bytes:
        """Return the bytes of picture k's file; fast if k grows from call to call."""
        place = bisect.bisect_right(self.firsts, k) - 1
        row = k - self.firsts[place]
        reading = self._reading.pop("last", None)  # removed, because two threads must not share it
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

    def load(self, k: int) -> LoadedPicture:
        """Return picture k, not yet decoded."""
        return LoadedPicture.of_file(self.read(k))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out open files."""
        return {**self.__dict__, "_reading": {}}


class _Reading:
    """One row group, read from its start; all of it may not fit into memory."""

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
        """Read up to a row, and return its bytes and its path, if any."""
        while row >= self._first + len(self._rows):
            self._first += len(self._rows)
            self._rows = next(self._batches).column(0)
        content = self._rows[row - self._first].as_py()
        if isinstance(content, dict):
            return content["bytes"], content.get("path")
        return content, None


def _table(files: Files, number: int, label: str | None) -> ParquetTable:
    """Read the columns of one file, except the pictures."""
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

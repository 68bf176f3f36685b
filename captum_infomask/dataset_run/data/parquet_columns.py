# What Parquet files say of their pictures: where the bytes are, the keys, the labels.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from captum_infomask._errors import ArgumentError


@dataclass(frozen=True)
class Table:
    """What one file says of its pictures; columns that it does not have are None."""

    name: str
    group_rows: Sequence[int]
    image_columns: Sequence[str]
    struct_paths: Any
    keys: Any
    paths: Any
    labels: Any


def read_table(file: Any, name: str, label: str | None) -> Table:
    """Read all of an opened Parquet file that is small.

    Args:
        file: A ``pyarrow.parquet.ParquetFile``.
        name: Its name, for errors and keys.
        label: The column of labels; None for none.

    Returns:
        The file's columns.

    Raises:
        ArgumentError: if it has no column of pictures, or none of labels.
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
    return Table(
        name=name,
        group_rows=[metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)],
        image_columns=image_columns,
        struct_paths=structs,
        keys=column("key"),
        paths=column("path"),
        labels=column(label),
    )


def row_keys(tables: Sequence[Table]) -> list[str]:
    """Return a key for every row: the structs' paths, a column's, or the rows' numbers.

    Raises:
        ArgumentError: if a column ``key`` or ``path`` names a row not at all, or two alike.
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


def label_column(tables: Sequence[Table]) -> list[str | int | None]:
    """Return every row's label; equal ones are one object."""
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
    """The type of a struct's field; null's where there is none."""
    found = pa.types.is_struct(kind) and kind.get_field_index(name) >= 0
    return kind.field(name).type if found else pa.null()


def _is_bytes(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view")

# The files of a run. Each holds its own hash. Says which shards are done, and writes new ones.
from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from captum_infomask._errors import ArgumentError, RunStopped
from captum_infomask._files import PART, whole_file

_BLANK = b"0" * 64  # the placeholder for the hash while the file is hashed
_ENTRY = "captum_infomask"  # the entry in the Parquet file's metadata; other readers ignore it
_NAME = re.compile(r"part-(\d+)\.parquet")
_IN_FLIGHT = (".decoding-", ".scoring-")  # the beginnings of the names of notes
_LEFTOVER = re.compile(
    rf".+\.[0-9a-f]{{12}}{re.escape(PART)}|part-\d{{5,}}\.begun|\.(decoding|scoring)-\d+"
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedError(ArgumentError):
    """A file of a run has changed since it was written."""


def write_sealed(path: Path, table: pa.Table, what: str) -> None:
    """Write a table; the file's metadata holds its name and the SHA-256 of all other bytes.

    The hash is computed with 64 zeros in its place. So no second file is needed, and the file and
    its hash stay together.

    Args:
        path: The path of the file.
        table: The table.
        what: A name that no other file of any run has.
    """
    seal = _seal(what)
    marked = table.replace_schema_metadata({_ENTRY: seal + _BLANK})
    pq.write_table(marked, path, compression="zstd")
    with path.open("r+b") as file:
        content = file.read()
        file.seek(content.rindex(seal + _BLANK) + len(seal))
        file.write(hashlib.sha256(content).hexdigest().encode())


def check_sealed(path: Path, what: str) -> bytes:
    """The bytes of a file that ``write_sealed`` wrote under this name.

    Raises:
        DamagedError: The file is missing, a byte has changed, or it is another file; the message
            names it.
    """
    if not path.is_file():
        raise DamagedError(f"{path.name} is {'no file' if path.exists() else 'missing'}")
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read ({error.strerror})") from error
    seal = _seal(what)
    at = content.obj.rfind(seal) + len(seal)  # type: ignore[attr-defined]
    if at < len(seal):
        raise DamagedError(f"{path.name} is damaged, or no {what}")
    digest = hashlib.sha256(content[:at])
    digest.update(_BLANK)
    digest.update(content[at + len(_BLANK) :])
    if digest.hexdigest().encode() != content[at : at + len(_BLANK)]:
        raise DamagedError(f"{path.name} is damaged")
    return content.obj  # type: ignore[return-value]


def read_sealed(
    path: Path,
    what: str,
    columns: Sequence[str] | None = None,
    *,
    without: Collection[str] = (),
) -> pa.Table:
    """The table of a file that ``write_sealed`` wrote under this name; or ``DamagedError``.

    Args:
        path: The path of the file.
        what: The name.
        columns: The columns to read; None for all.
        without: Columns that are not read.
    """
    file = pq.ParquetFile(pa.BufferReader(check_sealed(path, what)))
    wanted = [
        name
        for name in file.schema_arrow.names
        if name not in without and (columns is None or name in columns)
    ]
    return file.read(wanted).replace_schema_metadata(None)


def _seal(what: str) -> bytes:
    return f"{what}, sha256 ".encode()


TEMPLATE = "map.safetensors"  # a picture's InfoMap: the regions and settings of all others


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"part-{shard:05d}.parquet"


def shards_done(folder: Path) -> set[int]:
    """The shards whose files exist."""
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    numbers = {int(match[1]) for match in found if match}
    return {shard for shard in numbers if os.path.lexists(shard_path(folder, shard))}


def check_no_others(folder: Path, count: int) -> None:
    """Refuse files that readers of ``part-*.parquet`` would read as shards of this run."""
    for name in sorted(os.listdir(folder)):
        found = _NAME.fullmatch(name)
        if found and (name != shard_path(folder, int(found[1])).name or int(found[1]) >= count):
            raise ArgumentError(
                f"Expected the files part-*.parquet of {folder} to be the run's {count}; {name} is "
                f"none of them. Take it out."
            )


def write_shard(folder: Path, shard: int, table: pa.Table, run: str) -> None:
    """Write a shard's rows; the file becomes visible only when all of it is on the disk."""
    path = shard_path(folder, shard)
    if path.is_dir() and not path.is_symlink():
        raise ArgumentError(f"Expected {path} to be a file of the run; it is a folder.")
    with stops_without_space(path), whole_file(path) as beside:
        write_sealed(beside, table, _what(shard, run))


def check_shard(folder: Path, shard: int, run: str) -> None:
    """Raise ``DamagedError`` if a shard is not whole, or belongs to another run."""
    check_sealed(shard_path(folder, shard), _what(shard, run))


def read_shard(
    folder: Path,
    shard: int,
    run: str,
    keys: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    without: Collection[str] = (),
) -> pa.Table:
    """A shard's rows, if it is whole, belongs to this run, and holds these pictures.

    Raises:
        DamagedError: Otherwise. The message names the file and begins a sentence.
    """
    path = shard_path(folder, shard)
    table = read_sealed(path, _what(shard, run), columns, without=without)
    if table["key"].to_pylist() != list(keys):
        raise DamagedError(f"{path.name} holds other pictures than the run's")
    return table


def _what(shard: int, run: str) -> str:
    return f"shard {shard} of run {run}"


def begin_shard(folder: Path, shard: int) -> int:
    """Note on the disk that a worker starts a shard; return the number of starts, with this one."""
    path = _notes(folder, shard)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with stops_without_space(path), os.fdopen(os.open(path, flags, 0o666), "ab") as notes:
        notes.write(b".")
        return notes.tell()


def end_shard(folder: Path, shard: int) -> None:
    """Remove the note about the starts of a shard."""
    _notes(folder, shard).unlink(missing_ok=True)


def _notes(folder: Path, shard: int) -> Path:
    return shard_path(folder, shard).with_suffix(".begun")


@contextmanager
def stops_without_space(path: Path) -> Iterator[None]:
    """Stop the run if the disk is full; it can continue when there is space."""
    try:
        yield
    except (OSError, ArgumentError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _NO_SPACE:
            raise
        raise RunStopped(
            f"No space for {path}: {os.strerror(cause.errno)}. What is done stays; make space, and "
            f"the same call goes on."
        ) from error


def is_leftover(name: str) -> bool:
    """Whether a file is the leftover of a killed worker."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path, *, notes: bool = True) -> None:
    """Remove the leftovers of killed workers; only the holder of the lock may do this.

    Args:
        folder: The run's folder.
        notes: Also remove the notes of pictures in flight, which a continued run reads.
    """
    for name in filter(is_leftover, os.listdir(folder)):
        path = folder / name
        if path.is_dir() or (name.startswith(_IN_FLIGHT) and not notes):
            continue  # a folder is not one of our files
        path.unlink(missing_ok=True)

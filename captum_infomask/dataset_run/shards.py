# The files of a run: which shards are done, and how one becomes visible whole.
from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from captum_infomask._checks import ArgumentError
from captum_infomask._files import PART, whole_file
from captum_infomask.dataset_run.errors import RunStopped

TEMPLATE = "map.safetensors"  # a blank picture's InfoMap: the regions and settings of all others

_NAME = re.compile(r"part-(\d{5,})\.parquet")
_LEFTOVER = re.compile(rf".+\.[0-9a-f]{{12}}{re.escape(PART)}|part-\d{{5,}}\.begun")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"part-{shard:05d}.parquet"


def shards_done(folder: Path) -> set[int]:
    """The shards whose files are there, and so are whole."""
    return {int(found[1]) for name in os.listdir(folder) if (found := _NAME.fullmatch(name))}


def write_shard(folder: Path, shard: int, table: pa.Table) -> None:
    """Write a shard's rows; nobody sees the file before all of it is on the disk."""
    path = shard_path(folder, shard)
    with stops_without_space(path), whole_file(path) as beside:
        pq.write_table(table, beside, compression="zstd")


def begin_shard(folder: Path, shard: int) -> int:
    """Note on the disk that a worker begins a shard; returns how many have, this one included."""
    path = _notes(folder, shard)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with stops_without_space(path), os.fdopen(os.open(path, flags, 0o666), "ab") as notes:
        notes.write(b".")
        return notes.tell()


def end_shard(folder: Path, shard: int) -> None:
    """Forget how many workers have begun a shard."""
    _notes(folder, shard).unlink(missing_ok=True)


def _notes(folder: Path, shard: int) -> Path:
    return shard_path(folder, shard).with_suffix(".begun")


@contextmanager
def stops_without_space(path: Path) -> Iterator[None]:
    """A full disk stops a run, which goes on when there is space."""
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


def errors_in(folder: Path, shards: set[int]) -> int:
    """How many pictures have an error instead of numbers."""
    return sum(
        len(column) - column.null_count
        for shard in shards
        for column in [pq.read_table(shard_path(folder, shard), columns=["error"])["error"]]
    )


def is_leftover(name: str) -> bool:
    """Whether a file is what a worker that was killed left."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what workers that were killed left; only the holder of the lock may."""
    for name in filter(is_leftover, os.listdir(folder)):
        (folder / name).unlink(missing_ok=True)

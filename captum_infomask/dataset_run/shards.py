# The files of a run: which shards are done, and how one becomes visible whole.
from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from captum_infomask._errors import ArgumentError, RunStopped
from captum_infomask._files import PART, whole_file
from captum_infomask.dataset_run.sealed import DamagedError, check_sealed, read_sealed, write_sealed

TEMPLATE = "map.safetensors"  # a picture's InfoMap: the regions and settings of all others

_NAME = re.compile(r"part-(\d+)\.parquet")
_IN_FLIGHT = (".decoding-", ".scoring-")  # what the notes of pictures are called
_LEFTOVER = re.compile(
    rf".+\.[0-9a-f]{{12}}{re.escape(PART)}|part-\d{{5,}}\.begun|\.(decoding|scoring)-\d+"
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"part-{shard:05d}.parquet"


def shards_done(folder: Path) -> set[int]:
    """The shards whose files are there."""
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    numbers = {int(match[1]) for match in found if match}
    return {shard for shard in numbers if os.path.lexists(shard_path(folder, shard))}


def check_no_others(folder: Path, count: int) -> None:
    """Refuse files that readers of ``part-*.parquet`` would take for shards of this run."""
    for name in sorted(os.listdir(folder)):
        found = _NAME.fullmatch(name)
        if found and (name != shard_path(folder, int(found[1])).name or int(found[1]) >= count):
            raise ArgumentError(
                f"Expected the files part-*.parquet of {folder} to be the run's {count}; {name} is "
                f"none of them. Take it out."
            )


def write_shard(folder: Path, shard: int, table: pa.Table, run: str) -> None:
    """Write a shard's rows; nobody sees the file before all of it is on the disk."""
    path = shard_path(folder, shard)
    if path.is_dir() and not path.is_symlink():
        raise ArgumentError(f"Expected {path} to be a file of the run; it is a folder.")
    with stops_without_space(path), whole_file(path) as beside:
        write_sealed(beside, table, _what(shard, run))


def check_shard(folder: Path, shard: int, run: str) -> None:
    """Raise ``DamagedError`` if a shard is not whole, or not this run's."""
    check_sealed(shard_path(folder, shard), _what(shard, run))


def read_shard(
    folder: Path,
    shard: int,
    run: str,
    keys: Sequence[str],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """A shard's rows, if it is whole, of this run, and holds these pictures.

    Raises:
        DamagedError: It is not; the message names the file and begins a sentence.
    """
    path = shard_path(folder, shard)
    table = read_sealed(path, _what(shard, run), columns)
    if table["key"].to_pylist() != list(keys):
        raise DamagedError(f"{path.name} holds other pictures than the run's")
    return table


def _what(shard: int, run: str) -> str:
    return f"shard {shard} of run {run}"


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


def is_leftover(name: str) -> bool:
    """Whether a file is what a worker that was killed left."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path, *, notes: bool = True) -> None:
    """Remove what workers that were killed left; only the holder of the lock may.

    Args:
        folder: Of the run.
        notes: Also those of pictures in flight, which a run that goes on reads.
    """
    for name in filter(is_leftover, os.listdir(folder)):
        path = folder / name
        if path.is_dir() or (name.startswith(_IN_FLIGHT) and not notes):
            continue  # what is a folder is none of ours
        path.unlink(missing_ok=True)

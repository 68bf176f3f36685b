# Writes result files whole or not at all. Links are followed; pipes and devices are written
# through. Tensors are stored in safetensors, and everything else as JSON in its metadata.
from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError

PART = ".part"

_OF_FILES = frozenset(  # suffixes that only files have
    {".csv", ".htm", ".html", ".jpeg", ".jpg", ".json", ".npz", ".parquet", ".pdf", ".png", ".svg"}
)


def check_input(argument: str, path: object) -> Path:
    """Return the path of an existing file."""
    file = _checked_path(argument, path)
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ArgumentError(f"Expected `{argument}` to be a file; {file} does not exist.") from None
    except (OSError, ValueError) as error:
        raise ArgumentError(f"Expected `{argument}` to be a file; {file}: {error}.") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise ArgumentError(f"Expected `{argument}` to be a file; {file} is {what}.")
    return file


def check_output_file(argument: str, path: object) -> Path:
    """Return the absolute path of a file that can be written, now or later.

    The check writes a temporary file beside it and removes it again. The file itself is not
    touched.
    """
    given = _checked_path(argument, path)
    try:
        file = given.absolute()
        is_folder = file.is_dir()
        if is_folder or not Path(os.path.realpath(file)).parent.is_dir():
            what = f"{given} is a folder" if is_folder else f"got {given}"
            raise ArgumentError(
                f"Expected `{argument}` to be a file in a folder that exists; {what}."
            )
        place = _place(file)
        if place is not None:
            _made_beside(place).unlink()
        elif not os.access(file, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
    except (OSError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise _unwritable(argument, given, error) from error
    return file


def check_folder(argument: str, path: str | PathLike[str]) -> Path:
    """Return the absolute path of a folder that is writable, or that can be made."""
    try:
        folder = _checked_path(argument, path).absolute()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISLNK(os.lstat(folder).st_mode) and not folder.exists():
                raise FileExistsError(errno.EEXIST, "a link that leads nowhere", str(folder))
        place = next(place for place in (folder, *folder.parents) if place.exists())
        if not place.is_dir():
            raise ArgumentError(f"Expected `{argument}` to be a folder; {place} is a file.")
        if place != folder and folder.suffix.lower() in _OF_FILES:
            raise ArgumentError(
                f"Expected `{argument}` to be a folder, for several files; got {path}, the name of "
                f"a file."
            )
        _made_beside(place / "new").unlink()
    except (OSError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise _unwritable(argument, path, error) from error
    return folder


def _unwritable(argument: str, path: object, error: OSError | ValueError) -> ArgumentError:
    """The error for a path that cannot be written."""
    words = error.strerror if isinstance(error, OSError) else None
    said = error if words is None else f"{path}: {words}"
    return ArgumentError(f"Expected `{argument}` to be writable; got {said}.")


def _checked_path(argument: str, path: object) -> Path:
    if not isinstance(path, str | PathLike) or not str(path):
        raise ArgumentError(f"Expected `{argument}` to be a path; got {describe(path)}.")
    return Path(path)


@contextmanager
def output_file(argument: str, path: str | PathLike[str]) -> Iterator[Path]:
    """Use ``whole_file``; if the file cannot be written, the error names the argument."""
    file = check_output_file(argument, path)
    try:
        with whole_file(file) as beside:
            yield beside
    except OSError as error:
        raise _unwritable(argument, path, error) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it replaces this path when all data is on the disk.

    If this path is a link, the linked file gets the content. A device, a pipe, or the file that the
    process prints to is written through at the end. No two writers share a temporary path. A killed
    process leaves its temporary file, whose suffix is ``PART``.
    """
    place = _place(path)
    if place is None:
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, "whole")
            yield whole
            with whole.open("rb") as content, os.fdopen(_opened(path), "wb") as through:
                shutil.copyfileobj(content, through)
        return
    beside = _made_beside(place)
    try:
        yield beside
        _to_disk(beside)
        os.replace(beside, place)
        _to_disk(place.parent)
    finally:
        beside.unlink(missing_ok=True)


def _place(path: Path) -> Path | None:
    """The regular file that a path leads to, existing or not; None for a device or a pipe."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if stat.S_ISBLK(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.ENXIO, "a disk or a socket is no place for a file", str(path))
    if not stat.S_ISREG(found.st_mode) or _stream(found) is not None:
        return None
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return Path(os.path.realpath(path))


def _stream(found: os.stat_result) -> int | None:
    """The standard stream, 1 or 2, that is the same file as this one."""
    for handle in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(handle)):
                return handle
    return None


def _opened(path: Path) -> int:
    """Open a file that is not regular; it is not created and not truncated."""
    stream = _stream(os.stat(path))
    if stream is None:
        return os.open(path, os.O_WRONLY)
    printed = sys.stdout if stream == 1 else sys.stderr
    if printed is not None:
        printed.flush()
    return os.dup(stream)


def _made_beside(place: Path) -> Path:
    """Make a new, empty file beside another, with the same permissions."""
    beside = place.with_name(f"{place.name[:50]}.{uuid.uuid4().hex[:12]}{PART}")
    before = os.stat(place) if place.exists() else None
    mode = 0o666 if before is None else 0o600
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    if before is not None:
        if hasattr(os, "chown"):
            with contextlib.suppress(PermissionError):
                os.chown(beside, before.st_uid, before.st_gid)
        os.chmod(beside, stat.S_IMODE(before.st_mode))
    return beside


def _to_disk(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(
    argument: str, path: Path, kind: str, tensors: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    """Write a file; after an interrupt, the old file is still there."""
    # Copies, because safetensors refuses tensors that share memory.
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    words = json.dumps(facts)
    metadata = {"format": kind, "facts": words, "sha256": _digest(owned, words)}
    with output_file(argument, path) as beside:
        # `save_file` is not used: we could not tell from its errors that a disk is full.
        beside.write_bytes(save(owned, metadata=metadata))


def read(argument: str, path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that ``write`` wrote; tensors are on the CPU.

    safetensors itself compares its header with the file's size before it makes a tensor.
    """
    file = check_input(argument, path)
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("format") != kind:
                raise ArgumentError(
                    f"Expected `{argument}` to be a file of format {kind!r}; {path} is of format "
                    f"{metadata.get('format')!r}."
                )
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except ArgumentError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # safetensors raises several kinds of errors for damage
        what = f"it cannot be read: {short_repr(str(error))}"
        raise damaged(argument, path, kind, what) from error
    words = metadata.get("facts", "")
    # Files of the first versions have no checksum; the reader checks their content.
    if metadata.get("sha256", _digest(tensors, words)) != _digest(tensors, words):
        raise damaged(argument, path, kind, "its SHA-256 is not that of what was written")
    try:
        facts = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise damaged(argument, path, kind, f"its facts are no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise damaged(argument, path, kind, f"its facts are {describe(facts)}")
    return tensors, facts


def damaged(argument: str, path: Path, kind: str, what: str) -> ArgumentError:
    """The error for one of our files that changed after it was written."""
    return ArgumentError(
        f"Expected `{argument}` to be a whole file of format {kind!r}; {path} is damaged: {what}."
    )


def _digest(tensors: dict[str, Tensor], words: str) -> str:
    """SHA-256 of all the content of a file."""
    digest = hashlib.sha256(words.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix; the prefix is removed."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }

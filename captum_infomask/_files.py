# Files of results: tensors in safetensors, all else as JSON in its metadata; written whole or not.
from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from captum_infomask._checks import ArgumentError, describe

PART = ".part"


def check_path(argument: str, path: object) -> Path:
    """Return a path for a file in a folder that exists."""
    if not isinstance(path, str | PathLike) or not str(path):
        raise ArgumentError(f"Expected `{argument}` to be a path; got {describe(path)}.")
    file = Path(path)
    if file.is_dir() or not file.parent.is_dir():
        raise ArgumentError(
            f"Expected `{argument}` to be a file in a folder that exists; got {file}."
        )
    return file


def write(path: Path, kind: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write a file; an interrupt leaves the one that was there before."""
    # Copies, because safetensors refuses tensors that share memory.
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with whole_file(path) as beside:
        # Not by `save_file`, whose errors do not say that a disk is full in a way to catch.
        beside.write_bytes(save(owned, metadata={"format": kind, "facts": json.dumps(facts)}))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside this one to write to, which takes this one's place when all is on the disk.

    No two writers share it. A process that is killed leaves it behind, under ``PART``'s suffix.
    """
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{PART}")
    try:
        yield beside
        _to_disk(beside)
        os.replace(beside, path)
        _to_disk(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(argument: str, path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write`` wrote; tensors are on the CPU."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArgumentError(
            f"Expected `{argument}` to be a safetensors file of format {kind!r}; {path} cannot be "
            f"read: {error}."
        ) from error
    if metadata.get("format") != kind:
        raise ArgumentError(
            f"Expected `{argument}` to be a file of format {kind!r}; {path} is of format "
            f"{metadata.get('format')!r}."
        )
    return tensors, json.loads(metadata["facts"])


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }

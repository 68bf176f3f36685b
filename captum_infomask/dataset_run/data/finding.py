# Find the files of a data set: of a folder, of a glob, or one alone; here or by fsspec.
from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from captum_infomask._checks import ArgumentError, describe
from captum_infomask.dataset_run.data.files import Files, readable

# What torchvision's ImageFolder takes for a picture, and two more that Pillow reads.
_PICTURES = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif"),
)


def is_parquet(name: str) -> bool:
    """Tell by a file's name whether it is Parquet."""
    return name.lower().endswith(".parquet")


def find_files(data: str | Path) -> Files:
    """Find a folder's pictures (where it has none, its ``.parquet`` files), a glob's, or one file.

    Args:
        data: A path, a glob, or an address that fsspec reads.

    Returns:
        The files, sorted.

    Raises:
        ArgumentError: if nothing is found; the message says what was looked for.
    """
    if not isinstance(data, str | Path) or not str(data):
        raise ArgumentError(
            f"Expected `data` to be a folder, a file, a glob or an address; got {describe(data)}."
        )
    data = str(data)
    if "://" not in data and "::" not in data:
        return _find_local(os.path.expanduser(data))
    try:
        return _find_remote(data)
    except ArgumentError:
        raise
    except Exception as error:  # each kind of storage has errors of its own
        raise ArgumentError(
            f"Expected `data` to be an address that fsspec reads; {data} is not: "
            f"{type(error).__name__}: {error}."
        ) from error


def _find_local(data: str) -> Files:
    """Find files on the local disk."""
    if os.path.isdir(data):
        try:
            return Files(os.path.abspath(data), _chosen(data, _below(data)))
        except OSError as error:
            raise ArgumentError(
                f"Expected `data` to be a folder that can be listed; {data} is not: {error}."
            ) from error
    if os.path.isfile(data) or os.path.islink(data):
        root, name = os.path.split(os.path.abspath(data))
        return Files(root, [name])
    if not glob.has_magic(data):
        given = "is no file" if os.path.exists(data) else "does not exist"
        raise ArgumentError(
            f"Expected `data` to be a folder, a file, a glob or an address; {data} {given}."
        )
    root, pattern = _cut(data, "*?[")
    root = os.path.abspath(root)
    names = set(glob.iglob(pattern, root_dir=root, recursive=True))
    return Files(
        root, _matching(data, (n for n in names if not os.path.isdir(os.path.join(root, n))))
    )


def _find_remote(data: str) -> Files:
    """Find files by fsspec."""
    system, path = url_to_fs(data)
    if isinstance(system, LocalFileSystem):
        return _find_local(path)
    # In an address of the web a question mark is no wildcard.
    wildcards = "*[" if data.startswith("http") else "*?["
    if any(letter in path for letter in wildcards):
        root, pattern = _cut(path, wildcards)
        found = system.glob(path, detail=True)
        matches = (name for name, info in found.items() if info["type"] == "file")
        names = _relative(matches, root)
        return Files(root, _matching(data, names if _is_hidden(pattern) else _shown(names)), data)
    if system.isdir(path):
        return Files(path, _chosen(data, _shown(_relative(system.find(path), path))), data)
    if system.exists(path):
        root, _, name = path.rpartition("/")
        return Files(root, [name], data)
    raise FileNotFoundError(path)


def _chosen(data: str, names: Iterable[str]) -> list[str]:
    """Choose a folder's pictures, or its Parquet files where it has no pictures."""
    pictures: list[str] = []
    tables: list[str] = []
    others: list[str] = []
    for name in names:
        if name.lower().endswith(_PICTURES):
            pictures.append(name)
        else:
            (tables if is_parquet(name) else others).append(name)
    if not pictures and not tables:
        holds = f"{len(others)} other files, such as {min(others)}" if others else "no files"
        raise ArgumentError(
            f"Expected `data` to hold pictures ({' '.join(_PICTURES)}) or .parquet files; {data} "
            f"holds {holds}."
        )
    return sorted(pictures or tables, key=readable)


def _matching(data: str, names: Iterable[str]) -> list[str]:
    """Refuse a glob that nothing matches."""
    matches = sorted(names, key=readable)
    if not matches:
        raise ArgumentError(f"Expected `data` to match files; no file matches {data}.")
    return matches


def _below(root: str) -> Iterator[str]:
    """Walk through a folder's files, through links too, but into no folder that it stands in."""
    folders: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while folders:
        folder, above = folders.pop()
        path = os.path.join(root, folder)
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink() and not os.path.exists(entry.path):
                    yield folder + entry.name  # listed, so that it is reported and not lost
                elif entry.is_dir():
                    folders.append((f"{folder}{entry.name}/", (*above, identity)))
                elif entry.is_file():  # not a pipe, which would block its reader
                    yield folder + entry.name


def _cut(path: str, wildcards: str) -> tuple[str, str]:
    """Cut a glob into the longest folder without a wildcard, and the pattern below it."""
    first = min(path.index(letter) for letter in wildcards if letter in path)
    end = path.rfind("/", 0, first) + 1
    return path[:end], path[end:]


def _is_hidden(name: str) -> bool:
    """Whether a path has a part that begins with a dot."""
    return name.startswith(".") or "/." in name


def _shown(names: Iterable[str]) -> Iterator[str]:
    """Leave out what is hidden."""
    return (name for name in names if not _is_hidden(name))


def _relative(paths: Iterable[str], root: str) -> Iterator[str]:
    """Paths below the root."""
    start = len(root.rstrip("/"))
    return (path[start:].lstrip("/") for path in paths)

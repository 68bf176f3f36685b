# Finds the files of a data set, in a folder or by a glob, on the local disk or by fsspec.
from __future__ import annotations

import glob
import itertools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.reading import (
    Files,
    LoadedPicture,
    Skipped,
    readable,
    regular,
)

_HEAD = 2**16  # bytes that are fetched at once to see the content of a file without a suffix
# Formats that Pillow knows but does not show: a program, a film, and formats that other packages
# read.
_UNSHOWN = frozenset({"EPS", "MPEG", "BUFR", "GRIB", "HDF5", "WMF"})


def picture_suffixes() -> frozenset[str]:
    """Return the suffixes of the picture files that Pillow reads here, in lower case.

    Packages that add formats to Pillow, such as ``pillow-heif``, add their suffixes.

    Example:
        >>> from captum_infomask.dataset_run.data.finding import picture_suffixes
        >>> {".jpg", ".jfif", ".tif", ".ico"} <= picture_suffixes(), ".eps" in picture_suffixes()
        (True, False)
    """
    known = Image.registered_extensions()
    shown = (Image.OPEN.keys() | {"MPO"}) - _UNSHOWN  # MPO, several JPEGs, is opened as JPEG
    return frozenset(suffix for suffix, kind in known.items() if kind in shown)


def is_picture(file: IO[bytes]) -> bool:
    """Whether the first bytes of a file are those of a picture that Pillow reads.

    Example:
        >>> import io
        >>> from captum_infomask.dataset_run.data.finding import is_picture
        >>> is_picture(io.BytesIO(b"Read me first."))
        False
    """
    try:
        with quiet(""), Image.open(file) as image:
            return image.format not in _UNSHOWN
    except Image.DecompressionBombError:
        return True  # the decoder will say what is wrong with it
    except MemoryError:
        raise
    except Exception:  # readers raise any kind of error for a file of another format
        return False


def is_parquet(name: str) -> bool:
    """Tell by a file's name whether it is Parquet."""
    return name.lower().endswith(".parquet")


def find_files(data: str | Path, without: Path | None = None) -> Files:
    """Find a folder's pictures (or else its ``.parquet`` files), a glob's matches, or one file.

    Args:
        data: A path, a glob, or an address that fsspec reads.
        without: A folder of this machine that is left out, at any place.

    Returns:
        The files, sorted.

    Raises:
        ArgumentError: if nothing is found; the message says what was searched for.
    """
    if not isinstance(data, str | Path) or not str(data):
        raise ArgumentError(
            f"Expected `data` to be a folder, a file, a glob or an address; got {describe(data)}."
        )
    data = str(data)
    if "://" not in data and "::" not in data:
        return _find_local(os.path.expanduser(data), without)
    try:
        return _find_remote(data, without)
    except ArgumentError:
        raise
    except Exception as error:  # each kind of storage has its own errors
        raise ArgumentError(
            f"Expected `data` to be an address that fsspec reads; {data} is not: "
            f"{type(error).__name__}: {error}."
        ) from error


def _find_local(data: str, without: Path | None = None) -> Files:
    """Find files on the local disk."""
    if os.path.isdir(data):
        root = os.path.abspath(data)
        try:
            return _chosen(
                data, root, _below(data, without), lambda path: open(regular(path), "rb")
            )
        except OSError as error:
            raise ArgumentError(
                f"Expected `data` to be a folder that can be listed; {data} is not: {error}."
            ) from error
    if _is_readable(data):
        root, name = os.path.split(os.path.abspath(data))
        return Files(root, [name])
    if not glob.has_magic(data):
        given = "is no file" if os.path.exists(data) else "does not exist"
        raise ArgumentError(
            f"Expected `data` to be a folder, a file, a glob or an address; {data} {given}."
        )
    root, pattern = _cut(data, "*?[")
    root = os.path.abspath(root)
    matches = {}
    for name in glob.iglob(pattern, root_dir=root, recursive=True):
        path = os.path.join(root, name)
        is_without = without is not None and Path(path).is_relative_to(without)
        if not is_without and not os.path.isdir(path):
            matches[name] = _is_readable(path)
    return _matching(data, root, matches.items())


def _is_readable(path: str) -> bool:
    """Whether it is a regular file, or a broken link, which is then reported."""
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def _find_remote(data: str, without: Path | None) -> Files:
    """Find files by fsspec."""
    system, path = url_to_fs(data)
    if isinstance(system, LocalFileSystem):
        return _find_local(path, without)
    # In a web address, a question mark is not a wildcard.
    wildcards = "*[" if data.startswith("http") else "*?["
    if any(letter in path for letter in wildcards):
        root, pattern = _cut(path, wildcards)
        found = _relative(system.glob(path, detail=True), root)
        return _matching(data, root, found if _is_hidden(pattern) else _shown(found), data)
    if system.isdir(path):
        found = _shown(_relative(system.find(path, detail=True), path))
        return _chosen(
            data, path, found, lambda file: system.open(file, "rb", block_size=_HEAD), data
        )
    if system.exists(path):
        root, _, name = path.rpartition("/")
        return Files(root, [name], data)
    raise FileNotFoundError(path)


def _chosen(
    data: str,
    root: str,
    names: Iterable[tuple[str, bool]],
    open_file: Callable[[str], IO[bytes]],
    address: str = "",
) -> Files:
    """Choose a folder's pictures, or its Parquet files if it has no pictures.

    Args:
        data: The folder as the user wrote it.
        root: The folder's path in its file system.
        names: Paths below it, and whether each is a file that can be read.
        open_file: Opens a path, to see the content of a file without a suffix.
        address: The address of a file system that is not local.
    """
    suffixes = picture_suffixes()
    pictures: list[str] = []
    tables: list[str] = []
    others: list[str] = []
    for name, is_file in names:
        suffix = posixpath.splitext(name)[1].lower()
        if is_file and (
            suffix in suffixes or (not suffix and _holds_picture(f"{root}/{name}", open_file))
        ):
            pictures.append(name)
        else:
            (tables if is_file and is_parquet(name) else others).append(name)
    if not pictures and not tables:
        holds = "no files"
        if others:
            holds = f"{len(others)} other files, such as {readable(min(others))}"
        raise ArgumentError(
            "Expected `data` to hold pictures (.jpg, .png and what else Pillow reads; by content "
            f"where a name has no suffix) or .parquet files; {data} holds {holds}."
        )
    if pictures:
        others += tables
    return Files(root, sorted(pictures or tables, key=readable), address, Skipped.of(others))


def _holds_picture(path: str, open_file: Callable[[str], IO[bytes]]) -> bool:
    """Whether a file can be opened and holds a picture."""
    try:
        with open_file(path) as file:
            return is_picture(file)
    except MemoryError:
        raise
    except Exception:  # each kind of storage has its own errors
        return False


def _matching(data: str, root: str, names: Iterable[tuple[str, bool]], address: str = "") -> Files:
    """Take all files that a glob matches; refuse a glob without matches."""
    matches: list[str] = []
    others: list[str] = []
    for name, is_file in names:
        (matches if is_file else others).append(name)
    if not matches:
        beside = f", only what is none, such as {readable(min(others))}" if others else ""
        raise ArgumentError(f"Expected `data` to match files; no file matches {data}{beside}.")
    return Files(root, sorted(matches, key=readable), address, Skipped.of(others))


def _below(root: str, without: Path | None) -> Iterator[tuple[str, bool]]:
    """Walk through a folder's files, also through links, but not into a folder that contains it."""
    apart = None
    if without is not None and without.exists():
        apart = _identity(str(without))
    folders: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while folders:
        folder, above = folders.pop()
        path = os.path.join(root, folder)
        identity = _identity(path)
        if identity in above or identity == apart:
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = folder + entry.name
                if entry.is_symlink() and not os.path.exists(entry.path):
                    yield name, True  # it is listed, so it will be reported
                elif entry.is_dir():
                    folders.append((f"{name}/", (*above, identity)))
                else:
                    yield name, entry.is_file()


def _identity(path: str) -> tuple[int, int]:
    """A key that identifies a folder on any path to it."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _cut(path: str, wildcards: str) -> tuple[str, str]:
    """Cut a glob into the longest folder without a wildcard, and the pattern below it."""
    first = min(path.index(letter) for letter in wildcards if letter in path)
    end = path.rfind("/", 0, first) + 1
    return path[:end], path[end:]


def _is_hidden(name: str) -> bool:
    """Whether a path has a part that begins with a dot."""
    return name.startswith(".") or "/." in name


def _shown(found: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Leave out hidden files."""
    return ((name, is_file) for name, is_file in found if not _is_hidden(name))


def _relative(found: Mapping[str, Any], root: str) -> Iterator[tuple[str, bool]]:
    """Paths below the root, without folders, and whether each is a file."""
    start = len(root.rstrip("/"))
    return (
        (path[start:].lstrip("/"), info["type"] in ("file", "link"))
        for path, info in found.items()
        if info["type"] != "directory"
    )


@dataclass(frozen=True, repr=False, eq=False)
class FolderPictures:
    """Pictures that are files; their keys are their paths below the folder, sorted."""

    files: Files
    keys: Sequence[str]
    labels: Sequence[str] | None
    labels_are_folders: bool = True
    class_names: Sequence[str] | None = None
    keys_are_numbers: bool = False

    @classmethod
    def of(cls, files: Files, target: str) -> FolderPictures:
        """Use the files' names as keys, and their first folders as labels if requested."""
        keys = [readable(name) for name in files.names]
        for key, following in itertools.pairwise(keys):
            if key == following:
                raise ArgumentError(
                    f"Expected `data` to hold files of different names; {key} is there twice."
                )
        if target == "prediction":
            return cls(files, keys, None)
        if target != "label":
            raise ArgumentError(
                "Expected `target` to be 'prediction' or 'label' (the sub-folder), because "
                f"{files.root} holds files, not Parquet with columns; got {short_repr(target)}. "
                "One class for all pictures is given by a column of Parquet."
            )
        labels = _first_folders(keys, files.root)
        names = sorted(set(labels))
        # A folder `10` may be the tenth class or the second name, so numbers are no names.
        are_names = not any(name.strip().lstrip("+-").isdigit() for name in names)
        return cls(files, keys, labels, class_names=names if are_names else None)

    @property
    def skipped(self) -> Skipped:
        """The files that are not pictures."""
        return self.files.skipped

    def read(self, k: int) -> bytes:
        """Return the bytes of picture k's file."""
        return self.files.read(k)

    def load(self, k: int) -> LoadedPicture:
        """Return picture k, not yet decoded."""
        return LoadedPicture.of_file(self.read(k))


def _first_folders(keys: Sequence[str], root: str) -> list[str]:
    """Return every key's first folder; equal names share one object."""
    known: dict[str, str] = {}
    labels = []
    for key in keys:
        folder, below, _ = key.partition("/")
        if not below:
            raise ArgumentError(
                "Expected every picture to lie in a sub-folder, whose name is its label; "
                f"{key} lies in {root} itself. The target 'prediction' needs no labels."
            )
        labels.append(known.setdefault(folder, folder))
    return labels

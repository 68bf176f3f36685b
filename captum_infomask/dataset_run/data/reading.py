# Files of a data set, on the local disk or at an address for fsspec. They are read by number.
from __future__ import annotations

import hashlib
import heapq
import os
import posixpath
import re
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import unquote

from fsspec.core import url_to_fs
from PIL import Image
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.models.preprocessing import decode_image

_NAMED = 5


@dataclass(frozen=True)
class Skipped:
    """The files among the pictures that are not read as pictures.

    Attributes:
        count: The number of files.
        first: The first names, sorted; at most 5.

    Example:
        >>> from captum_infomask.dataset_run.data.reading import Skipped
        >>> Skipped.of(["b.txt", "a.heic"])
        Skipped(count=2, first=('a.heic', 'b.txt'))
    """

    count: int = 0
    first: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Collection[str]) -> Skipped:
        """Count names, and keep the first."""
        return cls(len(names), tuple(heapq.nsmallest(_NAMED, map(readable, names))))


@dataclass(frozen=True, eq=False)
class LoadedPicture:
    """A picture as its data set holds it, before it is decoded.

    Attributes:
        sha256: The SHA-256 of its bytes, in hexadecimal.
        decode: Gives the picture, or a tensor that is the network's input, (C, H, W).
    """

    sha256: str
    decode: Callable[[], Image.Image | Tensor]

    @classmethod
    def of_file(cls, content: bytes) -> LoadedPicture:
        """The picture of a file with these bytes; it is decoded as 8-bit RGB."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(digest, lambda: decode_image(content, "it"))


@dataclass(frozen=True, repr=False, eq=False)
class Files:
    """Files below one folder, by number; they can be pickled.

    Args:
        root: The folder: an absolute path, or its path in the file system of ``address``.
        names: Paths below the root, with ``/``.
        address: An address in that file system, as fsspec takes it; empty for the local disk.
        skipped: The files among them that were skipped.
    """

    root: str
    names: list[str]
    address: str = ""
    skipped: Skipped = Skipped()
    _systems: dict[int, Any] = field(default_factory=dict, init=False)

    def read(self, k: int) -> bytes:
        """Return a file's bytes."""
        with self.open(k) as file:
            return file.read()

    def read_beside(self, k: int, path: str) -> bytes:
        """Return the bytes of a file by its path from the folder of another file.

        Raises:
            OSError: The path leads out of the folder; or the file cannot be read.
        """
        folder = posixpath.dirname(self._path(k))
        # The path as a server or a file system may read it.
        plain = posixpath.normpath(unquote(path))
        leads_out = plain.startswith("/") or plain.split("/")[0] == ".." or "\0" in path
        if not leads_out and not self.address:
            folder = os.path.realpath(folder)
            target = os.path.realpath(os.path.join(folder, path))
            leads_out = os.path.commonpath([folder, target]) != folder
        if leads_out or "://" in path or "::" in path:
            raise OSError(
                f"The row's path leads out of the folder of {readable(self.names[k])}: "
                f"{readable(path)!r}."
            )
        with self._open(f"{folder}/{path}") as file:
            return file.read()

    def open(self, k: int) -> IO[bytes]:
        """Open a file for reading."""
        return self._open(self._path(k))

    def source(self, k: int) -> str | IO[bytes]:
        """Return an argument for pyarrow: a local path, or an open file."""
        return self.open(k) if self.address else regular(self._path(k))

    def _open(self, path: str) -> IO[bytes]:
        if not self.address:
            return open(regular(path), "rb")
        # A file system's connections and threads do not survive a fork.
        process = os.getpid()
        if process not in self._systems:
            self._systems.clear()
            self._systems[process] = url_to_fs(self.address)[0]
        opened: IO[bytes] = self._systems[process].open(path, "rb")
        return opened

    def _path(self, k: int) -> str:
        return f"{self.root.rstrip('/')}/{self.names[k]}"


def regular(path: str) -> str:
    """Return the path of a regular file; refuse pipes, sockets and devices, which may not end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{readable(path)} is no regular file.")
    return path


def readable(words: str) -> str:
    r"""Escape characters of file names that UTF-8 cannot hold, because results are UTF-8."""
    if words.isascii():
        return words  # not a copy, because there may be a million
    return words.encode("utf-8", "backslashreplace").decode()


_LONGEST = 500


def in_one_line(error: Exception) -> str:
    """An error in words, without parts that differ between processes."""
    words = str(error) if isinstance(error, ArgumentError) else f"{type(error).__name__}: {error}"
    words = re.sub(r" at 0x[0-9a-fA-F]+", "", readable(" ".join(words.split())))
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."

# Files of a data set, here or behind any address that fsspec reads: listed once, read by number.
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import IO, Any

from fsspec.core import url_to_fs


@dataclass(frozen=True, repr=False, eq=False)
class Files:
    """Files below one folder, by number; they can be pickled.

    Args:
        root: The folder: an absolute path, or what the file system of ``address`` calls it.
        names: Paths below the root, with ``/``.
        address: An address in that file system, as fsspec takes it; empty for the local disk.
    """

    root: str
    names: list[str]
    address: str = ""
    _systems: dict[int, Any] = field(default_factory=dict, init=False)

    def read(self, k: int) -> bytes:
        """Return a file's bytes."""
        with self.open(k) as file:
            return file.read()

    def open(self, k: int) -> IO[bytes]:
        """Open a file for reading."""
        if not self.address:
            return open(self._path(k), "rb")
        # A file system's connections and threads do not outlive a fork.
        process = os.getpid()
        if process not in self._systems:
            self._systems.clear()
            self._systems[process] = url_to_fs(self.address)[0]
        opened: IO[bytes] = self._systems[process].open(self._path(k), "rb")
        return opened

    def source(self, k: int) -> str | IO[bytes]:
        """Return what pyarrow opens: a local path, or else an open file."""
        return self.open(k) if self.address else self._path(k)

    def _path(self, k: int) -> str:
        return f"{self.root.rstrip('/')}/{self.names[k]}"


def readable(words: str) -> str:
    r"""Write what cannot be UTF-8, as of some file names, with a backslash: results are UTF-8."""
    if words.isascii():
        return words  # and not a copy: there may be a million
    return words.encode("utf-8", "backslashreplace").decode()

# Reads which content a file of `torch.save` claims, without building any of it. PyTorch allocates
# memory for every claim, even if the file is small.
from __future__ import annotations

import io
import mmap
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

_ZIP = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C  # the first number of the older form of `torch.save`
_AT_MOST = 4  # times a file's size: tensors may share memory, entries may be compressed
_SMALL = 1 << 20

_Readable = io.BytesIO | mmap.mmap


class WouldRunError(Exception):
    """A pickle asks for something other than tensors and plain containers."""


@dataclass(frozen=True)
class _Storage:
    """A block of memory that a file claims to hold."""

    size: int  # bytes
    item: int  # bytes of one element


def check_claims(path: Path) -> None:
    """Refuse a file that claims more than it holds, before any memory is asked for.

    Args:
        path: A file that ``torch.save`` wrote, in its present form (zip) or the form from before
            2020.

    Raises:
        WouldRunError: The pickle holds more than tensors and plain containers; the message names
            it.
        Exception: Any error from a damaged file; for a wrong claim, a ValueError that names it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
        # A file object allocates all memory before it reads; a memory-mapped file does not.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            claims = _of_zip(file, size) if is_zip else _of_stream(content, size)
    if claims.bytes > _AT_MOST * size + _SMALL:
        raise ValueError(f"its tensors claim {claims.bytes} bytes, the file has {size}")


class _Claims(pickle._Unpickler):  # Python's: C's allocates memory for claims
    """Reads a pickle, and records storages and tensors instead of making them."""

    dispatch = {  # noqa: RUF012 - as in the base
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]  # allocates memory for its claim
    }

    def __init__(self, file: _Readable) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, int] = {}
        self.bytes = 0

    def find_class(self, module: str, name: str) -> Any:
        """A placeholder for a class or function; those that no state dict needs are refused."""
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if module == "torch._utils" and name.startswith("_rebuild_"):
            known: dict[str, Callable[..., Any]] = {
                "_rebuild_tensor": self._tensor,
                "_rebuild_tensor_v2": self._tensor,
                "_rebuild_tensor_v3": self._typed,
                "_rebuild_parameter": lambda data, *rest: data,
                "_rebuild_parameter_with_state": lambda data, *rest: data,
            }
            if name in known:
                return known[name]
        if module in ("torch", "torch.storage"):
            if name in _ITEMS:
                return _ITEMS[name]
            if isinstance(found := getattr(torch, name, None), torch.dtype):
                return found.itemsize
        raise WouldRunError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage: its type, its key, its old device, and its number of elements."""
        kind, item, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(item, int) or not _is_count(count):
            raise ValueError(f"a storage is {kind!r} of {count!r}")
        self.storages[str(key)] = max(count * item, self.storages.get(str(key), 0))
        return _Storage(count * item, item)

    def _typed(self, storage: _Storage, offset: int, size: Any, stride: Any, *rest: Any) -> object:
        """A tensor in a storage of bytes; the tensor's type gives the size of its elements."""
        return self._tensor(_Storage(storage.size, rest[2]), offset, size, stride)

    def _tensor(self, storage: _Storage, offset: int, size: Any, stride: Any, *rest: Any) -> object:
        """A tensor, which must lie inside its storage; an expanded tensor counts in full."""
        if len(size) != len(stride) or not all(map(_is_count, (offset, *size, *stride))):
            raise ValueError(f"a tensor has shape {size} and strides {stride}")
        count = 1
        for length in size:
            count *= length
        steps = zip(size, stride, strict=True)
        last = offset + sum((length - 1) * step for length, step in steps)
        if count and (last + 1) * storage.item > storage.size:
            raise ValueError(f"a tensor of shape {tuple(size)} lies outside of its storage")
        self.bytes += count * storage.item
        return None


_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Counter,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *words: None,
    ("_codecs", "encode"): lambda words, coding: words,
}


# Bytes of an element, by the storage's type.
_ITEMS = {
    **dict.fromkeys(("Untyped", "Byte", "Char", "Bool"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
_ITEMS = {f"{name}Storage": size for name, size in _ITEMS.items()}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _of_zip(file: IO[bytes], size: int) -> _Claims:
    """The claims of an archive, which has the pickle and a file per storage."""
    with zipfile.ZipFile(file) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sum(sizes.values()) > _AT_MOST * size + _SMALL:
            raise ValueError(f"its entries claim {sum(sizes.values())} bytes, the file has {size}")
        name = next((name for name in sizes if name.split("/")[-1] == "data.pkl"), None)
        if name is None:
            raise ValueError("it has no data.pkl")
        claims = _Claims(io.BytesIO(archive.read(name)))
        claims.load()
    folder = name.removesuffix("data.pkl")
    for key, claimed in claims.storages.items():
        there = sizes.get(f"{folder}data/{key}", 0)
        if claimed > there:
            raise ValueError(f"storage {key!r} claims {claimed} bytes, the file has {there} of it")
    return claims


def _of_stream(file: _Readable, size: int) -> _Claims:
    """The claims of the older form: a magic number, three pickles, and the storages."""
    if _Claims(file).load() != _MAGIC:
        raise ValueError("it does not begin as torch.save does")
    for _ in range(2):
        _Claims(file).load()
    claims = _Claims(file)
    claims.load()
    if sum(claims.storages.values()) > size:
        raise ValueError(
            f"its storages claim {sum(claims.storages.values())} bytes, the file has {size}"
        )
    return claims

# Parquet files that say what they are and vouch for every byte: a hash of the file inside the file.
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from captum_infomask._errors import ArgumentError

_BLANK = b"0" * 64  # where the hash stands, while the file is hashed
_ENTRY = "captum_infomask"  # of the Parquet file's own metadata, which readers pass over


class DamagedError(ArgumentError):
    """A file of a run is not as it was written."""


def write_sealed(path: Path, table: pa.Table, what: str) -> None:
    """Write a table, and in its file's metadata what it is and the SHA-256 of all other bytes.

    The hash is that of the file with 64 zeros in the hash's place. So no second file has to be
    kept beside it, and the two cannot come apart.

    Args:
        path: Where to.
        table: What is written.
        what: Words that no other file of any run has.
    """
    seal = _seal(what)
    marked = table.replace_schema_metadata({_ENTRY: seal + _BLANK})
    pq.write_table(marked, path, compression="zstd")
    with path.open("r+b") as file:
        content = file.read()
        file.seek(content.rindex(seal + _BLANK) + len(seal))
        file.write(hashlib.sha256(content).hexdigest().encode())


def check_sealed(path: Path, what: str) -> bytes:
    """The bytes of a file that ``write_sealed`` wrote as this one.

    Raises:
        DamagedError: It is not there, a byte of it has changed, or it is another file; the message
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


def read_sealed(path: Path, what: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a file that ``write_sealed`` wrote as this one; or ``DamagedError``."""
    content = check_sealed(path, what)
    return pq.read_table(pa.BufferReader(content), columns=columns).replace_schema_metadata(None)


def _seal(what: str) -> bytes:
    return f"{what}, sha256 ".encode()

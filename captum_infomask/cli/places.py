# Where the command line writes, checked before any work.
from __future__ import annotations

import os
from pathlib import Path

from captum_infomask._checks import ArgumentError


def check_folder(folder: Path) -> None:
    """Refuse an output folder that is a file, lies in one, or cannot be written to."""
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise ArgumentError(f"Expected `--out` to be a folder; {place} is a file.")
            if not os.access(place, os.W_OK):
                raise ArgumentError(f"Expected `--out` to be writable; {place} is not.")
            return


def make_folder(folder: Path) -> Path:
    """Make the output folder where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"Expected `--out` to be a folder that can be made; {error}."
        ) from error
    return folder


def check_file(option: str, path: Path) -> None:
    """Refuse an output file in a folder that is missing, or that cannot be written to."""
    if path.is_dir():
        raise ArgumentError(f"Expected `{option}` to be a file; {path} is a folder.")
    folder = path.parent
    if not folder.is_dir():
        raise ArgumentError(
            f"Expected `{option}` to be a file in a folder that exists; got {path}."
        )
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise ArgumentError(f"Expected `{option}` to be writable; {path} is not.")

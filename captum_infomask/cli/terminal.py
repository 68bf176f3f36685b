# The output of the command line: printing, checks of output files, and file names.
from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from captum_infomask._errors import ArgumentError
from captum_infomask._messages import printable

PROGRAM = "captum-infomask"
_LONGEST = 40  # characters of a class's name in a file name
_LONGEST_NAME = 120


def say(words: object = "") -> None:
    """Print a text on stdout."""
    _print(printable(str(words), keep="\n"), sys.stdout)


def complain(words: object) -> None:
    """Print one line on stderr."""
    _print(printable(str(words)), sys.stderr)


def _print(words: str, stream: TextIO | None) -> None:
    """Print; characters that the stream's encoding lacks are escaped with a backslash."""
    if stream is None:  # it was closed before the process began
        return
    encoding = stream.encoding or "ascii"
    shown = words.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(shown, file=stream, flush=True)
    except OSError as error:
        _leave(stream)
        # The reader may have gone, as after `| head`. All files were written before.
        if stream is not sys.stderr and not isinstance(error, BrokenPipeError):
            raise ArgumentError(f"Expected stdout to take the words; got {error}.") from error


def _leave(stream: TextIO) -> None:
    """Discard a stream's remaining text; otherwise Python complains when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def check_outputs(outputs: Sequence[tuple[str, Path]], inputs: Iterable[str | Path | None]) -> None:
    """Refuse files that cannot be written, or that are also another output or an input.

    Args:
        outputs: Pairs of an option and a file that it writes.
        inputs: The inputs, files or not. No output may be one of them.
    """
    from captum_infomask._files import check_output_file  # it loads PyTorch

    taken = {_identity(path): str(path) for path in inputs if path is not None}
    for option, path in outputs:
        identity = _identity(check_output_file(option, path))
        if identity is not None and identity in taken:
            raise ArgumentError(
                f"Expected `{option}` to be a file of its own; {path} is also {taken[identity]}."
            )
        taken[identity] = f"what `{option}` writes"


def _identity(path: str | Path) -> str | None:
    """A key that all paths of one file share; None for a device, which can be written twice."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return os.path.realpath(path) if "\0" not in str(path) else None
    return f"{found.st_dev}:{found.st_ino}" if stat.S_ISREG(found.st_mode) else None


def make_folder(folder: Path) -> Path:
    """Make the output folder if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"Expected `--out` to be a folder that can be made; {error}."
        ) from error
    return folder


def report_of(pictures: Sequence[str], targets: Sequence[str] | None) -> Path:
    """A unique file for the report on these pictures and targets."""
    more = [f"and-{len(pictures) - 1}-more"] * (len(pictures) > 1)
    of = [word for target in dict.fromkeys(targets or ()) for word in in_name(target)]
    name = "-".join(["infomask", Path(pictures[0]).stem, *more, *of])
    return Path(f"{name[:_LONGEST_NAME]}.html")


def in_name(label: str) -> list[str]:
    """The part of a file name for a class or a method, if a file name can hold any of it."""
    words = re.sub(r"[^A-Za-z0-9]+", "_", label)[:_LONGEST].strip("_")
    return [words] if words else []

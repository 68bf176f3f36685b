# All that the command line prints, as the terminal can show it.
from __future__ import annotations

import os
import sys
from typing import TextIO

from captum_infomask._errors import ArgumentError
from captum_infomask._words import printable

PROGRAM = "captum-infomask"


def say(words: object = "") -> None:
    """Print a text on stdout."""
    _print(printable(str(words), keep="\n"), sys.stdout)


def complain(words: object) -> None:
    """Print one line on stderr."""
    _print(printable(str(words)), sys.stderr)


def _print(words: str, stream: TextIO | None) -> None:
    """Print, with a backslash for each character that the stream's encoding lacks."""
    if stream is None:  # closed when the process began
        return
    encoding = stream.encoding or "ascii"
    shown = words.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(shown, file=stream, flush=True)
    except OSError as error:
        _leave(stream)
        # Nobody may be reading any more, as after `| head`; all files were written before.
        if stream is not sys.stderr and not isinstance(error, BrokenPipeError):
            raise ArgumentError(f"Expected stdout to take the words; got {error}.") from error


def _leave(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere, or Python complains as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

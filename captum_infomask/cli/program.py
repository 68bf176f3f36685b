# The command line: what it is called with, and how it ends.
from __future__ import annotations

import argparse
import pkgutil
import sys
import warnings
from collections.abc import Sequence

from captum_infomask._errors import ArgumentError, RunStopped, with_extra
from captum_infomask._messages import said_once
from captum_infomask.cli.parser import make_parser
from captum_infomask.cli.terminal import PROGRAM, complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Returns:
        The exit code: 0; 1 if every method failed, every picture of a data set is bad, or the model
        called ``sys.exit``, with whatever code; 2 for a bad argument (one line on stderr says
        which); 3 if a run over a data set stopped early; 130 after Ctrl-C.

    Example:
        >>> from captum_infomask.cli import main
        >>> main(["compare", "no-such-file.jpg"])
        2
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options = make_parser().parse_args(words)
            options.words = [PROGRAM, *words]
            failed = _run(options)
    except ArgumentError as error:
        _complain("error", error)
        return 2
    except ModuleNotFoundError as error:
        if (told := with_extra(error)) is error:
            raise
        _complain("error", told)
        return 2
    except RunStopped as stop:
        _complain("stopped", stop)
        return 3
    except KeyboardInterrupt:
        complain(f"{PROGRAM}: interrupted")
        return 130
    if failed:
        complain(f"{PROGRAM}: {options.failure}")
    return int(failed)


def _run(options: argparse.Namespace) -> bool:
    """Run a command; no code of the user's ends the process as if all were well."""
    try:
        with said_once():
            run = pkgutil.resolve_name(options.run)  # with PyTorch and all
            return bool(run(options))
    except SystemExit as left:
        options.failure = f"error: the model ended the process: sys.exit({left.code!r})"
        return True


def _complain(what: str, error: Warning | Exception | str) -> None:
    """Print a message as one line."""
    complain(f"{PROGRAM}: {what}: {' '.join(str(error).split())}")


def _show_warning(message: Warning | str, *where: object, **how: object) -> None:
    """Print a warning as one line, without the source line that raised it."""
    _complain("warning", message)

# The main function of the command line.
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
        arguments: The arguments after the program's name; None takes those of the process.

    Returns:
        The exit code. 0 is success. 1 means that every method failed, that every picture of a data
        set is bad, or that the model called ``sys.exit`` (with any code). 2 means a bad argument;
        one line on stderr says which. 3 means that a run over a data set stopped early. 130 follows
        Ctrl-C.

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
    """Run a command; the user's code cannot end the process as if it had succeeded."""
    try:
        with said_once():
            run = pkgutil.resolve_name(options.run)  # this imports PyTorch
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

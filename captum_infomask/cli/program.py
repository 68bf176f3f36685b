# The command line: what it is called with, and how it ends.
from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from captum_infomask._checks import ArgumentError
from captum_infomask.cli.parser import PROGRAM, make_parser
from captum_infomask.dataset_run.errors import RunStopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Returns:
        The exit code: 0; 1 if every method failed, or every picture of a data set is bad; 2 for a
        bad argument (one line on stderr says which); 3 if a run over a data set stopped early; 130
        after Ctrl-C.

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
            failed = options.run(options)
    except ArgumentError as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RunStopped as stop:
        print(f"{PROGRAM}: stopped: {' '.join(str(stop).split())}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    if failed:
        print(f"{PROGRAM}: {options.failure}", file=sys.stderr)
    return int(failed)


def _show_warning(message: Warning | str, *where: object, **how: object) -> None:
    """Print a warning as one line, without the source line that raised it."""
    print(f"{PROGRAM}: warning: {' '.join(str(message).split())}", file=sys.stderr)

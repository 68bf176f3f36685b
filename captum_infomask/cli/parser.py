# The parser of the command line, and its main function.
from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import pkgutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from captum_infomask import __version__
from captum_infomask._errors import ArgumentError, RunStopped, with_extra
from captum_infomask._messages import said_once
from captum_infomask.cli.option_groups import (
    add_common,
    add_data,
    add_engine,
    add_fills,
    add_folder,
    add_fraction,
    add_going_on,
    add_method,
    add_methods,
    add_metrics,
    add_network,
    add_open,
    add_pictures,
    add_reading,
    add_scores,
    add_windows,
    file_path,
)
from captum_infomask.cli.terminal import PROGRAM, complain

PHOTO = "camera"

_EXAMPLES = {
    "demo": """\
  captum-infomask demo
  captum-infomask demo --photo rocket --out build/demo
""",
    "attribute": """\
  captum-infomask attribute photo.jpg
  captum-infomask attribute cat.jpg dog.jpg --model resnet50 --out maps/
  captum-infomask attribute cat.jpg --target "tiger cat" --contrast "tabby"
  captum-infomask attribute cat.jpg --method Grad-CAM --layer layer4 --model resnet18
  captum-infomask attribute leaf.png --model resnet18 --checkpoint leaves.pth \\
      --categories leaves.txt --target 3 --npz
  captum-infomask attribute scan.png --model my_networks:make --view crop --window 40 --out a.pdf
""",
    "compare": """\
  captum-infomask compare cat.jpg
  captum-infomask compare cat.jpg dog.jpg --model resnet50 --out pets.html --open
  captum-infomask compare cat.jpg --target "tiger cat" --methods "InfoMask,Grad-CAM" \\
      --metrics deletion,insertion,infidelity --json cat.json --csv cat.csv
  captum-infomask compare cat.jpg --truth cat-mask.png --fills
""",
    "run": """\
  captum-infomask run --data photos/ --model resnet50 --out bits/
  captum-infomask run --data "s3://bucket/train/*.parquet" --target label --model resnet50 \\
      --out /shared/bits --engine ray --address auto
""",
    "report": """\
  captum-infomask report bits/ --open
  captum-infomask report bits/ --data photos/ --out summary.html
""",
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Leave the reporting to main."""
        raise ArgumentError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown in the command's own words, with the nearest option."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0].split("=")[0], self._option_string_actions)
            hint = f"; did you mean {near[0]}?" if near else ""
            if not unknown[0].startswith("-"):
                hint = "; write all pictures one after another, and repeat an option for each value"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    first = "".join(examples.splitlines(keepends=True)[0] for examples in _EXAMPLES.values())
    parser = _Parser(
        prog=PROGRAM,
        description="Shows how many bits each part of a picture told a network, beside Grad-CAM "
        "and Occlusion.",
        epilog=f"examples, more in the help of each command:\n{first}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar=f"{{{','.join(_EXAMPLES)}}}")
    parser.set_defaults(failure="every method failed", quiet=False)
    for name, (describe, run, words) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=words,
            description=f"{words[0].upper()}{words[1:]}.",
            epilog=f"examples:\n{_EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=f"captum_infomask.cli.{run}")
        describe(command)
    return parser


def _demo(command: argparse.ArgumentParser) -> None:
    """Add the options of demo."""
    command.set_defaults(layer=None)
    command.add_argument(
        "--photo", default=PHOTO, help="a photograph of scikit-image's (default: %(default)s)"
    )
    add_metrics(command)
    add_fills(command)
    add_windows(command)
    add_folder(command, "the report, the figure and the arrays")
    add_open(command)
    add_reading(command)
    add_common(command)


def _attribute(command: argparse.ArgumentParser) -> None:
    """Add the options of attribute."""
    add_pictures(command)
    add_network(command)
    command.add_argument(
        "--target",
        action="append",
        metavar="CLASS",
        help="index or category name; several give a map each (default: the prediction)",
    )
    add_method(command)
    add_scores(command, has_other_methods=True)
    add_fraction(command)
    add_windows(command)
    command.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR|FILE",
        help="folder of PICTURE.CLASS.png, or the file of a single map: .png, .pdf or .svg "
        "(default: the working folder)",
    )
    command.add_argument(
        "--npz", action="store_true", help="also write map and mask as arrays, beside the figure"
    )
    add_reading(command)
    add_common(command)


def _compare(command: argparse.ArgumentParser) -> None:
    """Add the options of compare."""
    add_pictures(command)
    add_network(command)
    command.add_argument(
        "--target",
        action="append",
        metavar="CLASS",
        help="index or category name, once or once per picture (default: the predictions)",
    )
    add_methods(command)
    add_metrics(command)
    add_fills(command)
    command.add_argument(
        "--truth",
        action="append",
        metavar="MASK.png",
        help="the right pixels, white on black, once per picture",
    )
    command.add_argument(
        "--label",
        action="append",
        metavar="CLASS",
        help="the true class, once per picture: the report then says whether bits are true",
    )
    add_windows(command)
    command.add_argument(
        "--out",
        type=file_path,
        metavar="FILE",
        help="the report (default: infomask-PICTURE.html, with the targets that are given)",
    )
    command.add_argument("--json", type=file_path, metavar="FILE", help="all numbers as JSON")
    command.add_argument(
        "--csv", type=file_path, metavar="FILE", help="a line per method and picture"
    )
    add_open(command)
    add_reading(command)
    add_common(command)


def _dataset_run(command: argparse.ArgumentParser) -> None:
    """Add the options of run."""
    command.set_defaults(failure="every picture is bad")
    add_data(command)
    add_going_on(command)
    add_network(command)
    add_windows(command)
    add_scores(command)
    add_fraction(command)
    add_engine(command)
    add_reading(command)
    add_common(command)


def _report(command: argparse.ArgumentParser) -> None:
    """Add the options of report."""
    command.add_argument("run_folder", type=Path, metavar="OUT", help="the run's folder")
    command.add_argument(
        "--out", type=file_path, metavar="FILE", help="the page (default: OUT/report.html)"
    )
    command.add_argument(
        "--data",
        metavar="DIR|PARQUET|GLOB",
        help="place of the pictures, to show those that OUT does not keep (default: none)",
    )
    add_open(command)


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str, str]] = {
    "demo": (_demo, "commands:run_demo", "run EfficientNet-Lite0 on a photograph; no download"),
    "attribute": (
        _attribute,
        "one_method:run_attribute",
        "draw one method's map of your own pictures",
    ),
    "compare": (
        _compare,
        "commands:run_compare",
        "compare and measure methods on your own pictures, in a report",
    ),
    "run": (
        _dataset_run,
        "runs:run_whole",
        "score a data set, on this machine or on Ray; continues a stopped run",
    ),
    "report": (_report, "runs:report_run", "make a page that sums up a run over a data set"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the program's name; None takes those of the process.

    Returns:
        The exit code. 0 is success, also of the help that is shown without arguments. 1 means that
        a map of ``attribute`` or every method of a comparison failed, that every picture of a data
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
            parser = make_parser()
            if not words:
                parser.print_help()
                return 0
            options = parser.parse_args(words)
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
        silence = (
            contextlib.redirect_stdout(io.StringIO()) if options.quiet else contextlib.nullcontext()
        )
        with said_once(), silence:
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

# The parser of the command line, and its main function.
from __future__ import annotations

import argparse
import pkgutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from captum_infomask import __version__
from captum_infomask._errors import ArgumentError, RunStopped, with_extra
from captum_infomask._messages import said_once
from captum_infomask.cli.option_groups import (
    add_data,
    add_engine,
    add_folder,
    add_going_on,
    add_methods,
    add_metrics,
    add_network,
    add_open,
    add_reading,
    add_scores,
    add_windows,
    file_path,
)
from captum_infomask.cli.terminal import PROGRAM, complain

PHOTO = "camera"

_EXAMPLES = """\
examples:
  captum-infomask demo
  captum-infomask demo --photo rocket --out build/demo
  captum-infomask compare cat.jpg
  captum-infomask compare cat.jpg dog.jpg --model resnet50 --out pets.html --open
  captum-infomask compare cat.jpg --target "tiger cat" --methods "InfoMask,Grad-CAM" \\
      --metrics deletion,insertion,infidelity --json cat.json --csv cat.csv
  captum-infomask compare cat.jpg --truth cat-mask.png
  captum-infomask attribute cat.jpg --model resnet50 --weights IMAGENET1K_V2 --target "tiger cat"
  captum-infomask attribute leaf.png --model resnet18 --weights leaves.safetensors \\
      --categories leaves.txt --target 3
  captum-infomask attribute scan.png --model mypackage.networks:make --window 40 --stride 10
  captum-infomask run --data photos/ --model resnet50 --out bits/
  captum-infomask run --data "s3://bucket/train/*.parquet" --target label --model resnet50 \\
      --out /shared/bits --engine ray --address auto
  captum-infomask report bits/ --open
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Leave the reporting to main."""
        raise ArgumentError(f"{message} (see {self.prog} --help)")


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = _Parser(
        prog=PROGRAM,
        description="Shows how many bits each part of a picture told a network, beside Grad-CAM "
        "and Occlusion.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="{demo,compare,attribute,run,report}")
    parser.set_defaults(failure="every method failed")

    demo = commands.add_parser("demo", help="run EfficientNet-Lite0 on a photograph; no download")
    demo.set_defaults(run="captum_infomask.cli.commands:run_demo", layer=None)
    demo.add_argument(
        "--photo", default=PHOTO, help="a photograph of scikit-image's (default: %(default)s)"
    )
    add_metrics(demo)
    add_windows(demo)
    add_folder(demo, "the report, the figure and the arrays")
    add_open(demo)

    compare = commands.add_parser(
        "compare",
        help="compare and measure methods on your own pictures, in a report",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(run="captum_infomask.cli.commands:run_compare")
    compare.add_argument("images", metavar="IMAGE", nargs="+", help="picture files or addresses")
    add_network(compare)
    compare.add_argument(
        "--target",
        action="append",
        metavar="CLASS",
        help="index or category name, once or once per picture (default: the predictions)",
    )
    add_methods(compare)
    add_metrics(compare)
    compare.add_argument(
        "--truth",
        action="append",
        metavar="MASK.png",
        help="the right pixels, white on black, once per picture",
    )
    add_windows(compare)
    compare.add_argument(
        "--out",
        type=file_path,
        metavar="FILE",
        help="the report (default: infomask-PICTURE.html, with the targets that are given)",
    )
    compare.add_argument("--json", type=file_path, metavar="FILE", help="all numbers as JSON")
    compare.add_argument(
        "--csv", type=file_path, metavar="FILE", help="a line per method and picture"
    )
    add_open(compare)

    attribute = commands.add_parser(
        "attribute", help="make a figure and arrays of your own picture"
    )
    attribute.set_defaults(run="captum_infomask.cli.commands:run_attribute")
    attribute.add_argument("image", metavar="IMAGE", help="a picture file or address")
    add_network(attribute)
    attribute.add_argument("--target", help="index or category name (default: the prediction)")
    add_methods(attribute)
    add_windows(attribute)
    add_folder(attribute, "the figure and the arrays")

    run = commands.add_parser(
        "run",
        help="score a data set, on this machine or on Ray; continues a stopped run",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(run="captum_infomask.cli.runs:run_whole", failure="every picture is bad")
    add_data(run)
    add_going_on(run)
    add_network(run)
    add_windows(run)
    add_scores(run)
    add_engine(run)

    for command in (demo, compare, attribute, run):
        add_reading(command)

    report = commands.add_parser("report", help="make a page that sums up a run over a data set")
    report.set_defaults(run="captum_infomask.cli.runs:report_run")
    report.add_argument("run_folder", type=Path, metavar="OUT", help="the run's folder")
    report.add_argument(
        "--out", type=file_path, metavar="FILE", help="the page (default: OUT/report.html)"
    )
    report.add_argument(
        "--data",
        metavar="DIR|PARQUET|GLOB",
        help="place of the pictures, to show those that OUT does not keep (default: none)",
    )
    add_open(report)
    return parser


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

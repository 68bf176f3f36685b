# The command line: captum-infomask demo, attribute, compare. What it takes, and how it ends.
from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from captum_infomask import __version__
from captum_infomask._checks import ArgumentError
from captum_infomask.cli.commands import run_attribute, run_compare, run_demo
from captum_infomask.comparison.methods import METHOD_NAMES
from captum_infomask.comparison.metrics.choose import METRICS
from captum_infomask.models.loading import LITE0

PROGRAM = "captum-infomask"
PHOTO = "camera"

EXAMPLES = """\
examples:
  captum-infomask demo
  captum-infomask demo --photo rocket --out build/demo
  captum-infomask demo --two-digits
  captum-infomask compare cat.jpg
  captum-infomask compare cat.jpg dog.jpg --model resnet50 --out pets.html --open
  captum-infomask compare cat.jpg --target "tiger cat" --methods "InfoMask,Grad-CAM" \\
      --metrics deletion,insertion,infidelity --json cat.json --csv cat.csv
  captum-infomask compare cat.jpg --truth cat-mask.png
  captum-infomask attribute cat.jpg --model resnet50 --weights IMAGENET1K_V2 --target "tiger cat"
  captum-infomask attribute leaf.png --model resnet18 --weights leaves.safetensors \\
      --categories leaves.txt --target 3
  captum-infomask attribute scan.png --model mypackage.networks:make --window 40 --stride 10
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Returns:
        The exit code: 0; 1 if every method failed; 2 for a bad argument (one line on stderr says
        which); 130 after Ctrl-C.

    Example:
        >>> from captum_infomask.cli import main
        >>> main(["compare", "no-such-file.jpg"])
        2
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options = _parser().parse_args(words)
            options.words = [PROGRAM, *words]
            failed = options.run(options)
    except ArgumentError as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    if failed:
        print(f"{PROGRAM}: every method failed", file=sys.stderr)
    return int(failed)


class _Parser(argparse.ArgumentParser):
    """Reports its errors like all others: one line."""

    def error(self, message: str) -> NoReturn:
        """Leave the reporting to main."""
        raise ArgumentError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = _Parser(
        prog=PROGRAM,
        description="What each part of a picture told a network, in bits, beside Grad-CAM and "
        "Occlusion.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="{demo,compare,attribute}")

    demo = commands.add_parser("demo", help="EfficientNet-Lite0 on a photograph; no download")
    demo.set_defaults(run=run_demo, layer=None)
    demo.add_argument(
        "--photo", default=PHOTO, help="a photograph of scikit-image's (default: %(default)s)"
    )
    demo.add_argument("--two-digits", action="store_true", help="the paper's digits instead")
    _add_metrics(demo)
    _add_windows(demo)
    _add_folder(demo, "the report, the figure and the arrays")
    _add_open(demo)

    compare = commands.add_parser(
        "compare",
        help="methods side by side on your own pictures, measured, in a report",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(run=run_compare)
    compare.add_argument("images", metavar="IMAGE", nargs="+", help="picture files")
    _add_network(compare)
    compare.add_argument(
        "--target",
        action="append",
        metavar="CLASS",
        help="index or category name, once or once per picture (default: the predictions)",
    )
    compare.add_argument(
        "--methods", metavar="NAMES", help=f"with commas between, of: {', '.join(METHOD_NAMES)}"
    )
    _add_metrics(compare)
    compare.add_argument(
        "--truth",
        action="append",
        metavar="MASK.png",
        help="the right pixels, white on black, once per picture",
    )
    _add_windows(compare)
    compare.add_argument(
        "--out",
        type=Path,
        default=Path("infomask-report.html"),
        metavar="FILE",
        help="the report (default: %(default)s)",
    )
    compare.add_argument("--json", type=Path, metavar="FILE", help="all numbers as JSON")
    compare.add_argument("--csv", type=Path, metavar="FILE", help="a line per method and picture")
    _add_open(compare)

    attribute = commands.add_parser("attribute", help="a figure and arrays of your own picture")
    attribute.set_defaults(run=run_attribute)
    attribute.add_argument("image", metavar="IMAGE", help="a picture file")
    _add_network(attribute)
    attribute.add_argument("--target", help="index or category name (default: the prediction)")
    _add_windows(attribute)
    _add_folder(attribute, "the figure and the arrays")
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which network."""
    parser.add_argument(
        "--model",
        default=LITE0,
        metavar="NAME",
        help="a torchvision classifier, or module:function (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", help="name of torchvision's weights, or a file (.safetensors, state dict)"
    )
    parser.add_argument("--categories", metavar="FILE", help="category names, one a line")
    parser.add_argument("--layer", metavar="NAME", help="Grad-CAM's layer (default: the last)")


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what is measured."""
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        help=f"with commas between, of: {', '.join(METRICS)}; or all, or none",
    )


def _add_windows(parser: argparse.ArgumentParser) -> None:
    """Add the options of InfoMask's and Occlusion's windows."""
    parser.add_argument(
        "--window", type=int, metavar="PIXELS", help="side of the windows (default: a quarter)"
    )
    parser.add_argument(
        "--stride", type=int, metavar="PIXELS", help="step between windows (default: a quarter)"
    )


def _add_folder(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that says where files go."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("infomask-out"),
        metavar="DIR",
        help=f"folder for {what} (default: %(default)s)",
    )


def _add_open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--open", action="store_true", help="open the report in the browser")


def _show_warning(message: Warning | str, *where: object, **how: object) -> None:
    """Print a warning as one line, without the source line that raised it."""
    print(f"{PROGRAM}: warning: {' '.join(str(message).split())}", file=sys.stderr)

# The command line: captum-infomask demo, captum-infomask attribute.
from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from PIL import Image

from captum_infomask import __version__
from captum_infomask._checks import ArgumentError
from captum_infomask.comparison.photo import compare_on_photo
from captum_infomask.comparison.two_digits import (
    draw_two_digits,
    two_digit_experiment,
    two_digit_table,
)
from captum_infomask.datasets import sample_photo, sklearn_digits, two_digits
from captum_infomask.models.classifier import Classifier, read_categories
from captum_infomask.models.imagenet import efficientnet_lite0
from captum_infomask.models.loading import LITE0, load_classifier
from captum_infomask.models.pictures import read_image
from captum_infomask.models.two_digits import load_two_digit_network

PROGRAM = "captum-infomask"
PHOTO = "camera"
TWO_DIGIT_COUNT, TWO_DIGITS_SHOWN = 100, 5

EXAMPLES = """\
examples:
  captum-infomask demo
  captum-infomask demo --photo rocket --out build/demo
  captum-infomask demo --two-digits
  captum-infomask attribute cat.jpg
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
        The exit code: 0, 2 for a bad argument (one line on stderr says which), 130 after Ctrl-C.

    Example:
        >>> from captum_infomask.cli import main
        >>> main(["attribute", "no-such-file.jpg"])
        2
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options = _parser().parse_args(arguments)
            options.run(options)
    except ArgumentError as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


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
    commands = parser.add_subparsers(required=True, metavar="{demo,attribute}")

    demo = commands.add_parser("demo", help="EfficientNet-Lite0 on a photograph; no download")
    demo.set_defaults(run=_demo, target=None, layer=None)
    demo.add_argument(
        "--photo", default=PHOTO, help="a photograph of scikit-image's (default: %(default)s)"
    )
    demo.add_argument("--two-digits", action="store_true", help="the paper's digits instead")
    _add_shared(demo)

    attribute = commands.add_parser("attribute", help="your own picture and network")
    attribute.set_defaults(run=_attribute)
    attribute.add_argument("image", metavar="IMAGE", help="a picture file")
    attribute.add_argument(
        "--model",
        default=LITE0,
        metavar="NAME",
        help="a torchvision classifier, or module:function (default: %(default)s)",
    )
    attribute.add_argument(
        "--weights", help="name of torchvision's weights, or a file (.safetensors, state dict)"
    )
    attribute.add_argument("--target", help="index or category name (default: the prediction)")
    attribute.add_argument("--layer", metavar="NAME", help="Grad-CAM's layer (default: the last)")
    attribute.add_argument("--categories", metavar="FILE", help="category names, one a line")
    _add_shared(attribute)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    """Add the options that both commands have."""
    parser.add_argument("--window", type=int, metavar="PIXELS", help="side of the windows")
    parser.add_argument("--stride", type=int, metavar="PIXELS", help="step between windows")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("infomask-out"),
        metavar="DIR",
        help="folder for the figure and the arrays (default: %(default)s)",
    )


def _demo(options: argparse.Namespace) -> None:
    """Show the main job on a photograph, or the paper's experiment."""
    _check_folder(options.out)
    if options.two_digits:
        _two_digits(options.out)
        return
    photo = Image.fromarray(sample_photo(options.photo))
    _compare(efficientnet_lite0(), photo, options.photo, options)


def _attribute(options: argparse.Namespace) -> None:
    """Do the main job on the user's picture."""
    _check_folder(options.out)
    image = read_image(options.image)
    categories = None if options.categories is None else read_categories(options.categories)
    with _importable_from_here():
        classifier = load_classifier(options.model, options.weights, categories)
    _compare(classifier, image, Path(options.image).stem, options)


def _compare(
    classifier: Classifier, image: Image.Image, stem: str, options: argparse.Namespace
) -> None:
    """Run the methods, print the table, and write the figure and the arrays."""
    comparison = compare_on_photo(
        classifier,
        image,
        options.target,
        layer=options.layer,
        window=options.window,
        stride=options.stride,
        show_progress=True,
    )
    print(comparison.text())
    figure, arrays = comparison.save(_make_folder(options.out), stem)
    print(f"\nfigure: {figure}\narrays: {arrays}")


def _two_digits(out: Path) -> None:
    """Show the paper's experiment from the packaged checkpoint, on scikit-learn's test digits."""
    pictures = two_digits(*sklearn_digits(train=False), target=0, count=TWO_DIGIT_COUNT)
    chosen = pictures.holding_target_beside_another()
    rows = two_digit_experiment(load_two_digit_network(), chosen, show_progress=True)
    print(f"{len(chosen.images)} pictures of two digits, one of them a 0; masks keep the 0.\n")
    print(two_digit_table(rows))
    title = "Does the picture hold a 0? What each mask keeps"
    figure, _ = draw_two_digits(chosen, rows, title=title)
    path = _make_folder(out) / "two_digits.png"
    figure.savefig(path, dpi=150)
    print(f"\nfigure: {path}")


def _check_folder(folder: Path) -> None:
    """Refuse an output folder that is a file, or lies in one, before any work."""
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise ArgumentError(f"Expected `--out` to be a folder; {place} is a file.")
            return


def _make_folder(folder: Path) -> Path:
    """Make the output folder where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"Expected `--out` to be a folder that can be made; {error}."
        ) from error
    return folder


@contextlib.contextmanager
def _importable_from_here() -> Iterator[None]:
    """Let ``module:function`` name a module in the working folder, as ``python -m`` does."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _show_warning(message: Warning | str, *where: object, **how: object) -> None:
    """Print a warning as one line, without the source line that raised it."""
    print(f"{PROGRAM}: warning: {' '.join(str(message).split())}", file=sys.stderr)

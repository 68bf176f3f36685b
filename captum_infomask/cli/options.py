# Groups of options that commands share.
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_infomask._checks import ArgumentError, short_repr
from captum_infomask.comparison.methods import METHOD_NAMES
from captum_infomask.comparison.metrics.choose import METRICS
from captum_infomask.comparison.windows import square_windows
from captum_infomask.models.loading import LITE0
from captum_infomask.scores.groups import CheckedGroups, checked_groups


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which pictures, and where the results go."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR|PARQUET|GLOB",
        help="a folder of pictures, .parquet files with pictures, or a glob; also remote",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder for the results: new, empty, or that of the run to go on with",
    )
    parser.add_argument(
        "--target",
        default="prediction",
        metavar="WHAT",
        help="prediction, label (the sub-folder, or Parquet's column of that name), or another "
        "Parquet column (default: %(default)s)",
    )
    parser.add_argument(
        "--max-errors", type=int, metavar="N", help="stop after more bad pictures (default: never)"
    )
    parser.add_argument(
        "--shard-size",
        type=int,
        metavar="N",
        help="pictures of a file of results (default: 64, or a batch)",
    )


def add_going_on(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that goes on."""
    for name, words in {
        "--extend": "score pictures that are new in the data, behind those of the run",
        "--verify": "compare the bytes of all pictures with those that were scored",
        "--retry-errors": "score the run's bad pictures anew",
    }.items():
        parser.add_argument(name, action="store_true", help=words)


def add_methods(parser: argparse.ArgumentParser) -> None:
    """Add the options that name methods, and Grad-CAM's layer."""
    parser.add_argument(
        "--methods", metavar="NAMES", help=f"with commas between, of: {', '.join(METHOD_NAMES)}"
    )
    parser.add_argument("--layer", metavar="NAME", help="Grad-CAM's layer (default: the last)")


def add_scores(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is scored."""
    parser.add_argument(
        "--view",
        help="crop, keep, drop, chain, features, evidence or relay (default: relay over "
        "superpixels, or drop where the network's features cannot be had)",
    )
    parser.add_argument(
        "--layer",
        metavar="NAMES",
        help="of evidence and relay: the layers whose cells get bits, with commas between "
        "(default: found by the view)",
    )
    parser.add_argument(
        "--input-sizes",
        metavar="PIXELS",
        help="of evidence and relay: sides of the pictures that the network is shown, with commas "
        "between, whose maps are averaged (default: their own)",
    )
    parser.add_argument(
        "--sharpen",
        choices=["superpixels"],
        help="what maps are averaged over (default: superpixels where no view is named)",
    )
    parser.add_argument(
        "--contrast",
        metavar="CLASS",
        help="a class, by number or name, that targets are told from, or runner_up: the likeliest "
        "other one of each picture",
    )
    parser.add_argument(
        *("--fraction", "--keep"),
        type=float,
        metavar="FRACTION",
        help="of the maximum that the mask keeps (default: 0.2, and 0.5 of maps that no window or "
        "region cuts)",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def view_of(options: argparse.Namespace) -> dict[str, Any]:
    """The view that the options ask for, and its settings: keyword arguments of score_regions."""
    sizes = options.input_sizes
    asked = {
        "view": options.view,
        "layer": None if options.layer is None else names_in(options.layer),
        "input_sizes": None if sizes is None else _sides(sizes),
        "sharpen": options.sharpen,
    }
    return {name: value for name, value in asked.items() if value is not None}


def names_in(given: str) -> list[str]:
    """Names with commas between."""
    return [name.strip() for name in given.split(",") if name.strip()]


def _sides(given: str) -> list[int]:
    try:
        return [int(side) for side in given.split(",")]
    except ValueError:
        raise ArgumentError(
            f"Expected `--input-sizes` to be whole numbers with commas between, such as 224,320; "
            f"got {short_repr(given)}."
        ) from None


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how the network's outputs are read."""
    parser.add_argument(
        "--head",
        default="logits",
        help="what the network returns: logits, log_probs, probs, or sigmoid (independent labels, "
        "or one logit) (default: %(default)s)",
    )
    parser.add_argument(
        "--prior",
        metavar="FILE|NUMBERS",
        help="p(y) of every class: a file with a number a line, or numbers with commas between "
        "(default: all equal)",
    )
    parser.add_argument(
        "--trained-with",
        default="cross_entropy",
        metavar="LOSS",
        help="cross_entropy, or pc_softmax for prior-corrected softmax (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="divides logits (default: %(default)s)"
    )
    parser.add_argument(
        "--groups",
        metavar="FILE|GROUPS",
        help="classes that count as one: a file with the numbers of a group a line, or groups with "
        "semicolons between, such as '151,152;3'; targets then are groups",
    )


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """How the options say that outputs are read: InfoMask's keyword arguments."""
    return {
        "head": options.head,
        "prior": None if options.prior is None else _numbers(options.prior),
        "trained_with": options.trained_with,
        "temperature": options.temperature,
        "groups": None if options.groups is None else _groups(options.groups, options.head),
    }


def _numbers(given: str) -> float | list[float]:
    """The numbers of a file, or those given; one number alone is one for all labels."""
    words = given.split(",")
    if Path(given).is_file():
        words = Path(given).read_text(encoding="utf-8", errors="replace").split()
    try:
        found = [float(word) for word in words]
    except ValueError:
        raise ArgumentError(
            f"Expected `--prior` to be a file with a number a line, or numbers with commas "
            f"between; got {short_repr(given)}."
        ) from None
    return found if len(found) > 1 else found[0] if found else []


def _groups(given: str, head: str) -> CheckedGroups | None:
    """The groups of a file, or those given."""
    lines = given.split(";")
    if Path(given).is_file():
        text = Path(given).read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.split("\n") if line.strip()]
    try:
        found = [[int(word) for word in line.replace(",", " ").split()] for line in lines]
    except ValueError:
        raise ArgumentError(
            f"Expected `--groups` to be a file with class numbers, a group a line, or groups with "
            f"semicolons between, such as '151,152;3'; got {short_repr(given)}."
        ) from None
    return checked_groups(found, head, None)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run computes."""
    parser.add_argument(
        "--engine",
        default="local",
        help="local, or ray: a cluster, or all CPUs of this machine (default: %(default)s)",
    )
    parser.add_argument(
        "--address", help="of a Ray cluster, or auto (default: Ray starts on this machine)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that decode (local) or compute (ray) (default: one per CPU, or GPU)",
    )
    parser.add_argument("--device", help="where the network runs (default: cuda if it is there)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures that share forward passes"
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which network."""
    parser.add_argument(
        "--model",
        default=LITE0,
        metavar="NAME",
        help="a torchvision classifier, or module:function, or module:network (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--weights", help="name of torchvision's weights, or a file (.safetensors, state dict)"
    )
    parser.add_argument("--categories", metavar="FILE", help="category names, one a line")


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what is measured."""
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        help=f"with commas between, of: {', '.join(METRICS)}; or all, or none",
    )


def add_windows(parser: argparse.ArgumentParser) -> None:
    """Add the options of windows."""
    parser.add_argument(
        "--window",
        type=int,
        metavar="PIXELS",
        help="side of the windows of Occlusion and of InfoMask's views of regions (default: a "
        "quarter of the picture's, as the network sees it)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        metavar="PIXELS",
        help="step between windows (default: half of a window's side)",
    )


def windows_of(options: argparse.Namespace, inputs: Tensor) -> dict[str, Any]:
    """The windows that the options ask for on pictures like these; InfoMask's own if for none."""
    if options.window is None and options.stride is None:
        return {}
    shapes, strides = square_windows(inputs, options.window, options.stride)
    return {"sliding_window_shapes": shapes, "strides": strides}


def file_path(given: str) -> Path:
    """An option's file, which a path with a slash behind it is not."""
    if given.endswith(("/", os.sep)):
        raise argparse.ArgumentTypeError(f"expected a file, got the folder {given}")
    return Path(given)


def add_folder(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that says where files go."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("infomask-out"),
        metavar="DIR",
        help=f"folder for {what} (default: %(default)s)",
    )


def add_open(parser: argparse.ArgumentParser) -> None:
    """Add the option that shows the page."""
    parser.add_argument("--open", action="store_true", help="open the report in the browser")

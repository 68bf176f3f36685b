# Groups of options that commands share.
from __future__ import annotations

import argparse
import os
from pathlib import Path

_MODEL = "efficientnet_lite0"
# The names of compare(). It is imported only after the arguments are checked.
_METHODS = (
    "InfoMask",
    *(
        f"InfoMask {view}"
        for view in ("crop", "keep", "drop", "chain", "features", "evidence", "relay")
    ),
    "Grad-CAM",
    "Occlusion",
    "Input x gradient",
    "Integrated gradients",
    "blurred noise (control)",
    "centred blob (control)",
)
_METRICS = (
    "deletion",
    "insertion",
    "infidelity",
    "sensitivity",
    "pointing_game",
    "iou",
    "relevance_mass",
    "relevance_rank",
    "average_precision",
    "box_iou",
    "max_box_acc",
)


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
        help="folder for the results: new, empty, or of a run to continue",
    )
    parser.add_argument(
        "--target",
        default="prediction",
        metavar="WHAT",
        help="prediction, label (the sub-folder, or Parquet's column label), or another "
        "Parquet column (default: %(default)s)",
    )
    parser.add_argument(
        "--max-errors", type=int, metavar="N", help="stop if more pictures are bad (default: never)"
    )
    parser.add_argument(
        "--shard-size",
        type=int,
        metavar="N",
        help="pictures per file of results (default: 64, or a batch)",
    )


def add_going_on(parser: argparse.ArgumentParser) -> None:
    """Add the options for continuing a run."""
    for name, words in {
        "--extend": "also score pictures that are new in the data, after the others",
        "--verify": "check that the bytes of all scored pictures have not changed",
        "--retry-errors": "score the run's bad pictures again",
    }.items():
        parser.add_argument(name, action="store_true", help=words)


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Add the pictures themselves."""
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help="picture files or addresses")


def add_methods(parser: argparse.ArgumentParser) -> None:
    """Add the options that name methods, and Grad-CAM's layer."""
    parser.add_argument(
        "--methods", metavar="NAMES", help=f"separated by commas, some of: {', '.join(_METHODS)}"
    )
    parser.add_argument("--layer", metavar="NAME", help="Grad-CAM's layer (default: the last)")


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add the option that names one method."""
    parser.add_argument(
        "--method",
        metavar="NAME",
        default=_METHODS[0],
        help=f"one of: {', '.join(_METHODS)} (default: %(default)s)",
    )


def add_fills(parser: argparse.ArgumentParser) -> None:
    """Add the option that asks for a table of fills."""
    parser.add_argument(
        "--fills",
        action="store_true",
        help="also a table of InfoMask drop with other values for hidden pixels",
    )


def add_scores(parser: argparse.ArgumentParser, *, has_other_methods: bool = False) -> None:
    """Add the options that say what is scored, by InfoMask or also by other methods."""
    parser.add_argument(
        "--view",
        help="InfoMask's: auto, crop, keep, drop, chain, features, evidence or relay (default: "
        "auto, relay over superpixels, or drop if the network's features cannot be read)",
    )
    parser.add_argument(
        "--layer",
        metavar="NAMES",
        help=f"{'for Grad-CAM: its layer; ' * has_other_methods}"
        "for evidence and relay: the layers whose cells get bits, separated by commas "
        "(default: the method finds them)",
    )
    parser.add_argument(
        "--input-sizes",
        metavar="PIXELS",
        help="for evidence and relay: sides of the pictures for the network, separated by commas; "
        "their maps are averaged (default: the pictures' own sides)",
    )
    parser.add_argument(
        "--sharpen",
        choices=["superpixels"],
        help="average maps over these (default: superpixels if no view is named)",
    )
    parser.add_argument(
        "--contrast",
        metavar="CLASS",
        help="a class to compare targets with, by number or name, or runner_up: the likeliest "
        "other class of each picture",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def add_fraction(parser: argparse.ArgumentParser) -> None:
    """Add the option of the rule that cuts masks."""
    parser.add_argument(
        *("--fraction", "--keep"),
        type=float,
        metavar="FRACTION",
        help="the mask keeps values of at least this share of the maximum (default: 0.2, or 0.5 "
        "for InfoMask's maps without windows or regions)",
    )


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
        metavar="FILE|NUMBERS|balanced",
        help="p(y) of every class: a file with one number per line, or numbers separated by "
        "commas; or balanced, if the labels are known to be equally likely (default: all equal)",
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
        help="classes that count as one: a file with one group of numbers per line, or groups "
        "separated by semicolons, such as '151,152;3'; targets are then groups",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run computes."""
    parser.add_argument(
        "--engine",
        default="local",
        help="local, or ray: a cluster, or all CPUs of this machine (default: %(default)s)",
    )
    parser.add_argument(
        "--address", help="a Ray cluster's address, or auto (default: Ray starts on this machine)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that decode (local) or compute (ray) (default: one per CPU, or GPU)",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures that share forward passes"
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which network."""
    parser.add_argument(
        "--model",
        default=_MODEL,
        metavar="NAME",
        help="a torchvision or timm classifier, the folder of a Hugging Face model, "
        "module:function, or module:network (default: %(default)s)",
    )
    parser.add_argument(
        *("--weights", "--checkpoint"),
        metavar="FILE|NAME",
        help="a file (.safetensors, state dict), or the name of torchvision's weights",
    )
    parser.add_argument("--categories", metavar="FILE", help="category names, one per line")


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what is measured."""
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        help=f"separated by commas, some of: {', '.join(_METRICS)}; or all, or none",
    )


def add_windows(parser: argparse.ArgumentParser) -> None:
    """Add the options of windows."""
    parser.add_argument(
        "--window",
        type=int,
        metavar="PIXELS",
        help="side of the windows of Occlusion and of InfoMask's views of regions (default: a "
        "quarter of the side of the network's picture)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        metavar="PIXELS",
        help="step between windows (default: half of a window's side)",
    )


def file_path(given: str) -> Path:
    """An option's file; a path that ends with a slash is not a file."""
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


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that run a network."""
    parser.add_argument("--device", help="device of the network (default: cuda if it is available)")
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but warnings and errors"
    )


def add_open(parser: argparse.ArgumentParser) -> None:
    """Add the option that shows the page."""
    parser.add_argument("--open", action="store_true", help="open the report in the browser")

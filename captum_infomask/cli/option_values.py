# Turns the options of the command line into keyword arguments.
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.evaluation.method_calls import square_windows
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import Prior


def view_of(options: argparse.Namespace) -> dict[str, Any]:
    """The view that the options ask for, and its settings: keyword arguments of score_regions."""
    sizes = options.input_sizes
    asked = {
        "view": None if options.view == "auto" else options.view,
        "layer": None if options.layer is None else names_in(options.layer),
        "input_sizes": None if sizes is None else _sides(sizes),
        "sharpen": options.sharpen,
    }
    return {name: value for name, value in asked.items() if value is not None}


def names_in(given: str) -> list[str]:
    """Names that are separated by commas."""
    return [name.strip() for name in given.split(",") if name.strip()]


def _sides(given: str) -> list[int]:
    try:
        return [int(side) for side in given.split(",")]
    except ValueError:
        raise ArgumentError(
            f"Expected `--input-sizes` to be whole numbers separated by commas, such as 224,320; "
            f"got {short_repr(given)}."
        ) from None


def score_of(options: argparse.Namespace) -> Score:
    """How outputs are read, by the options."""
    return Score(
        head=options.head,
        prior=_prior(options.prior),
        trained_with=options.trained_with,
        temperature=options.temperature,
        groups=None if options.groups is None else _groups(options.groups),
    )


def _prior(given: str | None) -> Prior:
    """The prior: numbers, or the word for a uniform one that is known to be that of the labels."""
    if given is None or given == "balanced":
        return "balanced" if given else None
    return _numbers(given)


def _numbers(given: str) -> float | list[float]:
    """The numbers from a file or from the option; a single number is for all labels."""
    words = given.split(",")
    if Path(given).is_file():
        words = Path(given).read_text(encoding="utf-8", errors="replace").split()
    try:
        found = [float(word) for word in words]
    except ValueError:
        raise ArgumentError(
            f"Expected `--prior` to be a file with one number per line, or numbers "
            f"separated by commas; got {short_repr(given)}."
        ) from None
    return found if len(found) > 1 else found[0] if found else []


def _groups(given: str) -> list[list[int]]:
    """The groups from a file or from the option."""
    lines = given.split(";")
    if Path(given).is_file():
        text = Path(given).read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.split("\n") if line.strip()]
    try:
        return [[int(word) for word in line.replace(",", " ").split()] for line in lines]
    except ValueError:
        raise ArgumentError(
            f"Expected `--groups` to be a file with one group of class numbers per line, or groups "
            f"separated by semicolons, such as '151,152;3'; got {short_repr(given)}."
        ) from None


def windows_of(options: argparse.Namespace, inputs: Tensor) -> dict[str, Any]:
    """The windows that the options set for these pictures; without options, InfoMask's own."""
    if options.window is None and options.stride is None:
        return {}
    shapes, strides = square_windows(inputs, options.window, options.stride)
    return {"sliding_window_shapes": shapes, "strides": strides}

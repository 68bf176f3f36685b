# What the figure of a comparison shows, checked; and the figure as a file.
from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict, get_args

import matplotlib as mpl
from matplotlib.figure import Figure

from captum_infomask._checks import boolean, describe, finite_number, named_like, one_of, plain
from captum_infomask._errors import ArgumentError
from captum_infomask._files import output_file
from captum_infomask._process import quiet
from captum_infomask.masks import AtLeast, Hysteresis, MaxFraction, Otsu, Rule, TopFraction
from captum_infomask.report.figure_layout import Layout, Masks, Scale
from captum_infomask.results.map_pictures import checked_place
from captum_infomask.results.method_outcome import MethodOutcome
from captum_infomask.results.outcome_tables import is_control

_DPI = 300  # of a PNG, and of the maps in other files
_writing = threading.Lock()  # matplotlib has one set of settings for all threads


class FigureSettings(TypedDict, total=False):
    """The settings of :meth:`captum_infomask.Comparison.figure`."""

    layout: Layout
    methods: str | Sequence[str] | None
    masks: Masks | None
    controls: bool
    scale: Scale
    width: float | None


def check_settings(
    layout: object, masks: object, controls: object, scale: object, width: object
) -> None:
    """Refuse settings that a figure does not have."""
    boolean("controls", controls)
    one_of("layout", layout, get_args(Layout))
    one_of("scale", scale, get_args(Scale))
    if masks is not None:
        one_of("masks", masks, get_args(Masks))
    if width is not None:
        finite_number("width", width, least=1)


def checked_places(k: object, n: int) -> list[int]:
    """Return the checked numbers of pictures among n: one number, or several."""
    given = plain(k)
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not several:
        raise ArgumentError(f"Expected `k` to number a picture, from 0 to {n - 1}; got none.")
    return [checked_place(plain(one), n) for one in several]


def rule_words(rule: Rule) -> str:
    """Say a rule in a few words, for a figure.

    Example:
        >>> from captum_infomask import MaxFraction
        >>> from captum_infomask.results.comparison_figures import rule_words
        >>> rule_words(MaxFraction(0.125))
        'at least 12.5% of the maximum'
    """
    match rule:
        case MaxFraction(fraction):
            return f"at least {100 * fraction:.3g}% of the maximum"
        case TopFraction(fraction):
            return f"the top {100 * fraction:.3g}% of the pixels"
        case AtLeast(least):
            return f"at least {least:g}"
        case Otsu():
            return "Otsu's threshold"
        case Hysteresis(low, high):
            return f"{rule_words(low)}, connected to {rule_words(high)}"
        case _:
            return str(rule)


def chosen_outcomes(
    outcomes: Sequence[MethodOutcome], methods: object, *, controls: bool
) -> list[MethodOutcome]:
    """Return the methods of a figure: those that are named, else all with or without controls.

    Raises:
        ArgumentError: A name is unknown (the error names the nearest) or comes twice.
    """
    if methods is None:
        seeing = [one for one in outcomes if controls or not is_control(one.name)]
        return seeing or list(outcomes)
    given = [methods] if isinstance(methods, str) else methods
    by_name = {outcome.name: outcome for outcome in outcomes}
    if not isinstance(given, Iterable):
        raise ArgumentError(f"Expected `methods` to be methods' names; got {describe(methods)}.")
    names = [named_like("methods", name, by_name) for name in given]
    if not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"Expected `methods` to name each method once; got {describe(methods)}."
        )
    return [by_name[name] for name in names]


def write_figure(
    figure: Figure, path: str | PathLike[str], kind: Literal["png", "pdf", "svg"]
) -> None:
    """Write a figure in its own size: the same figure gives the same bytes."""
    dates = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    settings: Any = {
        "savefig.bbox": None,  # the user's own may cut the margins
        "savefig.facecolor": "auto",
        "savefig.transparent": False,
        "pdf.fonttype": 42,  # words, in fonts that publishers take
        "svg.fonttype": "none",
        "svg.hashsalt": "captum_infomask",
    }
    file = io.BytesIO()
    with _writing, mpl.rc_context(settings), quiet("Glyph "):  # the font may not have a letter
        figure.savefig(file, format=kind, dpi=_DPI, metadata=dates[kind])
    with output_file("path", path) as beside:
        beside.write_bytes(file.getvalue())

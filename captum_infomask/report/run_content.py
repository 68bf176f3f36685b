# The content of a run's page, in plain arrays and words, and its figure of distributions.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from captum_infomask.report.evidence_content import EvidenceContent
from captum_infomask.report.page_content import PictureContent
from captum_infomask.report.words import signed

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # levels of the quantiles
_ENOUGH = 5  # pictures: a median over fewer is not a reliable extreme
_LEAST = 1.5  # least height of a step that is not empty
_TURN = 0.618  # part of the height between dots: it keeps neighbours in a row apart


@dataclass(frozen=True, eq=False)
class Distribution:
    """The distribution of one number over pictures.

    Args:
        name: The name of the class or group. It may be any text: it is escaped wherever it is
            shown.
        count: The number of pictures that have it.
        quantiles: (5,), at 5, 25, 50, 75 and 95%; NaN if ``count`` is 0.
        histogram: (B,), pictures in B equal parts of the axis that all distributions share.
            Pictures beyond an end are in the part at that end.
        values: The pictures' own numbers, if they are few enough to be drawn one by one.
        is_bounded: Whether the axis's bound holds for this number.
        accuracy: The share of pictures whose target was predicted; None if it says nothing.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.run_content import Distribution
        >>> Distribution("espresso", 2, np.full(5, 3.0), np.array([0, 2]), np.full(2, 3.0)).count
        2
    """

    name: str
    count: int
    quantiles: Floats
    histogram: Counts
    values: Floats
    is_bounded: bool = True
    accuracy: float | None = None


@dataclass(frozen=True)
class Axis:
    """The axis that all distributions share.

    Args:
        low: Its left end.
        high: Its right end.
        bound: The upper bound of all values that are bounded; None if it is not known.
        bound_words: The bound in words, such as "log₂ 1,000".
        below: The number of pictures beyond the left end, which are counted there.
        above: The number of pictures beyond the right end.
    """

    low: float
    high: float
    bound: float | None = None
    bound_words: str = ""
    below: int = 0
    above: int = 0


@dataclass(frozen=True)
class Failure:
    """Pictures that failed for the same reason.

    Args:
        message: The error.
        count: The number of pictures.
        keys: The keys of the first of them.
    """

    message: str
    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """The time that the pictures of one engine took.

    Args:
        engine: The engine's name.
        count: The number of pictures.
        rate: Pictures per second.
        median: Seconds per picture.
        slow: Seconds per picture that 95% stay below.
    """

    engine: str
    count: int
    rate: float
    median: float
    slow: float


@dataclass(frozen=True, eq=False)
class RunContent:
    """The content of the summary of a run; every text is escaped wherever it is shown.

    Args:
        name: The name of the run.
        summary: The method and the data of the run, in a line.
        pictures: The number of pictures of the data set.
        done: The number of pictures that have numbers.
        failed: The number of pictures that have an error instead.
        unit: The unit of information.
        facts: Pairs of a number with its unit, and its description.
        axis: The axis of all distributions; None if nothing is done.
        overall: Distributions over all pictures.
        classes: One distribution of i(y; x) per class, the one with the highest median first.
        examples: Pictures with their maps, in groups.
        threshold: Where the examples' slider starts, as in ``PageContent``.
        notes: Sentences under the examples.
        failures: The failures, those of most pictures first.
        further: The numbers of messages and pictures of the failures that are not in ``failures``.
        speed: All pictures' speed first, then a row per engine if there are several.
        provenance: Groups of pairs of a name and a value: settings, versions.
        model: The network's name, if it is known; it stands in the window's title.
        date: The day on which the run ended or began, as in 2026-11-28.
        evidence: What places say about classes, if the run knows it.

    Example:
        >>> from captum_infomask.report.run_content import RunContent
        >>> RunContent("photos", "InfoMask crop", pictures=9, done=3, failed=1).missing
        5
    """

    name: str
    summary: str
    pictures: int
    done: int
    failed: int
    unit: str = "bits"
    facts: tuple[tuple[str, str], ...] = ()
    axis: Axis | None = None
    overall: tuple[Distribution, ...] = ()
    classes: tuple[Distribution, ...] = ()
    examples: tuple[PictureContent, ...] = ()
    threshold: tuple[Literal["max_fraction", "at_least"], float] = ("max_fraction", 0.2)
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    further: tuple[int, int] = (0, 0)
    speed: tuple[Speed, ...] = ()
    provenance: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    model: str = ""
    date: str = ""
    evidence: EvidenceContent | None = None

    @property
    def missing(self) -> int:
        """The number of pictures that are not done yet."""
        return self.pictures - self.done - self.failed


WIDTH, HEIGHT = 1000, 44  # size of a row, in the drawing's own units: it is stretched to its place
BINS = 80
FEW_VALUES = 60  # up to here, every picture is a dot
FEW_CLASSES = 30  # up to here, every class is drawn
_MOST, _ENDS = 20, 5  # of more classes: those with most pictures, or with the extreme medians
_BASE, _PEAK, _BOX = 32, 4, 38  # heights, from the top


@dataclass(frozen=True)
class Strip:
    """One row: paths of the silhouette, the dots, the range from 5 to 95%, and the quartiles."""

    shown: Distribution
    silhouette: str = ""
    dots: str = ""
    reach: str = ""
    quartiles: str = ""
    median: str = ""


@dataclass(frozen=True)
class Figure:
    """The ticks as pairs of a place in percent and a label, and the lines that rows share."""

    ticks: tuple[tuple[float, str], ...]
    grid: str
    zero: str
    bound: str
    bound_place: float | None


def figure(axis: Axis) -> Figure:
    """Lay out the axis.

    Example:
        >>> from captum_infomask.report.run_content import Axis
        >>> from captum_infomask.report.run_content import figure
        >>> figure(Axis(-1.0, 1.0)).ticks[0]
        (0.0, '−1.0')
    """
    steps = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(axis.low, axis.high)
    inside = [float(step) for step in steps if axis.low <= step <= axis.high]
    digits = max((_digits(step) for step in inside), default=0)
    ticks = tuple((_place(axis, step) / WIDTH * 100, _label(step, digits)) for step in inside)
    bound = None if axis.bound is None else _place(axis, axis.bound)
    return Figure(
        ticks=ticks,
        grid="".join(f"M{_place(axis, step):.1f} 0V{HEIGHT}" for step in inside if step),
        zero=f"M{_place(axis, 0):.1f} 0V{HEIGHT}" if axis.low <= 0 <= axis.high else "",
        bound="" if bound is None else f"M{bound:.1f} 0V{HEIGHT}",
        bound_place=None if bound is None else bound / WIDTH * 100,
    )


def strip(shown: Distribution, axis: Axis) -> Strip:
    """Draw one distribution: dots if pictures are few, else the silhouette of a histogram.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.run_content import Axis, Distribution
        >>> from captum_infomask.report.run_content import strip
        >>> one = Distribution("espresso", 1, np.full(5, 3.0), np.array([0, 1]), np.full(1, 3.0))
        >>> strip(one, Axis(0.0, 4.0)).dots
        'M750.0 18.0h0'
    """
    if not shown.count:
        return Strip(shown)
    low, first, median, third, high = (_place(axis, value) for value in shown.quantiles)
    if len(shown.values):
        drawn = {"dots": _dots([_place(axis, value) for value in shown.values])}
    else:
        drawn = {"silhouette": _silhouette(shown.histogram)}
    if shown.count >= _ENOUGH:
        drawn |= {
            "reach": f"M{low:.1f} {_BOX}H{high:.1f}",
            "quartiles": f"M{first:.1f} {_BOX}H{third:.1f}",
        }
    return Strip(shown, median=f"M{median:.1f} {_BOX - 5}V{HEIGHT - 1}", **drawn)


def class_groups(
    classes: Sequence[Distribution],
) -> tuple[tuple[str, tuple[Distribution, ...]], ...]:
    """Choose the classes to draw, and say why.

    Args:
        classes: All classes, the one with the highest median first.

    Returns:
        Groups of a heading and its classes.

    Example:
        >>> from captum_infomask.report.run_content import class_groups
        >>> class_groups([])
        (('Each class', ()),)
    """
    if len(classes) <= FEW_CLASSES:
        return (("Each class", tuple(classes)),)
    # The sort is stable: classes with equal numbers of pictures stay in the order of their medians.
    most = sorted(range(len(classes)), key=lambda k: -classes[k].count)[:_MOST]
    ranked = [one for one in classes if one.count >= _ENOUGH]
    few = f", of classes with at least {_ENOUGH} pictures" if len(ranked) < len(classes) else ""
    if len(ranked) < 2 * _ENDS:
        ranked, few = list(classes), ""
    return (
        (f"The {_ENDS} highest medians{few}", tuple(ranked[:_ENDS])),
        (f"The {_MOST} classes with most pictures", tuple(classes[k] for k in sorted(most))),
        (f"The {_ENDS} lowest medians{few}", tuple(ranked[-_ENDS:])),
    )


def _place(axis: Axis, value: float) -> float:
    """Return the place of a value across a row; a value beyond an end is drawn at that end."""
    share = (float(value) - axis.low) / (axis.high - axis.low)
    return WIDTH * min(1.0, max(0.0, share))


def _dots(places: Sequence[float]) -> str:
    """Draw a dot per value at its place across the row; the heights only keep neighbours apart."""
    middle, half = (_BASE + _PEAK) / 2, (_BASE - _PEAK) / 2 - 4
    turns = (2 * ((0.5 + k * _TURN) % 1) - 1 for k in range(len(places)))
    return "".join(
        f"M{place:.1f} {middle + half * turn:.1f}h0"
        for place, turn in zip(places, turns, strict=True)
    )


def _silhouette(histogram: Counts) -> str:
    """Draw a histogram as a path, to its own full height; steps are wider if pictures are few."""
    total = int(histogram.sum())
    steps = BINS if total >= 1000 else BINS // 2
    joined = histogram.reshape(steps, -1).sum(1)
    share = joined / max(1, joined.max())
    tops = _BASE - np.maximum((_BASE - _PEAK) * share, _LEAST * (joined > 0))
    wide = WIDTH / steps
    return f"M0 {_BASE}" + "".join(f"V{top:.1f}h{wide:g}" for top in tops) + f"V{_BASE}Z"


def _digits(step: float) -> int:
    """Return the decimal places that write a tick in full."""
    return next((d for d in range(7) if abs(round(step, d) - step) < 1e-9), 7)


def _label(step: float, digits: int) -> str:
    return signed(step, f".{digits}f")

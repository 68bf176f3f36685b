# What the page of a run over a data set shows, in plain arrays and words.
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from captum_infomask.report.page_content import PictureContent

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the quantiles


@dataclass(frozen=True, eq=False)
class Distribution:
    """How one number is distributed over pictures.

    Args:
        name: Whose number it is. Any text: it is escaped wherever it is shown.
        count: How many pictures have it.
        quantiles: (5,), at 5, 25, 50, 75 and 95%; NaN where ``count`` is 0.
        histogram: (B,), pictures in B equal parts of the axis that all distributions share; those
            beyond an end are in the part at that end.
        values: The pictures' own numbers, where they are few enough to be drawn one by one.
        is_bounded: Whether the axis's bound holds for this number.
        accuracy: The share of pictures whose target was predicted; None where it says nothing.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.run_content import Distribution
        >>> Distribution("espresso", 2, np.full(5, 3.0), np.array([0, 2]), np.full(2, 3.0)).count
        2
    """

    name: str
    count: int
    quantiles: Numbers
    histogram: Counts
    values: Numbers
    is_bounded: bool = True
    accuracy: float | None = None


@dataclass(frozen=True)
class Axis:
    """The axis that all distributions share.

    Args:
        low: Its left end.
        high: Its right end.
        bound: What no value that is bounded can exceed; None where nobody knows.
        bound_words: What the bound is, such as "log₂ 1,000".
        below: Pictures that lie beyond the left end, and are counted there.
        above: Pictures that lie beyond the right end.
    """

    low: float
    high: float
    bound: float | None = None
    bound_words: str = ""
    below: int = 0
    above: int = 0


@dataclass(frozen=True)
class Failure:
    """Pictures that failed alike.

    Args:
        message: What went wrong.
        count: How many pictures.
        keys: The first of them.
    """

    message: str
    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """How long the pictures of one engine took.

    Args:
        engine: Its name.
        count: Pictures.
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
    """All that the summary of a run shows; every text is escaped wherever it is shown.

    Args:
        name: The run's.
        summary: What was run on what, in a line.
        pictures: All of the data set.
        done: Those that have numbers.
        failed: Those that have an error instead.
        unit: What information is counted in.
        facts: Pairs of a number with its unit, and what it is.
        axis: Of all distributions; None where nothing is done.
        overall: Distributions over all pictures.
        classes: One distribution of i(y; x) per class, the one with the highest median first.
        examples: Pictures with their maps, in groups.
        threshold: Where the examples' slider starts, as of ``PageContent``.
        notes: Sentences under the examples.
        failures: Those of most pictures first.
        further: Messages and pictures of the failures that are not in ``failures``.
        speed: Of all pictures first, then a row per engine if there are several.
        provenance: Groups of pairs of a name and a value: settings, versions.

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

    @property
    def missing(self) -> int:
        """Pictures that nobody has come to yet."""
        return self.pictures - self.done - self.failed

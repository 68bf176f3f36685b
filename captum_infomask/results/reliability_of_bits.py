# What bits say and what was observed: the numbers, the verdict, the figure.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_infomask.report.bits_figure import bits_figure
from captum_infomask.report.page_content import BitsCheck, BitsCurve
from captum_infomask.results.region_table import frame

Numbers = npt.NDArray[np.float64]

_ARRAYS = ("said", "observed", "lower", "upper", "expected_count", "observed_count")
_ESTIMATES = ("error", "excess")
_SMALL = 0.05  # bits that no reader would miss
_BEYOND = 1.5  # intervals


@dataclass(frozen=True)
class BitsEstimate:
    """A mean in bits, with its interval if there are pictures enough.

    Attributes:
        mean: The mean.
        low: Lower end of the interval; None for fewer than ten pictures.
        high: Upper end of the interval.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """The mean, and its interval if there is one."""
        if self.low is None or self.high is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, eq=False, repr=False)
class BitsReliability:
    """What regions say about classes, and how much more often than the prior the classes occur.

    Attributes:
        said: What the regions, pictures and classes of each bin say, in bits, (B,), from the lowest
            bin to the highest.
        observed: log₂ of how often the class occurred over how often the prior expects it, in bits,
            (B,); −inf if it never did.
        lower: Lower ends of the intervals of ``observed``, (B,); NaN for fewer than ten pictures.
        upper: Upper ends, (B,).
        expected_count: How often the class occurs in each bin if the bits are true, (B,).
        observed_count: How often it did, (B,). All regions of a picture count.
        error: The mean over bins of the magnitude of said − observed, in bits, weighted by
            ``expected_count``, with its interval. Chance alone makes it larger than 0.
        excess: The same mean of said − observed: above 0, the network says too many bits. Chance
            alone leaves it around 0.
        pictures: N, the pictures that are drawn for intervals; with ``clusters``, their number.
        view: The view.
        prior: Where the prior of the labels comes from, in words.
        name: What was read, in a few words, for legends.

    Example:
        >>> from captum_infomask import InfoMask, bits_reliability, grid
        >>> from captum_infomask.datasets import GaussianPatches, IndependentPatches
        >>> pictures = IndependentPatches(GaussianPatches.random(classes=4), rows=2, columns=2)
        >>> images, labels = pictures.draw(2000, seed=0)
        >>> too_sure = InfoMask(pictures.network(), temperature=0.5)
        >>> found = bits_reliability(
        ...     too_sure, images, labels, crop_size="native", regions=grid(images, 2, 2))
        >>> found.name, found.verdict()[:46]
        ('crop, 4×4, τ = 0.5', 'says 0.2 bits too much where it says 1.9; erro')
    """

    said: Numbers
    observed: Numbers
    lower: Numbers
    upper: Numbers
    expected_count: Numbers
    observed_count: Numbers
    error: BitsEstimate
    excess: BitsEstimate
    pictures: int
    view: str
    prior: str
    name: str

    @property
    def gaps(self) -> Numbers:
        """Said − observed of each bin, (B,), at least: if a class never occurred, said − upper."""
        possible = np.minimum(self.upper, self.said)
        return self.said - np.where(self.observed_count > 0, self.observed, possible)

    def __repr__(self) -> str:
        """Say in words where the bits are furthest from true."""
        count = f"{self.pictures} picture{'s' * (self.pictures != 1)}"
        return f"BitsReliability({self.name}, {count}: {self.verdict()})"

    def verdict(self) -> str:
        """Say how far the bits are from true, and where most, among bins that say above 0 bits.

        A bin counts as off by more than chance from one and a half times its interval on: among
        many true bins, one often lies outside its own interval. Without intervals nothing is said.
        """
        error = f"error {self.error} bits"
        if self.error.low is None:
            return f"{error}; too few pictures to tell it from chance"
        is_read = self.said > 0 if (self.said > 0).any() else np.full(len(self.said), True)
        is_off = is_read & (np.abs(self.gaps) >= np.fmax(_BEYOND * self._reach, _SMALL))
        if not is_off.any():
            return f"{error}, nowhere by more than chance"
        worst = int(np.argmax(np.abs(self.gaps) * self.expected_count * is_off))
        gap, said = float(self.gaps[worst]), float(self.said[worst])
        least = "" if self.observed_count[worst] > 0 else "at least "
        much = "too much" if gap > 0 else "too little"
        return f"says {least}{abs(gap):.1f} bits {much} where it says {said:.1f}; {error}"

    @property
    def _reach(self) -> Numbers:
        """How far the interval goes from what was observed towards what was said; NaN for none."""
        end = np.where(self.gaps > 0, self.upper, self.lower)
        start = np.where(self.observed_count > 0, self.observed, end)
        return np.where(start == end, 0.0, np.abs(end - start))

    def figure(
        self, *others: BitsReliability, ax: Axes | None = None, title: str = ""
    ) -> tuple[Figure, list[Axes]]:
        """Draw what was observed against what was said, with intervals; true bits lie on the line.

        Args:
            *others: Further results: another view, another size of regions, after a fit.
                ``dataclasses.replace(found, name="after")`` changes a name in the legend.
            ax: The panel to draw the curves into, in a figure of your own. Then the panel of the
                expected counts is left out.
            title: Words above the panel.

        Returns:
            The figure, on an Agg canvas (no window, no pyplot state), and its panels: the curves
            and, if ``ax`` is None, the share of the expected counts below.
        """
        return bits_figure([_curve(one) for one in (self, *others)], ax=ax, title=title)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with a row per bin."""
        return frame({name: getattr(self, name) for name in _ARRAYS})


def _curve(found: BitsReliability) -> BitsCurve:
    return BitsCurve(
        *(found.name, found.said, found.observed, found.lower, found.upper, found.expected_count)
    )


def bits_check(found: Sequence[BitsReliability], methods: Sequence[str]) -> BitsCheck | None:
    """Return a report's section about bits; None if there are no results.

    Args:
        found: The results.
        methods: The names of the report's methods.
    """
    if not found:
        return None
    pictures = found[0].pictures
    labelled = f"{pictures} labelled picture{'s' * (pictures != 1)}"
    sources = "; ".join(dict.fromkeys(one.prior for one in found))
    notes = [f"Counted on {labelled}. The prior of the labels: {sources}."]
    if any(one.error.low is None for one in found):
        notes.append(
            "So few pictures can show little: below ten there are no intervals, and a difference "
            "may be chance."
        )
    if not any(one.name.startswith(f"{name}, ") for one in found for name in methods):
        notes.append(
            f"No method here counts bits from the prior, and no occurrence can check a difference. "
            f"So the diagram is of view={found[0].view!r}, read from the same network."
        )
    return BitsCheck(tuple(map(_curve, found)), tuple(one.verdict() for one in found), tuple(notes))


def parts_of(found: BitsReliability) -> tuple[dict[str, Numbers], dict[str, Any]]:
    """Return the arrays and the words of a result, for a file."""
    parts = vars(found)
    words = {name: own for name, own in parts.items() if name not in _ARRAYS}
    words |= {name: vars(words[name]) for name in _ESTIMATES}
    return {name: parts[name] for name in _ARRAYS}, words


def reliability_from(arrays: Mapping[str, Numbers], words: Mapping[str, Any]) -> BitsReliability:
    """Return the result of :func:`parts_of`.

    Raises:
        ValueError: Its arrays have other shapes.
    """
    if any(arrays[name].shape != (len(arrays["said"]),) for name in _ARRAYS):
        raise ValueError(f"the bins of {words['name']} are of several numbers")
    estimates = {name: BitsEstimate(**words[name]) for name in _ESTIMATES}
    return BitsReliability(**{**words, **estimates, **{name: arrays[name] for name in _ARRAYS}})

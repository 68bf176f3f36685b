# Reliability diagrams: how often a network is right against how sure it says it is.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

_INK, _GREY = "#1b1f24", "#69707a"
_RIGHT, _TOO_SURE, _NOT_SURE_ENOUGH = "#3d6fb0", "#eab3a4", "#a9cbe8"


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Predictions sorted by confidence, the probability of the likeliest class, into equal bins.

    Args:
        confidence: Mean confidence of each bin, (B,); NaN where a bin is empty.
        accuracy: Share of right predictions of each bin, (B,); NaN where a bin is empty.
        count: Number of predictions in each bin, (B,).
        error: Expected calibration error, from 0 to 1: the mean over predictions of the distance
            between their bin's accuracy and confidence.
    """

    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    error: float


def reliability_figure(
    panels: Sequence[tuple[str, ReliabilityBins]],
) -> tuple[Figure, list[Axes]]:
    """Draw reliability diagrams side by side.

    The blue bar of each bin of confidence ends at its accuracy; a pale red part reaches on to the
    mean confidence of a network that is too sure, a pale blue part down to that of one that is not
    sure enough. Below, how many predictions fall into each bin.

    Args:
        panels: Titles and bins.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panels: for each diagram
        the bars and the counts below.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.reliability import ReliabilityBins, reliability_figure
        >>> bins = ReliabilityBins(
        ...     np.array([0.2, 0.8]), np.array([0.3, 0.7]), np.array([5, 15]), error=0.1)
        >>> fig, axes = reliability_figure([("before", bins)])
        >>> len(axes)
        2

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, Figure 1.
    """
    figure = Figure(figsize=(3.6 * len(panels) + 0.5, 4.3), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(panels), squeeze=False, sharex=True, height_ratios=(4, 1))
    most = max(float((bins.count / bins.count.sum()).max()) for _, bins in panels)
    for column, (title, bins) in enumerate(panels):
        bars, counts = grid[:, column]
        _draw_bars(bars, bins)
        bars.set_title(title, fontsize=12, color=_INK, loc="left")
        edges = np.linspace(0, 1, len(bins.count) + 1)
        counts.bar(
            edges[:-1], bins.count / bins.count.sum(), np.diff(edges), align="edge", color=_GREY
        )
        counts.set_ylim(0, 1.08 * most)
        counts.set_xlabel("confidence", color=_INK)
        for axes in (bars, counts):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=2, color=_GREY, labelcolor=_INK, labelsize=8.5)
    grid[0, 0].set_ylabel("accuracy", color=_INK)
    grid[1, 0].set_ylabel("share", color=_INK)
    grid[0, 0].legend(
        loc="upper left", bbox_to_anchor=(0, 0.93), frameon=False, fontsize=8.5, handlelength=1
    )
    return figure, list(grid.T.flat)


def _draw_bars(axes: Axes, bins: ReliabilityBins) -> None:
    """Accuracy per bin, its distance to the confidence, and the diagonal."""
    edges = np.linspace(0, 1, len(bins.count) + 1)
    both = np.fmin(bins.accuracy, bins.confidence)
    parts = (
        ("right", _RIGHT, np.zeros_like(both), both),
        ("right, not sure enough", _NOT_SURE_ENOUGH, both, bins.accuracy - both),
        ("too sure", _TOO_SURE, both, bins.confidence - both),
    )
    for name, colour, bottom, height in parts:
        style: dict[str, Any] = {
            "color": colour,
            "edgecolor": "white",
            "linewidth": 0.6,
            "label": name,
        }
        axes.bar(edges[:-1], height, np.diff(edges), bottom=bottom, align="edge", **style)
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    words = f"calibration error {bins.error:.3f}"
    axes.text(0.03, 0.98, words, fontsize=10, color=_INK, va="top")

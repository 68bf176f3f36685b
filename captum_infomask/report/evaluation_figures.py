# Figures of evaluations: reliability, imputers side by side, layers that are re-drawn.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from captum_infomask.report.drawn_figure import DrawnFigure
from captum_infomask.report.page_content import FloatArray

_INK, _GREY = "#1b1f24", "#69707a"
_RIGHT, _TOO_SURE, _NOT_SURE_ENOUGH = "#3d6fb0", "#eab3a4", "#a9cbe8"
_PALE = "#d5d9de"
# Okabe and Ito's colours: colour-blind readers can tell them apart. The marks differ too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1f24")
_MARKS = "osD^vPX"


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Predictions sorted by confidence, the probability of the likeliest class, into equal bins.

    Args:
        confidence: Mean confidence of each bin, (B,); NaN if a bin is empty.
        accuracy: Share of right predictions of each bin, (B,); NaN if a bin is empty.
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

    The blue bar of each bin of confidence ends at its accuracy. If the network is too sure, a pale
    red part goes up to the mean confidence. If it is not sure enough, a pale blue part goes down to
    it. The counts below say how many predictions are in each bin.

    Args:
        panels: Titles and bins.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panels: for each diagram
        the bars and the counts below.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.evaluation_figures import (
        ...     ReliabilityBins, reliability_figure)
        >>> bins = ReliabilityBins(
        ...     np.array([0.2, 0.8]), np.array([0.3, 0.7]), np.array([5, 15]), error=0.1)
        >>> fig, axes = reliability_figure([("before", bins)])
        >>> len(axes)
        2

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, Figure 1.
    """
    figure = DrawnFigure((3.6 * len(panels) + 0.5, 4.3), "constrained")
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
    """Draw the accuracy per bin, its distance to the confidence, and the diagonal."""
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


@dataclass(frozen=True)
class FillPanel:
    """One map of the figure.

    Attributes:
        title: The imputer's name, or another title.
        values: (H, W).
        note: Words below it.
    """

    title: str
    values: FloatArray
    note: str


def fills_figure(
    panels: Sequence[FillPanel], *, unit: str, image: npt.NDArray[np.uint8] | None = None
) -> tuple[Figure, list[Axes]]:
    """Draw maps in a row, on one scale that is centred at 0, beside the picture if there is one.

    Args:
        panels: The maps to draw.
        unit: The unit of all values.
        image: (H, W, 3), uint8.

    Returns:
        The figure, on an Agg canvas, and its panels.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.evaluation_figures import FillPanel, fills_figure
        >>> panel = FillPanel("blur", np.eye(4, dtype=np.float32), "all imputed: class 3")
        >>> len(fills_figure([panel, panel], unit="bits")[1])
        2
    """
    count = len(panels) + (image is not None)
    height, width = panels[0].values.shape
    figure = DrawnFigure((2.3 * count + 0.7, 2.3 * height / width + 0.75), "constrained")
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(1, count)))
    for one in axes:
        one.set_xticks([])
        one.set_yticks([])
        one.spines[:].set_visible(False)
    if image is not None:
        axes[0].imshow(image)
        axes[0].set_title("picture", fontsize=10)
    limit = max(float(np.abs(panel.values).max()) for panel in panels) or 1.0
    for one, panel in zip(axes[image is not None :], panels, strict=True):
        drawn = one.imshow(panel.values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        one.set_title(panel.title, fontsize=10)
        one.set_xlabel(panel.note, fontsize=8)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure, axes


def randomisation_figure(
    names: Sequence[str], stages: Sequence[str], values: npt.NDArray[np.float64]
) -> tuple[Figure, Axes]:
    """Draw a curve per method over the stages of re-drawing; it starts at 1, the network as it was.

    Args:
        names: The M methods.
        stages: The S stages, each named by the first layer that is re-drawn.
        values: (M, S), rank correlations; NaN leaves a gap.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panel.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.evaluation_figures import randomisation_figure
        >>> figure, axes = randomisation_figure(["crop"], ["fc", "conv"], np.array([[0.5, 0.1]]))
        >>> len(axes.lines[-1].get_xdata())
        3

    Source: after Adebayo et al., "Sanity Checks for Saliency Maps", arXiv 1810.03292, Figure 4.
    """
    width = 3.6 + 0.48 * len(stages)
    figure = DrawnFigure((width, 4.4), "constrained")
    axes = figure.subplots()
    axes.axhline(0, color=_PALE, linewidth=1, zorder=0)
    places = np.arange(len(stages) + 1)
    for number, (name, line) in enumerate(zip(names, values, strict=True)):
        axes.plot(
            places,
            [1.0, *line],
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKS[number % len(_MARKS)],
            markersize=5,
            linewidth=1.6,
            clip_on=False,
        )
    axes.set_xticks(
        places, ["as trained", *stages], rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.set_xlim(0, len(stages))
    axes.set_ylim(min(-0.25, float(np.nanmin(values, initial=0)) - 0.05), 1)
    axes.set_xlabel("re-drawn: this layer and all after it", color=_INK)
    axes.set_ylabel("Spearman with the map as trained", color=_INK)
    axes.grid(axis="y", color=_PALE, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2, color=_GREY, labelcolor=_INK, labelsize=8.5)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return figure, axes

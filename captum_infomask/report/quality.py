# Quality against cost: settings as points, side by side for several measures of quality.
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from captum_infomask.report.figure import GREY, INK

_COLOURS = ("#b2182b", "#2166ac", "#1b7837", "#762a83", "#b35806", "#4d4d4d")
_MARKERS = "osD^vP"
_WIDTH, _HEIGHT = 5.7, 4.4  # of a panel, in inches


@dataclass(frozen=True)
class Setting:
    """What one setting cost, and how good it was by every measure.

    Args:
        name: A few words beside the point; none if empty.
        series: Settings of one series share colour and marker.
        cost: On the horizontal axis.
        qualities: Mean, lower and upper end of the interval, for each measure; None for ends that
            there are not, and where it was not measured.
    """

    name: str
    series: str
    cost: float
    qualities: tuple[tuple[float, float | None, float | None] | None, ...]


def quality_figure(
    settings: Sequence[Setting],
    *,
    measures: Mapping[str, tuple[float, float]],
    cost: str,
    title: str,
    joined: Collection[str] = (),
    references: Mapping[str, Sequence[float | None]] | None = None,
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Draw quality against cost, a panel per measure, the cost on a logarithmic axis.

    Args:
        settings: The points, with their intervals.
        measures: What each panel's vertical axis counts, and from where to where; points outside
            are not seen.
        cost: What the horizontal axes count.
        title: Words above the panels.
        joined: Series whose points a line joins.
        references: Names of horizontal lines, and their height in each panel, None for no line.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panels.

    Example:
        >>> from captum_infomask.report.quality import Setting, quality_figure
        >>> points = [Setting("112", "crop", 0.6, ((0.99, 0.98, 1.0),))]
        >>> figure, panels = quality_figure(points, cost="passes", title="",
        ...                                 measures={"share": (0, 1)})
        >>> panels.shape
        (1,)
    """
    width, height = _WIDTH * len(measures), _HEIGHT + 0.8
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.4 / width, 1 - 0.2 / height, title, fontsize=12.5, color=INK, va="top")
    panels = np.empty(len(measures), dtype=object)
    for place, (measure, reach) in enumerate(measures.items()):
        left = (place * _WIDTH + 0.62) / width
        box = (left, 0.9 / height, (_WIDTH - 1.65) / width, (_HEIGHT - 0.7) / height)
        axes = figure.add_axes(box)
        panels[place] = axes
        _draw_series(axes, settings, place, joined)
        for name, heights in (references or {}).items():
            _draw_reference(axes, name, heights[place])
        axes.set_ylim(reach)
        _label(axes, measure, cost)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=8.5, frameon=False, ncols=len(labels), loc="lower center"
    )
    return figure, panels


def _draw_series(
    axes: Axes, settings: Sequence[Setting], place: int, joined: Collection[str]
) -> None:
    """The points of one measure."""
    for number, series in enumerate(dict.fromkeys(one.series for one in settings)):
        points = sorted(
            (one.cost, *_reach(*quality), one.name)
            for one in settings
            if one.series == series and (quality := one.qualities[place]) is not None
        )
        if not points:
            continue
        costs, means, lows, highs, names = zip(*points, strict=True)
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(
            costs,
            means,
            (np.subtract(means, lows), np.subtract(highs, means)),
            fmt=_MARKERS[number % len(_MARKERS)],
            linestyle="-" if series in joined else "none",
            linewidth=1.2,
            elinewidth=0.7,
            markersize=4.5,
            color=colour,
            label=series,
        )
        for turn, name in enumerate(names):
            # By turns to the lower right and the upper left, so that neighbours' words part.
            aside = turn % 2 and series not in joined
            axes.annotate(
                name,
                (costs[turn], means[turn]),
                (-5, 3) if aside else (5, -9),
                textcoords="offset points",
                fontsize=8,
                color=colour,
                ha="right" if aside else "left",
                annotation_clip=True,
            )


def _reach(mean: float, low: float | None, high: float | None) -> tuple[float, float, float]:
    """A mean and the ends of its bar: the mean itself where there is no interval."""
    return mean, mean if low is None else low, mean if high is None else high


def _draw_reference(axes: Axes, name: str, height: float | None) -> None:
    """A horizontal line and its name."""
    if height is None:
        return
    axes.axhline(height, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        name.replace(", ", ",\n"),
        (1, height),
        (3, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        fontsize=8,
        color=GREY,
        va="center",
        annotation_clip=False,
    )


def _label(axes: Axes, measure: str, cost: str) -> None:
    """Words and ticks."""
    axes.set_xscale("log")
    least, most = axes.get_xlim()
    steps = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
    ticks = [step for step in steps if least <= step <= most]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(cost, fontsize=9.5, color=INK)
    axes.set_title(measure, fontsize=9.5, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5, color=GREY, labelcolor=INK)

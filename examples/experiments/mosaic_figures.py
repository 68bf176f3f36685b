# Figures of the mosaic experiment: maps of one mosaic, quality against cost.
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from captum_infomask.report.colours import Shades
from captum_infomask.report.page_content import FloatArray, PhotoArray
from captum_infomask.report.panel_figure import GREY, INK

_PANEL, _GAP, _LABELS, _BAR, _HEAD, _MARGIN = 1.28, 0.08, 1.75, 0.75, 0.62, 0.2  # inches


@dataclass(frozen=True)
class MapsRow:
    """One method's maps of one mosaic, and the words beside them.

    Args:
        name: The method's name.
        unit: What its values are counted in.
        note: A few words below the name.
        maps: (4, H, W), one per photograph.
    """

    name: str
    unit: str
    note: str
    maps: FloatArray


def mosaic_figure(
    picture: PhotoArray, names: Sequence[str], rows: Sequence[MapsRow], *, title: str
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Draw one mosaic's maps: a row per method, a column per photograph that was asked about.

    The photograph asked about is framed. Rows of one unit share a scale, and stand together; rows
    in a.u. have one each. Full colour is the scale's largest value, in both directions, and what
    lies further below 0 looks the same.

    Args:
        picture: (H, W, 3), uint8.
        names: What each photograph is, row by row.
        rows: One per method; those of one unit in a row.
        title: Words above the maps.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panels
        (number of rows, 4).

    Example:
        >>> import numpy as np
        >>> from experiments.mosaic_figures import MapsRow, mosaic_figure
        >>> row = MapsRow("InfoMask crop", "bits", "", np.ones((4, 8, 8), np.float32))
        >>> picture = np.zeros((8, 8, 3), np.uint8)
        >>> mosaic_figure(picture, "abcd", [row], title="Maps")[1].shape
        (1, 4)
    """
    scales = [_scale_of(place, row) for place, row in enumerate(rows)]
    limits = {
        scale: max(
            float(row.maps.max()) for row, own in zip(rows, scales, strict=True) if own == scale
        )
        for scale in scales
    }
    size = (
        2 * _MARGIN + _LABELS + 4 * (_PANEL + _GAP) + _BAR,
        2 * _MARGIN + _HEAD + len(rows) * (_PANEL + _GAP),
    )
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    _words(figure, _MARGIN, _MARGIN + 0.1, title, fontsize=12.5, color=INK)
    ground = picture / 255.0
    panels = np.empty((len(rows), 4), dtype=object)
    for place, row in enumerate(rows):
        top = _MARGIN + _HEAD + place * (_PANEL + _GAP)
        _words(figure, _MARGIN, top + _PANEL / 2, row.name, fontsize=9.5, va="bottom", color=INK)
        _words(figure, _MARGIN, top + _PANEL / 2 + 0.04, row.note, fontsize=8.5, color=GREY)
        for column in range(4):
            left = _MARGIN + _LABELS + column * (_PANEL + _GAP)
            axes = _axes(figure, left, top, _PANEL, _PANEL)
            axes.imshow(_tinted(row.maps[column], limits[scales[place]], ground))
            _frame(axes, column, picture.shape[0], picture.shape[1])
            panels[place, column] = axes
            if place == 0:
                axes.set_title(names[column], fontsize=9.5, color=INK, pad=4)
    for scale in dict.fromkeys(scales):
        places = [place for place, own in enumerate(scales) if own == scale]
        lowest = min(float(rows[place].maps.min()) for place in places)
        _scale(figure, rows[places[0]].unit, places, lowest, limits[scale])
    return figure, panels


def _scale_of(place: int, row: MapsRow) -> str:
    """Which scale a row has: its unit's, or its own where the unit means nothing."""
    return f"row {place}" if row.unit == "a.u." else row.unit


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """An empty panel, placed in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    axes = figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def _words(figure: Figure, left: float, top: float, words: str, **style: Any) -> None:
    """Words, placed in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - top / down, words, **{"va": "top", **style})


def _frame(axes: Axes, quarter: int, height: int, width: int) -> None:
    """Frame the photograph that was asked about."""
    row, column = divmod(quarter, 2)
    corner = (column * width / 2 - 0.5, row * height / 2 - 0.5)
    axes.add_patch(
        Rectangle(corner, width / 2, height / 2, fill=False, edgecolor=INK, linewidth=1.2)
    )


def _scale(figure: Figure, unit: str, places: Sequence[int], lowest: float, limit: float) -> None:
    """A colour bar beside the rows that share it, as far as their values reach or colours tell."""
    top = _MARGIN + _HEAD + places[0] * (_PANEL + _GAP)
    height = (places[-1] - places[0]) * (_PANEL + _GAP) + _PANEL
    inset = 0.2  # room for the unit's name
    left = _MARGIN + _LABELS + 4 * (_PANEL + _GAP) + 0.08
    axes = _axes(figure, left, top + inset, 0.1, height - inset)
    low = min(0.0, max(lowest, -limit))
    steps = np.linspace(low, limit, 256, dtype=np.float32)[:, None]
    bar = _tinted(steps, limit, np.full((256, 1, 3), 0.75))
    axes.imshow(bar, origin="lower", aspect="auto", extent=(0, 1, low, limit))
    axes.yaxis.tick_right()
    axes.yaxis.set_major_locator(MaxNLocator(max(3, min(9, int(height * 2))), steps=[1, 2, 5, 10]))
    axes.tick_params(length=2, width=0.6, labelsize=8, color=GREY, labelcolor=INK, pad=2)
    axes.set_title(unit, fontsize=9, color=INK, loc="left", pad=4)


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
        >>> from experiments.mosaic_figures import Setting, quality_figure
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


def _tinted(values: np.ndarray, limit: float, ground: np.ndarray) -> np.ndarray:
    """A map over its picture: red speaks for the class, blue against it."""
    return Shades(limit, colormaps["RdBu_r"], signed=True).over(values, ground)

# Quality against cost: each method is a point.
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from .rows import Row
from .tables import by_method, cost, mean

Point: TypeAlias = tuple[str, float, float]  # a method, its cost, its level

# Ours, Grad-CAM and its relatives, gradients, what hides parts, controls.
_GROUPS = (
    ("InfoMask", "#b2182b", "o", "InfoMask"),
    ("Grad-CAM", "#2166ac", "s", "Grad-CAM and its variants"),
    ("guided Grad-CAM", "#2166ac", "D", "guided Grad-CAM"),
    ("", "#4d4d4d", "^", "others"),
)


_SHORTER = {"InfoMask ": "", " (its authors' layer)": "", ", 50 superpixels, 256 samples": ""}
_SHARES = [0.995 - 0.05 * k for k in range(18)]  # of the width, where a level's name ends
_PLACES = [(6, 0), (6, 7), (6, -7), (-6, 0), (-6, 7), (-6, -7)]  # beside a point, in points
_PLACES += [
    (side, sign * far) for far in range(13, 85, 6) for side in (12, -12) for sign in (1, -1)
]


def draw_costs(panels: Mapping[str, Sequence[Row]], measure: str, words: str, file: Path) -> None:
    """A panel per subject: a measure against forward passes' time, on a log scale."""
    count = len(panels)
    figure = Figure(
        figsize=(1 + 5.2 * count, 6.2), layout="constrained", facecolor="white", dpi=130
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    points = [
        _points(panel, rows, measure) for panel, rows in zip(axes, panels.values(), strict=True)
    ]
    axes[0].set_ylabel(words)
    for panel, name in zip(axes, panels, strict=True):
        panel.set_title(name, fontsize=10)
        panel.margins(y=0.1)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set_xlabel("time of a map, in forward passes")
        low, high = panel.get_xlim()
        panel.set_xlim(low / (high / low) ** 0.1, high * (high / low) ** 0.25)
        panel.grid(color="#e8e8e8", linewidth=0.6)
    handles = {
        label: handle
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    figure.draw_without_rendering()  # places are known from here on
    figure.set_layout_engine("none")
    for panel, named in zip(axes, points, strict=True):
        _name(panel, named)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def _points(panel: Axes, rows: Sequence[Row], measure: str) -> list[Point]:
    """Draw the points and the controls' levels; each method's name, cost and level."""
    named = []
    for name, own in by_method(rows).items():
        level = mean(own, measure)
        if next(iter(own.values()))["control"]:
            panel.axhline(level, color="#b0b0b0", linewidth=0.8, linestyle=":")
            panel.annotate(
                name.removesuffix(" (control)"),
                (_SHARES[0], level),
                xycoords=("axes fraction", "data"),
                fontsize=6.5,
                ha="right",
            )
            continue
        price = cost(own)
        _, colour, marker, label = next(group for group in _GROUPS if name.startswith(group[0]))
        panel.plot(
            price,
            level,
            marker,
            color=colour,
            markersize=5.5,
            linestyle="",
            label=label,
            zorder=3 if "default" in name else 2,
        )
        named.append((name, price, level))
    return named


def _together(panel: Axes, named: Sequence[Point]) -> list[Point]:
    """The points to name, the default first; of Grad-CAM's layers that lie together one."""
    found: list[Point] = []
    near = 9 * panel.figure.dpi / 72
    for name, *place in sorted(named, key=lambda each: ("default" not in each[0], -each[2])):
        at = panel.transData.transform(place)
        for k, (other, *there) in enumerate(found):
            are_layers = _is_of_layer(name) and _is_of_layer(other)
            if are_layers and abs(panel.transData.transform(there) - at).max() < near:
                found[k] = ("Grad-CAM, several layers", there[0], there[1])
                break
        else:
            found.append((name, place[0], place[1]))
    return found


def _is_of_layer(name: str) -> bool:
    """Whether this is Grad-CAM of one layer and size, as it is."""
    return name.startswith("Grad-CAM, ") and not re.search("sizes|superpixels", name)


def _name(panel: Axes, named: Sequence[Point]) -> None:
    """Write names where they cover no point and no other name, with a line to those far away."""
    scale = panel.figure.dpi / 72
    at = [panel.transData.transform((price, level)) for _, price, level in named]
    taken = [
        Bbox.from_extents(x - 3 * scale, y - 3 * scale, x + 3 * scale, y + 3 * scale) for x, y in at
    ]
    frame, drawn = panel.get_window_extent(), FigureCanvasAgg.get_renderer(panel.figure.canvas)
    for text in list(panel.texts):  # of the controls' levels, which may be close
        for share in _SHARES:
            text.xyann = (share, text.xyann[1])
            box = text.get_window_extent(drawn)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
    for name, price, level in _together(panel, named):
        short = name
        for long, less in _SHORTER.items():
            short = short.replace(long, less)
        text = panel.annotate(
            short,
            (price, level),
            (0, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            weight="bold" if "default" in name else "normal",
            arrowprops={"arrowstyle": "-", "color": "#909090", "linewidth": 0.5, "shrinkB": 3},
        )
        for x, y in _PLACES:
            text.set(position=(x, y), ha="left" if x > 0 else "right")
            text.update_positions(drawn)
            box = Text.get_window_extent(text, drawn)  # without the line
            inside = (
                frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            )
            if inside and not any(box.overlaps(other) for other in taken):
                break
        if abs(y) < 10:
            text.arrow_patch.set_visible(False)
        taken.append(box)

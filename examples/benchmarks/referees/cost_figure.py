# Quality against cost: each method is a point.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .rows import Row
from .tables import by_method, cost, mean

# Ours, Grad-CAM and its relatives, gradients, what hides parts, controls.
_GROUPS = (
    ("InfoMask", "#b2182b", "o", "InfoMask"),
    ("Grad-CAM", "#2166ac", "s", "Grad-CAM and its variants"),
    ("guided Grad-CAM", "#2166ac", "D", "guided Grad-CAM"),
    ("", "#4d4d4d", "^", "others"),
)


def draw_costs(panels: Mapping[str, Sequence[Row]], measure: str, words: str, file: Path) -> None:
    """A panel per subject: a measure against forward passes' time, on a log scale."""
    count = len(panels)
    figure = Figure(figsize=(1 + 4.6 * count, 5.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for panel, (name, rows) in zip(axes, panels.items(), strict=True):
        _points(panel, rows, measure)
        panel.set_title(name, fontsize=10)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set_xlabel("time of a map, in forward passes")
        panel.set_ylabel(words)
        low, high = panel.get_xlim()
        panel.set_xlim(low, high * (high / low) ** 0.45)  # room for the names
        panel.grid(color="#e0e0e0", linewidth=0.6)
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
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def _points(panel: Axes, rows: Sequence[Row], measure: str) -> None:
    found = by_method(rows)
    controls = [name for name, own in found.items() if next(iter(own.values()))["control"]]
    for name in controls:
        level = mean(found[name], measure)
        panel.axhline(level, color="#b0b0b0", linewidth=0.8, linestyle=":")
        where = (1, level)
        short = name.removesuffix(" (control)")
        panel.annotate(short, where, xycoords=("axes fraction", "data"), fontsize=6, ha="right")
    for name, own in found.items():
        if name in controls:
            continue
        price, level = cost(own), mean(own, measure)
        _, colour, marker, label = next(group for group in _GROUPS if name.startswith(group[0]))
        panel.plot(price, level, marker, color=colour, markersize=5, linestyle="", label=label)
        short = name.removeprefix("InfoMask ")
        panel.annotate(
            short, (price, level), xytext=(4, 3), textcoords="offset points", fontsize=5.5
        )

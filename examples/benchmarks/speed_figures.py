# The measurements as figures: time per window by network and contender, and how maps' cost grows.
from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from records import Record

_PALE = "#e0e0e0"
# Captum's in greys, the others in colours; auto is a cross, which hides no other.
STYLES: dict[str, tuple[str, str]] = {
    "Occlusion": ("#4d4d4d", "s"),
    "FeatureAblation": ("#9a9a9a", "D"),
    "plain": ("#b35806", "v"),
    "batched": ("#2166ac", "o"),
    "incremental": ("#1b7837", "o"),
    "no Winograd": ("#7fbf7b", "o"),
    "auto": ("#b2182b", "x"),
    "tokens": ("#762a83", "P"),
    "tokens removed": ("#762a83", "*"),
}


def draw_speed(records: Sequence[Record], file: Path) -> None:
    """Milliseconds per window: a panel per windows' size, a row per network."""
    sizes = sorted({(r["window"], r["stride"]) for r in records})
    networks = list(dict.fromkeys(r["network"] for r in records))
    figure, panels = _panels(len(sizes), height=1.4 + 0.6 * len(networks))
    for panel, size in zip(panels, sizes, strict=True):
        for r in records:
            if (r["window"], r["stride"]) == size:
                row = networks.index(r["network"])
                _points(panel, row, r)
        panel.set_title(f"windows {size[0]}/{size[1]}", fontsize=10)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        _plain_numbers(panel, "x")
        panel.set_xlabel("milliseconds per window")
        panel.set_ylim(len(networks) - 0.5, -0.5)
        panel.set_yticks(range(len(networks)), networks)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color=_PALE, linewidth=0.6)
        for row in range(1, len(networks)):
            panel.axhline(row - 0.5, color=_PALE, linewidth=0.6)
    limits = [panel.get_xlim() for panel in panels]
    for panel in panels:
        panel.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    for panel in panels[1:]:
        panel.set_yticklabels([])
    _finish(figure, panels, file)


def draw_growth(records: Sequence[Record], file: Path) -> None:
    """Seconds of a map by picture size, and milliseconds per window by number of windows."""
    networks = list(dict.fromkeys(r["network"] for r in records))
    figure, panels = _panels(2 * len(networks), height=3.6)
    for k, network in enumerate(networks):
        own = [r for r in records if r["network"] == network]
        side, count = panels[2 * k : 2 * k + 2]
        _lines(
            side,
            [r for r in own if not r["drawn"]],
            lambda r: r["picture"],
            lambda r, seconds: seconds,
        )
        side.set_xlabel("side of the picture, pixels")
        side.set_ylabel("seconds of a map, all windows")
        _lines(
            count,
            [r for r in own if r["drawn"]],
            lambda r: r["windows"],
            lambda r, seconds: 1000 * seconds / r["windows"],
        )
        count.set_xlabel("number of windows")
        count.set_ylabel("milliseconds per window")
        for panel in (side, count):
            panel.set_title(network, fontsize=10)
    _finish(figure, panels, file)


def _points(panel: Axes, row: int, record: Record) -> None:
    measured = record["contenders"]
    for k, name in enumerate(name for name in STYLES if name in measured):
        times = [1000 * s / record["windows"] for s in measured[name]["seconds"]]
        colour, marker = STYLES[name]
        place = row + 0.7 * ((k + 0.5) / len(measured) - 0.5)
        panel.plot([min(times), max(times)], [place, place], color=colour, linewidth=1.2)
        panel.plot(statistics.median(times), place, marker, color=colour, markersize=5, label=name)


def _lines(
    panel: Axes,
    records: Sequence[Record],
    place: Callable[[Record], float],
    value: Callable[[Record, float], float],
) -> None:
    rows = sorted(records, key=place)
    for name, (colour, marker) in STYLES.items():
        points = [
            (place(r), [value(r, s) for s in r["contenders"][name]["seconds"]])
            for r in rows
            if name in r["contenders"]
        ]
        if points:
            across, values = zip(*points, strict=True)
            middle = [statistics.median(v) for v in values]
            panel.plot(across, middle, marker + "-", color=colour, markersize=5, label=name)
            panel.fill_between(
                across, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.15
            )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks([place(r) for r in rows])
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    _plain_numbers(panel, "xy")
    panel.grid(color=_PALE, linewidth=0.6)


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1.2 + 3.6 * count, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _plain_numbers(panel: Axes, axes: str) -> None:
    """Write 20 rather than a power of ten, and nothing between the numbers that are written."""
    for axis in axes:
        which = panel.xaxis if axis == "x" else panel.yaxis
        which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        which.set_minor_locator(NullLocator())


def _finish(figure: Figure, panels: Sequence[Axes], file: Path) -> None:
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    names = [name for name in STYLES if name in handles]
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        fontsize=9,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)

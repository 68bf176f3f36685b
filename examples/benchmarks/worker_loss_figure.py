# What losing workers costs, as a figure: wall time and work done twice by the size of shards.
from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from worker_loss_cases import HOUR, LOSSES, SIZES, Case, done_twice, often, select

_PALE = "#e0e0e0"
_COLOURS = dict(zip(LOSSES, ("#4d4d4d", "#2166ac", "#b2182b"), strict=True))


def draw(cases: Sequence[Case], file: Path) -> None:
    """A panel of wall time for each number of workers, and one of work done twice."""
    workers = sorted({case.cluster.workers for case in cases})
    figure = Figure(
        figsize=(1.2 + 3.2 * (len(workers) + 1), 3.6), layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    *walls, last = figure.subplots(1, len(workers) + 1, squeeze=False)[0]
    for panel, count in zip(walls, workers, strict=True):
        for each, colour in _COLOURS.items():
            _overheads(panel, select(cases, count, each), colour)
        best = _duration(select(cases, count)[0].best)
        panel.set_title(f"{count:,} workers, {best} at best", fontsize=10)
        _axes(panel)
    highest = max(panel.get_ylim()[1] for panel in walls)
    lowest = min(panel.get_ylim()[0] for panel in walls)
    for panel in walls:
        panel.set_ylim(lowest, highest)
    walls[0].set_ylabel("wall time beyond the best")
    for each, colour in _COLOURS.items():
        if not math.isinf(each):
            simulated, expected = zip(
                *(done_twice(cases, each, size) for size in SIZES), strict=True
            )
            last.plot(SIZES, simulated, "o", color=colour, ms=4)
            last.plot(SIZES, expected, "--", color=colour, linewidth=1.2)
    last.plot([], [], "--", color="black", linewidth=1.2, label="closed form")
    last.set_title("work done twice", fontsize=10)
    last.set_ylabel("share of the work")
    _axes(last)
    _legend(figure, [*walls, last])
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def _overheads(panel: Axes, cases: Sequence[Case], colour: str) -> None:
    """Medians with the range of the seeds."""
    sizes = [case.size for case in cases]
    each = cases[0].cluster.between_losses
    label = "no losses" if math.isinf(each) else f"each worker lost {often(each)}"
    panel.plot(sizes, [c.overhead() for c in cases], "o-", color=colour, ms=4, label=label)
    lows, highs = zip(*((min(c.overheads()), max(c.overheads())) for c in cases), strict=True)
    panel.fill_between(sizes, lows, highs, color=colour, alpha=0.15, linewidth=0)


def _axes(panel: Axes) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(SIZES, [str(size) for size in SIZES], fontsize=8)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    panel.set_xlabel("shard_size, pictures")
    panel.grid(color=_PALE, linewidth=0.6)


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )


def _duration(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h" if seconds >= 2 * HOUR else f"{seconds / 60:.0f} min"

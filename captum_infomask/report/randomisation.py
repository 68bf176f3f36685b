# How maps change while a network's layers are re-drawn, as curves.
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_INK, _GREY, _PALE = "#1b1f24", "#69707a", "#d5d9de"
# Told apart by colour-blind readers too, and by their marks (Okabe and Ito's colours).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1f24")
_MARKS = "osD^vPX"


def randomisation_figure(
    names: Sequence[str], stages: Sequence[str], values: npt.NDArray[np.float64]
) -> tuple[Figure, Axes]:
    """Draw a curve per method over the stages of re-drawing, from 1 for the network as it was.

    Args:
        names: The M methods.
        stages: The S stages, each by the first layer that is re-drawn.
        values: (M, S), rank correlations; NaN leaves a gap.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panel.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.randomisation import randomisation_figure
        >>> figure, axes = randomisation_figure(["crop"], ["fc", "conv"], np.array([[0.5, 0.1]]))
        >>> len(axes.lines[-1].get_xdata())
        3

    Source: after Adebayo et al., "Sanity Checks for Saliency Maps", arXiv 1810.03292, Figure 4.
    """
    width = 3.6 + 0.48 * len(stages)
    figure = Figure(figsize=(width, 4.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
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

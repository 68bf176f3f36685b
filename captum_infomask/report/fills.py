# What several imputers give for the same regions, side by side on one scale.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captum_infomask.report.rows import FloatArray


@dataclass(frozen=True)
class FillPanel:
    """One map of the figure.

    Attributes:
        title: The imputer's name, or what else the map shows.
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
        panels: What to draw.
        unit: Of all values.
        image: (H, W, 3), uint8.

    Returns:
        The figure, on an Agg canvas, and its panels.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.fills import FillPanel, fills_figure
        >>> panel = FillPanel("blur", np.eye(4, dtype=np.float32), "all imputed: class 3")
        >>> len(fills_figure([panel, panel], unit="bits")[1])
        2
    """
    count = len(panels) + (image is not None)
    height, width = panels[0].values.shape
    figure = Figure(figsize=(2.3 * count + 0.7, 2.3 * height / width + 0.75), layout="constrained")
    FigureCanvasAgg(figure)
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

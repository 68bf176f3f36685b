# The paper's Figure 2: pictures of digits, and what each method's mask keeps of them.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from captum_infomask.report.page_content import BoolArray, FloatArray

_INK, _GREY, _HIDDEN = "#1b1f24", "#69707a", "#c3d0e2"
_PANEL, _GAP, _LABELS, _MARGIN, _HEAD = 1.5, 0.12, 2.35, 0.22, 0.45  # inches


@dataclass(frozen=True)
class KeptRow:
    """What one mask keeps of each picture, and the words beside it.

    Args:
        name: The method's name.
        note: A few words below the name.
        kept: (P, H, W), boolean.
    """

    name: str
    note: str
    kept: BoolArray


def two_digit_figure(
    pictures: FloatArray, rows: Sequence[KeptRow], *, title: str = ""
) -> tuple[Figure, npt.NDArray[np.object_]]:
    """Draw pictures of digits, and below them what each method's mask keeps.

    Ink is dark on white; what a mask hides is flat blue.

    Args:
        pictures: (P, H, W) in [0, 1]; ink is bright.
        rows: One per method.
        title: Words above the pictures.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and its panels
        (1 + number of rows, P).

    Example:
        >>> import numpy as np
        >>> from experiments.two_digit_figure import KeptRow, two_digit_figure
        >>> row = KeptRow("InfoMask keep", "ink IoU 1.000", np.ones((3, 28, 56), dtype=bool))
        >>> two_digit_figure(np.zeros((3, 28, 56), dtype=np.float32), [row])[1].shape
        (2, 3)

    Source: Qin & Kim, arXiv 1910.02629, Figure 2.
    """
    count, height, width = pictures.shape
    panel_height = _PANEL * height / width
    everything = KeptRow(
        "Picture", f"ink on paper, {height} × {width} pixels", np.ones(pictures.shape, dtype=bool)
    )
    table = [everything, *rows]
    head = _HEAD if title else 0.0
    size = (
        2 * _MARGIN + _LABELS + count * (_PANEL + _GAP) - _GAP,
        2 * _MARGIN + head + len(table) * (panel_height + _GAP) - _GAP,
    )
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(_MARGIN / size[0], 1 - _MARGIN / size[1], title, fontsize=13, color=_INK, va="top")
    panels = np.empty((len(table), count), dtype=object)
    for place, row in enumerate(table):
        top = _MARGIN + head + place * (panel_height + _GAP)
        middle = 1 - (top + panel_height / 2) / size[1]
        left = _MARGIN / size[0]
        style = {"x": left, "color": _INK, "ha": "left"}
        figure.text(y=middle + 0.03 / size[1], s=row.name, fontsize=10, va="bottom", **style)
        style["color"] = _GREY
        figure.text(y=middle - 0.03 / size[1], s=row.note, fontsize=8.5, va="top", **style)
        for column in range(count):
            box = (
                (_MARGIN + _LABELS + column * (_PANEL + _GAP)) / size[0],
                1 - (top + panel_height) / size[1],
                _PANEL / size[0],
                panel_height / size[1],
            )
            panels[place, column] = _draw(figure.add_axes(box), pictures[column], row.kept[column])
    return figure, panels


def _draw(axes: Axes, picture: FloatArray, kept: BoolArray) -> Axes:
    """One picture, dark ink on white, flat colour where the mask hides it."""
    ink = picture[..., None]
    printed = ink * np.array(to_rgb(_INK)) + (1 - ink)
    axes.imshow(np.where(kept[..., None], printed, to_rgb(_HIDDEN)), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_GREY)
        spine.set_linewidth(0.5)
    return axes

# Figures that belong to no window and to no pyplot state, and that notebooks show.
from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_SCREEN = 96  # a screen's pixels in an inch


class DrawnFigure(Figure):
    r"""A white figure on an Agg canvas, which a notebook shows in its size, sharp on any screen.

    Args:
        size: Width and height in inches.
        layout: matplotlib's layout engine. The user's own figures may have another one.
        dpi: Dots per inch; None takes matplotlib's setting.

    Example:
        >>> from captum_infomask.report.drawn_figure import DrawnFigure
        >>> figure = DrawnFigure((4, 3), dpi=200)
        >>> data, metadata = figure._repr_png_()
        >>> data[:4], metadata
        (b'\x89PNG', {'width': 384})
    """

    def __init__(
        self, size: tuple[float, float], layout: str = "none", dpi: float | None = None
    ) -> None:
        super().__init__(figsize=size, dpi=dpi, facecolor="white")
        self.set_layout_engine(layout)  # type: ignore[arg-type]
        FigureCanvasAgg(self)

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        """Return the picture, and its width on the screen."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue(), {"width": round(_SCREEN * self.get_figwidth())}

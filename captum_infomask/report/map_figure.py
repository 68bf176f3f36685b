# One map over its picture, by Captum's own visualisation, with a colour bar in the map's unit.
from __future__ import annotations

import numpy as np
from captum.attr import visualization
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from captum_infomask.report.figure import GREY
from captum_infomask.report.planes import SMOOTHED, shown_plane
from captum_infomask.report.rows import FloatArray, PhotoArray

_COLOURS = "RdBu_r"  # told apart without colour vision for red and green


def map_figure(
    plane: FloatArray, unit: str, title: str, picture: PhotoArray | None = None
) -> tuple[Figure, Axes]:
    """Draw a map, over its picture if there is one.

    Captum's ``visualize_image_attr`` rescales a map to its own largest magnitude; the colour bar
    says what that is. Maps of windows are smoothed between window centres, which is said below.

    Args:
        plane: (H, W), in ``unit``.
        unit: What the values are counted in.
        title: Above the map.
        picture: (H, W, 3), uint8.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and the map's axes.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.map_figure import map_figure
        >>> figure, axes = map_figure(np.eye(8, dtype=np.float32), "bits", "tripod")
        >>> figure.axes[1].get_ylabel()
        'bits'
    """
    figure = Figure(figsize=(5.5, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    limit = float(np.abs(plane).max()) or 1.0
    visualization.visualize_image_attr(
        (plane / limit if plane.any() else np.ones_like(plane))[:, :, None],
        picture,
        method="heat_map" if picture is None else "blended_heat_map",
        sign="all",
        plt_fig_axis=(figure, axes),
        outlier_perc=0,
        cmap=_COLOURS,
        alpha_overlay=0.6,
        title=title,
        use_pyplot=False,
    )
    # Captum refuses a map that is 0 everywhere, and would stretch a smoothed one.
    shown = shown_plane(plane)
    axes.images[-1].set_data(shown / limit)
    if shown is not plane:
        axes.set_xlabel(SMOOTHED, fontsize=8, color=GREY)
    colours = ScalarMappable(Normalize(-limit, limit), _COLOURS)
    figure.colorbar(colours, ax=axes, label=unit)
    return figure, axes

# A map over its photograph: colours, an outline of the mask, and a colour bar.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_infomask._messages import printable
from captum_infomask.masks import AtLeast, MaxFraction, Rule, threshold_mask
from captum_infomask.report.colour_planes import largest_value
from captum_infomask.report.colours import RGB, Shades
from captum_infomask.report.drawn_figure import DrawnFigure
from captum_infomask.report.page_content import BoolArray, FloatArray, PhotoArray
from captum_infomask.report.panel_figure import (
    HEAD_LINES,
    HEAD_POINTS,
    MARGIN,
    heads_height,
    scale_numbers,
    wrapped_heads,
)
from captum_infomask.report.smoothing import (
    finite_plane,
    limit_of,
    resized,
    shown_mask,
    smooth_plane,
)

GROUND = 0.96  # the brightness of a ground without a photograph
DIMMED = 0.7  # the brightness of the photograph outside of the mask
OUTLINE = ((2.4, "black", 0.4), (1.2, "white", 1.0))  # widths, colours, opacities
BAR_GROUND = 0.75
# A map in a figure of its own: inches, and dots per inch.
_SHORT = 1.5  # inches: a bar below this has no room for "of the picture"
_TICK = 0.2  # inches between the numbers of a bar, at least
_WIDTH, BAR_ROOM, _DPI = 4.2, 0.95, 200


def suited_contour(plane: FloatArray, bits: float | None) -> Rule | None:
    """Return the outline's rule if nobody chose one: at least 1 bit, else half of the maximum.

    Args:
        plane: (H, W).
        bits: One bit in the plane's unit; None if the unit is not of information.

    Returns:
        None if no value is above 0.
    """
    largest = largest_value(plane)
    if not largest > 0:
        return None
    return AtLeast(bits) if bits is not None and bits <= largest else MaxFraction(0.5)


def outlined(plane: FloatArray, rule: Rule | float) -> tuple[BoolArray, float]:
    """Return the pixels that a rule keeps, (H, W), and the value from which it keeps them.

    A number is the value itself.
    """
    if isinstance(rule, float):
        kept: BoolArray = (plane >= np.float32(rule)) & (plane > 0)
        return kept, rule
    values = torch.from_numpy(finite_plane(plane, limit_of(plane)))
    kept = threshold_mask(values[None, None], rule)[0, 0].numpy()
    return kept, float(rule.threshold(values.flatten()))


def draw_map(
    axes: Axes,
    plane: FloatArray,
    photo: PhotoArray | None,
    shades: Shades,
    *,
    smooth: bool = True,
    contour: Rule | float | None = None,
    steps: Sequence[int] | None = None,
) -> float | None:
    """Draw a map over its photograph, without a frame; the rest of the photograph is dimmed.

    Args:
        axes: The panel.
        plane: (H, W), the map.
        photo: (H, W, 3), uint8; None for a pale ground.
        shades: The map's colours.
        smooth: Whether colours and outline are smoothed for the eye.
        contour: The rule of the mask to outline, or the smallest value of the mask of which this
            plane is a part; None for no outline.
        steps: The distance between windows along each axis, if the plane is a slice of a volume.

    Returns:
        The value from which the mask keeps pixels, in the map's unit; None without an outline.
    """
    shown = smooth_plane(plane, steps) if smooth else plane
    if photo is not None and photo.shape[:2] != plane.shape:
        shown = resized(shown, photo.shape[:2], "bilinear" if smooth else "nearest")
    ground: RGB = np.full((*plane.shape, 3), GROUND) if photo is None else photo / 255.0
    mask, threshold = (None, None) if contour is None else outlined(shown, contour)
    if mask is not None:
        mask = shown_mask(mask) if smooth else mask
        # A slice without a part of the mask lies outside of it; a map without a mask does not.
        if photo is not None and (mask.any() or isinstance(contour, float)):
            ground = np.where(mask[..., None], ground, DIMMED * ground)
    axes.imshow(
        np.clip(shades.over(shown, ground), 0, 1), interpolation="antialiased", origin="upper"
    )
    axes.set_axis_off()
    if mask is not None:
        draw_outline(axes, mask, smooth=smooth)
    return threshold


def draw_outline(axes: Axes, mask: BoolArray, *, smooth: bool = True, weight: float = 1.0) -> None:
    """Draw the outline of a mask, (H, W): white with a dark rim, so it shows on any photograph.

    It is closed, also at the picture's border.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.measure import find_contours

    field = mask.astype(np.float32)
    if smooth:
        field = gaussian_filter(field, min(mask.shape) / 200, mode="nearest")
    # The frame closes outlines that meet the border. It lies one pixel outside, and is moved onto
    # the border, so that the picture's own corners are not cut. Points are (y, x).
    framed = np.pad(np.pad(field, 1, mode="edge"), 1)
    last = np.array(field.shape) - 0.5
    lines = [
        np.clip(points - 2, -0.5, last)[:, ::-1]
        for points in find_contours(framed, 0.5, fully_connected="high")
    ]
    if lines:
        for width, colour, alpha in OUTLINE:
            drawn = LineCollection(lines, colors=colour, linewidths=weight * width, alpha=alpha)
            axes.add_collection(drawn, autolim=False)


def draw_places(axes: Axes, places: BoolArray, photo: PhotoArray | None) -> None:
    """Draw the outline of places, (H, W) of the map, over the map's photograph, if there is one."""
    shown = places
    if photo is not None:
        shown = resized(places.astype(np.float32), photo.shape[:2], "nearest") > 0.5
    draw_outline(axes, shown, smooth=False)


def draw_bar(
    axes: Axes,
    plane: FloatArray,
    unit: str,
    shades: Shades,
    *,
    threshold: float | None = None,
    own: Axes | None = None,
) -> Axes:
    """Draw a map's colour bar, over the range of its values.

    Args:
        axes: The map's axes.
        plane: (H, W), the map.
        unit: The bar's label.
        shades: The map's colours; the bar lays them over grey.
        threshold: The value from which the mask keeps pixels, marked on the bar.
        own: The bar's axes; None takes them from the room of ``axes``.

    Returns:
        The bar's axes.
    """
    finite = plane[np.isfinite(plane)]
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    high = high if high > low else low + shades.limit
    steps = np.linspace(low, high, 256, dtype=np.float32)[None]
    colours = ListedColormap(shades.over(steps, np.full((1, 256, 3), BAR_GROUND))[0])
    bar = axes.figure.colorbar(
        ScalarMappable(Normalize(low, high), colours), own, axes, fraction=0.045, pad=0.025
    )
    words = f"{unit} of the picture" if unit.endswith("1%") else unit
    small: dict[str, Any] = {}
    if own is not None and own.get_window_extent().height < _SHORT * axes.figure.dpi:
        words = words.partition(" of the ")[0]
        small = {"fontsize": HEAD_POINTS[1], "labelpad": 2}
    words = scale_numbers(bar.ax.yaxis, max(-low, high)) + words
    bar.set_label(printable(words), parse_math=False, **small)
    bar.outline.set_visible(False)
    inches = bar.ax.get_window_extent().height / axes.figure.dpi
    bar.ax.yaxis.set_major_locator(MaxNLocator(min(5, max(1, int(inches / _TICK)))))
    bar.ax.tick_params(labelsize=HEAD_POINTS[1], length=3)
    if threshold is not None and low < threshold < high:
        for width, colour, alpha in OUTLINE:
            bar.ax.axhline(threshold, color=colour, linewidth=width, alpha=alpha)
    return bar.ax


def overlay_figure(
    axes: Axes | None,
    plane: FloatArray,
    unit: str,
    photo: PhotoArray | None,
    shades: Shades,
    *,
    heads: tuple[str, str] = ("", ""),
    smooth: bool = True,
    contour: Rule | None = None,
) -> tuple[Figure, Axes]:
    """Draw a map over its photograph, with a colour bar and a title.

    Args:
        axes: The panel to draw in; None makes a figure.
        plane: (H, W), in ``unit``.
        unit: The unit of the values.
        photo: (H, W, 3), uint8, or None.
        shades: The map's colours.
        heads: The title, and a smaller line below it.
        smooth: Whether colours and outline are smoothed for the eye.
        contour: The rule of the mask to outline; None for no outline.

    Returns:
        The figure, if it is new on an Agg canvas (no window, no pyplot state), and the map's axes.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.overlay import Shades, overlay_figure
        >>> plane = np.eye(8, dtype=np.float32)
        >>> figure, axes = overlay_figure(None, plane, "bits", None, Shades(1.0))
        >>> figure.axes[1].get_ylabel()
        'bits'
    """
    inches = _WIDTH + BAR_ROOM if axes is None else axes.get_window_extent().width / axes.figure.dpi
    title, below = wrapped_heads(heads, inches)
    bar = None
    if axes is None:
        axes, bar = _own_axes(plane.shape, heads_height((title, below)))
    threshold = draw_map(axes, plane, photo, shades, smooth=smooth, contour=contour)
    draw_bar(axes, plane, unit, shades, threshold=threshold, own=bar)
    above = (below.count("\n") + 1 if below else 0) * HEAD_LINES[1] * 72 + 4
    axes.set_title(title, loc="left", fontsize=HEAD_POINTS[0], pad=above, parse_math=False)
    axes.annotate(
        below,
        (0, 1),
        (0, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=HEAD_POINTS[1],
        alpha=0.75,
        parse_math=False,
    )
    return axes.figure.figure, axes


def _own_axes(size: tuple[int, ...], head: float) -> tuple[Axes, Axes]:
    """Make a figure for a map of some height and width below a head, and a bar beside it."""
    height = min(max(_WIDTH * size[0] / size[1], 1.0), 3 * _WIDTH)
    width, whole = _WIDTH + 2 * MARGIN + BAR_ROOM, height + head + 2 * MARGIN
    figure = DrawnFigure((width, whole), dpi=_DPI)

    def placed(left: float, across: float) -> Axes:
        box = (left / width, MARGIN / whole, across / width, height / whole)
        return figure.add_axes(box)

    return placed(MARGIN, _WIDTH), placed(MARGIN + _WIDTH + 0.08, 0.14)

# The figures of a volume: three slices through one point, or frames of a video.
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_infomask._messages import printable
from captum_infomask.masks import Rule
from captum_infomask.report.colours import Shades
from captum_infomask.report.overlay import BAR_ROOM, draw_bar, draw_map, draw_places
from captum_infomask.report.page_content import BoolArray, FloatArray, PhotoArray
from captum_infomask.report.panel_figure import INK, MARGIN, PanelFigure
from captum_infomask.report.smoothing import finite_plane, limit_of, peak_of, window_steps
from captum_infomask.report.words import signed

AXES = ("d", "h", "w")  # of a volume (D, H, W)
_WIDTH, _GAP, _TITLE, _FOOT = 7.6, 0.3, 0.2, 0.2  # inches
_TALLEST, _BAR = 3.0, 0.8  # of a panel, at most; of the colour bar, at least
_NAMED = 1.0  # the room for a panel's name, "d = 115 (of 200)"
_THINNEST = 0.25  # of the longest side: a thinner one is stretched
_FRAMES, _SMALL = 6, 8.5


class _Slice(NamedTuple):
    """A panel: which slice along which axis it shows, and its place in inches."""

    axis: int
    number: int
    left: float
    top: float
    width: float
    height: float


class VolumeMap(NamedTuple):
    """What a figure of a volume shows.

    Args:
        values: (D, H, W), in ``unit``.
        photo: (D, H, W) or (D, H, W, 3), uint8; None for a pale ground.
        unit: The label of the colour bar.
        shades: The map's colours.
        smooth: Whether colours and outlines are smoothed for the eye, in each slice.
        contour: The rule of the mask to outline, read on the whole volume; None for no outline.
        places: (D, H, W), voxels to outline instead.
    """

    values: FloatArray
    photo: PhotoArray | None
    unit: str
    shades: Shades
    smooth: bool = True
    contour: Rule | None = None
    places: BoolArray | None = None

    @property
    def peak(self) -> tuple[int, int, int]:
        """The voxel of the largest magnitude."""
        d, h, w = peak_of(self.values)
        return d, h, w

    @property
    def threshold(self) -> float | None:
        """The value from which the mask keeps voxels."""
        if self.contour is None:
            return None
        known = finite_plane(self.values, limit_of(self.values))
        return float(self.contour.threshold(torch.from_numpy(known).flatten()))

    def draw(self, axes: Axes, axis: int, index: int, threshold: float | None) -> None:
        """Draw one slice, which fills its panel."""
        at = (slice(None),) * axis + (index,)
        photo = None if self.photo is None else self.photo[at]
        if photo is not None and photo.ndim == 2:
            photo = np.stack([photo] * 3, axis=-1)
        plane = np.ascontiguousarray(self.values[at])
        # All slices are smoothed alike: few of them show by themselves how far windows are apart.
        steps = [step for k, step in enumerate(window_steps(self.values)) if k != axis]
        draw_map(
            axes, plane, photo, self.shades, smooth=self.smooth, contour=threshold, steps=steps
        )
        axes.set_aspect("auto")
        if self.places is not None:
            draw_places(axes, self.places[at], photo)


def volume_figure(
    shown: VolumeMap,
    *,
    heads: tuple[str, str] = ("", ""),
    at: tuple[int, int, int] | None = None,
) -> tuple[Figure, Axes]:
    """Draw the three slices of a volume that meet in one voxel, marked by lines.

    Voxels are drawn as cubes. A side that is shorter than a quarter of the longest is stretched.

    Args:
        shown: The map.
        heads: The title, and a smaller line below it.
        at: The voxel (d, h, w); None takes that of the largest magnitude.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and the axes of the slice at d.
        ``figure.axes`` holds the slices at d, h and w, and the colour bar.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colours import Shades
        >>> from captum_infomask.report.volume_figure import VolumeMap, volume_figure
        >>> values = np.zeros((8, 9, 10), np.float32)
        >>> values[2, 3, 4] = 1.5
        >>> figure, axes = volume_figure(VolumeMap(values, None, "bits", Shades(1.5)))
        >>> [each.get_title("left") for each in figure.axes[:3]]
        ['d = 2 (of 8)', 'h = 3 (of 9)', 'w = 4 (of 10)']
    """
    d, h, w = point = shown.peak if at is None else at
    sides = shown.values.shape
    least = _THINNEST * max(sides)
    deep, tall, wide = (max(side, least) for side in sides)
    room = _WIDTH - 2 * MARGIN - BAR_ROOM - 3 * _GAP
    inch = min(room / (2 * wide + tall), _TALLEST / max(tall, deep))
    first, across = MARGIN + _GAP, max(wide * inch, _NAMED) + _GAP
    slices = [
        _Slice(0, d, first, _TITLE, wide * inch, tall * inch),
        _Slice(1, h, first + across, _TITLE, wide * inch, deep * inch),
        _Slice(2, w, first + 2 * across, _TITLE, tall * inch, deep * inch),
    ]
    words = f"{'peak' if at is None else 'value'} {_at(shown, point)}"
    figure, panels = _drawn(shown, slices, (heads[0], _joined(heads[1], words)))
    for axes, (axis, *_) in zip(panels, slices, strict=True):
        down, across = (point[k] for k in range(3) if k != axis)
        for draw, place in ((axes.axhline, down), (axes.axvline, across)):
            draw(place, color="black", linewidth=1.4, alpha=0.3)
            draw(place, color="white", linewidth=0.7, alpha=0.85)
    return figure, panels[0]


def frames_figure(
    shown: VolumeMap,
    *,
    heads: tuple[str, str] = ("", ""),
    at: tuple[int, int, int] | None = None,
) -> tuple[Figure, Axes]:
    """Draw up to six frames of a video, spread over its time; one of them is that of the peak.

    Args:
        shown: The map, of a video (T, H, W).
        heads: The title, and a smaller line below it.
        at: (t, h, w), whose frame is among those that are drawn; None takes that of the largest
            magnitude.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and the axes of that frame.
        ``figure.axes`` holds the frames and the colour bar.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colours import Shades
        >>> from captum_infomask.report.volume_figure import VolumeMap, frames_figure
        >>> values = np.zeros((4, 8, 8), np.float32)
        >>> values[2] = 1.5
        >>> figure, axes = frames_figure(VolumeMap(values, None, "bits", Shades(1.5)))
        >>> axes.get_title("left"), len(figure.axes)
        ('t = 2 (of 4)', 5)
    """
    point = shown.peak if at is None else at
    count, tall, wide = shown.values.shape
    frames = np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int)
    frames[np.abs(frames - point[0]).argmin()] = point[0]
    room = _WIDTH - 2 * MARGIN - BAR_ROOM - len(frames) * _GAP / 2
    width = min(room / len(frames), _TALLEST)
    height = min(width * tall / wide, _TALLEST)
    slices = [
        _Slice(0, int(frame), MARGIN + k * (width + _GAP / 2), _TITLE, width, height)
        for k, frame in enumerate(frames)
    ]
    words = f"{'peak' if at is None else 'value'} {_at(shown, point, 't')}"
    figure, panels = _drawn(shown, slices, (heads[0], _joined(heads[1], words)), is_video=True)
    return figure, panels[frames.tolist().index(point[0])]


def _drawn(
    shown: VolumeMap, slices: Sequence[_Slice], heads: tuple[str, str], *, is_video: bool = False
) -> tuple[PanelFigure, list[Axes]]:
    """Draw slices, and a colour bar beside the last."""
    right = max(part.left + part.width for part in slices)
    height = max(_BAR, *(part.height for part in slices))
    foot = _FOOT / 4 if is_video else _FOOT  # for names of sides, or half a number of the bar
    width = right + BAR_ROOM + MARGIN
    figure = PanelFigure(width, _TITLE + height + foot, heads)
    threshold = shown.threshold
    panels = []
    for axis, number, left, top, across, down in slices:
        axes = figure.panel(left, top, across, down)
        shown.draw(axes, axis, number, threshold)
        _name(axes, axis, f"{number} (of {shown.values.shape[axis]})", is_video=is_video)
        panels.append(axes)
    bar = figure.panel(right + 0.08, _TITLE, 0.14, height)
    draw_bar(panels[-1], shown.values, shown.unit, shown.shades, threshold=threshold, own=bar)
    return figure, panels


def _name(axes: Axes, axis: int, words: str, *, is_video: bool) -> None:
    """Write which slice a panel shows, and the names of its sides."""
    name = "t" if is_video else AXES[axis]
    axes.set_title(f"{name} = {words}", loc="left", fontsize=_SMALL, pad=3, color=INK)
    if is_video:
        return
    down, across = (name for k, name in enumerate(AXES) if k != axis)
    for side, place, align in (
        (f"{down} ↓", (-0.03, 1.0), "right"),
        (f"{across} →", (0, -0.03), "left"),
    ):
        axes.annotate(
            side, place, xycoords="axes fraction", fontsize=_SMALL - 1, ha=align, va="top"
        )


def _at(shown: VolumeMap, point: tuple[int, int, int], first: str = AXES[0]) -> str:
    """Say the value of a voxel, and where it is."""
    value = signed(float(shown.values[point]), ".3g")
    names = (first, *AXES[1:])
    where = ", ".join(f"{name} = {index}" for name, index in zip(names, point, strict=True))
    return printable(f"{value} {shown.unit} at {where}")


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))

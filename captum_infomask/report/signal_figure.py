# The figure of a signal: each channel with the bits of its samples under it.
from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from captum_infomask._messages import printable
from captum_infomask.masks import Rule
from captum_infomask.report.colours import Shades
from captum_infomask.report.figure_layout import short_number
from captum_infomask.report.page_content import BoolArray, FloatArray
from captum_infomask.report.panel_figure import GREY, INK, MARGIN, PanelFigure, scale_numbers
from captum_infomask.report.smoothing import finite_plane, limit_of

_MOST = 6  # channels that are drawn
_WIDTH, _LEFT = 7.0, 0.82  # inches: of the figure, and of the room for ticks and labels
# Inches of height, of a lone channel and of one of several.
_SIGNAL, _BITS = (1.15, 0.7), (1.0, 0.8)
_GAP, _FOOT = 0.08, 0.42
_SPAN = "#eceef1"
_ROOM = 0.16  # of the range of bits, above and below: the peak's value stands there
_SMALL = 8.0


def signal_figure(
    values: FloatArray,
    signal: FloatArray | None,
    unit: str,
    shades: Shades,
    *,
    heads: tuple[str, str] = ("", ""),
    contour: Rule | None = None,
    places: BoolArray | None = None,
) -> tuple[Figure, Axes]:
    """Draw a signal, and the values of its samples as steps under it.

    If all channels have the same values, these stand once, under the last channel. Else each
    channel has its own under it. Of more than six channels, those with the largest magnitudes are
    drawn. Shaded spans are the samples that ``contour`` keeps, or ``places``.

    Args:
        values: (C, T), in ``unit``.
        signal: (C, T), or None for the values alone.
        unit: The label of the values' axis.
        shades: The map's colours.
        heads: The title, and a smaller line below it.
        contour: The rule of the mask to shade; None for no mask.
        places: (C, T), samples to shade instead.

    Returns:
        The figure, on an Agg canvas (no window, no pyplot state), and the axes of the values; of
        several, those with the peak. The sample t lies at t on their horizontal axis.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colours import Shades
        >>> from captum_infomask.report.signal_figure import signal_figure
        >>> values = np.repeat(np.array([[0.0, 1.0, -1.0]], np.float32), 4, axis=1)
        >>> figure, axes = signal_figure(values, values, "bits", Shades(1.0))
        >>> axes.get_ylabel(), axes.texts[0].get_text()
        ('bits', '1 bits, the peak')
    """
    known = finite_plane(values, limit_of(values))
    kept, threshold = _kept(known, contour) if places is None else (places, None)
    is_shared = bool((values == values[:1]).all())
    channels = _largest(known)
    if len(channels) < len(values):
        count = f"{len(channels)} of {len(values)} channels"
        heads = heads[0], ", ".join(filter(None, (heads[1], count)))
    # Each row is a channel's signal, or the values of a channel.
    rows = [(channel, kind) for channel in channels for kind in ("signal", "values")]
    if signal is None:
        rows = [row for row in rows if row[1] == "values"]
    if is_shared:
        rows = [row for row in rows if row[1] == "signal"] + [(channels[-1], "values")]
    heights = [
        _SIGNAL[len(channels) > 1] if kind == "signal" else _BITS[len(rows) > len(channels) + 1]
        for _, kind in rows
    ]
    figure = PanelFigure(_WIDTH, sum(heights) + _GAP * (len(rows) - 1) + _FOOT, heads)
    top, named = 0.0, len(values) > 1
    peak_at = np.unravel_index(int(np.abs(known).argmax()), known.shape)
    peaks: list[Axes] = []
    for row, ((channel, kind), height) in enumerate(zip(rows, heights, strict=True)):
        axes = figure.panel(MARGIN + _LEFT, top, _WIDTH - 2 * MARGIN - _LEFT, height)
        _dress(axes, values.shape[1], is_last=row == len(rows) - 1)
        _shade(axes, kept[channel])
        if kind == "signal" and signal is not None:
            axes.plot(signal[channel], color=INK, linewidth=0.8)
            axes.margins(y=0.08)
            axes.set_ylabel(f"channel {channel}" if named else "signal", fontsize=_SMALL)
        else:
            _draw_values(axes, known[channel], shades, threshold)
            limits = float(known.min()), float(known.max())
            power = scale_numbers(axes.yaxis, max(map(abs, limits)))
            words = power + printable(unit).replace(" per ", "\nper ")
            if signal is None and named and not is_shared:
                words += f"\nchannel {channel}"
            axes.set_ylabel(words, fontsize=_SMALL, parse_math=False)
            _limit(axes, *limits)
            if is_shared or channel == peak_at[0]:
                _mark_peak(axes, known[channel], int(peak_at[1]), unit)
                peaks.append(axes)
        top += height + _GAP
    return figure, peaks[0]


def _kept(values: FloatArray, rule: Rule | None) -> tuple[BoolArray, float | None]:
    """Return the samples that a rule keeps, and the value from which it keeps them."""
    if rule is None:
        return np.zeros(values.shape, bool), None
    threshold = float(rule.threshold(torch.from_numpy(values).flatten()))
    return (values >= np.float32(threshold)) & (values > 0), threshold


def _largest(values: FloatArray) -> list[int]:
    """Return the channels with the largest magnitudes, in their own order."""
    magnitudes = np.abs(values).max(1)
    return sorted(np.argsort(-magnitudes, kind="stable")[:_MOST].tolist())


def _dress(axes: Axes, length: int, *, is_last: bool) -> None:
    """Leave the frame that a signal needs; the last row has the numbers of the samples."""
    axes.set_xlim(-0.5, length - 0.5)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(GREY)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_label_coords(-0.087, 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.tick_params(labelsize=_SMALL - 0.5, length=2, color=GREY, labelbottom=is_last)
    axes.tick_params(axis="x", length=3 if is_last else 0)
    if is_last:
        axes.set_xlabel("sample", fontsize=_SMALL)


def _runs(flat: FloatArray | BoolArray) -> tuple[list[int], list[int]]:
    """Return the starts and the ends of runs of equal values."""
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return starts.tolist(), [*starts[1:].tolist(), len(flat)]


def _shade(axes: Axes, kept: BoolArray) -> None:
    """Shade the samples that a mask keeps."""
    for start, end in zip(*_runs(kept), strict=True):
        if kept[start]:
            axes.axvspan(start - 0.5, end - 0.5, color=_SPAN, linewidth=0, zorder=0)


def _draw_values(axes: Axes, values: FloatArray, shades: Shades, threshold: float | None) -> None:
    """Draw values as a coloured area of steps around 0, with their outline."""
    starts, ends = _runs(values)
    heights = values[starts]
    boxes = [
        [(a - 0.5, 0.0), (a - 0.5, h), (b - 0.5, h), (b - 0.5, 0.0)]
        for a, b, h in zip(starts, ends, heights.tolist(), strict=True)
    ]
    colours = shades.colours(heights)
    axes.add_collection(PolyCollection(boxes, facecolors=colours, edgecolors="none", aa=False))
    edges = np.array([*starts, len(values)]) - 0.5
    axes.stairs(heights, edges, color=INK, linewidth=0.6)
    axes.axhline(0, color=INK, linewidth=0.6)
    if threshold is not None:
        axes.axhline(threshold, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))


def _limit(axes: Axes, low: float, high: float) -> None:
    """All values have one range, with 0 in it, and room for the peak's words."""
    low, high = min(low, 0.0), max(high, 0.0)
    reach = (high - low) or 1.0
    below = _ROOM if -low > high else 0.06
    above = 0.06 if -low > high else 2 * _ROOM
    axes.set_ylim(low - below * reach * (low < 0), high + above * reach)


def _mark_peak(axes: Axes, values: FloatArray, at: int, unit: str) -> None:
    """Write the largest magnitude over the middle of its step, on the side of its sign."""
    value = float(values[at])
    (middle,) = ((a + b - 1) / 2 for a, b in zip(*_runs(values), strict=True) if a <= at < b)
    share = (middle + 0.5) / len(values)
    side = "left" if share < 0.1 else "right" if share > 0.9 else "center"
    axes.annotate(
        printable(f"{short_number(value)} {unit.partition(' ')[0]}, the peak"),
        (middle, value),
        (0, 2 if value >= 0 else -2),
        textcoords="offset points",
        ha=side,
        va="bottom" if value >= 0 else "top",
        fontsize=_SMALL,
        color=INK,
        parse_math=False,
        annotation_clip=False,
        zorder=6,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )

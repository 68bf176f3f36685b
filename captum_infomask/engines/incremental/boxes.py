# Boxes of maps that differ from the base picture: their spread through operations, their values.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Spans = NDArray[np.int64]  # (V, 4): y0, x0, y1, x1 of what changes in a map, half-open
Points = NDArray[np.int64]  # (V, 2): y, x
Pair = tuple[int, int]

# If a box covers this share of its map, the whole map runs, which needs no gathering.
NEARLY_ALL = 0.85


@dataclass(frozen=True, eq=False)
class Frame:
    """Boxes of one size, one per view, inside a map.

    Attributes:
        origin: y and x of every box, (V, 2).
        size: Height and width of all of them.
    """

    origin: Points
    size: Pair

    @property
    def area(self) -> int:
        """The number of elements of each box."""
        return self.size[0] * self.size[1]

    def covers(self, spans: Spans) -> bool:
        """Whether every box holds all that changes in its view."""
        start, stop = spans[:, :2], spans[:, 2:]
        ends = self.origin + np.array(self.size)
        return bool((self.origin <= start).all() and (stop <= ends).all())


@dataclass(frozen=True)
class Shape:
    """The moves of a window; each entry is for rows and columns.

    Attributes:
        kernel: The number of elements of the window.
        stride: The number of elements from one window to the next.
        padding: The number of elements above and to the left of the map.
        dilation: The distance between elements of the window.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def reach(self) -> Pair:
        """The rows and columns from a window's first element to its last."""
        rows, columns = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return rows, columns

    @property
    def area(self) -> int:
        """The number of elements of the window."""
        return self.kernel[0] * self.kernel[1]

    def beyond(self, before: Pair, after: Pair) -> Pair:
        """Return the rows below and columns right of a map that windows read to make ``after``."""
        rows, columns = (
            max(0, (windows - 1) * stride + reach - padding - length)
            for windows, stride, reach, padding, length in zip(
                after, self.stride, self.reach, self.padding, before, strict=True
            )
        )
        return rows, columns

    @property
    def is_point(self) -> bool:
        """Whether every position is computed from itself alone."""
        return self.reach == self.stride == (1, 1) and self.padding == (0, 0)


def through_window(spans: Spans, shape: Shape, after: Pair) -> Spans:
    r"""Return the span that changes behind a window of k elements, d apart, moved by s, padding p.

    .. math::

        [a, b) \to [\lceil (a + p - (k - 1) d) / s \rceil,\; \lfloor (b - 1 + p) / s \rfloor + 1)

    If nothing changes, one element is named. Its computation is unnecessary, but not wrong.
    """
    reach, stride, padding = np.array(shape.reach), np.array(shape.stride), np.array(shape.padding)
    last = np.array(after) - 1
    start = np.clip(-((reach - 1 - padding - spans[:, :2]) // stride), 0, last)
    stop = np.clip((spans[:, 2:] - 1 + padding) // stride + 1, start + 1, last + 1)
    return np.concatenate([start, stop], axis=1)


def union(spans: list[Spans]) -> Spans:
    """Return the smallest rectangles that hold the changes in any of several maps of one size."""
    starts = np.minimum.reduce([each[:, :2] for each in spans])
    stops = np.maximum.reduce([each[:, 2:] for each in spans])
    return np.concatenate([starts, stops], axis=1)


def frame_size(spans: Spans, size: Pair) -> Pair | None:
    """Return the size of boxes that hold all of these spans; None for the whole map."""
    height, width = (int(length) for length in (spans[:, 2:] - spans[:, :2]).max(axis=0))
    if height * width >= NEARLY_ALL * size[0] * size[1]:
        return None
    return height, width


def frame(spans: Spans, size: Pair) -> Frame | None:
    """Return boxes of one size that hold these spans in a map of ``size``; None for all of it."""
    chosen = frame_size(spans, size)
    if chosen is None:
        return None
    return Frame(np.minimum(spans[:, :2], np.array(size) - np.array(chosen)), chosen)


@dataclass(frozen=True, eq=False)
class Box:
    """A map of which only boxes are held, one per view. Outside the boxes it is that of the base.

    Attributes:
        values: (V, C, h, w), channels last in memory.
        frame: The place of the boxes; None for whole maps.
        owned: Whether nothing else holds the values, so they may be overwritten.
    """

    values: Tensor
    frame: Frame | None
    owned: bool = True


@dataclass(frozen=True, eq=False)
class BoxTable:
    """The base's values of one map, padded, with channels last.

    Attributes:
        values: (B, H, W, C), contiguous, for B bases.
        padding: Rows above and columns left of the map itself.
        size: Height and width of the map itself.
    """

    values: Tensor
    padding: Pair
    size: Pair

    @property
    def map(self) -> Tensor:
        """Return the map itself, (B, C, H, W): a part of the values."""
        (top, left), (height, width) = self.padding, self.size
        inner = self.values[:, top : top + height, left : left + width]
        return inner.permute(0, 3, 1, 2)

    def window(self, bases: Points | None, origin: Points, size: Pair, step: Pair) -> Tensor:
        """Cut windows of the padded map, one per view: (V, h, w, C), new.

        Args:
            bases: The base of each view, (V,); None if all have the first.
            origin: y and x of each window in the map, (V, 2).
            size: Height and width of all windows.
            step: The distance in rows and columns between the elements that are taken.
        """
        _, height, width, channels = self.values.shape
        inner = origin + np.array(self.padding)
        starts = inner[:, :1] * width + inner[:, 1:]
        if bases is not None:
            starts = starts + bases[:, None] * (height * width)
        starts = starts + np.arange(size[0]) * (step[0] * width)
        shape = (len(origin), *size, channels)
        if step[1] == 1:
            rows = self.values.as_strided(
                (self.values.numel() // channels - size[1] + 1, size[1] * channels), (channels, 1)
            )
            return rows.index_select(0, self._index(starts)).view(shape)
        places = starts[:, :, None] + np.arange(size[1]) * step[1]
        return self.values.view(-1, channels).index_select(0, self._index(places)).view(shape)

    def write(self, bases: Points, box: Box) -> None:
        """Write the boxes of the views into their bases."""
        _, height, width, channels = self.values.shape
        if box.frame is None:
            self.map.index_copy_(0, self._index(bases), box.values)
            return
        y, x = (box.frame.origin + np.array(self.padding)).T
        lines = (y + bases * height)[:, None] + np.arange(box.frame.size[0])
        places = (lines * width + x[:, None])[:, :, None] + np.arange(box.frame.size[1])
        values = box.values.permute(0, 2, 3, 1)
        flat = self.values.view(-1, channels)
        flat.index_copy_(0, self._index(places), values.reshape(-1, channels))

    def _index(self, places: Points) -> Tensor:
        return torch.from_numpy(places.reshape(-1)).to(self.values.device, non_blocking=True)


def window_of(
    box: Box, table: BoxTable, bases: Points | None, origin: Points, size: Pair, step: Pair = (1, 1)
) -> Tensor:
    """Cut windows of the views' maps, (V, C, h, w), channels last: boxes inside the base.

    Args:
        box: The boxes that change.
        table: The base's values of the same map.
        bases: The base of each view, (V,), or None.
        origin: y and x of each window in the map, (V, 2); negative in the padding.
        size: Height and width of all windows.
        step: The distance in rows and columns between the elements that are taken.
    """
    assert box.frame is not None, "whole maps have no base"
    window = table.window(bases, origin, size, step)
    values = box.values.permute(0, 2, 3, 1)
    offsets = box.frame.origin - origin
    for views, (y, x) in _by_offset(offsets, window):
        rows, from_rows = _overlap(y, box.frame.size[0], size[0], step[0])
        columns, from_columns = _overlap(x, box.frame.size[1], size[1], step[1])
        window[views, rows, columns] = values[views, from_rows, from_columns]
    return window.permute(0, 3, 1, 2)


def _by_offset(offsets: Points, window: Tensor) -> Iterator[tuple[slice | Tensor, Pair]]:
    """Yield the views of each distinct offset as an index; a slice of neighbours copies nothing."""
    if bool((offsets == offsets[0]).all()):
        yield slice(None), (int(offsets[0, 0]), int(offsets[0, 1]))
        return
    distinct, which = np.unique(offsets, axis=0, return_inverse=True)
    for number, (y, x) in enumerate(distinct.tolist()):
        index = (which.reshape(-1) == number).nonzero()[0]
        views: slice | Tensor = slice(int(index[0]), int(index[-1]) + 1)
        if index[-1] - index[0] + 1 > len(index):
            views = torch.from_numpy(index).to(window.device)
        yield views, (y, x)


def _overlap(offset: int, length: int, size: int, step: int) -> tuple[slice, slice]:
    """Return the overlap of a box at ``offset`` and a window of every ``step``-th element.

    Returns:
        The elements of the window, and those of the box.
    """
    first = max(0, -(-offset // step))
    stop = min(size, (offset + length - 1) // step + 1)
    stop = max(first, stop)
    start = first * step - offset
    return slice(first, stop), slice(start, start + max(0, (stop - first - 1) * step + 1), step)

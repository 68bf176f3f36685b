# Values inside boxes, and windows around them that are filled up from the base.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_infomask.engines.incremental.spans import Frame, Pair, Points


@dataclass(frozen=True, eq=False)
class Box:
    """A map of which only boxes are held, one per view; the rest is as in the base.

    Attributes:
        values: (V, C, h, w), channels last in memory.
        frame: Where the boxes lie; None for whole maps.
        owned: Whether nothing else holds the values, so that they may be written over.
    """

    values: Tensor
    frame: Frame | None
    owned: bool = True


@dataclass(frozen=True, eq=False)
class Table:
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
        """The map itself, (B, C, H, W): a part of the values."""
        (top, left), (height, width) = self.padding, self.size
        inner = self.values[:, top : top + height, left : left + width]
        return inner.permute(0, 3, 1, 2)

    def window(self, bases: Points | None, origin: Points, size: Pair, step: Pair) -> Tensor:
        """Windows of the padded map, one per view: (V, h, w, C), new.

        Args:
            bases: The base of each view, (V,); None where all have the first.
            origin: y and x of each window in the map, (V, 2).
            size: Height and width of all windows.
            step: Rows and columns between the elements that are taken.
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
        """Make what views show part of their bases."""
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
    box: Box, table: Table, bases: Points | None, origin: Points, size: Pair, step: Pair = (1, 1)
) -> Tensor:
    """Windows of what the views show, (V, C, h, w), channels last: their boxes amid the base.

    Args:
        box: What changes.
        table: The base's values of the same map.
        bases: The base of each view, (V,), or None.
        origin: y and x of each window in the map, (V, 2); negative in the padding.
        size: Height and width of all windows.
        step: Rows and columns between the elements that are taken.
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
    """The views of each distinct offset, as an index: a slice of neighbours copies nothing."""
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
    """Where a box at ``offset`` lies in a window that takes every ``step``-th element.

    Returns:
        The elements of the window, and those of the box.
    """
    first = max(0, -(-offset // step))
    stop = min(size, (offset + length - 1) // step + 1)
    stop = max(first, stop)
    start = first * step - offset
    return slice(first, stop), slice(start, start + max(0, (stop - first - 1) * step + 1), step)

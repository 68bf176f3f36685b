# Boxes of maps that differ from the base picture: their spread through operations, their values.
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

# Places are the positions of a map: they have n dimensions, 1 in signals, 2 in pictures, 3 in
# volumes.
Spans = NDArray[np.int64]  # (V, 2 n): where the changes in a map start, then where they stop
Points = NDArray[np.int64]  # (V, n)
Size = tuple[int, ...]  # n numbers, one for each dimension of places

# If a box covers this share of its map, the whole map runs, which needs no gathering.
NEARLY_ALL = 0.85


@dataclass(frozen=True, eq=False)
class Frame:
    """Boxes of one size, one per view, inside a map.

    Attributes:
        origin: The first place of every box, (V, n).
        size: The lengths of all of them.
    """

    origin: Points
    size: Size

    @property
    def area(self) -> int:
        """The number of places of each box."""
        return math.prod(self.size)

    def covers(self, spans: Spans) -> bool:
        """Whether every box holds all that changes in its view."""
        start, stop = starts_and_stops(spans)
        ends = self.origin + np.array(self.size)
        return bool((self.origin <= start).all() and (stop <= ends).all())


@dataclass(frozen=True)
class Shape:
    """The moves of a window, in each dimension of places.

    Attributes:
        kernel: The number of elements of the window.
        stride: The number of elements from one window to the next.
        padding: The number of elements before the map.
        dilation: The distance between elements of the window.
    """

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size

    @classmethod
    def of(
        cls, dims: int, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1
    ) -> Shape:
        """Read settings of a layer, each one number or one for each of ``dims`` dimensions."""
        settings = (kernel, stride or kernel, padding, dilation)
        return cls(*(sizes(dims, each) for each in settings))

    @property
    def reach(self) -> Size:
        """The length from a window's first element to its last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def area(self) -> int:
        """The number of elements of the window."""
        return math.prod(self.kernel)

    def beyond(self, before: Size, after: Size) -> Size:
        """Return the elements behind a map that windows read to make ``after``."""
        return tuple(
            max(0, (windows - 1) * stride + reach - padding - length)
            for windows, stride, reach, padding, length in zip(
                after, self.stride, self.reach, self.padding, before, strict=True
            )
        )

    @property
    def is_point(self) -> bool:
        """Whether every position is computed from itself alone."""
        return max(*self.reach, *self.stride) == 1 and not any(self.padding)


def sizes(dims: int, value: Any) -> Size:
    """Return a number for each of ``dims`` dimensions, of one number or of as many."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    return tuple(map(int, numbers * (dims // len(numbers))))


def ones(size: Size) -> Size:
    """Return 1 for each dimension of places."""
    return (1,) * len(size)


def padded(values: Tensor, before: Size, beyond: Size, value: float) -> Tensor:
    """Return values with so many more before and behind them, in each of the last dimensions."""
    pads = reversed([*zip(before, beyond, strict=True)])
    return F.pad(values, [length for pair in pads for length in pair], value=value)


def starts_and_stops(spans: Spans) -> tuple[Points, Points]:
    """Return where spans start and where they stop, (V, n) each."""
    dims = spans.shape[1] // 2
    return spans[:, :dims], spans[:, dims:]


def through_window(spans: Spans, shape: Shape, after: Size) -> Spans:
    r"""Return the span that changes behind a window of k elements, d apart, moved by s, padding p.

    .. math::

        [a, b) \to [\lceil (a + p - (k - 1) d) / s \rceil,\; \lfloor (b - 1 + p) / s \rfloor + 1)

    If nothing changes, one element is named. Its computation is unnecessary, but not wrong.
    """
    reach, stride, padding = np.array(shape.reach), np.array(shape.stride), np.array(shape.padding)
    last = np.array(after) - 1
    starts, stops = starts_and_stops(spans)
    start = np.clip(-((reach - 1 - padding - starts) // stride), 0, last)
    stop = np.clip((stops - 1 + padding) // stride + 1, start + 1, last + 1)
    return np.concatenate([start, stop], axis=1)


def union(spans: list[Spans]) -> Spans:
    """Return the smallest boxes that hold the changes in any of several maps of one size."""
    both = [starts_and_stops(each) for each in spans]
    starts = np.minimum.reduce([start for start, _ in both])
    stops = np.maximum.reduce([stop for _, stop in both])
    return np.concatenate([starts, stops], axis=1)


def frame(spans: Spans, size: Size) -> Frame | None:
    """Return boxes of one size that hold these spans in a map of ``size``; None for all of it."""
    starts, stops = starts_and_stops(spans)
    chosen = tuple((stops - starts).max(axis=0).tolist())
    if math.prod(chosen) >= NEARLY_ALL * math.prod(size):
        return None
    return Frame(np.minimum(starts, np.array(size) - np.array(chosen)), chosen)


@dataclass(frozen=True, eq=False)
class Box:
    """A map of which only boxes are held, one per view. Outside the boxes it is that of the base.

    Attributes:
        values: (V, C, ...), channels last in memory.
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
        values: (B, ..., C), contiguous, for B bases.
        padding: The elements before the map itself, in each dimension of places.
        size: The lengths of the map itself.
    """

    values: Tensor
    padding: Size
    size: Size

    @property
    def map(self) -> Tensor:
        """Return the map itself, (B, C, ...): a part of the values."""
        inner = (slice(p, p + n) for p, n in zip(self.padding, self.size, strict=True))
        return self.values[(slice(None), *inner)].movedim(-1, 1)

    def window(self, bases: Points | None, origin: Points, size: Size, step: Size) -> Tensor:
        """Cut windows of the padded map, one per view: (V, ..., C), new.

        Args:
            bases: The base of each view, (V,); None if all have the first.
            origin: The first place of each window in the map, (V, n).
            size: The lengths of all windows.
            step: The distance between the elements that are taken, in each dimension of places.
        """
        channels, last = self.values.shape[-1], size[-1]
        shape = (len(origin), *size, channels)
        if step[-1] == 1:
            rows = self.values.as_strided(
                (self.values.numel() // channels - last + 1, last * channels), (channels, 1)
            )
            starts = self._places(bases, origin, size[:-1], step)
            return rows.index_select(0, self._index(starts)).view(shape)
        places = self._places(bases, origin, size, step)
        return self.values.view(-1, channels).index_select(0, self._index(places)).view(shape)

    def write(self, bases: Points, box: Box) -> None:
        """Write the boxes of the views into their bases."""
        if box.frame is None:
            self.map.index_copy_(0, self._index(bases), box.values)
            return
        size, channels = box.frame.size, self.values.shape[-1]
        places = self._places(bases, box.frame.origin, size, ones(size))
        flat = self.values.view(-1, channels)
        values = box.values.movedim(1, -1).reshape(-1, channels)
        flat.index_copy_(0, self._index(places), values)

    def _places(self, bases: Points | None, origin: Points, size: Size, step: Size) -> Points:
        """Number the places of windows in the padded maps of all bases, (V, *size).

        A size of fewer dimensions gives the first place of each line along the other ones.
        """
        channels = self.values.shape[-1]
        of_bases, *strides = (stride // channels for stride in self.values.stride()[:-1])
        places: Points = ((origin + np.array(self.padding)) * np.array(strides)).sum(1)
        if bases is not None:
            places = places + bases * of_bases
        for length, apart, stride in zip(size, step, strides, strict=False):
            places = places[..., None] + np.arange(length) * (apart * stride)
        return places

    def _index(self, places: Points) -> Tensor:
        return torch.from_numpy(places.reshape(-1)).to(self.values.device, non_blocking=True)


def window_of(
    box: Box, table: BoxTable, bases: Points | None, origin: Points, size: Size, step: Size
) -> Tensor:
    """Cut windows of the views' maps, (V, C, ...), channels last: boxes inside the base.

    Args:
        box: The boxes that change.
        table: The base's values of the same map.
        bases: The base of each view, (V,), or None.
        origin: The first place of each window in the map, (V, n); negative in the padding.
        size: The lengths of all windows.
        step: The distance between the elements that are taken, in each dimension of places.
    """
    assert box.frame is not None, "whole maps have no base"
    window = table.window(bases, origin, size, step)
    values = box.values.movedim(1, -1)
    offsets = box.frame.origin - origin
    for views, offset in _by_offset(offsets, window):
        overlaps = map(_overlap, offset, box.frame.size, size, step)
        inside, taken = zip(*overlaps, strict=True)
        window[(views, *inside)] = values[(views, *taken)]
    return window.movedim(-1, 1)


def _by_offset(offsets: Points, window: Tensor) -> Iterator[tuple[slice | Tensor, list[int]]]:
    """Yield the views of each distinct offset as an index; a slice of neighbours copies nothing."""
    if bool((offsets == offsets[0]).all()):
        yield slice(None), offsets[0].tolist()
        return
    distinct, which = np.unique(offsets, axis=0, return_inverse=True)
    for number, offset in enumerate(distinct.tolist()):
        index = (which.reshape(-1) == number).nonzero()[0]
        views: slice | Tensor = slice(int(index[0]), int(index[-1]) + 1)
        if index[-1] - index[0] + 1 > len(index):
            views = torch.from_numpy(index).to(window.device)
        yield views, offset


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

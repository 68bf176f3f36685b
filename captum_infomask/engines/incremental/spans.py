# Where views differ from their base picture, and how operations spread it: rectangles of integers.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]  # (V, 4): y0, x0, y1, x1 of what changes in a map, half-open
Points = NDArray[np.int64]  # (V, 2): y, x
Pair = tuple[int, int]

# A box that covers this share of its map runs on the whole map, which needs no gathering.
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
        """Elements of each box."""
        return self.size[0] * self.size[1]

    def covers(self, spans: Spans) -> bool:
        """Whether every box holds what changes in its view."""
        start, stop = spans[:, :2], spans[:, 2:]
        ends = self.origin + np.array(self.size)
        return bool((self.origin <= start).all() and (stop <= ends).all())


@dataclass(frozen=True)
class Shape:
    """How a window moves: rows and columns of each.

    Attributes:
        kernel: Elements of the window.
        stride: Elements from one window to the next.
        padding: Elements above and to the left of the map.
        dilation: Distance between elements of the window.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def reach(self) -> Pair:
        """Rows and columns from a window's first element past its last."""
        rows, columns = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return rows, columns

    @property
    def area(self) -> int:
        """Elements of the window."""
        return self.kernel[0] * self.kernel[1]

    def beyond(self, before: Pair, after: Pair) -> Pair:
        """Rows below and columns right of a map that windows read, if ``after`` are made."""
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
    r"""What changes behind a window of k elements, d apart, moved by s over a map padded by p.

    .. math::

        [a, b) \to [\lceil (a + p - (k - 1) d) / s \rceil,\; \lfloor (b - 1 + p) / s \rfloor + 1)

    Where nothing changes, one element is named: it is computed in vain, not wrongly.
    """
    reach, stride, padding = np.array(shape.reach), np.array(shape.stride), np.array(shape.padding)
    last = np.array(after) - 1
    start = np.clip(-((reach - 1 - padding - spans[:, :2]) // stride), 0, last)
    stop = np.clip((spans[:, 2:] - 1 + padding) // stride + 1, start + 1, last + 1)
    return np.concatenate([start, stop], axis=1)


def union(spans: list[Spans]) -> Spans:
    """The smallest rectangles that hold what changes in any of several maps of one size."""
    starts = np.minimum.reduce([each[:, :2] for each in spans])
    stops = np.maximum.reduce([each[:, 2:] for each in spans])
    return np.concatenate([starts, stops], axis=1)


def frame_size(spans: Spans, size: Pair) -> Pair | None:
    """The size of boxes that hold all of these spans; None for the whole map."""
    height, width = (int(length) for length in (spans[:, 2:] - spans[:, :2]).max(axis=0))
    if height * width >= NEARLY_ALL * size[0] * size[1]:
        return None
    return height, width


def frame(spans: Spans, size: Pair) -> Frame | None:
    """Boxes of one size inside a map of ``size`` that hold these spans; None for the whole map."""
    chosen = frame_size(spans, size)
    if chosen is None:
        return None
    return Frame(np.minimum(spans[:, :2], np.array(size) - np.array(chosen)), chosen)

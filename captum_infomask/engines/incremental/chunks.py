# Which views run together: those whose boxes have about the same sizes all the way.
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from captum_infomask.engines.incremental.costs import CostModel, Lengths

Rows = NDArray[np.int64]

_MOST_CLASSES = 12


def chunks_of(model: CostModel, lengths: Lengths, most: int) -> list[Rows]:
    """Cut the views into chunks of small cost.

    In a chunk all boxes of a map have one size, the largest that any of its views needs. So views
    are put into classes by the heights of what changes, and by the widths; a chunk is of one class
    of each. How many classes there are is chosen by the cost: few chunks or tight boxes.

    Args:
        model: What the network's steps cost.
        lengths: Height and width of what changes in every view at every step, (V, S, 2).
        most: The most views in a chunk.
    """
    by_height = list(_classes(model, lengths[:, :, 0]))
    by_width = list(_classes(model, lengths[:, :, 1]))
    best: tuple[float, list[Rows]] = (np.inf, [])
    for rows, heights in enumerate(by_height):
        for widths in by_width[max(0, rows - 1) : rows + 2]:
            chunks = list(_cells(heights, widths, most))
            cost = sum(model.chunk(lengths[chunk]) for chunk in chunks)
            best = min(best, (cost, chunks), key=lambda each: each[0])
    return best[1]


def _cells(heights: Rows, widths: Rows, most: int) -> Iterator[Rows]:
    """The views of each pair of classes, in chunks of about one size."""
    pairs = heights * (widths.max() + 1) + widths
    for pair in np.unique(pairs):
        rows = (pairs == pair).nonzero()[0]
        yield from np.array_split(rows, -(-len(rows) // most))


def _classes(model: CostModel, lengths: Rows) -> Iterator[Rows]:
    r"""Views (V, S) in 1, 2, … classes of least cost along one axis.

    The distinct views are sorted by what they cost, and cut by dynamic programming:

    .. math::

        C_{k, j} = \min_{i < j} \; C_{k - 1, i} + n_{ij}\, c(\max_{i \le v < j} s_v),

    with :math:`n_{ij}` the views from i to j and c the cost of boxes as long as s.
    """
    weights = model.per_position * np.sqrt(model.sizes.prod(1))
    distinct, which, counts = np.unique(lengths, axis=0, return_inverse=True, return_counts=True)
    order = (distinct @ weights).argsort(kind="stable")
    distinct, counts = distinct[order], counts[order]
    size = len(distinct)
    cost = np.full((size + 1, size + 1), np.inf)
    for i in range(size):
        largest = np.maximum.accumulate(distinct[i:], axis=0)
        cost[i, i + 1 :] = counts[i:].cumsum() * (largest @ weights)
    least, cuts = cost[0], [np.zeros(size + 1, dtype=np.int64)]
    place = np.empty(size, dtype=np.int64)
    place[order] = np.arange(size)
    for count in range(1, min(size, _MOST_CLASSES) + 1):
        if count > 1:
            options = least[:, None] + cost
            cuts.append(options.argmin(axis=0))
            least = options.min(axis=0)
        labels, stop = np.empty(size, dtype=np.int64), size
        for number in reversed(range(count)):
            start = int(cuts[number][stop])
            labels[start:stop] = number
            stop = start
        yield labels[place[which.reshape(-1)]]

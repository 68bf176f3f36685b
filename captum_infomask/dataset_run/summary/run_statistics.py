# Reads the numbers of a run's pictures from its table, and computes their distributions.
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from captum_infomask._run_length import BITS, FIRST, MORE, SIGN
from captum_infomask.report.run_content import (
    BINS,
    FEW_VALUES,
    LEVELS,
    Axis,
    Counts,
    Distribution,
    Floats,
)

UNKNOWN = -1  # a class that is null


def class_names(categories: Sequence[str], classes: Sequence[int]) -> list[str]:
    """Names of classes; a name that several classes share also gets the class's number.

    Args:
        categories: The network's categories, in the order of its outputs.
        classes: Indices, or −1 for an unknown one.

    Example:
        >>> from captum_infomask.dataset_run.summary.run_statistics import class_names
        >>> class_names(["crane", "ibis", "crane"], [0, 1, -1, 5])
        ['crane (0)', 'ibis', 'unknown', 'class 5']
    """
    times = Counter(categories)
    names = []
    for place in map(int, classes):
        if place == UNKNOWN:
            names.append("unknown")
        elif place >= len(categories):
            names.append(f"class {place}")
        else:
            name = categories[place]
            names.append(name if times[name] == 1 else f"{name} ({place})")
    return names


def mask_areas(counts: pa.StringArray) -> Counts:
    r"""Compute the areas of masks from their run lengths.

    Runs alternate, and the first one is outside the mask. From the fourth run on, the string holds
    the difference d of each run from the run before the last. So a kept run is the sum of the odd
    numbers so far, and the area of a mask of K runs is

    .. math::

        \sum_{\text{odd } k < K} d_k \cdot \#\{\text{odd } j: k \le j < K\}.

    For a mask of windows, nearly all differences are 0. Only the others are read.

    Args:
        counts: COCO's compressed run lengths, (N,); none is null.

    Returns:
        (N,), pixels.

    Example:
        >>> import pyarrow as pa
        >>> from captum_infomask.dataset_run.summary.run_statistics import mask_areas
        >>> mask_areas(pa.array(["13", "04", "4"])).tolist()  # of 2 × 2 pixels
        [3, 4, 0]

    Source: the form is that of COCO's annotations (Lin et al., ECCV 2014) and its ``maskApi``.
    """
    offsets = np.frombuffer(counts.buffers()[1] or bytes(4), np.int32)[counts.offset :]
    ends = offsets[: len(counts) + 1].astype(np.int64)
    data = np.frombuffer(counts.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]
    ends -= ends[0]
    places = np.flatnonzero(data != FIRST)
    codes = data[places].astype(np.int64) - FIRST
    more = codes & MORE != 0
    owner = np.searchsorted(ends, places, "right") - 1
    # Every character ends a number, except those with the bit that more follow.
    follow = np.concatenate([[0], np.cumsum(more)])
    number = places - follow[:-1]
    starts = ends - follow[np.searchsorted(places, ends)]
    k, runs = number - starts[owner], np.diff(starts)[owner]
    weight = np.where(k % 2 == 1, (runs - k + 1) // 2, 0)
    # This is exact, because the sums of integers are far below 2^53.
    found = np.bincount(owner, _parts(codes, more, places) * weight, len(counts))
    return found.astype(np.int64)


def _parts(codes: Counts, more: npt.NDArray[np.bool_], places: Counts) -> Counts:
    """The value that each character adds to its number."""
    each = np.arange(len(codes))
    goes_on = np.zeros(len(codes), bool)
    # A final 0 of a number with several characters was left out, because it adds nothing.
    goes_on[1:] = more[:-1] & (np.diff(places) == 1)
    digit = each - np.maximum.accumulate(np.where(goes_on, 0, each))
    is_negative = ~more & (codes & SIGN != 0)
    low = (codes & (MORE - 1)) << (BITS * digit)
    parts: Counts = low - (is_negative.astype(np.int64) << (BITS * (digit + 1)))
    return parts


_COLUMNS = ("target", "predicted", "total", "scores", "mask", "seconds", "error")
_ROWS = 8_192  # rows at a time, so little memory is needed besides the table
_TAIL = 0.005  # the share of the pictures, at each end, that an axis may leave out


@dataclass(frozen=True, eq=False)
class PictureNumbers:
    """The numbers of the n pictures that did not fail.

    Attributes:
        places: (n,), their rows in the table.
        targets: (n,), −1 where unknown.
        predicted: (n,), −1 where unknown.
        totals: (n,), i(y; x).
        best: (n,), the largest score of a region; NaN if there is none.
        shares: (n,), the share of the picture that the mask keeps; NaN if there is no mask.
        seconds: (n,).
    """

    places: Counts
    targets: Counts
    predicted: Counts
    totals: Floats
    best: Floats
    shares: Floats
    seconds: Floats


def picture_numbers(table: pa.Table) -> PictureNumbers:
    """Read the numbers of the pictures that did not fail, some rows at a time.

    Example:
        >>> import pyarrow as pa
        >>> from captum_infomask.dataset_run.summary.run_statistics import picture_numbers
        >>> mask = {"size": [2, 2], "counts": "13"}
        >>> good = {"target": 1, "predicted": 0, "total": 2.0, "scores": [0.5, 1.5], "mask": mask,
        ...         "seconds": 0.25, "error": None}
        >>> bad = dict.fromkeys(good) | {"error": "no picture"}
        >>> numbers = picture_numbers(pa.Table.from_pylist([bad, good]))
        >>> numbers.places, numbers.best, numbers.shares
        (array([1]), array([1.5]), array([0.75]))
    """
    parts, start = [_numbers_of(_empty(table), 0)], 0
    for batch in table.select(_COLUMNS).to_batches(max_chunksize=_ROWS):
        parts.append(_numbers_of(batch, start))
        start += len(batch)
    return PictureNumbers(*map(np.concatenate, zip(*parts, strict=True)))


def _empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], table.select(_COLUMNS).schema)


def _numbers_of(batch: pa.RecordBatch, start: int) -> tuple[npt.NDArray[Any], ...]:
    good = batch["error"].is_null()
    rows = batch.filter(good)
    return (
        start + np.flatnonzero(good.to_numpy(zero_copy_only=False)),
        _whole(rows["target"]),
        _whole(rows["predicted"]),
        _real(rows["total"]),
        _largest(rows["scores"]),
        _shares(rows["mask"]),
        _real(rows["seconds"]),
    )


def _whole(column: pa.Array) -> Counts:
    filled = pc.fill_null(column.cast(pa.int64()), UNKNOWN)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)


def _real(column: pa.Array) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _largest(lists: pa.Array) -> Floats:
    """The largest entry of each list, without NaN."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    some = lengths > 0
    found = np.full(len(lengths), np.nan)
    if some.any():
        starts = np.cumsum(lengths[some]) - lengths[some]
        found[some] = np.fmax.reduceat(_real(lists.flatten()), starts)
    return found


def _shares(masks: pa.Array) -> Floats:
    """The share of each picture that its mask keeps."""
    some = np.flatnonzero(masks.is_valid().to_numpy(zero_copy_only=False))
    shares = np.full(len(masks), np.nan)
    if len(some):
        valid = masks.drop_null()
        sizes = np.asarray(pc.struct_field(valid, "size").flatten(), np.int64).reshape(-1, 2)
        shares[some] = mask_areas(pc.struct_field(valid, "counts")) / sizes.prod(1)
    return shares


def shared_axis(*columns: Floats, bound: float | None, bound_words: str) -> Axis | None:
    """An axis with 0, the bound and all but rare values; None if there are no values."""
    ordered = [np.sort(column) for column in columns if len(column)]
    if not ordered:
        return None
    tails = [(int(_TAIL * len(column)), column) for column in ordered]
    low = min(0.0, *(float(column[tail]) for tail, column in tails))
    high = max(0.0, bound or 0.0, *(float(column[-1 - tail]) for tail, column in tails))
    if high <= low:
        high = low + 1.0
    slack = 1e-6 * (high - low)
    return Axis(
        low,
        high,
        bound,
        bound_words,
        below=sum(int(np.searchsorted(column, low - slack)) for column in ordered),
        above=sum(len(c) - int(np.searchsorted(c, high + slack, "right")) for c in ordered),
    )


def distributions(
    names: list[str],
    groups: Counts,
    values: Floats,
    axis: Axis,
    *,
    right: npt.NDArray[np.bool_] | None = None,
    is_bounded: bool = True,
) -> tuple[Distribution, ...]:
    """The distribution of values in each of G groups.

    Args:
        names: The groups' names.
        groups: (n,), from 0 to G − 1: the group of each value.
        values: (n,), finite.
        axis: The axis of the histograms.
        right: (n,), whether the target was predicted.
        is_bounded: Whether the bound of the axis holds for these values.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.dataset_run.summary.run_statistics import distributions
        >>> from captum_infomask.report.run_content import Axis
        >>> groups, values = np.array([0, 0, 1]), np.array([1.0, 3.0, 2.0])
        >>> found = distributions(["a", "b"], groups, values, Axis(0, 4))
        >>> [float(one.quantiles[2]) for one in found]
        [2.0, 2.0]
    """
    size = len(names)
    order = np.lexsort((values, groups))
    ordered = values[order]
    counts = np.bincount(groups, minlength=size)
    starts = np.cumsum(counts) - counts
    quantiles = _quantiles(ordered, starts, counts)
    scaled = (values - axis.low) / (axis.high - axis.low) * BINS
    part = np.clip(scaled, 0, BINS - 1).astype(np.int64)
    histograms = np.bincount(groups * BINS + part, minlength=size * BINS).reshape(size, BINS)
    hits = None if right is None else np.bincount(groups, right, size)
    return tuple(
        Distribution(
            name=name,
            count=int(counts[k]),
            quantiles=quantiles[k],
            histogram=histograms[k],
            values=ordered[starts[k] :][: counts[k] if counts[k] <= FEW_VALUES else 0],
            is_bounded=is_bounded,
            accuracy=None if hits is None or not counts[k] else float(hits[k] / counts[k]),
        )
        for k, name in enumerate(names)
    )


def _quantiles(ordered: Floats, starts: Counts, counts: Counts) -> Floats:
    """(G, 5), by linear interpolation in each group's values, which are sorted."""
    found = np.full((len(counts), len(LEVELS)), np.nan)
    some = counts > 0
    reach = np.outer(counts[some] - 1, LEVELS)
    below = np.floor(reach).astype(np.int64)
    above = np.minimum(below + 1, counts[some, None] - 1)
    first = starts[some, None]
    low, high = ordered[first + below], ordered[first + above]
    found[some] = low + (reach - below) * (high - low)
    return found

# How many pixels masks keep, read off their run lengths without drawing them: a million in seconds.
from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from captum_infomask._run_length import BITS, FIRST, MORE, SIGN

Counts = npt.NDArray[np.int64]


def mask_areas(counts: pa.StringArray) -> Counts:
    r"""Add up the runs that masks keep.

    Runs take turns, the first one outside the mask, and from the fourth on the string holds each
    one's difference d from the run before the last. A kept run is therefore the sum of the odd
    numbers so far, and the area of a mask of K runs

    .. math::

        \sum_{\text{odd } k < K} d_k \cdot \#\{\text{odd } j: k \le j < K\}.

    Nearly all differences of a mask of windows are 0, and only the others are looked at.

    Args:
        counts: COCO's compressed run lengths, (N,); none is null.

    Returns:
        (N,), pixels.

    Example:
        >>> import pyarrow as pa
        >>> from captum_infomask.dataset_run.summary.mask_areas import mask_areas
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
    # Every character ends a number but those after which more follow.
    follow = np.concatenate([[0], np.cumsum(more)])
    number = places - follow[:-1]
    starts = ends - follow[np.searchsorted(places, ends)]
    k, runs = number - starts[owner], np.diff(starts)[owner]
    weight = np.where(k % 2 == 1, (runs - k + 1) // 2, 0)
    # Exact: sums of integers far below 2^53.
    found = np.bincount(owner, _parts(codes, more, places) * weight, len(counts))
    return found.astype(np.int64)


def _parts(codes: Counts, more: npt.NDArray[np.bool_], places: Counts) -> Counts:
    """What each character adds to the number that it helps to spell."""
    each = np.arange(len(codes))
    goes_on = np.zeros(len(codes), bool)
    # A 0 that ends a number of several characters was left out: it adds nothing.
    goes_on[1:] = more[:-1] & (np.diff(places) == 1)
    digit = each - np.maximum.accumulate(np.where(goes_on, 0, each))
    is_negative = ~more & (codes & SIGN != 0)
    low = (codes & (MORE - 1)) << (BITS * digit)
    parts: Counts = low - (is_negative.astype(np.int64) << (BITS * (digit + 1)))
    return parts

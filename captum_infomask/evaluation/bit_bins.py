# Sorts values in bits into bins, and counts how often each says and sees its class.
from __future__ import annotations

import math
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from captum_infomask.evaluation.ground_truth import FEWEST
from captum_infomask.results.reliability_of_bits import BitsEstimate, BitsReliability

FEWEST_COUNTS = 5.0  # a bin that expects and sees fewer is merged with its neighbour
_BELOW = (-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5)
_FINE = 0.25
_WIDTHS = ((2.5, 0.25), (5.0, 0.5), (math.inf, 1.0))  # of shown bins, by the most bits there are
_TINY = 1e-300  # in the place of a count of 0 that nothing rests on
_DRAWN_AT_ONCE = 1 << 20  # pictures


class Sums(NamedTuple):
    """Sums over the triples (picture, region, class) of bins.

    Attributes:
        regions: The number of regions that have a class in the bin.
        base: Σ π_c: how often the classes would occur if regions told nothing.
        expected: Σ π_c 2^b: how often they occur if the bits are true.
        occurred: Σ 1[Y = c]: how often they did.
    """

    regions: Tensor
    base: Tensor
    expected: Tensor
    occurred: Tensor


def fine_edges(most: float) -> Tensor:
    """Upper edges of bins that are fixed before any data: narrow above 0 bits, wide far below.

    Args:
        most: The most bits that a value can have.
    """
    above = torch.arange(math.ceil(most / _FINE) + 1, dtype=torch.float64) * _FINE
    return torch.cat([torch.tensor(_BELOW, dtype=torch.float64), above])


def sums_of(bits: Tensor, classes: Tensor, labels: Tensor, prior: Tensor, edges: Tensor) -> Tensor:
    """Sums of each picture in each fine bin, (N, 4, B), in the order of :class:`Sums`.

    Args:
        bits: (N, R, K), in bits; NaN for a region that a picture does not have.
        classes: The classes, long (K,).
        labels: The pictures' own classes, long (N,).
        prior: The K classes' frequencies, float64 (K,).
        edges: Upper edges, (B,), those of :func:`fine_edges`; a bin holds its upper edge.
    """
    n, bins = len(bits), len(edges)
    bits = bits.double().clamp(max=float(edges[-1]))
    is_there = ~bits.isnan()
    place = torch.bucketize(bits, edges) + bins * torch.arange(n)[:, None, None]
    weights = prior.expand_as(bits)
    own = (classes == labels[:, None])[:, None].expand_as(bits)
    where = place[is_there]
    found = [
        torch.bincount(where, part[is_there], minlength=n * bins)
        for part in (weights, weights * bits.exp2(), own.double())
    ]
    # Each region once, however many classes it has in a bin.
    of_region = place + n * bins * torch.arange(bits.shape[1])[:, None]
    once = of_region[is_there].unique() % (n * bins)
    regions = torch.bincount(once, minlength=n * bins).double()
    return torch.stack([regions, *found]).reshape(4, n, bins).transpose(0, 1)


def shown_bins(sums: Tensor, edges: Tensor) -> list[tuple[int, int]]:
    """Ranges of fine bins that make one shown bin each, from the lowest bits to the highest.

    A shown bin is a quarter of a bit wide, half a bit or a bit, by the most bits there are. Bins
    are merged, from the top, until each expects or sees at least five occurrences. Those that see
    none although five are expected stay: they show what is wrong.

    Args:
        sums: All pictures' sums, (4, B).
        edges: As in :func:`sums_of`.
    """
    width = next(width for most, width in _WIDTHS if float(edges[-1]) <= most)
    below = min(1.0, 2 * width)
    steps = [edge % (width if edge > 0 else below) for edge in edges.tolist()]
    walls = [0, *(k + 1 for k, rest in enumerate(steps[:-1]) if rest == 0), len(steps)]
    found: list[tuple[int, int]] = []
    end = walls[-1]
    for start in reversed(walls[:-1]):
        if _enough(sums, start, end):
            found.insert(0, (start, end))
            end = start
    if end > 0:  # too little is left below
        found[:1] = [(0, found[0][1] if found else walls[-1])]
    return found


def _enough(sums: Tensor, start: int, end: int) -> bool:
    """Whether a bin expects or sees enough for a number."""
    return float(sums[2:, start:end].sum(1).max()) >= FEWEST_COUNTS


class Told(TypedDict):
    """The fields of a result that are words."""

    view: str
    prior: str
    name: str


def curve_of(
    sums: Tensor,
    edges: Tensor,
    *,
    level: float,
    n_resamples: int,
    seed: int,
    **told: Unpack[Told],
) -> BitsReliability:
    """Merge fine bins, and draw pictures with repetition for the intervals.

    Args:
        sums: Each picture's sums, (N, 4, B). Pictures that belong together are one row.
        edges: As in :func:`sums_of`.
        level: The intervals' coverage, between 0 and 1.
        n_resamples: The number of times that N pictures are drawn.
        seed: The seed of this function's own generator.
        **told: The words of the result.
    """
    ranges = shown_bins(sums.sum(0), edges)
    rows = torch.stack([sums[..., start:end].sum(-1) for start, end in ranges], -1)
    whole = Sums(*rows.sum(0))
    never = _rule_of_three(rows, level)
    said, observed = (whole.expected / whole.base).log2(), (whole.occurred / whole.base).log2()
    lower = torch.full_like(said, math.nan)
    upper = torch.where(whole.occurred == 0, (never / whole.base).log2(), lower)
    error, excess = (BitsEstimate(float(one)) for one in _distances(whole, never))
    if len(rows) >= FEWEST:
        drawn = Sums(*_resampled(rows, n_resamples, seed).unbind(1))
        ends = ((1 - level) / 2, (1 + level) / 2)
        # Logarithms come last, because between a count of 0 and others there is no −inf.
        ratios = drawn.occurred / drawn.base.clamp_min(_TINY)
        lower, high = torch.from_numpy(np.quantile(ratios.numpy(), ends, axis=0)).log2()
        upper = torch.where(whole.occurred == 0, upper, high)
        error, excess = (
            BitsEstimate(point.mean, *map(float, np.quantile(one.numpy(), ends)))
            for point, one in zip((error, excess), _distances(drawn, never), strict=True)
        )
    return BitsReliability(
        said=said.numpy(),
        observed=observed.numpy(),
        lower=lower.numpy(),
        upper=upper.numpy(),
        expected_count=whole.expected.numpy(),
        observed_count=whole.occurred.numpy(),
        error=error,
        excess=excess,
        pictures=len(rows),
        **told,
    )


def _rule_of_three(rows: Tensor, level: float) -> Tensor:
    """The count that a count of 0 leaves possible, (B,).

    With independent events it is −ln((1 − level)/2). A picture's regions have the same label, so
    the events are pictures here. Each counts as often as a picture has regions in the bin.
    """
    regions = rows[:, 0]
    per_picture = regions.sum(0) / (regions > 0).sum(0).clamp_min(1)
    return -math.log((1 - level) / 2) * per_picture.clamp_min(1)


def _distances(sums: Sums, never: Tensor) -> tuple[Tensor, Tensor]:
    """The mean |said − observed| and said − observed, weighted by the expected counts.

    Where a class never occurred, what could still be observed stands in, if it is less than what
    was said: so both are at least this large.
    """
    possible = torch.minimum(never, sums.expected)
    seen = torch.where(sums.occurred > 0, sums.occurred, possible)
    gap = torch.where(sums.expected > 0, (sums.expected / seen.clamp_min(_TINY)).log2(), 0)
    weights = sums.expected / sums.expected.sum(-1, keepdim=True)
    return (weights * gap.abs()).sum(-1), (weights * gap).sum(-1)


def _resampled(rows: Tensor, n_resamples: int, seed: int) -> Tensor:
    """The sums over N rows that are drawn with repetition, (n_resamples, 4, B)."""
    generator = torch.Generator().manual_seed(seed)
    n, flat = len(rows), rows.flatten(1)
    found: list[Tensor] = []
    for portion in torch.arange(n_resamples).split(max(1, _DRAWN_AT_ONCE // n)):
        drawn = torch.randint(n, (len(portion), n), generator=generator)
        times = torch.zeros(len(portion), n, dtype=torch.float64)
        found.append(times.scatter_add_(1, drawn, torch.ones_like(times)) @ flat)
    joined = torch.cat(found)
    return joined.reshape(n_resamples, *rows.shape[1:])

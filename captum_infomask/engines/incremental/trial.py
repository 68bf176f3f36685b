# Which engine is the faster one, on a device whose speed operation counts do not tell.
from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from captum_infomask.engines.base import Running
from captum_infomask.views.plan import ViewPlan

_ROUNDS = 3

Chunk = tuple[Tensor, Tensor]


def run_the_faster(
    chunks: Iterator[Chunk], batched: Running, plan: ViewPlan
) -> Generator[Chunk, None, bool]:
    """Run a plan by the engine that takes less time, and tell whether it was the first one.

    The first chunks are run by both, in turns; the very first does not count, as a device warms up.

    Args:
        chunks: The plan's rows and outputs, by one engine.
        batched: The other engine.
        plan: The views.
    """
    ratios: list[float] = []
    left = torch.ones(len(plan), dtype=torch.bool)
    while len(ratios) <= _ROUNDS:
        seconds, chunk = _timed(chunks, most=1)
        if chunk is None:
            return True
        part = plan.part(chunk[0])
        other, _ = _timed(batched.run(part))
        ratios.append(other / seconds)
        left[chunk[0]] = False
        yield chunk
    if statistics.median(ratios[1:]) >= 1:
        yield from chunks
        return True
    yield from run_rest(batched, plan, left)
    return False


def run_rest(batched: Running, plan: ViewPlan, left: Tensor) -> Iterator[Chunk]:
    """Run what is left of a plan, boolean (V,): the plan's rows and outputs."""
    if bool(left.all()):
        yield from batched.run(plan)
        return
    rest = left.nonzero()[:, 0]
    for rows, outputs in batched.run(plan.part(rest)):
        yield rest[rows], outputs


def _timed(chunks: Iterator[Chunk], most: int | None = None) -> tuple[float, Chunk | None]:
    """Run some chunks: the seconds that they take, and the last of them."""
    start, last = time.perf_counter(), None
    for last in itertools.islice(chunks, most):
        float(last[1].flatten()[-1])  # waits for the device
    return time.perf_counter() - start, last

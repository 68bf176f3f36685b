# A run whose workers are lost now and then: simulated event by event, and in closed form.
from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """What a run meets.

    Attributes:
        workers: How many compute.
        between_losses: Mean seconds until a worker is lost, exponential; infinity for never.
        replacement: Seconds from a loss until another worker has its model loaded.
        ahead: Shards that wait at a worker behind the one it computes; Ray Data sends one.
        dispatch: Seconds that the one process that hands out shards takes for each.
    """

    workers: int
    between_losses: float = math.inf
    replacement: float = 120.0
    ahead: int = 1
    dispatch: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a run took.

    Attributes:
        wall: Seconds until the last shard was finished.
        losses: Workers that were lost while they computed.
        twice: Seconds of work that was lost and done again.
        shard_seconds: Mean seconds from a shard's first start to its end.
        finished: How often each shard was finished.
    """

    wall: float
    losses: int
    twice: float
    shard_seconds: float
    finished: tuple[int, ...]


def simulate(cluster: Cluster, shards: int, seconds: float, seed: int | str) -> Outcome:
    """Run shards of so many seconds each.

    As with Ray's actors, a shard stays with its worker: when that is lost, the replacement does it
    again from its beginning, and those that wait behind it wait longer.
    """
    chance = random.Random(seed)
    finished = [0] * shards
    unassigned = iter(range(shards))
    waiting: list[deque[int]] = [deque() for _ in range(cluster.workers)]
    idle = [True] * cluster.workers
    lives_until = [_life(chance, cluster) for _ in range(cluster.workers)]
    now = handed_out = twice = computing = 0.0
    losses = 0
    # (time, worker, the shard it gets or −1, the shard it has finished or −1)
    events: list[tuple[float, int, int, int]] = []
    for _ in range(1 + cluster.ahead):
        for worker, shard in zip(range(cluster.workers), unassigned, strict=False):
            handed_out += cluster.dispatch
            heapq.heappush(events, (handed_out, worker, shard, -1))
    while events:
        now, worker, gets, ended = heapq.heappop(events)
        if ended < 0:
            waiting[worker].append(gets)
        else:
            finished[ended] += 1
            idle[worker] = True
            if (shard := next(unassigned, -1)) >= 0:
                handed_out = max(handed_out, now) + cluster.dispatch
                heapq.heappush(events, (handed_out, worker, shard, -1))
        if not idle[worker] or not waiting[worker]:
            continue
        start, lost = now, lives_until[worker]
        if lost < start:  # while it had nothing to do
            start = max(start, lost + cluster.replacement)
            lost = start + _life(chance, cluster)
        while lost < start + seconds:
            losses, twice = losses + 1, twice + lost - start
            start = lost + cluster.replacement
            lost = start + _life(chance, cluster)
        end, idle[worker], lives_until[worker] = start + seconds, False, lost
        computing += end - now
        heapq.heappush(events, (end, worker, -1, waiting[worker].popleft()))
    return Outcome(now, losses, twice, computing / shards, tuple(finished))


def expected_shard_seconds(cluster: Cluster, seconds: float) -> float:
    """(1/λ + replacement)(e^{λS} − 1): a shard's expected time when it must end without a loss."""
    if math.isinf(cluster.between_losses):
        return seconds
    return (cluster.between_losses + cluster.replacement) * _losses_per_shard(cluster, seconds)


def expected_twice(cluster: Cluster, seconds: float) -> float:
    """((e^{λS} − 1)/λ − S)/S: work that is done again, as a share of the work."""
    if math.isinf(cluster.between_losses):
        return 0.0
    return cluster.between_losses * _losses_per_shard(cluster, seconds) / seconds - 1


def _losses_per_shard(cluster: Cluster, seconds: float) -> float:
    return math.expm1(seconds / cluster.between_losses)


def _life(chance: random.Random, cluster: Cluster) -> float:
    """Seconds until a worker that has just started is lost."""
    mean = cluster.between_losses
    return math.inf if math.isinf(mean) else chance.expovariate(1 / mean)

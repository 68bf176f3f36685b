# The runs of the simulation: how many workers, how often each is lost, how large the shards are.
from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from worker_loss_simulation import Cluster, Outcome, expected_twice, simulate

HOUR = 3600.0
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
LOSSES = (math.inf, 24 * HOUR, HOUR)


@dataclass(frozen=True)
class Case:
    """Runs with shards of one size on one cluster, with several seeds.

    Attributes:
        cluster: Where.
        size: Pictures of a shard.
        seconds: Of a shard.
        best: Seconds of a run that loses nothing, and whose shards cost nothing but pictures.
        outcomes: One per seed.
    """

    cluster: Cluster
    size: int
    seconds: float
    best: float
    outcomes: tuple[Outcome, ...]

    def overheads(self) -> list[float]:
        """Wall time beyond the best, as a share of it."""
        return [outcome.wall / self.best - 1 for outcome in self.outcomes]

    def overhead(self) -> float:
        return statistics.median(self.overheads())


def run_case(
    cluster: Cluster, size: int, pictures: int, seconds: float, shard_cost: float, seeds: int
) -> Case:
    """Simulate runs with ``seconds`` per picture and ``shard_cost`` more per shard."""
    shards, of_shard = -(-pictures // size), size * seconds + shard_cost
    if math.isinf(cluster.between_losses):
        seeds = 1  # all would be the same
    # Chances of its own for each case: what one draws says nothing of the others.
    own = f"{cluster.workers} {cluster.between_losses} {size}"
    outcomes = tuple(simulate(cluster, shards, of_shard, f"{own} {k}") for k in range(seeds))
    return Case(cluster, size, of_shard, pictures * seconds / cluster.workers, outcomes)


def select(
    cases: Sequence[Case],
    workers: int | None = None,
    between_losses: float | None = None,
    size: int | None = None,
) -> list[Case]:
    """The cases that have what is given."""
    return [
        case
        for case in cases
        if workers in (None, case.cluster.workers)
        and between_losses in (None, case.cluster.between_losses)
        and size in (None, case.size)
    ]


def done_twice(cases: Sequence[Case], between_losses: float, size: int) -> tuple[float, float]:
    """Work that was done again, as a share of the work, on all clusters; and in closed form."""
    own = select(cases, between_losses=between_losses, size=size)
    outcomes = [outcome for case in own for outcome in case.outcomes]
    work = sum(len(outcome.finished) for outcome in outcomes) * own[0].seconds
    expected = expected_twice(own[0].cluster, own[0].seconds)
    return sum(outcome.twice for outcome in outcomes) / work, expected


def often(between_losses: float) -> str:
    """How often a worker is lost, in words."""
    if math.isinf(between_losses):
        return "never"
    hours = between_losses / HOUR
    return "every hour" if hours == 1 else f"every {hours:g} hours"

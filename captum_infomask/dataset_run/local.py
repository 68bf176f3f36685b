# The engine of one machine: other processes decode pictures, this one computes.
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing

from captum_infomask.dataset_run.job import Job, ShardDone, Worker
from captum_infomask.models.classifier import Classifier

_MOST_DECODERS = 8  # far more than one computing process takes pictures from


def run_locally(
    job: Job,
    classifier: Classifier,
    shards: Sequence[int],
    *,
    workers: int | None,
    progress: Callable[[int], object],
    done: Callable[[ShardDone], None],
) -> None:
    """Compute shards one after another.

    Args:
        job: What to do.
        classifier: The job's, on its device.
        shards: Which shards.
        workers: Processes that decode; None for one per CPU of this process, at most 8.
        progress: Called with the number of pictures after each batch.
        done: Called after each shard.
    """
    decoders = min(_cpus(), _MOST_DECODERS) if workers is None else workers
    worker = Worker(job, classifier, decoders)
    with closing(worker.run_all(shards, progress)) as results:
        for found in results:
            done(found)


def _cpus() -> int:
    """How many CPUs this process may run on, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

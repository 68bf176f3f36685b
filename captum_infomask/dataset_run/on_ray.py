# The engine for a cluster: Ray Data gives shards to actors, and replaces actors that die.
from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from captum_infomask._checks import short_repr
from captum_infomask._errors import ArgumentError, RunStopped
from captum_infomask.dataset_run.data.reading import in_one_line
from captum_infomask.dataset_run.ray_session import import_ray, ray_session
from captum_infomask.dataset_run.shards import begin_shard, end_shard

if TYPE_CHECKING:
    from captum_infomask.dataset_run.job import Job, ShardDone, Worker

_MOST_BEGINNINGS = 5  # starts of a shard; more are not an accident


def run_on_ray(
    job: Job,
    shards: Sequence[int],
    *,
    address: str | None,
    workers: int | None,
    done: Callable[[ShardDone], None],
) -> None:
    """Compute shards on a cluster, in any order.

    Each worker loads the model once. If a worker's process or machine dies, the worker is replaced,
    and its shard is computed again from its beginning. After the fifth death in one shard the run
    stops, because a picture may be the cause.

    Args:
        job: The job.
        shards: The numbers of the shards.
        address: A cluster's address. None takes the address in RAY_ADDRESS, or else starts Ray on
            this machine until the run ends. If Ray is already initialised, it is used and stays.
        workers: The number of workers; None for one per CPU of the cluster, or per GPU if the
            network runs on one.
        done: Called after each finished shard. Its errors end the run.

    Raises:
        ArgumentError: Ray is not installed; nothing answers at the address; the network needs a GPU
            and there is none; or the device is a numbered GPU.
        RunStopped: Ray did not start, or gave up; a worker had no disk space; or five workers died
            in the same shard.
    """
    if not shards:
        return
    on_gpu = job.settings.device.startswith("cuda")
    if on_gpu and job.settings.device != "cuda":
        raise ArgumentError(
            f"Expected `device` cuda with engine='ray', where each worker has a GPU of its own; "
            f"got {job.settings.device!r}."
        )
    with ray_session(address, None if on_gpu else workers) as ray:
        if workers is None:
            workers = _places(ray, "GPU" if on_gpu else "CPU")
        workers = min(workers, len(shards))
        try:
            with closing(_outcomes(ray, job, shards, workers, on_gpu)) as outcomes:
                for found in outcomes:
                    if isinstance(found, _Failure):
                        raise found.error from _InWorker(found.trace)
                    if isinstance(found, _Deadly):
                        raise RunStopped(found.told(job))
                    done(found)
        except ray.exceptions.RayError as error:
            raise RunStopped(
                f"Ray stopped ({in_one_line(error)}). What is done stays, and the same call goes "
                f"on."
            ) from error


def _outcomes(
    ray: Any, job: Job, shards: Sequence[int], workers: int, on_gpu: bool
) -> Generator[ShardDone | _Failure | _Deadly, None, None]:
    """The outcome of each finished shard; closing the generator ends the actors.

    Old versions of Ray, such as 2.40, let each actor finish the shards that it was given.
    """
    path = [os.path.abspath(entry) for entry in sys.path]
    held = ray.put(ray.cloudpickle.dumps(job))
    with _context(ray):
        results = ray.data.from_items(
            [{"shard": shard} for shard in shards], override_num_blocks=len(shards)
        ).map_batches(
            _ShardWorker,
            fn_constructor_kwargs={
                "held": [held],
                "out": job.folder,
                "most": _MOST_BEGINNINGS,
                "folder": os.getcwd(),
                "path": path,
            },
            # One shard is computed while one waits. So when a run stops, no other shards are
            # running.
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            batch_size=1,
            batch_format="pyarrow",
            **({"num_gpus": 1} if on_gpu else {"num_cpus": 1}),
        )
        # Without prefetching, a result arrives when it is ready, not when the next one is.
        batches = iter(
            results.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow")
        )
        with closing(batches):
            for batch in batches:
                yield from map(pickle.loads, batch["outcome"].to_pylist())


class _ShardWorker:
    """An actor: it loads the model with the first shard, and computes one shard after another.

    Args:
        held: The pickled job in the object store. It is in a list, so Ray does not replace it.
        out: The job's folder.
        most: The number of times that a shard may be started.
        folder: The caller's working folder, for relative paths.
        path: The caller's ``sys.path``, which may have the model's module.
    """

    def __init__(self, held: list[Any], out: Path, most: int, folder: str, path: list[str]) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path[:] = dict.fromkeys([*filter(os.path.exists, path), *sys.path])
        torch.set_num_threads(1)  # the actor has one CPU
        self._held, self._out, self._most = held, out, most
        self._worker: Worker | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        outcomes = [self._outcome(shard) for shard in batch["shard"].to_pylist()]
        return pa.table({"outcome": pa.array(outcomes, pa.binary())})

    def _outcome(self, shard: int) -> bytes:
        """A pickled result, good or bad; Ray does not see our exceptions."""
        try:
            # This comes before the network is loaded, because loading may end this process.
            if begin_shard(self._out, shard) > self._most:
                return pickle.dumps(_Deadly(shard, self._most))
            found = pickle.dumps(self._loaded().run(shard))
            end_shard(self._out, shard)
            return found
        except Exception as error:
            return _Failure(error, traceback.format_exc()).pickled()

    def _loaded(self) -> Worker:
        if self._worker is None:
            [job] = import_ray().get(self._held)
            self._worker = pickle.loads(job).start()
        return self._worker


@dataclass(frozen=True)
class _Failure:
    """An exception of a worker for the caller."""

    error: Exception
    trace: str

    def pickled(self) -> bytes:
        """The exception itself if it can be pickled, or else its message."""
        try:
            data = pickle.dumps(self)
            pickle.loads(data)
        except Exception:
            said = RuntimeError(f"{type(self.error).__name__}: {self.error}")
            return pickle.dumps(_Failure(said, self.trace))
        return data


@dataclass(frozen=True)
class _Deadly:
    """A shard that ended the processes of all workers that started it."""

    shard: int
    times: int

    def told(self, job: Job) -> str:
        """The message: what to search for, and where."""
        keys = job.keys(self.shard)
        return (
            f"Every worker that began the pictures {short_repr(keys[0])} to "
            f"{short_repr(keys[-1])} died of it (tried: {self.times}). A picture that ends "
            f"the process that decodes it has to be taken out; if memory is short, fewer `workers` "
            f"take less. What is done stays, and the same call tries again."
        )


class _InWorker(Exception):  # noqa: N818 - a traceback in words, shown as the cause
    """The place in the worker that raised the error."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _places(ray: Any, kind: str) -> int:
    """The number of CPUs or GPUs of the cluster."""
    found = int(ray.cluster_resources().get(kind, 0))
    if not found:
        raise ArgumentError(
            f"Expected a Ray cluster with {kind}s, or `workers` for one that is to get them; "
            f"got a cluster with none."
        )
    return found


@contextmanager
def _context(ray: Any) -> Iterator[None]:
    """Use Ray Data's settings for a run, and then restore the user's settings."""
    wanted = {
        "enable_progress_bars": False,
        "execution_no_progress_timeout_s": -1,  # a shard may take an hour
        "max_consecutive_actor_init_deaths": -1,  # machines may also be lost while they start
        "wait_for_min_actors_s": -1,  # the available workers start
    }
    context = ray.data.DataContext.get_current()
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    for name in before:
        setattr(context, name, wanted[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)

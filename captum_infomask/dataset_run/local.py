# The engine for one machine, and the lock on the output folder.
from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from captum_infomask._errors import ArgumentError
from captum_infomask.dataset_run.job import Job, ShardDone, Worker
from captum_infomask.dataset_run.manifest import now
from captum_infomask.dataset_run.shards import stops_without_space
from captum_infomask.models.classifier import Classifier

_MOMENT = 2.0  # seconds
_held: set[int] = set()
_PROCESS = "process "  # the first word of a lock file
_MOST_DECODERS = 8  # far more than one computing process needs


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Make the folder, and hold its lock; refuse if another run holds it.

    If there is a link in its place, or a file that no run wrote, it is refused and not changed. The
    system releases the lock when the process ends, in any way.
    """
    path = folder / ".lock"
    try:
        with stops_without_space(path):
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            handle = os.open(path, flags, 0o644)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"Expected `out` to be writable; got {error}.") from error
    try:
        try:
            _lock(handle)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace") or "another process"
            raise ArgumentError(
                f"Expected `out` to be a folder that no other run writes to; {folder} is held by "
                f"{holder}."
            ) from None
        except OSError as error:
            raise ArgumentError(
                f"Expected `out` to be on a file system whose files can be locked; got {error}."
            ) from error
        _held.add(handle)
        if not stat.S_ISREG(os.fstat(handle).st_mode) or not _is_ours(os.pread(handle, 200, 0)):
            raise ArgumentError(
                f"Expected `out` to be a folder whose {path.name} a run wrote; {path} is something "
                f"else."
            )
        holder = f"{_PROCESS}{os.getpid()} on {socket.gethostname()} since {now()}"
        with stops_without_space(path):
            os.ftruncate(handle, 0)
            os.write(handle, holder.encode())
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def _lock(handle: int) -> None:
    """Take the lock; a child that is being forked may keep it shortly after its parent."""
    import fcntl

    end = time.monotonic() + _MOMENT
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _is_ours(content: bytes) -> bool:
    """Whether a run wrote this content, even in part."""
    whole = _PROCESS.encode()
    return content.startswith(whole) or whole.startswith(content)


def _let_go() -> None:
    """Release the lock in a forked child, which would keep it after a killed parent."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


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
        job: The job.
        classifier: The job's, on its device.
        shards: The numbers of the shards.
        workers: The number of decoding processes; None for one per CPU of this process, at most 8.
        progress: Called with the number of pictures after each batch.
        done: Called after each shard.
    """
    decoders = min(_cpus(), _MOST_DECODERS) if workers is None else workers
    worker = Worker(job, classifier, decoders)
    with closing(worker.run_all(shards, progress)) as results:
        for found in results:
            done(found)


def _cpus() -> int:
    """The number of CPUs for this process, if the system says it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

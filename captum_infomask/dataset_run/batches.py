# Pictures on their way to the network: decoded by other processes, in batches of one shape.
from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from captum_infomask._errors import RunStopped
from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.data_pictures import DataPictures, Decoded
from captum_infomask.dataset_run.in_flight import InFlight
from captum_infomask.models.preprocessing import Preprocess

_AHEAD = 2  # batches that each decoding process may be ahead
_DIED = "DataLoader worker (pid"  # what PyTorch says of a process that was killed
_MOST_DEATHS = 5  # one after another: more are no accident, and no single picture's fault


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is wanted of consecutive pictures.

    Attributes:
        batch: The places of all of them.
        places: The places of those that are wanted.
        apart: Whether each is decoded in a process of its own, as those are that failed before.
    """

    batch: range
    places: Sequence[int]
    apart: bool = False


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures that were wanted of a batch.

    Attributes:
        first: The place of the batch's first picture.
        decoded: What is known of each that was wanted, good or bad; without the tensors.
        tensors: (B, C, H, W); what stands in the place of another or a bad one means nothing.
    """

    first: int
    decoded: tuple[Decoded, ...]
    tensors: Tensor


@dataclass(frozen=True, eq=False)
class _Decoding(Dataset[Batch]):
    """A data set whose items are batches."""

    pictures: DataPictures
    preprocess: Preprocess
    shape: tuple[int, ...]
    folder: Path

    def __getitem__(self, wanted: Wanted) -> Batch:
        first = wanted.batch.start
        tensors = torch.zeros(len(wanted.batch), *self.shape)
        if get_worker_info() is not None:
            # Here, because a failure in PyTorch's own queue would be lost, and the batch with it.
            tensors.share_memory_()
        found = []
        flight = InFlight(self.folder, first, self.pictures, self.preprocess, self.shape)
        with flight.noted(all_apart=wanted.apart) as decoded:
            for k in wanted.places:
                one = decoded(k)
                if one.tensor is not None:
                    tensors[k - first] = one.tensor
                found.append(replace(one, tensor=None))
        return Batch(first, tuple(found), tensors)


def read_batches(
    pictures: DataPictures,
    preprocess: Preprocess,
    shape: tuple[int, ...],
    wanted: Sequence[Wanted],
    decoders: int,
    folder: Path,
) -> Generator[Batch, None, None]:
    """Yield batches, in order; closing it ends the other processes.

    A process that dies of a picture is replaced, and the picture tried apart.

    Args:
        pictures: The data set.
        preprocess: From a picture to its tensor.
        shape: (C, H, W) of every tensor.
        wanted: What is wanted of each batch.
        decoders: Processes that read and decode; 0 for this one.
        folder: Where it is noted what is being decoded.

    Raises:
        RunStopped: Processes that decode are killed again and again, or there is too little memory.
    """
    dataset = _Decoding(pictures, preprocess, shape, folder)
    done = deaths = 0
    while done < len(wanted):
        try:
            with closing(_loaded(dataset, wanted[done:], decoders)) as batches:
                for batch in batches:
                    done, deaths = done + 1, 0
                    yield batch
        except (MemoryError, RuntimeError) as error:
            deaths += 1
            words = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
            if _DIED in words and deaths < _MOST_DEATHS:
                continue
            raise RunStopped(
                f"The run stopped, because pictures could not be decoded ({words}). What is done "
                f"stays, and the same call goes on; fewer `workers` take less memory."
            ) from error


def _loaded(
    dataset: _Decoding, wanted: Sequence[Wanted], decoders: int
) -> Generator[Batch, None, None]:
    """Batches by PyTorch's loader."""
    options: dict[str, Any] = {}
    if decoders:
        options = {
            "prefetch_factor": _AHEAD,
            "worker_init_fn": _leave_interrupts,
            # Whatever the default of this Python: it starts at once, and takes any preprocessing.
            "multiprocessing_context": "fork" if sys.platform == "linux" else None,
        }
    with quiet("This process .* is multi-threaded", "This DataLoader will create"):
        # They leave PyTorch's threads, which a fork has not, alone.
        # Of far data more pictures are on their way than there are CPUs.
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=wanted,
            num_workers=decoders,
            generator=torch.Generator(),  # or it would draw from the user's
            **options,
        )
        batches: Any = iter(loader)
    with _without_alarm():
        try:
            yield from batches
        finally:
            if decoders:
                batches._shutdown_workers()  # now, though an exception's traceback may hold it


@contextmanager
def _without_alarm() -> Iterator[None]:
    """Let the death of a decoding process be noticed where the next batch is waited for.

    PyTorch's handler of SIGCHLD raises wherever this process is: in a network's forward pass, say,
    whose error would be taken for the picture's.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    is_torchs = getattr(handler, "__module__", "").startswith("torch.")
    if not is_torchs or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; the one that computes ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

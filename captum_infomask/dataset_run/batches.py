# Reads pictures for the network: other processes decode them, in batches of one shape.
from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
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

_AHEAD = 2  # batches that each decoding process may be ahead
_DIED = "DataLoader worker (pid"  # PyTorch's message about a killed process
_MOST_DEATHS = 5  # one after another; more are not an accident, and not one picture's fault


@dataclass(frozen=True, eq=False)
class Wanted:
    """The requested pictures of a batch of consecutive pictures.

    Attributes:
        batch: The places of all pictures of the batch.
        places: The places of the requested pictures.
        apart: Whether each picture is decoded in a separate process, as after a failure.
    """

    batch: range
    places: Sequence[int]
    apart: bool = False


@dataclass(frozen=True, eq=False)
class Batch:
    """The requested pictures of a batch.

    Attributes:
        first: The place of the batch's first picture.
        decoded: The result for each requested picture, good or bad, without the tensors.
        tensors: (B, C, H, W); the values at other places, or of bad pictures, have no meaning.
    """

    first: int
    decoded: tuple[Decoded, ...]
    tensors: Tensor


@dataclass(frozen=True, eq=False)
class _Decoding(Dataset[Batch]):
    """A data set whose items are batches."""

    pictures: DataPictures
    preprocess: Callable[[Any], Tensor]
    shape: tuple[int, ...]
    folder: Path

    def __getitem__(self, wanted: Wanted) -> Batch:
        first = wanted.batch.start
        tensors = torch.zeros(len(wanted.batch), *self.shape)
        if get_worker_info() is not None:
            # We catch errors here, because a failure in PyTorch's own queue would lose the batch.
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
    preprocess: Callable[[Any], Tensor],
    shape: tuple[int, ...],
    wanted: Sequence[Wanted],
    decoders: int,
    folder: Path,
) -> Generator[Batch, None, None]:
    """Yield batches in order; closing the generator ends the other processes.

    If a picture ends a process, the process is replaced, and the picture is decoded in a separate
    process.

    Args:
        pictures: The data set.
        preprocess: From a picture to its tensor.
        shape: (C, H, W) of every tensor.
        wanted: The requested pictures of each batch.
        decoders: Processes that read and decode; 0 for this one.
        folder: The folder for notes about pictures that are being decoded.

    Raises:
        RunStopped: Decoding processes are killed again and again, or there is too little memory.
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
    """Batches from PyTorch's loader."""
    options: dict[str, Any] = {}
    if decoders:
        options = {
            "prefetch_factor": _AHEAD,
            "worker_init_fn": _leave_interrupts,
            # Fork, whatever Python's default is: it starts at once, and takes any preprocessing.
            "multiprocessing_context": "fork" if sys.platform == "linux" else None,
        }
    with quiet("This process .* is multi-threaded", "This DataLoader will create"):
        # These processes do not use PyTorch's threads, which a fork does not have. For remote data,
        # more pictures are read at a time than there are CPUs.
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=wanted,
            num_workers=decoders,
            generator=torch.Generator(),  # otherwise it would draw from the user's generator
            **options,
        )
        batches: Any = iter(loader)
    with _without_alarm():
        try:
            yield from batches
        finally:
            if decoders:
                batches._shutdown_workers()  # now: a traceback may keep it alive


@contextmanager
def _without_alarm() -> Iterator[None]:
    """Report the death of a decoding process only while the next batch is awaited.

    PyTorch's handler of SIGCHLD raises an error at any point of this process. In a network's
    forward pass, this would look like an error of the picture.
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
    """Ignore Ctrl-C; it reaches the computing process too, and this one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

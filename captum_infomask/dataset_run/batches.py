# Pictures on their way to the network: decoded by other processes, in batches of one shape.
from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from captum_infomask.dataset_run.data.decode import Decoded, decode
from captum_infomask.dataset_run.data.pictures import Pictures
from captum_infomask.dataset_run.errors import RunStopped
from captum_infomask.models.pictures import Preprocess

_AHEAD = 2  # batches that each decoding process may be ahead


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive pictures of a data set.

    Attributes:
        decoded: What is known of each, good or bad; without the tensors.
        tensors: (B, C, H, W); what stands in the place of a bad one means nothing.
    """

    decoded: tuple[Decoded, ...]
    tensors: Tensor


@dataclass(frozen=True, eq=False)
class _Decoding(Dataset[Batch]):
    """A data set whose items are batches."""

    pictures: Pictures
    preprocess: Preprocess
    shape: tuple[int, ...]

    def __getitem__(self, places: Sequence[int]) -> Batch:
        tensors = torch.zeros(len(places), *self.shape)
        if get_worker_info() is not None:
            # Here, because a failure in PyTorch's own queue would be lost, and the batch with it.
            tensors.share_memory_()
        found = []
        for slot, k in enumerate(places):
            one = decode(self.pictures, k, self.preprocess, self.shape)
            if one.tensor is not None:
                tensors[slot] = one.tensor
            found.append(replace(one, tensor=None))
        return Batch(tuple(found), tensors)


def read_batches(
    pictures: Pictures,
    preprocess: Preprocess,
    shape: tuple[int, ...],
    places: Sequence[range],
    decoders: int,
) -> Generator[Batch, None, None]:
    """Yield a batch for each range of places, in order; closing it ends the other processes.

    Args:
        pictures: The data set.
        preprocess: From a picture to its tensor.
        shape: (C, H, W) of every tensor.
        places: Which pictures each batch holds.
        decoders: Processes that read and decode; 0 for this one.

    Raises:
        RunStopped: A process that decodes was killed, or there is too little memory.
    """
    options: dict[str, Any] = {}
    if decoders:
        options = {
            "prefetch_factor": _AHEAD,
            "worker_init_fn": _leave_interrupts,
            # Whatever the default of this Python: it starts at once, and takes any preprocessing.
            "multiprocessing_context": "fork" if sys.platform == "linux" else None,
        }
    with warnings.catch_warnings():
        # They leave PyTorch's threads, which a fork has not, alone.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded")
        # Of far data more pictures are on their way than there are CPUs.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader = DataLoader(
            _Decoding(pictures, preprocess, shape),
            batch_size=None,
            sampler=places,
            num_workers=decoders,
            generator=torch.Generator(),  # or it would draw from the user's
            **options,
        )
        batches: Any = iter(loader)
    with _without_alarm():
        try:
            yield from batches
        except (MemoryError, RuntimeError) as error:
            words = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
            raise RunStopped(
                f"The run stopped, because pictures could not be decoded ({words}). What is done "
                f"stays, and the same call goes on; fewer `workers` take less memory."
            ) from error
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

# The costs of a method: pictures sent through the network, seconds, and memory at its peak.
from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_infomask._outputs import logits_of
from captum_infomask._process import users_default
from captum_infomask.attribution.infomask import InfoMask

Read: TypeAlias = Callable[[Any], Any]

_STATUS, _LINES = Path("/proc/self/status"), ("VmRSS", "VmHWM")
_WATCH = "memory of a method"
_SECONDS = 0.002  # between two looks at the memory


class Count:
    """A number of pictures. Copies of a counter share it, so their pictures count too."""

    def __init__(self) -> None:
        self.pictures = 0

    def __deepcopy__(self, memo: object) -> Count:
        return self


def as_it_is(output: Any) -> Any:
    """Return the output of a network unchanged."""
    return output


class CountedFunction:
    """A forward function that counts the pictures sent through it, and returns logits."""

    def __init__(self, function: Callable[..., Any], count: Count, read: Read = as_it_is) -> None:
        self.function, self.count, self._read = function, count, read

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Count the batch and run it."""
        self.count.pictures += _batch(inputs)
        with users_default():
            return self._read(logits_of(self.function(*inputs, **options)))


class CountedModule(nn.Module):
    """A network that wraps another network and counts the pictures sent through it.

    If the network returns logits in an object, it returns these, as Captum's methods need them. It
    is a wrapper, not a hook, so the network is left as it is. It has the network's attributes.
    """

    def __init__(self, network: nn.Module, count: Count, read: Read = as_it_is) -> None:
        super().__init__()
        self.network, self.count, self._read = network, count, read
        self.training = getattr(network, "training", False)  # frozen TorchScript has no modes

    def __getattr__(self, name: str) -> Any:
        """Look in the network for an attribute that the wrapper lacks."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Count the batch and run it."""
        self.count.pictures += _batch(inputs)
        with users_default():
            return self._read(logits_of(self.network(*inputs, **options)))


def counted(
    function: Callable[..., Any], count: Count, read: Read = as_it_is
) -> Callable[..., Any]:
    """Wrap a model or a function so that pictures are counted, and outputs read."""
    if isinstance(function, nn.Module):
        return CountedModule(function, count, read)
    return CountedFunction(function, count, read)


def counted_attribution(
    attribution: Attribution,
    count: Count,
    networks: Sequence[object] = (),
    read: Read = as_it_is,
) -> Attribution:
    """Copy one of Captum's methods, and count what the copy sends through the network.

    If the method holds other methods, as NoiseTunnel does, these are copied and counted too. An
    InfoMask in it is not: its engines need the network itself, so its pictures are not counted.

    Args:
        attribution: The method.
        count: The counter of pictures.
        networks: The networks whose outputs are read.
        read: A function that is applied to these outputs.
    """
    made = copy.copy(attribution)
    for name, held in vars(attribution).items():
        if isinstance(held, Attribution) and not isinstance(held, InfoMask):
            setattr(made, name, counted_attribution(held, count, networks, read))
        elif name in ("forward_func", "model") and callable(held):
            is_network = any(held is network for network in networks)
            setattr(made, name, counted(held, count, read if is_network else as_it_is))
    return made


@dataclass
class Cost:
    """The costs of a run.

    Attributes:
        seconds: Wall-clock time.
        peak_bytes: The most memory held beyond the memory held before; NaN if it is unknown.
    """

    seconds: float = math.nan
    peak_bytes: float = math.nan


@contextmanager
def measured(device: torch.device, cost: Cost | None = None) -> Iterator[Cost]:
    """Measure the code inside, also if it fails, into a cost that is given or made.

    On CUDA the memory is the memory that PyTorch allocates. On Linux it is the memory that the
    process holds; this does not show memory that was freed earlier and is used again. Elsewhere the
    memory is unknown. It is read every few milliseconds. A shorter peak is seen only if the process
    never held as much before. The process's own record of its peak is read for this, but not reset,
    since it is the user's.
    """
    cost = Cost() if cost is None else cost
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    memory = _Memory(device)
    start = time.perf_counter()
    try:
        with memory:
            yield cost
    finally:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        cost.peak_bytes = memory.grown


class _Memory:
    """The most memory held inside a ``with`` block beyond the memory held before, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._over = device, threading.Event()
        self._held, self._record = _held(device)
        self._most = self._held
        self._watch = threading.Thread(target=self._look_often, name=_WATCH, daemon=True)

    def __enter__(self) -> None:
        if not math.isnan(self._held):
            self._watch.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if not math.isnan(self._held):
            self._watch.join()
            self._look()

    @property
    def grown(self) -> float:
        """Return the growth so far; NaN if it is unknown."""
        return self._most - self._held

    def _look_often(self) -> None:
        while not self._over.wait(_SECONDS):
            self._look()

    def _look(self) -> None:
        held, record = _held(self._device)
        self._most = max(self._most, held, record if record > self._record else 0.0)


def _held(device: torch.device) -> tuple[float, float]:
    """Return the bytes held now, and the most ever; NaN if they are unknown."""
    if device.type == "cuda":
        allocated = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
        return float(allocated[0]), float(allocated[1])
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return math.nan, math.nan
    read = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(_LINES)}
    now, most = (float(read.get(name, math.nan)) * 1024 for name in _LINES)
    return now, most


def _batch(inputs: tuple[Any, ...]) -> int:
    """Return the number of pictures in a call."""
    return len(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else 1

# What a method costs: pictures sent through the network, seconds, and memory at its peak.
from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_infomask.attribution import InfoMask

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Count:
    """A number of pictures; copies of what counts count here too."""

    def __init__(self) -> None:
        self.pictures = 0

    def __deepcopy__(self, memo: object) -> Count:
        return self


class CountedFunction:
    """A forward function that counts the pictures sent through it."""

    def __init__(self, function: Callable[..., Any], count: Count) -> None:
        self.function, self.count = function, count

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Count the batch and run it."""
        self.count.pictures += _batch(inputs)
        return self.function(*inputs, **options)


class CountedModule(nn.Module):
    """A network around a network that counts the pictures sent through it.

    A wrapper, not a hook, so that the network is left as it is. It has the network's attributes.
    """

    def __init__(self, network: nn.Module, count: Count) -> None:
        super().__init__()
        self.network, self.count = network, count
        self.training = getattr(network, "training", False)  # frozen TorchScript has no modes

    def __getattr__(self, name: str) -> Any:
        """What the wrapper has not, the network may have."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Count the batch and run it."""
        self.count.pictures += _batch(inputs)
        return self.network(*inputs, **options)


def counted(function: Callable[..., Any], count: Count) -> Callable[..., Any]:
    """Wrap a model or a function so that pictures are counted."""
    if isinstance(function, nn.Module):
        return CountedModule(function, count)
    return CountedFunction(function, count)


def counted_attribution(attribution: Attribution, count: Count) -> Attribution:
    """Copy one of Captum's methods, and count what the copy sends through the network.

    What it holds of other methods, as NoiseTunnel does, is copied and counted too. An InfoMask in
    it is not: its engines need the network itself, and its pictures stay uncounted.
    """
    made = copy.copy(attribution)
    for name, held in vars(attribution).items():
        if isinstance(held, Attribution) and not isinstance(held, InfoMask):
            setattr(made, name, counted_attribution(held, count))
        elif name in ("forward_func", "model") and callable(held):
            setattr(made, name, counted(held, count))
    return made


@dataclass
class Cost:
    """What a run cost.

    Attributes:
        seconds: Wall-clock time.
        peak_bytes: The most memory held beyond what was held before; NaN where nobody can tell.
    """

    seconds: float = math.nan
    peak_bytes: float = math.nan


@contextmanager
def measured(device: torch.device, cost: Cost | None = None) -> Iterator[Cost]:
    """Measure what runs inside, also where it fails, into a cost that is given or made.

    On CUDA the memory is what PyTorch allocates; on Linux what the process holds, of which memory
    that was freed earlier and is used again is not seen; elsewhere it is unknown.
    """
    cost = Cost() if cost is None else cost
    held = _start_peak(device)
    start = time.perf_counter()
    try:
        yield cost
    finally:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        cost.peak_bytes = max(0.0, _peak(device) - held) if not math.isnan(held) else math.nan


def _start_peak(device: torch.device) -> float:
    """Forget the peak so far; bytes held now, NaN where they are unknown."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.memory_allocated(device))
    try:
        _RESET.write_text("5")
    except OSError:
        return math.nan
    return _resident("VmRSS")


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return _resident("VmHWM")


def _resident(name: str) -> float:
    """A line of the process's status, in bytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1]) * 1024
    return math.nan


def _batch(inputs: tuple[Any, ...]) -> int:
    """Pictures in a call."""
    return len(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else 1

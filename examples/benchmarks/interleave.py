# What is compared runs in turn in one process: whatever else the machine does strikes all alike.
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Literal

import torch

Call = Callable[[], object]
Clock = Literal["wall", "processor"]
CLOCKS: tuple[Clock, ...] = ("wall", "processor")


def interleaved(calls: Sequence[Call], rounds: int) -> list[list[tuple[float, float]]]:
    """Wall and processor seconds of every call in every round: [round][call].

    The order turns around every round.
    """
    calls[0]()  # the machine is warm before anything counts
    table = []
    for turn in range(rounds):
        seconds = [(0.0, 0.0)] * len(calls)
        order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
        for k in order:
            seconds[k] = timed(calls[k])
        table.append(seconds)
    return table


def timed(call: Call) -> tuple[float, float]:
    """Wall and processor seconds of a call, to the end of what it left an accelerator to do."""
    _finish()
    wall, used = time.perf_counter(), time.process_time()
    call()
    _finish()
    return time.perf_counter() - wall, time.process_time() - used


def by_clock(table: Sequence[Sequence[tuple[float, float]]], clock: Clock) -> list[list[float]]:
    """The seconds of one clock of every call in every round: [call][round]."""
    return [
        [seconds[CLOCKS.index(clock)] for seconds in column] for column in zip(*table, strict=True)
    ]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median and the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

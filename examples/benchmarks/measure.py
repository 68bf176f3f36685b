# Contenders on one subject: each at its best setting, interleaved, seconds for the whole map.
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contenders import Contender
from interleave import Clock, by_clock, interleaved, timed
from subjects import Subject

_PROBE, _TRIALS = 64, 2


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: How often each contender runs.
        clock: Which clock's seconds are kept.
        tiles: Windows that are timed, a square number, where a contender's cost is that of its
            forward passes.
        budget: Seconds that a call of another contender may take; where all windows would take
            longer, as many are timed as fit, drawn at random.
    """

    rounds: int = 5
    clock: Clock = "processor"
    tiles: int = 16
    budget: float = 30.0


Settings = dict[str, int | None]


def best_settings(
    subject: Subject, contenders: Mapping[str, Contender], effort: Effort
) -> Settings:
    """The setting of each contender whose fastest trial was the fastest of all."""
    trials = [
        (name, views)
        for name, each in contenders.items()
        if len(each.settings) > 1
        for views in each.settings
    ]
    tiles = subject.tiled(effort.tiles)
    calls = [contenders[name].call(tiles, views) for name, views in trials]
    least: dict[str, float] = {}
    best = {name: each.settings[0] for name, each in contenders.items()}
    if not calls:
        return best
    columns = by_clock(interleaved(calls, _TRIALS), effort.clock)
    for (name, views), seconds in zip(trials, columns, strict=True):
        if min(seconds) < least.get(name, math.inf):
            least[name], best[name] = min(seconds), views
    return best


class _Recorded:
    """A call that remembers which engine ran."""

    def __init__(self, call: Callable[[], str]) -> None:
        self.call = call
        self.ran = ""

    def __call__(self) -> None:
        self.ran = self.call()


@dataclass(frozen=True, eq=False)
class _Timing:
    """The calls of one contender, and how the whole map's cost follows from theirs."""

    calls: tuple[_Recorded, ...]
    timed: int
    whole: Callable[..., float]


def measure(
    subject: Subject,
    contenders: Mapping[str, Contender],
    settings: Settings,
    effort: Effort,
) -> dict[str, dict[str, Any]]:
    """Per contender: its setting, what ran, windows timed, seconds of the whole map per round."""
    timings = {
        name: _timing(subject, contender, settings[name], effort)
        for name, contender in contenders.items()
    }
    calls = [call for timing in timings.values() for call in timing.calls]
    columns = iter(by_clock(interleaved(calls, effort.rounds), effort.clock))
    measured = {}
    for name, timing in timings.items():
        parts = [next(columns) for _ in timing.calls]
        measured[name] = {
            "views": settings[name],
            "ran": timing.calls[-1].ran,
            "timed": timing.timed,
            "seconds": [timing.whole(*seconds) for seconds in zip(*parts, strict=True)],
        }
    return measured


def _timing(subject: Subject, contender: Contender, views: int | None, effort: Effort) -> _Timing:
    def of(part: Subject) -> _Recorded:
        return _Recorded(contender.call(part, views))

    total = len(subject.windows)
    if contender.per_pass:
        tiles = subject.tiled(effort.tiles)
        passes = (total + 1) / (len(tiles.windows) + 1)
        return _Timing((of(tiles),), len(tiles.windows), lambda seconds: seconds * passes)
    count = affordable(subject, contender, views, effort.budget)
    if count == total:
        return _Timing((of(subject),), total, lambda seconds: seconds)
    few = count - _PROBE

    def whole(seconds_of_few: float, seconds: float) -> float:
        # What a call costs however many its windows are is counted once.
        return seconds + (total - count) * (seconds - seconds_of_few) / (count - few)

    return _Timing((of(subject.part(few)), of(subject.part(count))), count, whole)


def affordable(subject: Subject, contender: Contender, views: int | None, budget: float) -> int:
    """Windows that fit a budget in seconds: all of them, or a multiple of the probe's, at least 2.

    With fewer than a probe's windows an engine may do without what it makes for many, such as a
    copy of the network.
    """
    total = len(subject.windows)
    wall, _ = timed(contender.call(subject.part(min(_PROBE, total)), views))
    chunks = max(math.floor(budget / wall), 2)
    return min(chunks * _PROBE, total)


def milliseconds_per_pass(
    subject: Subject, contenders: Mapping[str, Contender], settings: Settings, effort: Effort
) -> dict[str, dict[str, list[float]]]:
    """What a forward pass costs in a few windows and in all, per method and number of passes."""
    parts = (subject.tiled(effort.tiles), subject)
    questions = [(name, part) for name in contenders for part in parts]
    calls = [contenders[name].call(part, settings[name]) for name, part in questions]
    columns = by_clock(interleaved(calls, effort.rounds), effort.clock)
    found: dict[str, dict[str, list[float]]] = {}
    for (name, part), seconds in zip(questions, columns, strict=True):
        passes = len(part.windows) + 1
        found.setdefault(name, {})[str(passes)] = [1000 * s / passes for s in seconds]
    return found

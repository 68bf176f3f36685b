# All methods on a subject's cases: measured, timed, and written down as they come.
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_infomask import ArgumentError

from .cases import Case, Method, Subject
from .rows import KEYS, Rows

Measure = Callable[[Tensor, Case, nn.Module, Method], dict[str, float]]


def examine(
    subject: Subject,
    methods: Sequence[Method],
    measure: Measure,
    rows: Rows,
    *,
    dear_cases: int,
    half: int,
) -> None:
    """Measure what is not in the rows yet.

    The methods run in turn on every case, in an order that turns around from case to case, so that
    whatever else the machine does strikes all alike; each is followed by a forward pass, the unit
    of its cost.

    Args:
        subject: The network and its cases.
        methods: What is compared.
        measure: ``(map, case, network, method)`` → numbers by name.
        rows: Where they go.
        dear_cases: Dear methods see so many cases.
        half: 0 for the cases that settings are chosen on, 1 for those that are reported.
    """
    shown = sys.stderr.isatty()
    named = f"{subject.referee}, {subject.name}"
    unfit: set[str] = set()  # methods that this network is not for
    cases = list(enumerate(subject.cases))[half::2]
    for turn, (number, case) in enumerate(tqdm(cases, desc=named, disable=not shown)):
        network = case.network or subject.network
        for method in methods if turn % 2 == 0 else methods[::-1]:
            row = row_of(subject, case, method.name)
            if tuple(row.values()) in rows or (method.dear and turn >= dear_cases):
                continue
            if method.name in unfit:
                continue
            try:
                plane, seconds = _timed(method, network, case)
            except ArgumentError as error:
                unfit.add(method.name)
                print(f"{named}, without {method.name}: {error}", file=sys.stderr)
                continue
            row |= {"number": number, "control": method.control, "seconds": seconds}
            row["pass"] = _pass_seconds(network, case.picture)
            found = measure(plane, case, network, method)
            row |= {name: round(value, 6) for name, value in found.items()}
            rows.add(row)


def row_of(subject: Subject, case: Case, method: str) -> dict[str, Any]:
    """A row with its keys alone."""
    keys = (subject.referee, subject.name, case.key, method)
    return dict(zip(KEYS, keys, strict=True))


def _timed(method: Method, network: nn.Module, case: Case) -> tuple[Tensor, float]:
    torch.manual_seed(0)
    start = time.process_time()
    plane = method.attribute(network, case.picture, case.target)
    seconds = max(round(time.process_time() - start, 5), 1e-5)
    if plane.shape != case.truth.shape:
        raise ValueError(
            f"Expected a map of shape {tuple(case.truth.shape)} of {method.name!r}; got "
            f"{tuple(plane.shape)}."
        )
    return plane.detach(), seconds


@torch.no_grad()
def _pass_seconds(network: nn.Module, picture: Tensor) -> float:
    """Processor seconds of a forward pass."""
    start = time.process_time()
    network(picture)
    return max(round(time.process_time() - start, 6), 1e-6)

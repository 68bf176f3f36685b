# The rows as Markdown tables, with intervals of the differences from one of them.
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from speed_tables import markdown
from torch import Tensor

from captum_infomask.evaluation.ground_truth import Estimate, bootstrap

from .rows import Row


def by_method(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Rows by method and case."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row["method"], {})[row["case"]] = row
    return found


def mean(rows: Mapping[str, Row], measure: str) -> float:
    """A method's mean over its cases."""
    return sum(row[measure] for row in rows.values()) / len(rows)


def paired(rows: Mapping[str, Row], reference: Mapping[str, Row], measure: str) -> Estimate:
    """The mean difference from a reference on the cases that both saw, with its interval."""
    both = [case for case in rows if case in reference]
    return bootstrap(_values(rows, both, measure) - _values(reference, both, measure))


def _values(rows: Mapping[str, Row], cases: Sequence[str], measure: str) -> Tensor:
    return torch.tensor([rows[case][measure] for case in cases], dtype=torch.float64)


def table(
    rows: Sequence[Row],
    measures: Mapping[str, str],
    *,
    reference: str,
    lower: Sequence[str] = (),
) -> str:
    """A line per method, the best by the first measure on top, controls at the end.

    Args:
        rows: What was measured.
        measures: Which numbers, and what the table calls them.
        reference: The method that the first measure's differences are taken from.
        lower: The measures of which less is better.
    """
    found = by_method(rows)
    first = next(iter(measures))
    most = max(len(cases) for cases in found.values())
    sign = 1 if first in lower else -1

    def place(name: str) -> tuple[bool, float]:
        return _control(found[name]), sign * mean(found[name], first)

    head = ["method", *measures.values(), f"{measures[first]}, difference"]
    priced = any("pass" in row for row in rows)
    head += ["forward passes' time", "seconds"] if priced else []
    lines = []
    for name in sorted(found, key=place):
        own = found[name]
        cells = [name if len(own) == most else f"{name} ({len(own)} cases)"]
        cells += [f"{mean(own, measure):.3f}" for measure in measures]
        other = None if name == reference else found.get(reference)
        cells.append("" if other is None else difference(own, other, first))
        if priced:
            control = _control(own)
            seconds = _median(own, "seconds")
            cells += ["" if control else f"{cost(own):.3g}", f"{seconds:.3f}"]
        lines.append(cells)
    return markdown(head, lines)


def difference(own: Mapping[str, Row], other: Mapping[str, Row], measure: str) -> str:
    """The mean paired difference and its interval in words."""
    found = paired(own, other, measure)
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f}"
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def cost(rows: Mapping[str, Row]) -> float:
    """The time of a method's map in forward passes of the same network."""
    return _median(rows, "seconds") / _median(rows, "pass")


def _median(rows: Mapping[str, Row], key: str) -> float:
    return torch.tensor([row[key] for row in rows.values()]).median().item()


def _control(rows: Mapping[str, Row]) -> bool:
    return bool(next(iter(rows.values()))["control"])

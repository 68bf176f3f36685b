# A comparison in plain text, for a terminal.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum_infomask._words import printable
from captum_infomask.report.table import text_table
from captum_infomask.results.comparison_content import number, table_rows
from captum_infomask.results.outcome import MethodOutcome

if TYPE_CHECKING:
    from captum_infomask.results.comparison import Comparison

_SHOWN = 8  # pictures whose targets are listed
_SAME = "With the same windows and fill, Occlusion of log p(y | x) is InfoMask drop in nats."


def comparison_text(comparison: Comparison) -> str:
    """Targets, what the methods cost and gave, and what the metrics say."""
    facts = [*_targets(comparison), *(f"{name}: {value}" for name, value in comparison.settings)]
    lines = [*map(printable, facts), "", _costs(comparison)]
    if comparison.metrics:
        lines += ["", _metrics(comparison)]
    troubles = [
        f"{outcome.name} failed {outcome.error}"
        for outcome in comparison.outcomes
        if outcome.error and not outcome.failed
    ]
    lines += map(printable, [*troubles, *comparison.troubles])
    if {"InfoMask drop", "Occlusion"} <= set(comparison.names):
        lines += ["", _SAME]
    return "\n".join(lines)


def _targets(comparison: Comparison) -> list[str]:
    """A line per picture: its target and what the whole picture says of it."""
    is_uniform = comparison.log_priors is None
    bound = f"log2 {comparison.classes}" if is_uniform else "-log2 p(y)"
    lines = []
    for k, label in enumerate(comparison.labels[:_SHOWN]):
        predicted = comparison.targets[k] == comparison.predictions[k]
        kind = "its prediction" if predicted else "not its prediction"
        which = "Target" if len(comparison.labels) == 1 else f"Picture {k}"
        lines.append(
            f"{which}: {label} (class {comparison.targets[k]}, {kind}), "
            f"p(y | x) = {comparison.probabilities[k]:.3f}, "
            f"i(y; x) = {comparison.information[k]:.2f} bits of at most "
            f"{bound} = {comparison.bounds[k]:.2f} bits"
        )
    left = len(comparison.labels) - _SHOWN
    return [*lines, f"and {left} more pictures"] if left > 0 else lines


def _costs(comparison: Comparison) -> str:
    """What each method cost and gave."""
    head = ("method", "forward passes", "seconds", "largest value", "share in mask")
    rows = []
    for outcome in comparison.outcomes:
        passes, seconds = outcome.mean("forward_passes"), outcome.mean("seconds")
        fields = [outcome.name, _text(passes, ",.0f"), _text(seconds, ".2f")]
        if outcome.failed:
            rows.append([*fields, "", ""])
            continue
        largest = _largest(outcome)
        rows.append([*fields, largest, _text(outcome.mean("share"), ".1%")])
    ends = [
        f"  failed: {outcome.errors[0]}" if outcome.failed else ""
        for outcome in comparison.outcomes
    ]
    return text_table(head, rows, ends)


def _metrics(comparison: Comparison) -> str:
    """What the metrics say of each method, and by how much it differs from the reference."""
    head = ["method"]
    for column in comparison.metrics:
        arrow = f" ({column.better} is better)" if column.better else ""
        head.append(f"{column.name}{arrow}")
    rows = []
    for outcome, row in zip(comparison.outcomes, table_rows(comparison), strict=True):
        fields = [outcome.name]
        for column, cell in zip(comparison.metrics, row.cells, strict=False):
            text = "-" if cell.value is None else f"{cell.value:.{column.digits}f}"
            if cell.low is not None and cell.high is not None:
                text += f" [{cell.low:+.{column.digits}f}, {cell.high:+.{column.digits}f}]"
            fields.append(text)
        rows.append(fields)
    table = text_table(head, rows, [""] * len(rows))
    if "[" not in table:
        return table
    return f"{table}\n[95% interval of the difference from {printable(comparison.reference)}]"


def _text(value: float, form: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if number(value) is None else format(value, form)


def _largest(outcome: MethodOutcome) -> str:
    """The mean of the largest values, as they are shown."""
    found = [outcome.shown(k) for k, error in enumerate(outcome.errors) if not error]
    return f"{np.mean([plane.max() for plane, _ in found]):.2f} {found[0][1]}"

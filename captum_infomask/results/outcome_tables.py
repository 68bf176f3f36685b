# The outcomes of methods for pages and terminals: maps, the table, and the words beside them.
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from captum_infomask._messages import printable
from captum_infomask.masks import AtLeast, MaxFraction, Rule
from captum_infomask.report.page_content import Cell, Column, MapContent, TableRow
from captum_infomask.report.payload import json_number
from captum_infomask.report.words import text_table
from captum_infomask.results.map_pictures import region_scores
from captum_infomask.results.method_outcome import MethodOutcome

MEGABYTE = 1e6
SHARE, PASSES, SECONDS, MEMORY = "share in mask", "forward passes", "seconds", "peak memory, MB"
_VIEWS = (
    "InfoMask shares out what the network learns from the picture: its values add up to the "
    "whole. InfoMask drop hides a region, and so counts only what the rest does not say too."
)
_CONTROLS = "Controls see no network: a method that does no better tells nothing of it."
_SAME = "With the same windows and fill, Occlusion of log p(y | x) is InfoMask drop in nats."


def map_content(outcome: MethodOutcome, k: int) -> MapContent:
    """Return a method's map of picture k, for a page or a figure."""
    infomap = outcome.infomaps[k]
    plane, unit = outcome.shown(k)
    curves = {name: found[k] for name, found in outcome.curves.items()}
    return MapContent(
        name=outcome.name,
        unit=unit,
        plane=None if outcome.errors[k] else plane,
        meaning=outcome.meaning,
        regions=None
        if infomap is None
        else region_scores(infomap.regions, infomap.scores, 0, infomap.standard_errors),
        error=outcome.errors[k],
        curves={name: curve for name, curve in curves.items() if curve is not None},
        mask=None if outcome.errors[k] else outcome.masks[k],
    )


def notes_on(names: Sequence[str]) -> tuple[str, ...]:
    """Return the notes that readers of these methods' maps need."""
    has_views = {"InfoMask", "InfoMask drop"} <= set(names)
    has_controls = any(map(is_control, names))
    return (*[_VIEWS] * has_views, *[_CONTROLS] * has_controls)


def slider_start(
    rule: Rule, units: Sequence[str]
) -> tuple[tuple[Literal["max_fraction", "at_least"], float], str]:
    """Return where the viewer's slider starts, and a note if it cannot follow the rule.

    Args:
        rule: The rule that cut the masks.
        units: The maps' units. The slider counts bits, where the rule counts any unit.
    """
    if isinstance(rule, MaxFraction):
        return ("max_fraction", float(rule.fraction)), ""
    if isinstance(rule, AtLeast):
        note = (
            f"The table's masks are cut by {rule}, in each map's own unit; the slider counts bits."
        )
        return ("at_least", float(rule.bits)), note if set(units) - {"bits"} else ""
    note = f"The table's masks are cut by {rule}; the slider cuts at a share of each maximum."
    return ("max_fraction", 0.2), note


def is_control(name: str) -> bool:
    """Whether a method is a control, which sees no network."""
    return name.endswith("(control)")


def table_columns(metrics: Sequence[Column], rule: Rule) -> tuple[Column, ...]:
    """Return the table's columns: metrics, the share that the mask keeps, costs."""
    return (
        *metrics,
        Column(SHARE, "", f"The share of the picture that {rule} keeps."),
        Column(PASSES, "", "Pictures sent through the network, whole or in part.", 0),
        Column(SECONDS, "", "Wall-clock time of one picture, on the machine that ran this.", 2),
        Column(
            MEMORY,
            "",
            "The most memory held beyond what was held before: PyTorch's on CUDA, the process's on "
            "Linux, where memory that was freed earlier and is used again is not seen. We look at "
            "it every 2 ms: shorter peaks are seen only where the process never held as much.",
            0,
        ),
    )


def table_rows(
    outcomes: Sequence[MethodOutcome], metrics: Sequence[Column], reference: str
) -> tuple[TableRow, ...]:
    """Return a row per method: means over the pictures that it did not fail on."""
    return tuple(
        TableRow(outcome.name, _cells(outcome, metrics, reference), outcome.error)
        for outcome in outcomes
    )


def _cells(outcome: MethodOutcome, metrics: Sequence[Column], reference: str) -> tuple[Cell, ...]:
    compared = reference not in ("", outcome.name)
    cells = []
    for column in metrics:
        found = outcome.differences.get(column.name)
        value = json_number(outcome.mean(column.name))
        cells.append(
            Cell(value, found.mean, found.low, found.high) if compared and found else Cell(value)
        )
    plain = (
        outcome.mean("share"),
        outcome.mean("forward_passes"),
        outcome.mean("seconds"),
        outcome.mean("peak_bytes") / MEGABYTE,
    )
    return (*cells, *(Cell(json_number(value)) for value in plain))


def costs_text(outcomes: Sequence[MethodOutcome]) -> str:
    """Return each method's costs, its largest value and the share of its mask, as text."""
    head = ("method", "forward passes", "seconds", "largest value", "share in mask")
    rows = []
    for outcome in outcomes:
        passes, seconds = outcome.mean("forward_passes"), outcome.mean("seconds")
        fields = [outcome.name, _text(passes, ",.0f"), _text(seconds, ".2f")]
        if outcome.failed:
            rows.append([*fields, "", ""])
            continue
        largest = _largest(outcome)
        rows.append([*fields, largest, _text(outcome.mean("share"), ".1%")])
    ends = [f"  failed: {outcome.errors[0]}" if outcome.failed else "" for outcome in outcomes]
    return text_table(head, rows, ends)


def metrics_text(
    outcomes: Sequence[MethodOutcome], metrics: Sequence[Column], reference: str
) -> str:
    """Return each method's metrics, and their differences from the reference, as text."""
    head = ["method"]
    for column in metrics:
        arrow = f" ({column.better} is better)" if column.better else ""
        head.append(f"{column.name}{arrow}")
    rows = []
    for outcome, row in zip(outcomes, table_rows(outcomes, metrics, reference), strict=True):
        fields = [outcome.name]
        for column, cell in zip(metrics, row.cells, strict=False):
            text = "-" if cell.value is None else f"{cell.value:.{column.digits}f}"
            if cell.low is not None and cell.high is not None:
                text += f" [{cell.low:+.{column.digits}f}, {cell.high:+.{column.digits}f}]"
            fields.append(text)
        rows.append(fields)
    table = text_table(head, rows, [""] * len(rows))
    if "[" not in table:
        return table
    return f"{table}\n[95% interval of the difference from {printable(reference)}]"


def remarks(outcomes: Sequence[MethodOutcome], troubles: Sequence[str]) -> list[str]:
    """Say which methods and metrics failed on some pictures, and that two methods agree."""
    failed = [
        f"{outcome.name} failed {outcome.error}"
        for outcome in outcomes
        if outcome.error and not outcome.failed
    ]
    is_same = {"InfoMask drop", "Occlusion"} <= {outcome.name for outcome in outcomes}
    return [*map(printable, [*failed, *troubles]), *["", _SAME] * is_same]


def _text(value: float, form: str) -> str:
    """Return a number in words, or a dash if there is none."""
    return "-" if json_number(value) is None else format(value, form)


def _largest(outcome: MethodOutcome) -> str:
    """Return the mean of the largest values, as they are shown."""
    found = [outcome.shown(k) for k, error in enumerate(outcome.errors) if not error]
    return f"{np.mean([plane.max() for plane, _ in found]):.2f} {found[0][1]}"

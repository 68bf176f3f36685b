# A comparison in words and plain arrays: for the report, and for a terminal.
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from captum_infomask._messages import printable
from captum_infomask.masks import AtLeast, MaxFraction, Rule
from captum_infomask.report.page_content import (
    Cell,
    Column,
    MapContent,
    PageContent,
    PictureContent,
    TableRow,
)
from captum_infomask.report.words import text_table
from captum_infomask.results.map_pictures import region_scores
from captum_infomask.results.method_outcome import MethodOutcome

if TYPE_CHECKING:
    from captum_infomask.results.comparison import Comparison


MEGABYTE = 1e6
SHARE, PASSES, SECONDS, MEMORY = "share in mask", "forward passes", "seconds", "peak memory, MB"
_SCALES = (
    "Maps of one unit have one scale: their colours can be compared. Maps in arbitrary units "
    "(a.u.) have scales of their own."
)
_VIEWS = (
    "InfoMask shares out what the network learns from the picture: its values add up to the "
    "whole. InfoMask drop hides a region, and so counts only what the rest does not say too."
)
_CONTROLS = "Controls see no network: a method that does no better tells nothing of it."
_SHOWN = 8  # pictures whose targets are listed
_SAME = "With the same windows and fill, Occlusion of log p(y | x) is InfoMask drop in nats."


def page_content(comparison: Comparison) -> PageContent:
    """All that a page or a widget shows."""
    labels = list(dict.fromkeys(comparison.labels))
    title = ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
    said = [*notes(comparison), *comparison.troubles]
    threshold, note = _threshold(comparison.rule)
    return PageContent(
        title=title,
        pictures=tuple(picture_content(comparison, k) for k in range(len(comparison.pictures))),
        threshold=threshold,
        columns=columns(comparison),
        rows=table_rows(comparison),
        reference=comparison.reference,
        agreement=comparison.agreement,
        notes=tuple([note, *said] if note else said),
        call=comparison.call,
        provenance=(
            *((name.lower(), value) for name, value in comparison.settings),
            ("masks", str(comparison.rule)),
            ("seed", str(comparison.seed)),
            *comparison.versions.items(),
        ),
    )


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The table's columns: metrics, what the mask keeps, costs."""
    rule = comparison.rule
    return (
        *comparison.metrics,
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


def table_rows(comparison: Comparison) -> tuple[TableRow, ...]:
    """A row per method: means over the pictures that it did not fail on."""
    return tuple(
        TableRow(outcome.name, _cells(comparison, outcome), outcome.error)
        for outcome in comparison.outcomes
    )


def facts(comparison: Comparison, k: int) -> tuple[tuple[str, str], ...]:
    """What is known of picture k whatever the method."""
    predicted = comparison.targets[k] == comparison.predictions[k]
    whose = "the network's answer" if predicted else "not the network's answer"
    is_uniform = comparison.log_priors is None
    bound = f"log₂ {comparison.classes}" if is_uniform else "−log₂ p(y)"
    return (
        (f"{comparison.probabilities[k]:.1%}", f"p(y | x), {whose}"),
        (f"{comparison.information[k]:.2f} bits", "i(y; x), what the whole picture says"),
        (f"{comparison.bounds[k]:.2f} bits", f"{bound}, the most it could say"),
    )


def notes(comparison: Comparison) -> tuple[str, ...]:
    """What a reader of these methods' maps should know."""
    has_views = {"InfoMask", "InfoMask drop"} <= set(comparison.names)
    has_controls = any(name.endswith("(control)") for name in comparison.names)
    return (_SCALES, *[_VIEWS] * has_views, *[_CONTROLS] * has_controls)


def picture_content(comparison: Comparison, k: int) -> PictureContent:
    """Picture k and what every method says about it, for a page or a figure."""
    return PictureContent(
        pixels=comparison.pictures[k],
        title=comparison.labels[k],
        facts=facts(comparison, k),
        maps=tuple(_map(outcome, k) for outcome in comparison.outcomes),
        truth=None if comparison.truth is None else comparison.truth[k],
    )


def _map(outcome: MethodOutcome, k: int) -> MapContent:
    infomap = outcome.infomaps[k]
    plane, unit = outcome.shown(k)
    curves = {name: found[k] for name, found in outcome.curves.items()}
    return MapContent(
        name=outcome.name,
        unit=unit,
        plane=None if outcome.errors[k] else plane,
        meaning=outcome.meaning,
        regions=None if infomap is None else region_scores(infomap.regions, infomap.scores, 0),
        error=outcome.errors[k],
        curves={name: curve for name, curve in curves.items() if curve is not None},
        mask=None if outcome.errors[k] else outcome.masks[k],
    )


def _cells(comparison: Comparison, outcome: MethodOutcome) -> tuple[Cell, ...]:
    compared = comparison.reference not in ("", outcome.name)
    cells = []
    for column in comparison.metrics:
        found = outcome.differences.get(column.name)
        value = number(outcome.mean(column.name))
        cells.append(
            Cell(value, found.mean, found.low, found.high) if compared and found else Cell(value)
        )
    plain = (
        outcome.mean("share"),
        outcome.mean("forward_passes"),
        outcome.mean("seconds"),
        outcome.mean("peak_bytes") / MEGABYTE,
    )
    return (*cells, *(Cell(number(value)) for value in plain))


def number(value: float) -> float | None:
    """A number, or None for what is not finite."""
    return float(value) if math.isfinite(value) else None


def _threshold(rule: Rule) -> tuple[tuple[Literal["max_fraction", "at_least"], float], str]:
    """Where the viewer's slider starts, and what to say where it cannot follow the rule."""
    if isinstance(rule, MaxFraction):
        return ("max_fraction", float(rule.fraction)), ""
    if isinstance(rule, AtLeast):
        return ("at_least", float(rule.bits)), ""
    note = f"The table's masks are cut by {rule}; the slider cuts at a share of each maximum."
    return ("max_fraction", 0.2), note


def mask_head(rule: Rule) -> str:
    """A rule in a few words, for the head of the masks' column."""
    words = f"{rule.fraction:.0%} of the largest" if isinstance(rule, MaxFraction) else str(rule)
    return f"mask, {words}"


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

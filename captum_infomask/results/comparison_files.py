# Write a comparison's files: report, table, numbers, arrays. Each is whole or not written at all.
from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from captum_infomask._files import check_output_file, output_file
from captum_infomask._messages import utf8
from captum_infomask.report.page_content import Agreement, Column, PageContent
from captum_infomask.report.payload import json_number
from captum_infomask.results.method_outcome import MethodOutcome, Numbers

_COSTS = ("forward_passes", "seconds", "peak_bytes", "share", "largest")


def write_html(content: PageContent, path: str | PathLike[str]) -> None:
    """Write the report."""
    from captum_infomask.report.page import page_html

    check_output_file("path", path)
    _write(path, utf8(page_html(content)))


def write_csv(
    targets: Sequence[int],
    labels: Sequence[str],
    outcomes: Sequence[MethodOutcome],
    metrics: Sequence[Column],
    path: str | PathLike[str],
) -> None:
    """Write a line per method and picture; an empty field stands for no number."""
    names = [column.name for column in metrics]
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(["picture", "target", "label", "method", "unit", "error", *_COSTS, *names])
    for k, (target, label) in enumerate(zip(targets, labels, strict=True)):
        for outcome in outcomes:
            numbers = [outcome.values(name)[k] for name in (*_COSTS, *names)]
            fields = ["" if math.isnan(number) else repr(float(number)) for number in numbers]
            lines.writerow(
                [k, target, label, outcome.name, outcome.unit, outcome.errors[k], *fields]
            )
    _write(path, utf8(text.getvalue()))


def write_json(facts: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write numbers and words."""
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False, indent=1)
    _write(path, utf8(f"{text}\n"))  # JSON reads a backslash back


def write_arrays(
    given: Mapping[str, Any],
    outcomes: Sequence[MethodOutcome],
    path: str | PathLike[str],
) -> None:
    """Write the arrays that are given, maps and masks."""
    arrays: dict[str, Any] = dict(given)
    for outcome in outcomes:
        if not outcome.failed:
            key = re.sub(r"\W+", "_", outcome.name.lower()).strip("_")
            while key in arrays:
                key += "_"
            arrays[key] = outcome.planes
            arrays[f"{key}_mask"] = outcome.masks
            arrays[f"{key}_unit"] = np.array(outcome.unit)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    _write(path, packed.getvalue())


def method_facts(outcome: MethodOutcome) -> dict[str, Any]:
    """Return one method's numbers, in types that JSON has."""
    return {
        "name": outcome.name,
        "unit": outcome.unit,
        "meaning": outcome.meaning,
        "errors": list(outcome.errors),
        **{name: _numbers(outcome.values(name)) for name in _COSTS},
        "metrics": {name: _numbers(values) for name, values in outcome.metrics.items()},
        "curves": {
            name: [None if curve is None else _numbers(curve) for curve in curves]
            for name, curves in outcome.curves.items()
        },
        "differences": {
            name: {"mean": found.mean, "low": found.low, "high": found.high}
            for name, found in outcome.differences.items()
        },
    }


def agreement_facts(square: Agreement) -> dict[str, Any]:
    """Return how alike methods are, in types that JSON has."""
    return {
        "title": square.title,
        "names": list(square.names),
        "values": [_numbers(row) for row in square.values],
    }


def _numbers(values: Numbers) -> list[float | None]:
    return [json_number(value) for value in values]


def _write(path: str | PathLike[str], content: bytes) -> None:
    """Write a file; after an interrupt the earlier file is still there."""
    with output_file("path", path) as beside:
        beside.write_bytes(content)

# A comparison on disk: the report, a table, numbers, arrays. A file is written whole or not at all.
from __future__ import annotations

import csv
import io
import json
import math
import re
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from captum_infomask._files import check_output_file, output_file
from captum_infomask._messages import utf8
from captum_infomask.report.page_content import PageContent
from captum_infomask.results.method_outcome import MethodOutcome, Numbers

if TYPE_CHECKING:
    from captum_infomask.results.comparison import Comparison

_COSTS = ("forward_passes", "seconds", "peak_bytes", "share", "largest")


def write_html(content: PageContent, path: str | PathLike[str]) -> None:
    """Write the report."""
    from captum_infomask.report.page import page_html

    check_output_file("path", path)
    _write(path, utf8(page_html(content)))


def write_csv(comparison: Comparison, path: str | PathLike[str]) -> None:
    """Write a line per method and picture; an empty field is no number."""
    names = [column.name for column in comparison.metrics]
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(["picture", "target", "label", "method", "unit", "error", *_COSTS, *names])
    for k in range(len(comparison.pictures)):
        for outcome in comparison.outcomes:
            numbers = [outcome.values(name)[k] for name in (*_COSTS, *names)]
            lines.writerow(
                [
                    k,
                    int(comparison.targets[k]),
                    comparison.labels[k],
                    outcome.name,
                    outcome.unit,
                    outcome.errors[k],
                    *("" if math.isnan(number) else repr(float(number)) for number in numbers),
                ]
            )
    _write(path, utf8(text.getvalue()))


def write_json(comparison: Comparison, path: str | PathLike[str]) -> None:
    """Write all numbers but the maps."""
    facts = {
        "format": "captum_infomask.Comparison 1",
        "call": comparison.call,
        "seed": comparison.seed,
        "versions": dict(comparison.versions),
        "settings": dict(comparison.settings),
        "rule": str(comparison.rule),
        "classes": comparison.classes,
        "pictures": [
            {
                "target": int(comparison.targets[k]),
                "label": label,
                "prediction": int(comparison.predictions[k]),
                "probability": _number(comparison.probabilities[k]),
                "information_bits": _number(comparison.information[k]),
            }
            for k, label in enumerate(comparison.labels)
        ],
        "metrics": [
            {"name": column.name, "better": column.better, "note": column.note}
            for column in comparison.metrics
        ],
        "reference": comparison.reference,
        "methods": [_method(outcome) for outcome in comparison.outcomes],
        "agreement": [
            {
                "title": square.title,
                "names": list(square.names),
                "values": [_numbers(row) for row in square.values],
            }
            for square in comparison.agreement
        ],
        "troubles": list(comparison.troubles),
    }
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False, indent=1)
    _write(path, utf8(f"{text}\n"))  # JSON reads a backslash back


def write_arrays(comparison: Comparison, path: str | PathLike[str]) -> None:
    """Write pictures, maps and masks."""
    arrays: dict[str, Any] = {
        "pictures": comparison.pictures,
        "targets": comparison.targets,
        "labels": np.array(comparison.labels),
        "information_bits": comparison.information,
    }
    if comparison.truth is not None:
        arrays["truth"] = comparison.truth
    for outcome in comparison.outcomes:
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


def _method(outcome: MethodOutcome) -> dict[str, Any]:
    """One method's numbers."""
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


def _numbers(values: Numbers) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float) -> float | None:
    """A number that JSON has, or None."""
    return float(value) if math.isfinite(value) else None


def _write(path: str | PathLike[str], content: bytes) -> None:
    """Write a file; an interrupt leaves the one that was there before."""
    with output_file("path", path) as beside:
        beside.write_bytes(content)

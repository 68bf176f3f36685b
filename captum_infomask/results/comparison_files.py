# A comparison's files: report, table, numbers, arrays, and one that is read again. Each is whole
# or not written at all.
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
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._files import (
    check_input,
    check_output_file,
    damaged,
    output_file,
    part,
    read,
    write,
)
from captum_infomask._messages import utf8
from captum_infomask.masks import AtLeast, Hysteresis, MaxFraction, Otsu, Rule, TopFraction
from captum_infomask.report.page_content import Agreement, Column
from captum_infomask.report.payload import json_number
from captum_infomask.results.info_map import InfoMap
from captum_infomask.results.map_files import fields_of, state_of
from captum_infomask.results.method_outcome import Difference, MethodOutcome, Numbers
from captum_infomask.results.reliability_of_bits import (
    BitsReliability,
    parts_of,
    reliability_from,
)

_FORMAT = "captum_infomask.Comparison 1"
_RULES: dict[str, Any] = {
    rule.__name__: rule for rule in (MaxFraction, TopFraction, Otsu, AtLeast, Hysteresis)
}
_ARRAYS = ("pictures", "targets", "predictions", "log_probabilities", "log_priors", "truth")
_WORDS = (
    *("classes", "labels", "reference", "troubles", "settings", "seed", "versions", "call"),
    *("date", "sources"),
)
_OF_METHOD = ("planes", "masks", "forward_passes", "seconds", "peak_bytes")
_COSTS = ("forward_passes", "seconds", "peak_bytes", "share", "largest")


def write_csv(
    targets: Sequence[int],
    labels: Sequence[str],
    outcomes: Sequence[MethodOutcome],
    metrics: Sequence[Column],
    path: str | PathLike[str],
) -> None:
    """Write a line per method and picture; an empty field stands for no number."""
    columns = outcome_columns(targets, labels, outcomes, metrics)
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        lines.writerow([_field(value) for value in row])
    _write(path, utf8(text.getvalue()))


def _field(value: object) -> object:
    """Return a table's value as CSV has it."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else repr(value)


def outcome_columns(
    targets: Sequence[int],
    labels: Sequence[str],
    outcomes: Sequence[MethodOutcome],
    metrics: Sequence[Column],
) -> dict[str, list[Any]]:
    """Return the columns of the table that has a row per picture and method; NaN is no number."""
    pairs = [(k, outcome) for k in range(len(targets)) for outcome in outcomes]
    columns: dict[str, list[Any]] = {
        "picture": [k for k, _ in pairs],
        "target": [targets[k] for k, _ in pairs],
        "label": [labels[k] for k, _ in pairs],
        "method": [outcome.name for _, outcome in pairs],
        "unit": [outcome.unit for _, outcome in pairs],
        "error": [outcome.errors[k] for k, outcome in pairs],
    }
    for name in (*_COSTS, *(column.name for column in metrics)):
        columns[name] = [float(outcome.values(name)[k]) for k, outcome in pairs]
    return columns


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


def reliability_facts(found: BitsReliability) -> dict[str, Any]:
    """Return what labels said about bits, in types that JSON has."""
    curve, words = parts_of(found)
    bins = {name: _numbers(values) for name, values in curve.items()}
    return {**words, "verdict": found.verdict(), "bins": bins}


def _numbers(values: Numbers) -> list[float | None]:
    return [json_number(value) for value in values]


def _write(path: str | PathLike[str], content: bytes) -> None:
    """Write a file; after an interrupt the earlier file is still there."""
    with output_file("path", path) as beside:
        beside.write_bytes(content)


def save_comparison(fields: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write all fields of a comparison to one safetensors file, exact to the bit."""
    file = check_output_file("path", path)
    arrays: dict[str, Any] = {name: fields[name] for name in _ARRAYS if fields[name] is not None}
    tensors: dict[str, Tensor] = {}
    facts = {name: fields[name] for name in _WORDS}
    facts["versions"] = dict(fields["versions"])
    facts["rule"] = _rule_facts(fields["rule"])
    facts["metrics"] = [[c.name, c.better, c.note, c.digits] for c in fields["metrics"]]
    facts["agreement"] = [[square.title, list(square.names)] for square in fields["agreement"]]
    facts["outcomes"] = []
    for k, square in enumerate(fields["agreement"]):
        arrays[f"agreement.{k}"] = square.values
    for m, outcome in enumerate(fields["outcomes"]):
        maps: dict[str, Any] = {}
        for k, infomap in enumerate(outcome.infomaps):
            if infomap is not None:
                state, maps[str(k)] = state_of(infomap)
                tensors |= {f"method.{m}.map.{k}.{name}": own for name, own in state.items()}
        arrays |= {f"method.{m}.{name}": getattr(outcome, name) for name in _OF_METHOD}
        for i, values in enumerate(outcome.metrics.values()):
            arrays[f"method.{m}.metric.{i}"] = values
        for i, curves in enumerate(outcome.curves.values()):
            for k, curve in enumerate(curves):
                if curve is not None:
                    arrays[f"method.{m}.curve.{i}.{k}"] = curve
        facts["outcomes"].append(
            {
                "name": outcome.name,
                "unit": outcome.unit,
                "meaning": outcome.meaning,
                "errors": list(outcome.errors),
                "metrics": list(outcome.metrics),
                "curves": list(outcome.curves),
                "differences": {
                    name: [one.mean, one.low, one.high] for name, one in outcome.differences.items()
                },
                "maps": maps,
            }
        )
    facts["reliability"] = []
    for k, one in enumerate(fields["reliability"]):
        curve, words = parts_of(one)
        arrays |= {f"reliability.{k}.{name}": values for name, values in curve.items()}
        facts["reliability"].append(words)
    tensors |= {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    write("path", file, _FORMAT, tensors, facts)


def load_comparison(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the fields of a comparison that ``save_comparison`` wrote.

    Raises:
        ArgumentError: It is no such file, or it has changed since.
    """
    file = check_input("path", path)
    tensors, facts = read("path", file, _FORMAT)
    try:
        return _comparison_fields(tensors, facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"its content is that of no comparison ({type(error).__name__}: {error})"
        raise damaged("path", file, _FORMAT, what) from error


def _comparison_fields(tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {name: own.numpy() for name, own in tensors.items() if ".map." not in name}
    n = len(arrays["targets"])
    _check_arrays(arrays, n)
    if not isinstance(facts["classes"], int) or facts["classes"] < 1:
        raise ValueError(f"it has {facts['classes']!r} classes")
    fields: dict[str, Any] = {name: arrays.get(name) for name in _ARRAYS}
    fields |= {name: facts[name] for name in _WORDS}
    fields["settings"] = tuple((str(name), str(value)) for name, value in facts["settings"])
    fields |= {name: tuple(map(str, facts[name])) for name in ("labels", "troubles", "sources")}
    fields["rule"] = _rule(facts["rule"])
    fields["metrics"] = tuple(Column(*column) for column in facts["metrics"])
    fields["agreement"] = tuple(
        Agreement(title, tuple(names), arrays[f"agreement.{k}"])
        for k, (title, names) in enumerate(facts["agreement"])
    )
    fields["outcomes"] = tuple(
        _outcome(one, part(tensors, f"method.{m}."), n) for m, one in enumerate(facts["outcomes"])
    )
    fields["reliability"] = tuple(
        reliability_from(
            {name: own.numpy() for name, own in part(tensors, f"reliability.{k}.").items()}, one
        )
        for k, one in enumerate(facts.get("reliability", ()))  # earlier versions wrote none
    )
    known = [fields[name] for name in _ARRAYS if fields[name] is not None]
    of_methods = [getattr(one, name) for one in fields["outcomes"] for name in _OF_METHOD]
    held = [one.errors for one in fields["outcomes"]]
    if any(len(own) != n for own in (*known, *of_methods, *held, fields["labels"])):
        raise ValueError(f"its parts are of other numbers of pictures than {n}")
    return fields


def _check_arrays(arrays: Mapping[str, Any], n: int) -> None:
    """Refuse arrays of other types or shapes than those of n pictures, all of one size."""
    size = arrays["pictures"].shape[1:3]
    plane = (n, *size)
    known = {"pictures": ("u", (*plane, 3)), "planes": ("f", plane)}
    known |= dict.fromkeys(("truth", "masks"), ("b", plane))
    known |= dict.fromkeys(("targets", "predictions"), ("i", (n,)))
    for name, own in arrays.items():
        if ".curve." in name or name.startswith(("agreement.", "reliability.")):
            kind, shape = "f", own.shape
        else:
            kind, shape = known.get(name.rpartition(".")[2], ("f", (n,)))
        if own.dtype.kind != kind or own.shape != shape:
            raise ValueError(f"{name} is {describe(own)}")


def _outcome(facts: Mapping[str, Any], tensors: dict[str, Tensor], n: int) -> MethodOutcome:
    """Return the outcome of one method on n pictures."""
    arrays = {name: own.numpy() for name, own in tensors.items()}
    maps = facts["maps"]
    infomaps = [
        InfoMap(**fields_of(part(tensors, f"map.{k}."), maps[str(k)])) if str(k) in maps else None
        for k in range(n)
    ]
    return MethodOutcome(
        name=facts["name"],
        unit=facts["unit"],
        meaning=facts["meaning"],
        errors=tuple(facts["errors"]),
        infomaps=tuple(infomaps),
        metrics={name: arrays[f"metric.{i}"] for i, name in enumerate(facts["metrics"])},
        curves={
            name: tuple(arrays.get(f"curve.{i}.{k}") for k in range(n))
            for i, name in enumerate(facts["curves"])
        },
        differences={name: Difference(*one) for name, one in facts["differences"].items()},
        **{name: arrays[name] for name in _OF_METHOD},
    )


def _rule_facts(rule: Rule) -> list[Any]:
    """Return a rule's name and its settings."""
    name = type(rule).__name__
    if _RULES.get(name) is not type(rule):
        raise ArgumentError(
            f"Expected `rule` of a comparison that is saved to be one of {', '.join(_RULES)}; got "
            f"{rule!r}. to_html, to_csv, to_json and save_arrays write any comparison."
        )
    settings = {
        key: _rule_facts(own) if isinstance(own, Rule) else own for key, own in vars(rule).items()
    }
    return [name, settings]


def _rule(facts: Any) -> Rule:
    """Return the rule of a name and settings."""
    name, settings = facts
    given = {key: _rule(own) if isinstance(own, list) else own for key, own in settings.items()}
    made: Rule = _RULES[name](**given)
    return made

# Describes a run from its manifest, in words for the summary.
from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from captum_infomask.report.words import decimals, thousands
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.score_settings import NATS_PER_UNIT

_LONGEST = 300  # characters of a setting, such as a prior of a thousand numbers
_RULE = re.compile(r"(MaxFraction|AtLeast)\(\w+=([0-9.eE+-]+)\)")
_REST = {
    "started": "started",
    "ended": "ended",
    "data": "data",
    "pictures": "pictures",
    "skipped": "skipped",
    "model_sha256": "model, SHA-256",
    "preprocess": "preprocess",
    "machine": "machine",
}
_PREDICTION = "prediction"
_UNEVEN = ("prior", "groups", "contrast")  # with these, i(y; x) has no bound, or no common bound


def has_labels(manifest: Mapping[str, Any]) -> bool:
    """Whether targets come from the data; then a prediction can be right or wrong."""
    return bool(manifest["settings"].get("target", _PREDICTION) != _PREDICTION)


def summary_words(manifest: Mapping[str, Any]) -> str:
    """One line about the view, the network, the pictures and the target.

    Example:
        >>> from captum_infomask.dataset_run.summary.manifest_words import summary_words
        >>> summary_words({"settings": {"model": "resnet50"}, "pictures": 2000})
        "InfoMask crop with resnet50 on 2,000 pictures; target: the network's own answer"
    """
    settings = manifest["settings"]
    target = settings.get("target", _PREDICTION)
    named = {_PREDICTION: "the network's own answer", "label": "the label"}
    model = settings.get("model")
    contrast = settings.get("contrast")
    other = "the likeliest other class" if contrast == "runner_up" else f"class {contrast}"
    return (
        f"InfoMask {settings.get('view') or 'crop'}{f' with {model}' if model else ''} on "
        f"{thousands(manifest['pictures'])} picture{'s' * (manifest['pictures'] != 1)}; target: "
        f"{named.get(target, f'the column {target}')}"
        f"{f', rather than {other}' * (contrast is not None)}"
    )


def whole_words(manifest: Mapping[str, Any]) -> str:
    """A name for the number of a whole picture."""
    is_told = manifest["settings"].get("contrast") is not None
    return "i(y; x) − i(y′; x)" if is_told else "i(y; x)"


def bound_of(manifest: Mapping[str, Any], classes: int) -> tuple[float | None, str]:
    """The largest possible i(y; x) and its formula in words; None if it is not known.

    With a uniform prior over M classes i(y; x) = log p(y | x) + log M ≤ log M.

    Example:
        >>> from captum_infomask.dataset_run.summary.manifest_words import bound_of
        >>> bound_of({"settings": {}}, 1000)[1]
        'log₂ 1,000 = 9.97 bits'
    """
    settings = manifest["settings"]
    if classes < 2 or any(settings.get(name) not in (None, "balanced") for name in _UNEVEN):
        return None, ""
    if settings.get("head", "logits") not in SOFTMAX_HEADS:
        return None, ""
    unit = settings.get("unit", "bits")
    bound = math.log(classes) / NATS_PER_UNIT[unit]
    log = "log₂" if unit == "bits" else "ln"
    return bound, f"{log} {thousands(classes)} = {decimals(bound)} {unit}"


def threshold_of(
    manifest: Mapping[str, Any],
) -> tuple[tuple[Literal["max_fraction", "at_least"], float], str]:
    """The start of the viewer's slider, and a note if the slider cannot follow the run's rule.

    Example:
        >>> from captum_infomask.dataset_run.summary.manifest_words import threshold_of
        >>> threshold_of({"settings": {"rule": "AtLeast(bits=2.5)"}})
        (('at_least', 2.5), '')
    """
    rule = str(manifest["settings"].get("rule", "MaxFraction(fraction=0.2)"))
    found = _RULE.fullmatch(rule)
    if found is None:
        note = f"The run's masks are cut by {rule}; the slider cuts at a share of each maximum."
        return ("max_fraction", 0.2), note
    return ("max_fraction" if found[1] == "MaxFraction" else "at_least", float(found[2])), ""


def provenance(
    manifest: Mapping[str, Any],
) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Settings, versions, and the origin of the numbers.

    Example:
        >>> from captum_infomask.dataset_run.summary.manifest_words import provenance
        >>> provenance({"settings": {"seed": 0}, "versions": {}, "pictures": 9})[::2]
        (('Settings', (('seed', '0'),)), ('Data and machine', (('pictures', '9'),)))
    """
    rest = {words: manifest[name] for name, words in _REST.items() if name in manifest}
    return (
        ("Settings", tuple(_pairs("", manifest["settings"]))),
        ("Versions", tuple(_pairs("", manifest["versions"]))),
        ("Data and machine", tuple(_pairs("", rest))),
    )


def _pairs(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values; the entries of a mapping get both names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _pairs(f"{prefix}{name}.", value)
            continue
        words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        words = "none" if value is None else words
        yield prefix + name, words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"

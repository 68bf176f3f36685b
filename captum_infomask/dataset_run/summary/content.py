# A run in the report's plain arrays and words.
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from captum_infomask.dataset_run.manifest import preprocess_of
from captum_infomask.dataset_run.summary.best_and_worst import best_and_worst
from captum_infomask.dataset_run.summary.class_names import UNKNOWN, class_names
from captum_infomask.dataset_run.summary.failures import group_failures
from captum_infomask.dataset_run.summary.statistics import (
    PictureNumbers,
    distributions,
    picture_numbers,
    shared_axis,
)
from captum_infomask.dataset_run.summary.words import (
    bound_of,
    has_labels,
    provenance,
    summary_words,
    threshold_of,
    whole_words,
)
from captum_infomask.report.rows import BoolArray
from captum_infomask.report.run_content import (
    LEVELS,
    Axis,
    Distribution,
    Numbers,
    RunContent,
    Speed,
)
from captum_infomask.report.words import decimals, percent, significant, thousands

if TYPE_CHECKING:
    from captum_infomask.dataset_run.loaded import DatasetRun

_WITHIN_BOUND = ("crop", "keep", "features")  # views whose scores are i(y; v) of something shown


def run_content(run: DatasetRun) -> RunContent:
    """All that the summary of a run shows.

    The statistics are made of the table's columns, whole arrays at a time; only the pictures that
    are shown are loaded.

    Args:
        run: Whole, or as far as it came.

    Returns:
        Plain arrays and words for ``report.run_summary.run_html``.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from captum_infomask import run_dataset
        >>> from captum_infomask.dataset_run.summary.content import run_content
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("L", (56, 28)).save(os.path.join(folder, "a.png"))
        >>> run = run_dataset(folder, "two_digits", os.path.join(folder, "out"), workers=0)
        >>> content = run_content(run)
        >>> content.name, content.done, content.missing
        ('out', 1, 0)
    """
    manifest, table = run.manifest, run.table
    numbers = picture_numbers(table)
    known = np.isfinite(numbers.totals)
    best = numbers.best[np.isfinite(numbers.best)]
    bound, bound_words = bound_of(manifest, len(run.categories))
    axis = shared_axis(numbers.totals[known], best, bound=bound, bound_words=bound_words)
    failures, further = group_failures(_errors(table))
    threshold, note = threshold_of(manifest)
    left_out = int((~known).sum())
    notes = [note] * bool(note)
    if left_out:
        notes.append(
            f"Left out of all bits: {thousands(left_out)} whose {whole_words(manifest)} is not "
            f"finite."
        )
    examples = best_and_worst(run, numbers)
    unseen = sum(one.pixels is None for one in examples)
    if unseen and preprocess_of(manifest.get("preprocess")) is not None:
        notes.append(
            f"The pictures themselves are not in the run's folder for {thousands(unseen)} of "
            f"these; captum-infomask report --data reads them from where the data lie."
        )
    overall: tuple[Distribution, ...] = ()
    classes: tuple[Distribution, ...] = ()
    if axis is not None:
        whole = _one(f"{whole_words(manifest)}, the whole picture", numbers.totals[known], axis)
        region = _one("Its best region", best, axis, is_bounded=_regions_are_bounded(run))
        overall = (*whole, *region)
        classes = _classes(run, numbers, known, axis)
    return RunContent(
        name=run.folder.resolve().name,
        summary=summary_words(manifest),
        pictures=manifest["pictures"],
        done=len(numbers.places),
        failed=len(table) - len(numbers.places),
        unit=manifest["settings"]["unit"],
        facts=_facts(run, numbers, overall),
        axis=axis,
        overall=overall,
        classes=classes,
        examples=examples,
        threshold=threshold,
        notes=tuple(notes),
        failures=failures,
        further=further,
        speed=_speed(table, numbers),
        provenance=provenance(manifest),
    )


def _errors(table: pa.Table) -> list[tuple[str, str]]:
    """Key and message of every picture that failed."""
    failed = table.select(["key", "error"]).filter(table["error"].is_valid())
    return list(zip(failed["key"].to_pylist(), failed["error"].to_pylist(), strict=True))


def _regions_are_bounded(run: DatasetRun) -> bool:
    """Whether a region's score is i(y; v) itself, and so like i(y; x) below the bound."""
    view = run.manifest["settings"].get("view") or _WITHIN_BOUND[0]
    return view in _WITHIN_BOUND and run.table["blank"].null_count == len(run.table)


def _one(
    name: str, values: Numbers, axis: Axis, *, is_bounded: bool = True
) -> tuple[Distribution, ...]:
    """One distribution over all pictures."""
    alone = np.zeros(len(values), np.int64)
    return distributions([name], alone, values, axis, is_bounded=is_bounded)


def _classes(
    run: DatasetRun, numbers: PictureNumbers, known: BoolArray, axis: Axis
) -> tuple[Distribution, ...]:
    """i(y; x) of each class that has pictures, the one with the highest median first."""
    targets = numbers.targets[known]
    present, groups = np.unique(targets, return_inverse=True)
    right = numbers.predicted[known] == targets if has_labels(run.manifest) else None
    found = distributions(
        class_names(run.categories, present.tolist()),
        groups,
        numbers.totals[known],
        axis,
        right=right,
    )
    return tuple(sorted(found, key=lambda one: -one.quantiles[2]))


def _facts(
    run: DatasetRun, numbers: PictureNumbers, overall: Sequence[Distribution]
) -> tuple[tuple[str, str], ...]:
    """The key figures."""
    unit = run.manifest["settings"]["unit"]
    heads = (
        f"{whole_words(run.manifest)}, the median picture",
        "score of the best region, the median picture",
    )
    facts = [
        (f"{decimals(one.quantiles[2])} {unit}", f"{head}; {_half(one.quantiles, decimals)}")
        for head, one in zip(heads, overall, strict=False)
        if one.count
    ]
    shares = numbers.shares[np.isfinite(numbers.shares)]
    if len(shares):
        found = np.quantile(shares, LEVELS)
        words = f"of the picture is kept by the mask, the median; {_half(found, percent)}"
        facts.append((percent(float(found[2])), words))
    judged = numbers.predicted != UNKNOWN
    if has_labels(run.manifest) and judged.any():
        right = int((numbers.predicted == numbers.targets)[judged].sum())
        words = f"accuracy: {thousands(right)} of {thousands(int(judged.sum()))} predicted right"
        facts.append((percent(right / int(judged.sum())), words))
    if len(numbers.seconds) and numbers.seconds.sum() > 0:
        rate = len(numbers.seconds) / float(numbers.seconds.sum())
        facts.append((f"{significant(rate)} pictures/s", "for one worker, reading files aside"))
    return tuple(facts)


def _half(quantiles: Numbers, words: Callable[[float], str]) -> str:
    low, high = words(float(quantiles[1])), words(float(quantiles[3]))
    return f"half lie between {low} and {high}" if low != high else f"half lie at {low}"


def _speed(table: pa.Table, numbers: PictureNumbers) -> tuple[Speed, ...]:
    """How long pictures took: all of them, and those of each engine if there are several."""
    if not len(numbers.places):
        return ()
    engines = pc.fill_null(table["engine"], "unknown").combine_chunks().dictionary_encode()
    numbered = np.asarray(engines.indices)[numbers.places]
    found = Counter(numbered.tolist())
    rows = [
        _engine_speed(engines.dictionary[k].as_py(), numbers.seconds[numbered == k])
        for k, _ in found.most_common()
    ]
    return tuple(rows) if len(rows) == 1 else (_engine_speed("all", numbers.seconds), *rows)


def _engine_speed(engine: str, seconds: Numbers) -> Speed:
    total = float(seconds.sum())
    return Speed(
        engine=engine,
        count=len(seconds),
        rate=len(seconds) / total if total > 0 else math.nan,
        median=float(np.median(seconds)),
        slow=float(np.quantile(seconds, 0.95)),
    )

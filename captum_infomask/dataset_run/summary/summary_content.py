# Turns a run into the report's plain arrays and words: pictures, statistics, failures, settings.
from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from captum_infomask.dataset_run.manifest import preprocess_of
from captum_infomask.dataset_run.page_pictures import extremes
from captum_infomask.dataset_run.summary.evidence_summary import evidence_content
from captum_infomask.dataset_run.summary.manifest_words import (
    bound_of,
    has_labels,
    provenance,
    summary_words,
    threshold_of,
    whole_words,
)
from captum_infomask.dataset_run.summary.run_statistics import (
    UNKNOWN,
    PictureNumbers,
    class_names,
    distributions,
    picture_numbers,
    shared_axis,
)
from captum_infomask.report.page_content import BoolArray, PictureContent
from captum_infomask.report.run_content import (
    LEVELS,
    Axis,
    Distribution,
    Failure,
    Floats,
    RunContent,
    Speed,
)
from captum_infomask.report.words import decimals, percent, significant, thousands
from captum_infomask.results.e_values import FROM_PRIOR

if TYPE_CHECKING:
    from captum_infomask.dataset_run.loaded import DatasetRun


def best_and_worst(run: DatasetRun, numbers: PictureNumbers) -> tuple[PictureContent, ...]:
    """The pictures with the highest and the lowest i(y; x), in two groups without overlap.

    Args:
        run: The run; maps and pictures are loaded from it.
        numbers: The numbers of its pictures that did not fail. Pictures without a finite i(y; x)
            are left out.

    Returns:
        At most 6 pictures of each kind with their maps, the most extreme first. Equal pictures are
        in the order of the run.
    """
    best, worst = extremes(numbers.totals)
    whole = whole_words(run.manifest)
    return tuple(
        _example(run, numbers, int(k), f"{which} {whole}")
        for which, chosen in (("Highest", best), ("Lowest", worst))
        for k in chosen
    )


def _example(run: DatasetRun, numbers: PictureNumbers, k: int, group: str) -> PictureContent:
    """One picture with its map and its facts."""
    key = run.table["key"][int(numbers.places[k])].as_py()
    unit = run.manifest["settings"]["unit"]
    target, predicted = int(numbers.targets[k]), int(numbers.predicted[k])
    named, answered = class_names(run.categories, [target, predicted])
    bits = f"{decimals(float(numbers.totals[k]))} {unit}"
    (shown,) = run[key].content(run.picture(key)).pictures
    hit = "the target" if predicted == target else "not the target"
    facts = [
        (bits, f"{whole_words(run.manifest)}, the whole picture"),
        (f"{decimals(float(numbers.best[k]))} {unit}", "score of the best region"),
        (percent(float(numbers.shares[k])), "of the picture is kept by the run's mask"),
        (answered, f"predicted, {hit}"),
        (key, "key"),
    ]
    title = f"{named}, {bits}"
    return replace(shown, title=title, facts=tuple(facts), group=group)


KEYS, MESSAGES = 3, 20  # keys shown of each message, and messages shown

# The parts of a message that differ between pictures with the same fault: quoted names, numbers.
_OWN = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?")


def group_failures(
    errors: Iterable[tuple[str, str]],
) -> tuple[tuple[Failure, ...], tuple[int, int]]:
    """Group failures whose messages differ only in names and numbers.

    Args:
        errors: Pairs of a key and its message, in the order of the keys.

    Returns:
        At most 20 groups, the largest first; and the number of the other messages and of their
        pictures.

    Example:
        >>> from captum_infomask.dataset_run.summary.summary_content import group_failures
        >>> errors = [("a.jpg", "truncated after 5 bytes"), ("b.jpg", "truncated after 7 bytes")]
        >>> group_failures(errors)[0][0].message
        'truncated after … bytes'
    """
    counts: dict[tuple[str, ...], int] = {}
    keys: dict[tuple[str, ...], list[str]] = {}
    own: dict[tuple[str, ...], list[str]] = {}
    for key, message in errors:
        kind, found = tuple(_OWN.split(message)), _OWN.findall(message)
        counts[kind] = counts.get(kind, 0) + 1
        before = own.setdefault(kind, found)
        if found != before:
            own[kind] = [a if a == b else "…" for a, b in zip(before, found, strict=True)]
        first = keys.setdefault(kind, [])
        if len(first) < KEYS:
            first.append(key)
    # The sort is stable: groups of equal size keep their order.
    ranked = sorted(counts, key=lambda kind: -counts[kind])
    shown, left = ranked[:MESSAGES], ranked[MESSAGES:]
    groups = tuple(
        Failure(_filled(kind, own[kind]), counts[kind], tuple(keys[kind])) for kind in shown
    )
    return groups, (len(left), sum(counts[kind] for kind in left))


def _filled(kind: Sequence[str], own: Sequence[str]) -> str:
    """A message with the common parts of its pictures."""
    return "".join(chain.from_iterable(zip_longest(kind, own, fillvalue="")))


def run_content(run: DatasetRun) -> RunContent:
    """The content of a run's summary.

    The statistics are computed from the table's columns, whole arrays at a time. Only the shown
    pictures are loaded.

    Args:
        run: The run, complete or not.

    Returns:
        Plain arrays and words for ``report.run_summary.run_html``.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from captum_infomask import run_dataset
        >>> from captum_infomask.dataset_run.summary.summary_content import run_content
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
    if unseen < len(examples) and preprocess_of(manifest.get("preprocess")) is None:
        notes.append(
            "The pictures are the network's input: black is its lowest number, white its highest."
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
        model=str(manifest["settings"].get("model") or ""),
        date=str(manifest.get("ended") or manifest.get("started") or "")[: len("2026-11-28")],
        evidence=evidence_content(run, numbers),
    )


def _errors(table: pa.Table) -> list[tuple[str, str]]:
    """Key and message of every picture that failed."""
    failed = table.select(["key", "error"]).filter(table["error"].is_valid())
    return list(zip(failed["key"].to_pylist(), failed["error"].to_pylist(), strict=True))


def _regions_are_bounded(run: DatasetRun) -> bool:
    """Whether a region's score is i(y; v) itself; then the bound of i(y; x) holds for it."""
    view = run.manifest["settings"].get("view") or FROM_PRIOR[0]
    return view in FROM_PRIOR and run.table["blank"].null_count == len(run.table)


def _one(
    name: str, values: Floats, axis: Axis, *, is_bounded: bool = True
) -> tuple[Distribution, ...]:
    """One distribution over all pictures."""
    alone = np.zeros(len(values), np.int64)
    return distributions([name], alone, values, axis, is_bounded=is_bounded)


def _classes(
    run: DatasetRun, numbers: PictureNumbers, known: BoolArray, axis: Axis
) -> tuple[Distribution, ...]:
    """i(y; x) of each class that has pictures; the class with the highest median is first."""
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


def _half(quantiles: Floats, words: Callable[[float], str]) -> str:
    low, high = words(float(quantiles[1])), words(float(quantiles[3]))
    return f"half lie between {low} and {high}" if low != high else f"half lie at {low}"


def _speed(table: pa.Table, numbers: PictureNumbers) -> tuple[Speed, ...]:
    """The time of pictures: of all, and of each engine's if there are several engines."""
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


def _engine_speed(engine: str, seconds: Floats) -> Speed:
    total = float(seconds.sum())
    return Speed(
        engine=engine,
        count=len(seconds),
        rate=len(seconds) / total if total > 0 else math.nan,
        median=float(np.median(seconds)),
        slow=float(np.quantile(seconds, 0.95)),
    )

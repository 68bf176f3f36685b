# The pictures that a run's summary shows: those the network was told most by, and least.
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from captum_infomask.dataset_run.summary.class_names import class_names
from captum_infomask.dataset_run.summary.statistics import PictureNumbers
from captum_infomask.dataset_run.summary.words import whole_words
from captum_infomask.report.content import PictureContent
from captum_infomask.report.run_content import Counts, Numbers
from captum_infomask.report.words import decimals, percent

if TYPE_CHECKING:
    from captum_infomask.dataset_run.loaded import DatasetRun

EXAMPLES = 6  # of either kind


def best_and_worst(run: DatasetRun, numbers: PictureNumbers) -> tuple[PictureContent, ...]:
    """The pictures with the highest and the lowest i(y; x), in two groups; none is in both.

    Args:
        run: Where maps and pictures are loaded from.
        numbers: Of its pictures that did not fail; those without a finite i(y; x) are left out.

    Returns:
        At most 6 of either kind with their maps, the most extreme first. Of equal ones, that which
        comes first in the run.
    """
    best, worst = extremes(numbers.totals)
    whole = whole_words(run.manifest)
    return tuple(
        _example(run, numbers, int(k), f"{which} {whole}")
        for which, chosen in (("Highest", best), ("Lowest", worst))
        for k in chosen
    )


def extremes(totals: Numbers) -> tuple[Counts, Counts]:
    """The places of the highest and of the lowest i(y; x), the most extreme first; none in both.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.dataset_run.summary.best_and_worst import extremes
        >>> extremes(np.array([1.0, np.nan, 3.0, 1.0]))
        (array([2, 0]), array([3]))
    """
    places = np.flatnonzero(np.isfinite(totals))
    known = totals[places]
    best = places[np.argsort(-known, kind="stable")][: min(EXAMPLES, -(-len(places) // 2))]
    worst = places[np.argsort(known, kind="stable")]
    return best, worst[~np.isin(worst, best)][:EXAMPLES]


def _example(run: DatasetRun, numbers: PictureNumbers, k: int, group: str) -> PictureContent:
    """One picture with its map and what is known of it."""
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

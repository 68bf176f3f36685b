# What the places of a run say about classes, for the run's page.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from captum_infomask.dataset_run.page_pictures import Photo, extremes
from captum_infomask.dataset_run.summary.manifest_words import has_labels
from captum_infomask.dataset_run.summary.run_statistics import PictureNumbers, class_names
from captum_infomask.report.evidence_content import (
    ClassEvidence,
    EvidenceContent,
    PlaceEvidence,
)
from captum_infomask.results.combined_evidence import CombinedEvidence
from captum_infomask.results.region_table import region_boxes

if TYPE_CHECKING:
    from captum_infomask.dataset_run.loaded import DatasetRun

RATE = 0.05  # the false discovery rate of the page
ROWS, EDGES, MAPS = 30, 5, 12  # pairs in the table, pairs at the edge, and classes with a map
_SMALL = 1 / 8  # of the picture: a larger place at the edge may hold the object


def evidence_content(run: DatasetRun, numbers: PictureNumbers) -> EvidenceContent | None:
    """What places say about classes; None if the run's scores are no bets, or nothing is done.

    Args:
        run: The run, complete or not.
        numbers: The numbers of its pictures that did not fail.
    """
    if not run.has_evidence:
        return None
    evidence = run.evidence("class and place")
    assert evidence.classes is not None, "by class and place"
    names = class_names(run.categories, evidence.classes.tolist())
    found = evidence.discoveries(RATE)
    strongest = evidence.log2_e_values.amax(1)
    order = strongest.argsort(descending=True, stable=True).tolist()
    ranked = evidence.ranked()
    beyond = ranked[found.flatten()[ranked]]
    with_places = [row for row in order if bool(found[row].any())]
    return EvidenceContent(
        size=evidence.regions.shapes[0][1:],  # type: ignore[arg-type]
        rate=RATE,
        pictures=len(numbers.places),
        classes=len(names),
        places=len(evidence.regions),
        found=int(found.sum()),
        rows=_rows(evidence, names, found, ranked[:ROWS]),
        edges=_rows(evidence, names, found, _at_edges(evidence, beyond)[:EDGES]),
        maps=tuple(_map(run, numbers, evidence, names, found, row) for row in with_places[:MAPS]),
        others=tuple(names[row] for row in with_places[MAPS:]),
        is_of_labels=has_labels(run.manifest),
    )


def _rows(
    evidence: CombinedEvidence, names: list[str], found: torch.Tensor, chosen: torch.Tensor
) -> tuple[PlaceEvidence, ...]:
    """Some pairs of a class and a place."""
    places = chosen % len(evidence.regions)
    boxes = region_boxes(evidence.regions, torch.zeros_like(places), places).T.tolist()
    columns: list[Any] = [evidence.pictures, evidence.mean_bits, *evidence.interval()]
    columns += [evidence.log2_e_values, found]
    numbers = zip(*(column.flatten()[chosen].tolist() for column in columns), strict=True)
    return tuple(
        PlaceEvidence(names[row], _words(box), tuple(box), *each)
        for row, box, each in zip(
            (chosen // len(evidence.regions)).tolist(), boxes, numbers, strict=True
        )
    )


def _at_edges(evidence: CombinedEvidence, chosen: torch.Tensor) -> torch.Tensor:
    """Those of some pairs whose places are small and touch the edge of the picture."""
    height, width = evidence.regions.shapes[0][1:]
    every = torch.arange(len(evidence.regions))
    x0, y0, x1, y1 = region_boxes(evidence.regions, torch.zeros_like(every), every)
    touches = (x0 == 0) | (y0 == 0) | (x1 == width) | (y1 == height)
    is_small = (x1 - x0) * (y1 - y0) <= _SMALL * height * width
    at_edge = torch.from_numpy(np.asarray(touches & is_small, bool))
    return chosen[at_edge[chosen % len(every)]]


def _words(box: list[int]) -> str:
    x0, y0, x1, y1 = box
    return f"x {x0}–{x1}, y {y0}–{y1}"


def _map(
    run: DatasetRun,
    numbers: PictureNumbers,
    evidence: CombinedEvidence,
    names: list[str],
    found: torch.Tensor,
    row: int,
) -> ClassEvidence:
    """The places of one class, over one of its pictures if there is one to show."""
    assert evidence.classes is not None, "by class and place"
    of_class = np.flatnonzero(numbers.targets == int(evidence.classes[row]))
    return ClassEvidence(
        label=names[row],
        pictures=len(of_class),
        found=int(found[row].sum()),
        evidence=float(evidence.log2_e_values[row].max()),
        plane=evidence.plane(row),
        places=evidence.places_where(found, row),
        pixels=_picture(run, numbers, of_class),
    )


def _picture(run: DatasetRun, numbers: PictureNumbers, of_class: Any) -> Photo | None:
    """A picture of a class: one that the run keeps, or else its first, from the data."""
    kept = np.concatenate(extremes(numbers.totals))
    ours = [*kept[np.isin(kept, of_class)], *of_class[:1]]
    keys = (run.table["key"][int(numbers.places[k])].as_py() for k in ours)
    return next((seen for key in keys if (seen := run.picture(key)) is not None), None)

# What was found, picture by picture, as arrays method by method, with differences and agreement.
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_infomask.comparison.method_adapters import view_meaning
from captum_infomask.comparison.method_protocol import Answer, Method
from captum_infomask.evaluation.metric_protocol import CommonThreshold, Metric
from captum_infomask.evaluation.statistics import mask_iou_matrix, paired_difference, spearman
from captum_infomask.report.page_content import Agreement, BoolArray, Column, FloatArray, PhotoArray
from captum_infomask.results.map_pictures import attributions_unit, checked_pictures
from captum_infomask.results.method_outcome import Difference, MethodOutcome, Numbers


def shown_pictures(pictures: Any, inputs: Tensor) -> PhotoArray:
    """Return uint8 pictures (N, H, W, 3).

    Without the user's own each input is brought to 0..255 by itself: three channels are colours,
    any other number is averaged to grey.
    """
    n, _, height, width = inputs.shape
    if pictures is not None:
        return checked_pictures("pictures", pictures, n, height, width)
    return np.stack([_shown(picture) for picture in inputs.detach()])


def _shown(picture: Tensor) -> PhotoArray:
    """One input (C, H, W) as colours or grey."""
    values = picture.double().cpu()
    if len(values) != 3:
        values = values.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = float(values.min()), float(values.max())
    scaled = 255 * (values - low) / ((high - low) or 1.0)
    made: PhotoArray = scaled.round().byte().permute(1, 2, 0).contiguous().numpy()
    return made


def outcome_of(
    method: Method, found: Sequence[Answer], metrics: Mapping[str, Metric]
) -> MethodOutcome:
    """One method's answers as arrays; NaN stands for what there is not."""
    planes: FloatArray = np.stack([one.attributions[0, 0].numpy() for one in found])
    masks: BoolArray = np.zeros(planes.shape, dtype=np.bool_)
    for k, one in enumerate(found):
        if one.mask is not None:
            masks[k] = one.mask.numpy()
    values = {name: _values(name, metric, found) for name, metric in metrics.items()}
    curves = {name: tuple(_curve(one, name) for one in found) for name in metrics}
    infomap = next((one.infomap for one in found if one.infomap is not None), None)
    unit, meaning = method.unit, method.meaning
    if infomap is not None:
        unit = attributions_unit(infomap.regions, infomap.unit)
        meaning = view_meaning(infomap.view, infomap.contrast)
    return MethodOutcome(
        name=method.name,
        unit=unit,
        meaning=meaning,
        planes=planes,
        masks=masks,
        errors=tuple(one.error for one in found),
        infomaps=tuple(one.infomap for one in found),
        forward_passes=_numbers(one.passes for one in found),
        seconds=_numbers(None if one.error else one.cost.seconds for one in found),
        peak_bytes=_numbers(None if one.error else one.cost.peak_bytes for one in found),
        metrics=values,
        curves={
            name: own for name, own in curves.items() if any(curve is not None for curve in own)
        },
    )


def with_differences(
    outcomes: Sequence[MethodOutcome], reference: str, seed: int
) -> tuple[MethodOutcome, ...]:
    """Every method's paired differences from the reference, where there is one."""
    theirs = next((outcome for outcome in outcomes if outcome.name == reference), None)
    if theirs is None:
        return tuple(outcomes)
    return tuple(
        outcome
        if outcome is theirs
        else replace(
            outcome,
            differences={
                name: Difference(
                    *paired_difference(values.tolist(), theirs.metrics[name].tolist(), seed)
                )
                for name, values in outcome.metrics.items()
            },
        )
        for outcome in outcomes
    )


def agreement_of(outcomes: Sequence[MethodOutcome]) -> tuple[Agreement, ...]:
    """How alike the maps and the masks are; nothing where fewer than two methods gave any."""
    given = [outcome for outcome in outcomes if not outcome.failed]
    if len(given) < 2:
        return ()
    names = tuple(outcome.name for outcome in given)
    planes = [_given(outcome, outcome.planes) for outcome in given]
    masks = [_given(outcome, outcome.masks) for outcome in given]
    return (
        Agreement("Spearman's rank correlation of maps", names, spearman(planes)),
        Agreement("IoU of masks", names, mask_iou_matrix(masks)),
    )


def metric_columns(metrics: Mapping[str, Metric]) -> tuple[Column, ...]:
    """The metrics as columns of the table."""
    return tuple(Column(name, metric.better, metric.note) for name, metric in metrics.items())


def troubles_of(methods: Sequence[Method], found: Sequence[Sequence[Answer]]) -> tuple[str, ...]:
    """What metrics failed at, a sentence for each method and metric."""
    said: dict[tuple[str, str], str] = {}
    for k, picture in enumerate(found):
        for method, one in zip(methods, picture, strict=True):
            for metric, why in one.troubles.items():
                words = f"No {metric} of {method.name} on picture {k}: {why}"
                said.setdefault((method.name, metric), words)
    return tuple(said.values())


def _given(outcome: MethodOutcome, arrays: FloatArray | BoolArray) -> list[Tensor | None]:
    """One array per picture, None where the method failed."""
    return [
        torch.from_numpy(array) if done else None
        for array, done in zip(arrays, outcome.done, strict=True)
    ]


def _curve(found: Answer, name: str) -> Numbers | None:
    """What a metric found on its way, if it walks."""
    curve = found.measured[name].curve if name in found.measured else None
    return None if curve is None else curve.double().numpy()


def _values(name: str, metric: Metric, found: Sequence[Answer]) -> Numbers:
    """A metric's value for each picture, NaN where there is none."""
    values = _numbers(one.measured[name].value if name in one.measured else None for one in found)
    measured = [one.measured[name].overlaps for one in found if name in one.measured]
    overlaps = [each for each in measured if each is not None]
    if isinstance(metric, CommonThreshold) and overlaps:
        values[~np.isnan(values)] = metric.over(torch.stack(overlaps)).numpy()
    return values


def _numbers(values: Iterable[float | None]) -> Numbers:
    """Numbers with NaN for None."""
    return np.array([math.nan if value is None else float(value) for value in values])

# Run every method on every picture: ask, time, cut a mask and measure; then make arrays of it.
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.comparison.costs import Cost, as_it_is, measured
from captum_infomask.comparison.method_adapters import view_meaning
from captum_infomask.comparison.method_protocol import Answer, Method, Question
from captum_infomask.evaluation.choose_metrics import METRICS
from captum_infomask.evaluation.given_truth import Truth
from captum_infomask.evaluation.metric_protocol import CommonThreshold, Measured, Metric, Sample
from captum_infomask.evaluation.model_as_it_was import as_it_was
from captum_infomask.evaluation.statistics import mask_iou_matrix, paired_difference, spearman
from captum_infomask.masks import Rule, threshold_mask
from captum_infomask.report.page_content import Agreement, BoolArray, Column, FloatArray
from captum_infomask.results.map_pictures import attributions_unit
from captum_infomask.results.method_outcome import Difference, MethodOutcome, Numbers
from captum_infomask.scores.score import Score


@dataclass(frozen=True, eq=False)
class Task:
    """The settings that all pictures share.

    Attributes:
        model: A copy of the network, (n, C, H, W) → outputs (n, M), or (n,).
        users: The network itself, which the user's functions may hold.
        score: How outputs are read.
        has_classes: Whether the outputs have a dimension of classes.
        methods: The methods.
        metrics: The metrics by name.
        rule: The rule that cuts the masks.
        fill: The values of hidden pixels, (1, C, H, W).
        pictures: The number of pictures.
        seed: The seed of every method and metric on every picture.
        show_progress: Whether methods show their own progress bars.
    """

    model: Callable[..., Any]
    users: Callable[..., Any]
    score: Score
    has_classes: bool
    methods: tuple[Method, ...]
    metrics: Mapping[str, Metric]
    rule: Rule
    fill: Tensor
    pictures: int
    seed: int
    show_progress: bool


def run_methods(
    task: Task, inputs: Tensor, target: int, place: int, truth: Truth | None, bar: tqdm[Any]
) -> list[Answer]:
    """Run every method on one picture, (1, C, H, W). A failure concerns only that method."""
    found = []
    for method in task.methods:
        bar.set_postfix_str(method.name)
        question = Question(
            task.model,
            task.users,
            inputs,
            target if task.has_classes else None,
            place,
            task.pictures,
            task.seed,
            task.show_progress,
            as_it_is if task.score.groups is None else task.score.merged,
        )
        found.append(_run(task, method, question, target, truth))
        bar.update()
    return found


def run_one(method: Method, question: Question, cost: Cost | None = None) -> Answer:
    """Ask a method about its own copy of a picture, and leave everything of the user's as it was.

    Args:
        method: The method.
        question: The question.
        cost: The object that takes the cost of the method. Saving and restoring state is not part
            of it.
    """
    models = (question.model, question.users) if method.takes_users else (question.model,)
    with (
        as_it_was(*models, seed=question.seed, writes=method.takes_users),
        measured(question.inputs.device, cost),
    ):
        return method.attribute(replace(question, inputs=question.inputs.detach().clone()))


def _run(
    task: Task, method: Method, question: Question, target: int, truth: Truth | None
) -> Answer:
    cost = Cost()
    try:
        answer = run_one(method, question, cost)
        plane = answer.attributions.mean(1)[0].float()
        mask = _mask(plane, task.rule)
    except Exception as failure:  # one method's failure must not lose the other methods' work
        size = (1, 1, *question.inputs.shape[2:])
        nothing = torch.full(size, torch.nan, dtype=torch.float32, device="cpu")
        return Answer(nothing, cost=cost, error=failure_words(failure))
    measures, troubles = _measure(
        task, method, question, target, answer.attributions, plane, mask, truth
    )
    return Answer(
        attributions=plane.cpu()[None, None],
        passes=answer.passes,
        infomap=None if answer.infomap is None else answer.infomap.cpu(),
        mask=mask.cpu(),
        cost=cost,
        measured=measures,
        troubles=troubles,
    )


def _measure(
    task: Task,
    method: Method,
    question: Question,
    target: int,
    attributions: Tensor,
    plane: Tensor,
    mask: Tensor,
    truth: Truth | None,
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Run every metric; one that fails says why."""
    quiet = replace(question, show_progress=False)

    def attribute(inputs: Tensor) -> Tensor:
        return run_one(method, replace(quiet, inputs=inputs)).attributions

    sample = Sample(
        forward=task.model,
        inputs=question.inputs,
        target=target,
        attributions=attributions,
        plane=plane,
        mask=mask,
        attribute=attribute,
        fill=task.fill,
        truth=None if truth is None else truth.mask,
        boxes=None if truth is None else truth.boxes,
        seed=task.seed,
        score=task.score,
    )
    found: dict[str, Measured] = {}
    troubles: dict[str, str] = {}
    for name, metric in task.metrics.items():
        try:
            foreign = type(metric) not in METRICS.values()
            models = (task.model, task.users) if foreign else (task.model,)
            with as_it_was(*models, seed=task.seed, writes=foreign):
                # Others' methods may hold layers of the network, which see nothing that a copy
                # does.
                found[name] = metric(replace(sample, forward=task.users) if foreign else sample)
        except Exception as failure:  # as with methods
            troubles[name] = failure_words(failure)
    return found, troubles


def _mask(plane: Tensor, rule: Rule) -> Tensor:
    """Return the pixels that pass the rule; an empty mask shows in its share, without a warning."""
    with quiet("The mask of example"):
        mask: Tensor = threshold_mask(plane[None, None], rule)
    return mask[0, 0]


def failure_words(failure: Exception) -> str:
    """Return the words of an exception on one line."""
    kind = "" if isinstance(failure, ArgumentError) else f"{type(failure).__name__}: "
    return kind + " ".join(str(failure).split())


def outcome_of(
    method: Method, found: Sequence[Answer], metrics: Mapping[str, Metric]
) -> MethodOutcome:
    """Return one method's answers as arrays; NaN stands for missing values."""
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
    """Add every method's paired differences from the reference, if there is one."""
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
    """Compare the maps and the masks; return nothing if fewer than two methods gave any."""
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
    """Return the metrics as columns of the table."""
    return tuple(Column(name, metric.better, metric.note) for name, metric in metrics.items())


def troubles_of(methods: Sequence[Method], found: Sequence[Sequence[Answer]]) -> tuple[str, ...]:
    """Say in a sentence for each method and metric what the metric failed at."""
    said: dict[tuple[str, str], str] = {}
    for k, picture in enumerate(found):
        for method, one in zip(methods, picture, strict=True):
            for metric, why in one.troubles.items():
                words = f"No {metric} of {method.name} on picture {k}: {why}"
                said.setdefault((method.name, metric), words)
    return tuple(said.values())


def _given(outcome: MethodOutcome, arrays: FloatArray | BoolArray) -> list[Tensor | None]:
    """Return one array per picture, None if the method failed."""
    return [
        torch.from_numpy(array) if done else None
        for array, done in zip(arrays, outcome.done, strict=True)
    ]


def _curve(found: Answer, name: str) -> Numbers | None:
    """Return the curve that a metric found, if it walks through the picture."""
    curve = found.measured[name].curve if name in found.measured else None
    return None if curve is None else curve.double().numpy()


def _values(name: str, metric: Metric, found: Sequence[Answer]) -> Numbers:
    """Return a metric's value for each picture, NaN if there is none."""
    values = _numbers(one.measured[name].value if name in one.measured else None for one in found)
    measured = [one.measured[name].overlaps for one in found if name in one.measured]
    overlaps = [each for each in measured if each is not None]
    if isinstance(metric, CommonThreshold) and overlaps:
        values[~np.isnan(values)] = metric.over(torch.stack(overlaps)).numpy()
    return values


def _numbers(values: Iterable[float | None]) -> Numbers:
    """Return an array, with NaN for None."""
    return np.array([math.nan if value is None else float(value) for value in values])

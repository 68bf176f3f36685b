# Every method on one picture: asked, timed, cut into a mask, and measured.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet
from captum_infomask.comparison.costs import Cost, as_it_is, measured
from captum_infomask.comparison.method_protocol import Answer, Method, Question
from captum_infomask.engines.outputs import explained, tensor_within
from captum_infomask.evaluation.choose_metrics import METRICS
from captum_infomask.evaluation.given_truth import Truth
from captum_infomask.evaluation.metric_protocol import Measured, Metric, Sample
from captum_infomask.evaluation.model_as_it_was import as_it_was
from captum_infomask.masks import Rule, threshold_mask
from captum_infomask.scores.heads import Doubt, rows_of
from captum_infomask.scores.score import Score


@dataclass(frozen=True, eq=False)
class Task:
    """What all pictures share.

    Attributes:
        model: A copy of the network, (n, C, H, W) → outputs (n, M), or (n,).
        users: The network itself, which functions of the user's may hold.
        score: How outputs are read.
        has_classes: Whether they have a dimension of classes.
        methods: The methods.
        metrics: By name.
        rule: Where masks are cut.
        fill: What hidden pixels become, (1, C, H, W).
        pictures: How many there are.
        seed: The seed of every method and metric on every picture.
        show_progress: Whether methods show bars of their own.
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
    """Run every method on one picture, (1, C, H, W); a failure is that method's only."""
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
    """Ask a method about a picture of its own, and leave all of the user's as it was.

    Args:
        method: The method.
        question: What it is asked.
        cost: Where what the method cost is noted; what is noted to be put back is not its cost.
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
    except Exception as failure:  # one method's failure must not lose the others' work
        size = (1, 1, *question.inputs.shape[2:])
        nothing = torch.full(size, torch.nan, dtype=torch.float32, device="cpu")
        return Answer(nothing, cost=cost, error=_words(failure))
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
    """Ask every metric; one that fails says why."""
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
                # Others' may hold layers of the network, which see nothing of what a copy does.
                found[name] = metric(replace(sample, forward=task.users) if foreign else sample)
        except Exception as failure:  # as with methods
            troubles[name] = _words(failure)
    return found, troubles


def _mask(plane: Tensor, rule: Rule) -> Tensor:
    """What passes the rule; an empty mask is seen in its share and needs no warning."""
    with quiet("The mask of example"):
        mask: Tensor = threshold_mask(plane[None, None], rule)
    return mask[0, 0]


def _words(failure: Exception) -> str:
    """An exception on one line."""
    kind = "" if isinstance(failure, ArgumentError) else f"{type(failure).__name__}: "
    return kind + " ".join(str(failure).split())


@dataclass(frozen=True, eq=False)
class Answers:
    """What the network says of all pictures.

    Attributes:
        log_probabilities: (N, M), float64, on the CPU; (N, 1) for one logit per picture; (N, G) for
            groups of classes.
        has_classes: Whether an output has a dimension of classes.
        outputs: M.
    """

    log_probabilities: Tensor
    has_classes: bool
    outputs: int


def network_answers(model: Callable[..., Any], inputs: Tensor, seed: int, score: Score) -> Answers:
    """Ask the network about all pictures, one after another.

    Raises:
        ArgumentError: What comes back for a picture is no row of finite numbers that the score
            can read.
    """
    found: list[Tensor] = []
    has_classes, doubt = True, Doubt(score.head)
    for picture in inputs.split(1):
        with (
            explained(model, (picture,), "model"),
            as_it_was(model, seed=seed),
            torch.no_grad(),
        ):
            output = model(picture.detach().clone())
        _check_answer(output, score)
        has_classes = output.dim() > 1
        rows = rows_of(output.detach())
        score.check(rows, torch.zeros(1, 1).long(), "model")
        doubt.see(rows)
        # A probability of 0 is the smallest one of the output's own type.
        wide = rows if score.head in ("probs", "log_probs") else rows.double()
        answer = score.log_probabilities(wide).double().cpu()
        if not bool(answer.isfinite().all()):
            raise ArgumentError("Expected `model` to return finite logits; got NaN or infinity.")
        found.append(answer[0])
    doubt.say()
    return Answers(torch.stack(found), has_classes, rows.shape[1])


def _check_answer(output: object, score: Score) -> None:
    """Refuse what is no row of numbers: two classes for a softmax, one or more for a sigmoid."""
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    if score.head == "sigmoid":
        least, form = 1, "logits (N, M), or (N,) for one logit each,"
        shape = (*shape, 1) if len(shape) == 1 else shape
    else:
        least, form = 2, f"{score.head} (N, M) of at least two classes"
    if len(shape) != 2 or shape[0] != 1 or shape[1] < least:
        given, hint = type(output).__name__, tensor_within(output)
        if isinstance(output, Tensor):
            given = describe(output)
            one = shape in ((1,), (1, 1))
            hint = " For one logit per picture pass head='sigmoid'." if one else ""
        raise ArgumentError(
            f"Expected `model` to return {form}; got {given} for one picture.{hint}"
        )

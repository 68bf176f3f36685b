# Check the arguments of compare(), and ask the network about the pictures.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_infomask._batches import dtype_of
from captum_infomask._categories import check_count
from captum_infomask._checks import check_callable, check_inputs, describe, plain
from captum_infomask._errors import ArgumentError
from captum_infomask._outputs import read_logits
from captum_infomask._process import users_default
from captum_infomask._types import Target
from captum_infomask.engines.outputs import explained
from captum_infomask.evaluation.model_as_it_was import as_it_was
from captum_infomask.imputers.constant import Constant
from captum_infomask.masks import FalseDiscoveries, Rule, as_rule
from captum_infomask.report.page_content import PhotoArray
from captum_infomask.results.map_pictures import checked_pictures
from captum_infomask.scores.heads import Doubt, rows_of
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import ONE_LOGIT, target_table


def checked_rule(rule: Rule | float | None) -> Rule | None:
    """Return the rule that cuts the attributions of every method, if one is given."""
    if rule is None:
        return None
    checked = as_rule(rule)
    if isinstance(checked, FalseDiscoveries):
        raise ArgumentError(
            f"Expected `rule` to cut the attributions of every method; got {rule}, which needs the "
            f"e-values of an InfoMap. Write InfoMask(model).score_regions(...).mask(rule)."
        )
    return checked


def checked_images(model: object, inputs: object) -> Tensor:
    """Return finite images (N, C, H, W), without a graph, of the network's floating type."""
    check_callable("model", model)
    if isinstance(inputs, tuple) or check_inputs(inputs)[0].dim() != 4:
        is_one = isinstance(inputs, Tensor) and inputs.dim() == 3 and inputs.shape[0] in (1, 3)
        hint = " inputs.unsqueeze(0) adds a batch dimension to one image." if is_one else ""
        if isinstance(inputs, Tensor) and inputs.dim() in (3, 5):
            hint += " Signals (N, C, T) and volumes (N, C, D, H, W) go to InfoMask(model) alone."
        raise ArgumentError(
            f"Expected `inputs` to be one tensor of images (N, C, H, W); got {describe(inputs)}."
            f"{hint}"
        )
    images = check_inputs(inputs)[0].detach()
    if not bool(images.isfinite().all()):
        raise ArgumentError("Expected `inputs` to be finite; got NaN or infinity.")
    return images.to(dtype_of(model, images))


def checked_target(target: Target, n: int) -> list[int] | None:
    """Return one class per picture; None if the network is asked."""
    table = target_table(target, n)
    if table is not None and table.shape[1] != 1:
        raise ArgumentError(
            f"Expected `target` with one class per picture, for logits (N, M); got "
            f"{describe(target)}. A class for each is a list, such as {table[0].tolist()}."
        )
    return None if table is None else [int(label) for label in table[:, 0]]


def targets_among(table: list[int] | None, answers: Tensor, names: tuple[str, ...]) -> list[int]:
    """Return the targets, now that the network's answers (N, M) are known."""
    classes = answers.shape[1]
    check_count(names, classes)
    if table is None:
        return [int(label) for label in answers.argmax(1)]
    wrong = [label for label in table if label >= classes]
    if wrong and classes == 1:
        raise ArgumentError(
            f"Expected `target` 0 or None for one logit per picture; got {wrong[0]}. {ONE_LOGIT}"
        )
    if wrong:
        raise ArgumentError(f"Expected `target` from 0 to {classes - 1}; got {wrong[0]}.")
    return table


Fill: TypeAlias = float | Tensor


def checked_fill(inputs: Tensor, baselines: Any) -> Fill:
    """Return a number, or one picture for all examples; 0 if None."""
    if baselines is None:
        return 0.0
    number = plain(baselines)
    picture: Tensor = Constant(number).prepare((inputs,)).pictures[0]
    if len(picture) != 1:
        raise ArgumentError(
            f"Expected `baselines` to be a number or one picture {(1, *inputs.shape[1:])} for all "
            f"inputs; got {describe(baselines)}."
        )
    return picture if isinstance(number, Tensor) else float(number)


def fill_picture(inputs: Tensor, fill: Fill) -> Tensor:
    """Return the fill as a picture, (1, C, H, W)."""
    picture: Tensor = Constant(fill).prepare((inputs,)).pictures[0]
    return picture.expand(1, *inputs.shape[1:])


def fill_words(fill: Fill) -> str:
    """Say what the fill is."""
    return f"{fill:g}" if isinstance(fill, float) else "the picture given as `baselines`"


def shown_pictures(pictures: Any, inputs: Tensor) -> tuple[PhotoArray, tuple[str, ...]]:
    """Return uint8 pictures (N, H, W, 3), and their names if they were given by name.

    If the user gives none, each input is scaled to 0..255 by itself. Three channels are colours;
    any other number is averaged to grey.
    """
    n, _, height, width = inputs.shape
    if pictures is None:
        return np.stack([_shown(picture) for picture in inputs.detach()]), ()
    names: tuple[str, ...] = ()
    if isinstance(pictures, Mapping):
        names, pictures = tuple(map(str, pictures)), list(pictures.values())
    return checked_pictures("pictures", pictures, n, height, width), names


def _shown(picture: Tensor) -> PhotoArray:
    """One input (C, H, W) as colours or grey."""
    values = picture.double().cpu()
    if len(values) != 3:
        values = values.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = float(values.min()), float(values.max())
    scaled = 255 * (values - low) / ((high - low) or 1.0)
    made: PhotoArray = scaled.round().byte().permute(1, 2, 0).contiguous().numpy()
    return made


@dataclass(frozen=True, eq=False)
class Answers:
    """The network's answers for all pictures.

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
        ArgumentError: The output for a picture is not a row of finite numbers that the score can
            read.
    """
    found: list[Tensor] = []
    has_classes, doubt = True, Doubt(score.head)
    for picture in inputs.split(1):
        with (
            explained(model, (picture,), "model"),
            as_it_was(model, seed=seed),
            torch.no_grad(),
            users_default(),
        ):
            output = read_logits(model(picture.detach().clone()), "model")
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


def _check_answer(output: Tensor, score: Score) -> None:
    """Refuse all but a row of numbers: two classes for a softmax, one or more for a sigmoid."""
    shape = tuple(output.shape)
    if score.head == "sigmoid":
        least, form = 1, "logits (N, M), or (N,) for one logit each,"
        shape = (*shape, 1) if len(shape) == 1 else shape
    else:
        least, form = 2, f"{score.head} (N, M) of at least two classes"
    if len(shape) != 2 or shape[0] != 1 or shape[1] < least:
        one = shape in ((1,), (1, 1))
        hint = " For one logit per picture pass head='sigmoid'." if one else ""
        raise ArgumentError(
            f"Expected `model` to return {form}; got {describe(output)} for one picture.{hint}"
        )

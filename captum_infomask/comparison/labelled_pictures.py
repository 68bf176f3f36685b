# What the pictures' true classes say about the bits of a comparison's methods.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.comparison.method_adapters import as_method
from captum_infomask.comparison.method_protocol import Counted
from captum_infomask.comparison.methods import CROP, Setting, make_methods
from captum_infomask.comparison.run_methods import Task, failure_words
from captum_infomask.engines.isolation import Isolation
from captum_infomask.evaluation.bits_reliability import bits_reliability, picture_labels
from captum_infomask.evaluation.model_as_it_was import as_it_was
from captum_infomask.results.reliability_of_bits import BitsReliability
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.score import Score


def checked_labels(
    labels: object, n: int, categories: Sequence[str], score: Score
) -> Tensor | None:
    """Return one true class per picture, long (n,); None if they are not given.

    Raises:
        ArgumentError: They are more or fewer, or no classes; or the outputs are no probabilities of
            classes that exclude each other, one of which is true.
    """
    if labels is None:
        return None
    if score.head not in SOFTMAX_HEADS or score.groups is not None:
        got = "groups" if score.groups is not None else f"head={score.head!r}"
        raise ArgumentError(
            f"Expected `labels` only with classes that exclude each other (head 'logits', "
            f"'log_probs' or 'probs', without groups), one of which is true; got {got}."
        )
    found = picture_labels(labels, n, categories, "compare(model, inputs, categories=names)")
    score.check_target(found[:, None], "labels")
    return found


def check_labels_among(labels: Tensor | None, classes: int) -> None:
    """Refuse labels beyond the classes, now that the network's answers are known."""
    if labels is not None and int(labels.max()) >= classes:
        raise ArgumentError(
            f"Expected `labels` from 0 to {classes - 1}, the network's classes; got "
            f"{int(labels.max())}."
        )


def reliability_of(
    task: Task, setting: Setting, isolation: Isolation | None, labels: Tensor | None
) -> tuple[tuple[BitsReliability, ...], tuple[str, ...]]:
    """Check the methods whose values count from the prior; if there is none, the crop view.

    Args:
        task: The methods as they ran, and the network that they ran on.
        setting: The settings of the default methods, from which the crop view is made.
        isolation: The isolation that makes the crop view follow the copy of the network, if there
            is a copy.
        labels: The true classes, long (N,); None checks nothing.

    Returns:
        The results, and a sentence for each method whose check failed.
    """
    if labels is None:
        return (), ()
    asked = {method.name: method.counted for method in task.methods if method.counted is not None}
    found: list[BitsReliability] = []
    troubles: list[str] = []
    for name, one in (asked or _crop(setting, isolation)).items():
        try:
            with as_it_was(task.model, seed=task.seed):
                checked = _checked(task, one, setting.inputs, labels)
        except Exception as failure:  # the maps are made, and must not be lost
            troubles.append(f"No reliability diagram of {name}: {failure_words(failure)}")
        else:
            found.append(replace(checked, name=_named(name, checked)) if asked else checked)
    return tuple(found), tuple(troubles)


def _crop(setting: Setting, isolation: Isolation | None) -> dict[str, Counted]:
    """Return what the crop view, which is no method of the comparison, counts."""
    ((name, given),) = make_methods(setting, (CROP,)).items()
    method = as_method(name, given)
    counted = (method if isolation is None else method.isolated(isolation)).counted
    return {} if counted is None else {name: counted}


def _checked(task: Task, counted: Counted, inputs: Tensor, labels: Tensor) -> BitsReliability:
    settings = {"seed": task.seed, "show_progress": task.show_progress, **counted.options}
    return bits_reliability(counted.infomask, inputs, labels, view=counted.view, **settings)


def _named(method: str, found: BitsReliability) -> str:
    """Name a result after its method; the view is named once."""
    words = found.name
    if found.view in method:
        words = words.removeprefix(f"{found.view}, ")
    return f"{method}, {words}"

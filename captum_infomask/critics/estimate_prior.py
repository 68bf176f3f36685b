# Estimates the prior of the classes, from labels or predictions, or that of a regression's values.
from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from torch import Tensor

from captum_infomask._batches import batches, checked_batch, checked_labels, placed
from captum_infomask._checks import (
    check_callable,
    check_initialised,
    describe,
    one_of,
    positive_int,
    short_repr,
)
from captum_infomask._errors import ArgumentError
from captum_infomask._outputs import read_logits
from captum_infomask._random import OwnGenerators
from captum_infomask.engines.dropout import warn_of_mode
from captum_infomask.engines.outputs import explained
from captum_infomask.engines.untouched import untouched
from captum_infomask.scores.class_scores import ClassScore, choose_classes
from captum_infomask.scores.heads import Doubt
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import Named, network_of
from captum_infomask.scores.value_heads import Normal, normal_of

Of = Literal["labels", "predictions", "values"]

_NAME = "labels_or_loader"


@overload
def estimate_prior(
    labels_or_loader: Tensor | Sequence[int] | Iterable[Any],
    *,
    of: Literal["labels", "predictions"] = "labels",
    forward_func: Callable[..., Any] | Named | None = None,
    score: Score | None = None,
    classes: int | None = None,
    smoothing: float = 1.0,
    show_progress: bool = False,
) -> Tensor: ...


@overload
def estimate_prior(
    labels_or_loader: Tensor | Sequence[float] | Iterable[Any],
    *,
    of: Literal["values"],
    show_progress: bool = False,
) -> Normal: ...


def estimate_prior(
    labels_or_loader: Any,
    *,
    of: Of = "labels",
    forward_func: Callable[..., Any] | Named | None = None,
    score: Score | None = None,
    classes: int | None = None,
    smoothing: float = 1.0,
    show_progress: bool = False,
) -> Tensor | Normal:
    r"""Estimate the prior of the classes from labels or predictions, or that of values.

    .. math::

        \pi_k = \frac{n_k + \alpha}{n + \alpha M},

    Laplace's smoothing of the counts :math:`n_k` of n labels in M classes. With the default α = 1,
    a class without labels has a probability above 0, so its information is defined. With α = 0 the
    result is the labels' frequencies.

    With α = 1 the bits of **one** other picture are still evidence: for any network that has not
    learned from these n labels, the mean of 2^bits over labels that do not depend on what was shown
    is at most (n + M)/(n + 1). Sums over N pictures can be off by more, if N is not far below n.
    :func:`combine_evidence` of ClassMaps or of a run needs no prior (docs/bits_as_evidence.md).

    For a regression network, ``of="values"`` gives the :class:`Normal` distribution with the mean
    and the standard deviation of the values, for the heads :class:`Gaussian` and :class:`Laplace`.

    Args:
        labels_or_loader: Integers (n,) as a tensor, array, list or tuple; or a loader that yields
            (inputs, labels), whose inputs are not read. For predictions: inputs, or a loader that
            yields inputs or (inputs, labels), whose labels are not read. For values: numbers (n,),
            or (n, D) for D columns of the output, or a loader that yields (inputs, values).
        of: ``labels``, or ``predictions``: the likeliest class of each input. The bits of a
            network's own predictions are evidence only with this prior. Or ``values``, of a
            regression; the last five arguments are not for these, except ``show_progress``.
        forward_func: For predictions: the model (in eval mode), or any function that returns (N,
            M); or a ``Classifier``.
        score: For predictions: how outputs are read, if not as logits of a softmax.
        classes: M. If None, the largest label + 1; predictions need none, as M is the output's. The
            largest label is too small if the last classes are not among the labels, so give M for a
            network with rare classes.
        smoothing: α ≥ 0.
        show_progress: Show a progress bar on stderr, for a loader.

    Returns:
        Tensor of shape (M,), float64, which sums to 1: InfoMask's ``prior``. For values, a
        :class:`Normal`.

    Raises:
        ArgumentError: There are no labels, labels are not integers from 0 to ``classes`` − 1,
            ``smoothing`` is negative, predictions lack a ``forward_func``, or ``classes`` is not
            the M of its output. Values are not finite, or do not differ.

    Example:
        >>> from captum_infomask import estimate_prior
        >>> estimate_prior([0, 0, 0, 1, 1, 2, 0], classes=3)
        tensor([0.5000, 0.3000, 0.2000], dtype=torch.float64)
        >>> import torch
        >>> estimate_prior(torch.eye(3)[[0, 0, 2]], of="predictions", forward_func=lambda x: x)
        tensor([0.5000, 0.1667, 0.3333], dtype=torch.float64)
        >>> estimate_prior([31.0, 45.0, 38.0], of="values")
        Normal(mean=38.0, std=7.0)

    Source: Laplace's rule of succession.
    """
    if classes is not None:
        classes = positive_int("classes", classes)
    if (
        not isinstance(smoothing, numbers.Real)
        or isinstance(smoothing, bool)
        or not 0 <= smoothing < math.inf
    ):
        raise ArgumentError(
            f"Expected `smoothing` to be a finite number of at least 0; got "
            f"{short_repr(smoothing)}."
        )
    one_of("of", of, get_args(Of))
    if of == "values":
        counting = {"classes": classes, "smoothing": None if smoothing == 1 else smoothing}
        _check_not_given("values", forward_func=forward_func, score=score, **counting)
        return normal_of(_values(labels_or_loader, show_progress), _NAME)
    if of == "predictions":
        counts = _predictions_count(labels_or_loader, forward_func, score, classes, show_progress)
    else:
        _check_not_given("labels", forward_func=forward_func, score=score)
        counts = _labels_count(labels_or_loader, classes, show_progress)
    if int(counts.sum()) == 0:
        raise ArgumentError(f"Expected `{_NAME}` to hold at least one label; got none.")
    weights = counts.double() + float(smoothing)
    return weights / weights.sum()


def _check_not_given(of: Of, **arguments: object) -> None:
    for name, given in arguments.items():
        if given is not None:
            meant = "labels" if name in ("classes", "smoothing") else "predictions"
            raise ArgumentError(
                f"Expected no `{name}` for of={of!r}, which are taken as they are; got "
                f"{describe(given)}. Did you mean of={meant!r}?"
            )


def _values(given: Any, show_progress: bool) -> Any:
    """Values as they are given, or those of all batches of a loader, (n,) or (n, D)."""
    is_numbers = isinstance(given, list | tuple) and bool(given) and _is_row(given[0])
    if isinstance(given, Tensor | np.ndarray) or is_numbers:
        return given
    parts = []
    with OwnGenerators(None):  # a DataLoader draws from the global generator
        for batch in batches(
            given, name=_NAME, description="Reading values", show_progress=show_progress
        ):
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise ArgumentError(
                    f"Expected `{_NAME}` to hold numbers (n,) or (n, D), or to yield (inputs, "
                    f"values); it yielded {describe(batch)}."
                )
            try:
                part = torch.as_tensor(batch[1], dtype=torch.float64, device="cpu")
            except (TypeError, ValueError, RuntimeError):
                part = torch.empty(0, device="cpu")
            if not part.numel():
                raise ArgumentError(
                    f"Expected `{_NAME}` to yield values (B,) or (B, D); got {describe(batch[1])}."
                )
            parts.append(part.detach())
    if len({part.shape[1:] for part in parts}) > 1 or not parts[0].dim():
        raise ArgumentError(
            f"Expected `{_NAME}` to yield values (B,) or (B, D); got {describe(batch[1])}."
        )
    return torch.cat(parts)


def _is_row(entry: object) -> bool:
    """Whether this is a number, or a list of numbers."""
    first = entry[0] if isinstance(entry, list | tuple) and entry else entry
    return isinstance(first, numbers.Number)


def _more(counts: Tensor, labels: Tensor, classes: int | None) -> Tensor:
    """The counts with some more labels; refuse labels that no class has."""
    found = torch.bincount(labels, minlength=len(counts))
    if classes is not None and len(found) > classes:
        raise ArgumentError(
            f"Expected `{_NAME}` to hold labels from 0 to {classes - 1}, as `classes` is "
            f"{classes}; got {len(found) - 1}."
        )
    found[: len(counts)] += counts
    return found


def _labels_count(given: Any, classes: int | None, show_progress: bool) -> Tensor:
    """The number of labels of each class."""
    counts = torch.zeros(classes or 0, dtype=torch.long)
    with OwnGenerators(None):  # a DataLoader draws from the global generator
        for labels in _labels(given, show_progress):
            counts = _more(counts, labels, classes)
    return counts


def _labels(labels_or_loader: Any, show_progress: bool) -> Iterator[Tensor]:
    """Yield checked labels on the CPU: all at once, or a loader's batch by batch."""
    given = labels_or_loader
    if isinstance(given, np.ndarray) and given.dtype.kind in "iu":
        given = torch.from_numpy(given)
    is_list = isinstance(given, list | tuple) and given and isinstance(given[0], numbers.Number)
    if isinstance(given, Tensor) or is_list:
        has_floats = any(isinstance(each, float) for each in given) if is_list else False
        if has_floats or (isinstance(given, Tensor) and given.is_floating_point()):
            raise ArgumentError(
                f"Expected `{_NAME}` to be integers (n,), a class per example; got "
                f"{describe(given)}. of='values' takes the values of a regression."
            )
        yield checked_labels(given, _NAME, 0).cpu()
        return
    found = batches(given, name=_NAME, description="Counting labels", show_progress=show_progress)
    for number, batch in enumerate(found):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ArgumentError(
                f"Expected `{_NAME}` to be integers (n,), or to yield (inputs, labels); it yielded "
                f"{describe(batch)}."
            )
        yield checked_labels(batch[1], _NAME, number).cpu()


def _predictions_count(
    given: Any,
    forward_func: Callable[..., Any] | Named | None,
    score: Score | None,
    classes: int | None,
    show_progress: bool,
) -> Tensor:
    """The number of inputs whose likeliest class is each of the M classes."""
    forward_func = None if forward_func is None else network_of(forward_func)
    check_callable("forward_func", forward_func)
    assert forward_func is not None, "as checked"
    check_initialised("forward_func", forward_func)
    score = (score or Score()).with_classes("predictions are the likeliest classes")
    if score.groups is not None or score.head == "raw":
        raise ArgumentError(
            f"Expected `score` with probabilities of classes, without groups; got {score}."
        )
    warn_of_mode(forward_func, is_sampled=False)
    loader = [given] if isinstance(given, Tensor) else given
    counts, doubt = torch.zeros(classes or 0, dtype=torch.long), Doubt(score.head)
    with untouched(forward_func):
        found = batches(
            loader, name=_NAME, description="Counting predictions", show_progress=show_progress
        )
        for number, batch in enumerate(found):
            inputs = batch[0] if isinstance(batch, tuple | list) and batch else batch
            inputs = checked_batch(inputs, _NAME, number)
            with explained(forward_func, (inputs,)):
                output = read_logits(forward_func(placed(forward_func, inputs)))
            totals = _information(output, len(inputs), score)
            doubt.see(output)
            if classes is not None and classes != totals.shape[1]:
                raise ArgumentError(
                    f"Expected `classes` to be {totals.shape[1]}, the M of `forward_func`'s output "
                    f"(N, M), or None; got {classes}."
                )
            if not len(counts):
                classes = totals.shape[1]
                counts = torch.zeros(classes, dtype=torch.long)
            counts = _more(counts, choose_classes(1, totals, score)[:, 0], classes)
    doubt.say()
    return counts


def _information(output: Tensor, count: int, score: Score) -> Tensor:
    """The information of a batch about each class, (B, M), on the CPU."""
    if output.dim() != 2 or len(output) != count:
        raise ArgumentError(
            f"Expected `forward_func` to return (N, M) for {count} inputs; got {describe(output)}."
        )
    reader = ClassScore(score)
    reader.check(output, None)
    return reader(output, None).cpu()

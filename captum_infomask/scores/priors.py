# Priors, estimated from labels; and PC-softmax, the loss that trains with a prior.
from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from captum_infomask._batches import batches, checked_labels
from captum_infomask._checks import describe, one_of, positive_int, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._random import OwnGenerators
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import Prior

Reduction = Literal["mean", "sum", "none"]

_NAME = "labels_or_loader"


def estimate_prior(
    labels_or_loader: Tensor | Sequence[int] | Iterable[Any],
    *,
    classes: int | None = None,
    smoothing: float = 1.0,
    show_progress: bool = False,
) -> Tensor:
    r"""Estimate the prior of the classes from labels, or from a loader in one pass.

    .. math::

        \pi_k = \frac{n_k + \alpha}{n + \alpha M},

    Laplace's smoothing of the counts :math:`n_k` of n labels in M classes. With the default α = 1,
    a class without labels has a probability above 0, so its information is defined. With α = 0 the
    result is the labels' frequencies.

    Args:
        labels_or_loader: Integers (n,) as a tensor, array, list or tuple; or a loader that yields
            (inputs, labels), whose inputs are not read.
        classes: M. If None, the largest label + 1. This is too few if the last classes are not
            among the labels, so give M for a network with rare classes.
        smoothing: α ≥ 0.
        show_progress: Show a progress bar on stderr, for a loader.

    Returns:
        Tensor of shape (M,), float64, which sums to 1: InfoMask's ``prior``.

    Raises:
        ArgumentError: There are no labels, labels are not integers from 0 to ``classes`` − 1, or
            ``smoothing`` is negative.

    Example:
        >>> from captum_infomask import estimate_prior
        >>> estimate_prior([0, 0, 0, 1, 1, 2, 0], classes=3)
        tensor([0.5000, 0.3000, 0.2000], dtype=torch.float64)

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
    counts = torch.zeros(classes or 0, dtype=torch.long)
    with OwnGenerators(None):  # a DataLoader draws from the global generator
        for labels in _labels(labels_or_loader, show_progress):
            found = torch.bincount(labels, minlength=len(counts))
            if classes is not None and len(found) > classes:
                raise ArgumentError(
                    f"Expected `{_NAME}` to hold labels from 0 to {classes - 1}, as `classes` is "
                    f"{classes}; got {len(found) - 1}."
                )
            found[: len(counts)] += counts
            counts = found
    if int(counts.sum()) == 0:
        raise ArgumentError(f"Expected `{_NAME}` to hold at least one label; got none.")
    weights = counts.double() + float(smoothing)
    return weights / weights.sum()


def pc_cross_entropy(
    logits: Tensor, target: Tensor, prior: Prior, *, reduction: Reduction = "mean"
) -> Tensor:
    r"""Cross-entropy of the prior-corrected softmax, to train a network with a skewed prior.

    .. math::

        -\left( f_y - \log \sum_k \pi_k\, e^{f_k} \right),

    which is the negative of the information in nats, as ``trained_with="pc_softmax"`` reads it. So
    it is the negative of the Donsker–Varadhan bound with the logits as the critic. At its minimum,
    :math:`f_y = \log p(y \mid x) / p(y)` up to a constant: the prior is not learnt. It is
    differentiable. Half precision is computed in float32.

    Args:
        logits: (N, M), (N, M, d1, …), or (M,) for one example.
        target: Integers (N,), (N, d1, …) or (): a class for each.
        prior: p(y), one probability per class; uniform if None. It may be 0 for a class that never
            occurs as a target.
        reduction: ``mean``, ``sum``, or ``none`` for a value per target.

    Returns:
        Tensor of shape (), or of ``target``'s shape, in nats.

    Raises:
        ArgumentError: Shapes do not fit, a target is out of range or has prior 0, or ``reduction``
            is unknown.

    Example:
        >>> import torch
        >>> from captum_infomask import pc_cross_entropy
        >>> logits, labels = torch.eye(3)[:2], torch.tensor([0, 1])
        >>> print(f"{pc_cross_entropy(logits, labels, prior=[0.5, 0.3, 0.2]):.3f} nats")
        -0.482 nats

    Source: Qin, Kim & Gedeon, arXiv 1911.10688.
    """
    one_of("reduction", reduction, ("mean", "sum", "none"))
    score = Score(prior=prior, trained_with="pc_softmax", unit="nats")
    _check_loss(logits, target)
    batch = logits if logits.dim() > 1 else logits[None]
    rows = batch.movedim(1, -1).reshape(-1, batch.shape[1])
    table = target.detach().reshape(-1, 1).cpu().long()
    score.check_target(table)
    score.check(rows, table)
    losses = -score(rows, table).reshape(target.shape)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _labels(labels_or_loader: Any, show_progress: bool) -> Iterable[Tensor]:
    """Yield checked labels on the CPU: all at once, or a loader's batch by batch."""
    given = labels_or_loader
    if isinstance(given, np.ndarray) and given.dtype.kind in "iu":
        given = torch.from_numpy(given)
    if isinstance(given, Tensor) or (
        isinstance(given, list | tuple) and given and isinstance(given[0], numbers.Number)
    ):
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


def _check_loss(logits: object, target: object) -> None:
    """Refuse logits and targets whose shapes are not those of a cross-entropy."""
    if not isinstance(logits, Tensor) or logits.dim() == 0 or logits.numel() == 0:
        raise ArgumentError(
            f"Expected `logits` to be a tensor (N, M, ...), or (M,); got {describe(logits)}."
        )
    wanted = (len(logits), *logits.shape[2:]) if logits.dim() > 1 else ()
    if (
        not isinstance(target, Tensor)
        or target.shape != wanted
        or target.is_floating_point()
        or target.is_complex()
        or target.dtype == torch.bool
    ):
        raise ArgumentError(
            f"Expected `target` to hold integers {wanted}, a class for each of the `logits` of "
            f"shape {tuple(logits.shape)}; got {describe(target)}."
        )

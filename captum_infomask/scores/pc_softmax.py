# PC-softmax: the loss that trains a network with a prior.
from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import Prior

Reduction = Literal["mean", "sum", "none"]


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

# Bounds of the conditional mutual information, from a critic's values (paper Eq. 17 to 27).
from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Target
from captum_infomask.scores.information import NATS_PER_UNIT, Prior, Score, TrainedWith, Unit
from captum_infomask.scores.sandwich import Sandwich, sandwich_rows
from captum_infomask.scores.targets import target_table


def donsker_varadhan(
    joint: Tensor, marginal: Tensor, *, prior: Prior = None, unit: Unit = "bits"
) -> Tensor:
    r"""Lower bound of the conditional mutual information I(Y; Z | X) from a critic's values.

    .. math::

        \frac{1}{N} \sum_{n} \left( E_z\left[T(x_n, z, y_n)\right]
            - \log E_z\left[\sum_k \pi_k\, e^{T(x_n, z, k)}\right] \right),

    over S samples z of a stochastic critic; a deterministic one has S = 1. Whatever the critic, no
    more than the information that there is, up to the error of a mean over N examples; equal to it
    for :math:`T = \log p(y \mid x) / p(y)`. For a deterministic network's logits and a uniform
    prior it is E[log softmax] + log M. Differentiable, so that a critic can be trained by it.

    Args:
        joint: T of each example's own label, (N,) or (S, N), in nats.
        marginal: T of every label, (N, M) or (S, N, M), in nats; also of K labels that were drawn
            from the prior, (N, K) or (S, N, K), for which ``prior`` is None.
        prior: π, a probability per label; uniform if None.
        unit: ``bits`` or ``nats``, of the result.

    Returns:
        Tensor of shape (), float64, in ``unit``.

    Raises:
        ArgumentError: Shapes do not fit each other or ``prior``, or a value is not finite.

    Example:
        >>> import torch
        >>> from captum_infomask import donsker_varadhan
        >>> logits = torch.tensor([[50.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 50.0]])
        >>> donsker_varadhan(logits[[0, 1], [0, 3]], logits)
        tensor(2.0000, dtype=torch.float64)

    Source: Qin & Kim, arXiv 1910.02629, Eq. 17 to 23, and Eq. 25 for a stochastic network.
    """
    score = Score.checked("logits", prior, "pc_softmax", 1.0, unit)
    _check_values(joint, marginal)
    classes = marginal.shape[-1]
    if score.prior is not None and len(score.prior) != classes:
        raise ArgumentError(
            f"Expected `prior` to hold {classes} probabilities, one per label of `marginal`; got "
            f"{len(score.prior)}."
        )
    values, every = (
        part.double().reshape(-1, *part.shape[-dims:]) for part, dims in ((joint, 1), (marginal, 2))
    )
    weights = every.new_full((classes,), 1 / classes)
    if score.prior is not None:
        weights = score.prior.to(every)
    partition = torch.logsumexp(every + weights.log(), dim=(0, 2)) - math.log(len(every))
    return (values.mean(0) - partition).mean() / NATS_PER_UNIT[score.unit]


def log_softmax_sandwich(
    logits: Tensor,
    target: Target,
    *,
    prior: Prior = None,
    trained_with: TrainedWith = "cross_entropy",
    temperature: float = 1.0,
    unit: Unit = "bits",
) -> Sandwich:
    r"""Bounds of the information of a stochastic network about the labels, from samples.

    The critic is :math:`T = f/\tau - \log \pi` for a network trained by cross-entropy and
    :math:`T = f/\tau` for one trained by PC-softmax. In the paper's words, for a uniform prior:

    .. math::

        E_z[T_y] - \log E_z\left[\sum_k \pi_k e^{T_k}\right] \;\le\; E_z[\log \mathrm{softmax}_y]
            + \log M, \qquad E_z[\log \mathrm{softmax}_y] \;\le\; 0 \;\le\; I(Y; Z \mid X).

    With one sample the first three bounds are equal. Means of S samples stand for the
    expectations; the three move apart as S grows. The lower bound pays for the spread of a shift
    that all logits of a sample share, which softmax leaves undetermined: of all shifts, that of
    log-probabilities makes it largest, and equal to the information.

    Args:
        logits: (S, N, M), or (N, M) for one sample; half precision is welcome.
        target: The N labels, in any form that Captum accepts.
        prior: p(y), one probability per class; uniform if None.
        trained_with: ``cross_entropy`` or ``pc_softmax``.
        temperature: τ > 0.
        unit: ``bits`` or ``nats``.

    Returns:
        The bounds, their means over examples and standard errors.

    Raises:
        ArgumentError: A setting is out of range, or logits or target do not fit it.

    Example:
        >>> import torch
        >>> from captum_infomask import log_softmax_sandwich
        >>> samples = torch.tensor([[[2.0, 0.0]], [[4.0, 1.0]]])  # two samples, one example
        >>> bounds = log_softmax_sandwich(samples, target=0)
        >>> [round(value, 3) for value in (bounds.lower, bounds.information, bounds.upper)]
        [0.29, 0.873, 0.874]

    Source: Qin & Kim, arXiv 1910.02629, Eq. 25 to 27.
    """
    score = Score.checked("logits", prior, trained_with, temperature, unit)
    if not isinstance(logits, Tensor) or logits.dim() not in {2, 3} or logits.numel() == 0:
        raise ArgumentError(
            f"Expected `logits` to be a tensor (N, M), or (S, N, M) for S samples; got "
            f"{describe(logits)}."
        )
    samples = logits if logits.dim() == 3 else logits[None]
    table = target_table(target, samples.shape[1])
    score.check_target(table)
    score.check(samples[0], table)
    assert table is not None, "several classes need a target"
    if not bool(logits.isfinite().all()):
        raise ArgumentError(f"Expected `logits` to be finite; got {_count_wrong(logits)}.")
    per_example = sandwich_rows(score, samples.double(), table)
    return Sandwich(per_example, len(samples), score.unit)


def _check_values(joint: object, marginal: object) -> None:
    """Refuse values of a critic that are no tensors of fitting shapes, or not finite."""
    for name, values, form in (
        ("joint", joint, "(N,) or (S, N)"),
        ("marginal", marginal, "(N, M) or (S, N, M)"),
    ):
        dims = (1, 2) if name == "joint" else (2, 3)
        if (
            not isinstance(values, Tensor)
            or values.is_complex()
            or values.dim() not in dims
            or values.numel() == 0
        ):
            raise ArgumentError(
                f"Expected `{name}` to be a real tensor {form}; got {describe(values)}."
            )
        if not bool(values.isfinite().all()):
            raise ArgumentError(f"Expected `{name}` to be finite; got {_count_wrong(values)}.")
    assert isinstance(joint, Tensor)
    assert isinstance(marginal, Tensor)
    if joint.shape != marginal.shape[:-1]:
        raise ArgumentError(
            f"Expected `marginal` of shape {(*joint.shape, 'M')} for `joint` of shape "
            f"{tuple(joint.shape)}; got {tuple(marginal.shape)}."
        )


def _count_wrong(values: Tensor) -> str:
    """Say how many values are NaN or infinite."""
    return f"NaN or infinity in {int((~values.isfinite()).sum())} of {values.numel()} values"

# The Donsker–Varadhan bound, the log-softmax bound, and both together.
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._types import Target
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.readings import Samples
from captum_infomask.scores.score import Score, score_from
from captum_infomask.scores.score_settings import NATS_PER_UNIT, Prior, ScoreSettings, Unit
from captum_infomask.scores.targets import target_table

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PARTS = ("lower", "information", "upper", "ceiling")


@dataclass(frozen=True, eq=False, repr=False)
class Sandwich:
    r"""Bounds of a network's information about the labels, with means and errors over examples.

    Let z be samples of the network's logits, :math:`T` the critic, :math:`Z = \sum_k \pi_k e^{T_k}`
    and :math:`\log S_y = T_y - \log Z`. For every example, and so on average,

    .. math::

        E_z[T_y] - \log E_z[Z] \;\le\; E_z[\log S_y] \;\le\; \log E_z[S_y] \;\le\; -\log \pi_y .

    Attributes:
        per_example: (4, N), float64, in ``unit``: one row for each of the four values, in this
            order.
        samples: S, the number of samples of the logits.
        unit: ``bits`` or ``nats``.

    Example:
        >>> import torch
        >>> from captum_infomask import log_softmax_sandwich
        >>> sandwich = log_softmax_sandwich(torch.tensor([[[100.0, 0.0]], [[0.0, 0.0]]]), target=0)
        >>> print(f"{sandwich.information:.2f} of at most {sandwich.ceiling:.2f} bits")
        0.50 of at most 1.00 bits

    Source: Qin & Kim, arXiv 1910.02629, Eq. 25 to 27.
    """

    per_example: Tensor
    samples: int
    unit: str

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.per_example.shape[1]

    @property
    def lower(self) -> float:
        """The Donsker–Varadhan lower bound (Eq. 25)."""
        return self._mean("lower")

    @property
    def information(self) -> float:
        """The mean of log S_y over samples and examples."""
        return self._mean("information")

    @property
    def upper(self) -> float:
        """The information of the mean posterior."""
        return self._mean("upper")

    @property
    def ceiling(self) -> float:
        """The mean of −log π_y: log M for a uniform prior; no network can tell more."""
        return self._mean("ceiling")

    @property
    def log_softmax(self) -> float:
        """E[log p(y | x)] = information − ceiling, at most 0 (Eq. 26)."""
        return self.information - self.ceiling

    @property
    def standard_errors(self) -> dict[str, float]:
        """The standard error of each of the four means over examples; NaN for one example."""
        errors = self.per_example.std(dim=1) if self.n > 1 else torch.full((4,), math.nan)
        return dict(zip(_PARTS, (errors / math.sqrt(self.n)).tolist(), strict=True))

    def __repr__(self) -> str:
        errors = self.standard_errors
        parts = (f"{part}={self._mean(part):.4f}±{errors[part]:.4f}" for part in _PARTS[:3])
        return (
            f"Sandwich({', '.join(parts)}, ceiling={self.ceiling:.4f} {self.unit}; "
            f"n={self.n}, samples={self.samples})"
        )

    def _mean(self, part: str) -> float:
        """The mean over examples of one of the four values."""
        return float(self.per_example[_PARTS.index(part)].mean())


def sandwich_rows(score: Score, outputs: Iterable[Tensor], table: Tensor) -> Tensor:
    """Return the four bounds of each example, (4, N), float64, in the unit, on the CPU.

    Args:
        score: The reader of outputs; it must have a softmax head.
        outputs: Samples of the network's output, (N, M) each, checked; at least one.
        table: Each example's label, (N, 1).
    """
    account: Samples | None = None
    rows = torch.arange(len(table), device="cpu")
    for output in outputs:
        if account is None:
            account, classes = Samples(score, len(table)), output.shape[1]
        account.add(rows.to(output.device), output, table)
    assert account is not None, "at least one sample"
    reading = account.reading()
    assert reading.lower is not None, "a softmax head has bounds"
    assert reading.upper is not None, "a softmax head has bounds"
    ceiling = -score.log_priors(table[:, 0].cpu(), classes) / NATS_PER_UNIT[score.unit]
    parts = [part.double().cpu() for part in (reading.lower, reading.information, reading.upper)]
    # No network tells more than the ceiling, except by rounding.
    return torch.stack([*(part.minimum(ceiling) for part in parts), ceiling])


def with_softmax(score: Score) -> Score:
    """Return the score; refuse it if its critic lacks values of some classes."""
    one_of("head", score.with_classes("bounds are about classes").head, SOFTMAX_HEADS)
    return score


def donsker_varadhan(
    joint: Tensor, marginal: Tensor, *, prior: Prior = None, unit: Unit = "bits"
) -> Tensor:
    r"""Lower bound of the conditional mutual information I(Y; Z | X) from a critic's values.

    .. math::

        \frac{1}{N} \sum_{n} \left( E_z\left[T(x_n, z, y_n)\right]
            - \log E_z\left[\sum_k \pi_k\, e^{T(x_n, z, k)}\right] \right),

    over S samples z of a stochastic critic; a deterministic critic has S = 1. For every critic, the
    result is at most the true information, up to the error of a mean over N examples. It is equal
    for :math:`T = \log p(y \mid x) / p(y)`. For a deterministic network's logits and a uniform
    prior it is E[log softmax] + log M. It is differentiable, so you can train a critic with it.

    Args:
        joint: T of each example's own label, (N,) or (S, N), in nats.
        marginal: T of every label, (N, M) or (S, N, M), in nats. Or T of K labels that were drawn
            from the prior, (N, K) or (S, N, K); then leave ``prior`` None.
        prior: π, a probability per label; uniform if None.
        unit: The result's unit, ``bits`` or ``nats``.

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
    score = Score(prior=prior, trained_with="pc_softmax", unit=unit)
    _check_values(joint, marginal)
    classes = marginal.shape[-1]
    if score.class_prior is not None and len(score.class_prior) != classes:
        raise ArgumentError(
            f"Expected `prior` to hold {classes} probabilities, one per label of `marginal`; got "
            f"{len(score.class_prior)}."
        )
    values, every = (
        part.double().reshape(-1, *part.shape[-dims:]) for part, dims in ((joint, 1), (marginal, 2))
    )
    weights = every.new_full((classes,), 1 / classes)
    if score.class_prior is not None:
        weights = score.class_prior.to(every)
    partition = torch.logsumexp(every + weights.log(), dim=(0, 2)) - math.log(len(every))
    return (values.mean(0) - partition).mean() / NATS_PER_UNIT[score.unit]


@told(options_of=Score)
def log_softmax_sandwich(
    logits: Tensor,
    target: Target,
    *,
    score: Score | None = None,
    **settings: Unpack[ScoreSettings],
) -> Sandwich:
    r"""Bounds of the information of a stochastic network about the labels, from samples.

    The critic is :math:`T = f/\tau - \log \pi` for a network trained by cross-entropy and
    :math:`T = f/\tau` for one trained by PC-softmax. In the paper's words, for a uniform prior:

    .. math::

        E_z[T_y] - \log E_z\left[\sum_k \pi_k e^{T_k}\right] \;\le\; E_z[\log \mathrm{softmax}_y]
            + \log M, \qquad E_z[\log \mathrm{softmax}_y] \;\le\; 0 \;\le\; I(Y; Z \mid X).

    With one sample the first three bounds are equal. The expectations are estimated by means of S
    samples, and the three move apart as S grows. Softmax leaves open a shift that all logits of a
    sample share. The spread of this shift lowers the lower bound. With log-probabilities the lower
    bound is largest, and equal to the information.

    Args:
        logits: (S, N, M), or (N, M) for one sample; half precision is accepted.
        target: The N labels, in any form that Captum accepts.
        score: How the outputs are read.
        **settings: The settings of :class:`Score` by name, instead of ``score``.

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
    score = with_softmax(score_from(score, settings))
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
    """Refuse a critic's values unless they are finite tensors of fitting shapes."""
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

# The bounds around a stochastic network's information: what they are, and from what samples.
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._checks import one_of
from captum_infomask.scores.accounts import Samples
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.information import NATS_PER_UNIT, Score

_PARTS = ("lower", "information", "upper", "ceiling")


@dataclass(frozen=True, eq=False, repr=False)
class Sandwich:
    r"""Bounds of a network's information about the labels, means over examples with their errors.

    With samples z of the network's logits, :math:`T` the critic, :math:`Z = \sum_k \pi_k e^{T_k}`
    and :math:`\log S_y = T_y - \log Z`, for every example and hence on average

    .. math::

        E_z[T_y] - \log E_z[Z] \;\le\; E_z[\log S_y] \;\le\; \log E_z[S_y] \;\le\; -\log \pi_y .

    Attributes:
        per_example: (4, N), float64, in ``unit``: a row for each of the four, in this order.
        samples: S, how many samples of the logits they were computed from.
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
        """The mean over examples of one of the four."""
        return float(self.per_example[_PARTS.index(part)].mean())


def sandwich_rows(score: Score, outputs: Iterable[Tensor], table: Tensor) -> Tensor:
    """Return the four bounds of each example, (4, N), float64, in the unit, on the CPU.

    Args:
        score: How outputs are read; a softmax head.
        outputs: Samples of the network's output, (N, M) each, checked; at least one.
        table: Each example's label, (N, 1).
    """
    account: Samples | None = None
    rows = torch.arange(len(table))
    for output in outputs:
        if account is None:
            account, classes = Samples(score, len(table)), output.shape[1]
        account.add(rows.to(output.device), output, table)
    assert account is not None, "at least one sample"
    reading = account.reading()
    assert reading.lower is not None, "a softmax head has bounds"
    assert reading.upper is not None, "a softmax head has bounds"
    prior = torch.full((classes,), 1 / classes, dtype=torch.float64)
    if score.prior is not None:
        prior = score.prior
    ceiling = -prior[table[:, 0].cpu()].log() / NATS_PER_UNIT[score.unit]
    parts = [part.double().cpu() for part in (reading.lower, reading.information, reading.upper)]
    # No network tells more than the ceiling, but for rounding.
    return torch.stack([*(part.minimum(ceiling) for part in parts), ceiling])


def softmax_head(head: object) -> str:
    """Return the head, if its critic has a value for every class: the bounds need them all."""
    return one_of("head", head, SOFTMAX_HEADS)

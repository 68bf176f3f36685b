# Information from several samples of a stochastic network's output, with its bounds.
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask.scores.heads import widen
from captum_infomask.scores.information import NATS_PER_UNIT, Score


@dataclass(frozen=True, eq=False)
class Reading:
    """Information of views or regions with what is known of its error; all parts of one shape.

    Attributes:
        information: i(y; v); the mean of log S_y over the samples of a stochastic network.
        lower: The Donsker–Varadhan value of the samples; None for a single pass.
        upper: The information of the mean posterior; None for a single pass.
        standard_errors: Of the information, where it is a mean over random orders.
    """

    information: Tensor
    lower: Tensor | None = None
    upper: Tensor | None = None
    standard_errors: Tensor | None = None

    def minus(self, other: Reading) -> Reading:
        """The difference, with the bounds of interval arithmetic."""
        information = self.information - other.information
        if self.lower is None or self.upper is None or other.lower is None or other.upper is None:
            return Reading(information)
        return Reading(information, self.lower - other.upper, self.upper - other.lower)

    def map(self, change: Callable[[Tensor], Tensor]) -> Reading:
        """Change the information and its bounds in the same way."""
        return Reading(
            change(self.information),
            None if self.lower is None else change(self.lower),
            None if self.upper is None else change(self.upper),
        )


class SinglePass:
    """The account of a deterministic network: one value per view.

    Args:
        score: How outputs are read.
        views: V, the number of views.
        output: The network's first output.
    """

    def __init__(self, score: Score, views: int, output: Tensor) -> None:
        self._score = score
        self._values = widen(output).new_empty(views)

    def add(self, rows: Tensor, output: Tensor, table: Tensor | None) -> None:
        """Read some views' outputs."""
        self._values[rows] = self._score(output, table)

    def reading(self) -> Reading:
        """i(y; v) of all views, (V,), in the unit."""
        return Reading(self._values)


class Samples:
    r"""The account of a stochastic network: its samples are not kept, only four sums per view.

    With :math:`T_y` the critic's value, :math:`Z = \sum_k \pi_k e^{T_k}` and
    :math:`\log S_y = T_y - \log Z`, over samples z of the network (Jensen, twice):

    .. math::

        E_z[T_y] - \log E_z[Z] \;\le\; E_z[\log S_y] \;\le\; \log E_z[S_y].

    Args:
        score: How outputs are read.
        views: V, the number of views.
        output: The network's first output.

    Source: Qin & Kim, arXiv 1910.02629, Eq. 25 (the lower bound).
    """

    def __init__(self, score: Score, views: int, output: Tensor) -> None:
        self._score, self._dtype = score, widen(output).dtype
        zeros = torch.zeros(views, dtype=torch.float64, device=output.device)
        self._count, self._critic, self._log_ratio = zeros, zeros.clone(), zeros.clone()
        self._partition = torch.full_like(zeros, -math.inf)
        self._ratio = torch.full_like(zeros, -math.inf)

    def add(self, rows: Tensor, output: Tensor, table: Tensor | None) -> None:
        """Count one sample of some views."""
        critic, log_partition = self._score.critic(output, table)
        log_ratio = critic - log_partition
        self._count[rows] += 1
        self._critic[rows] += critic
        self._log_ratio[rows] += log_ratio
        self._partition[rows] = torch.logaddexp(self._partition[rows], log_partition)
        self._ratio[rows] = torch.logaddexp(self._ratio[rows], log_ratio)

    def reading(self) -> Reading:
        """The mean and its bounds, (V,), in the unit; no bounds for the head ``raw``."""
        count, log_count = self._count, self._count.log()
        information = self._log_ratio / count
        reading = Reading(information)
        if self._score.head != "raw":
            lower = self._critic / count - (self._partition - log_count)
            upper = self._ratio - log_count
            # Jensen's order, which rounding may break where all samples agree.
            reading = Reading(information, lower.minimum(information), upper.maximum(information))
        return reading.map(lambda nats: (nats / NATS_PER_UNIT[self._score.unit]).to(self._dtype))

# Information of views or regions, and the sums that are kept until all passes are done.
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from captum_infomask.scores.heads import AnyHead, widen
from captum_infomask.scores.score_settings import NATS_PER_UNIT


class OneDraw(NamedTuple):
    """What one draw says of each view.

    Attributes:
        value: The information of this draw alone.
        deviation: What the draw adds to the error of the mean over draws, to first order.
    """

    value: Tensor
    deviation: Tensor

    @classmethod
    def between(cls, one: OneDraw, other: OneDraw) -> OneDraw:
        """The difference of two readings in the same draw."""
        return cls(one.value - other.value, one.deviation - other.deviation)


@dataclass(frozen=True, eq=False)
class Reading:
    """Information of views or regions, with its error if known; all parts have one shape.

    Attributes:
        information: i(y; v). For a stochastic network, the mean of log S_y over its samples. For a
            random imputer, the logarithm of the mean posterior over its draws, less log π_y.
        lower: The Donsker–Varadhan value of the samples; None if the network was not sampled.
        upper: The information of the samples' mean posterior; None if it was not sampled.
        spread: The standard deviation of the value over single draws; None if nothing is drawn.
        standard_errors: Standard errors of the information, if it is a mean over random orders,
            draws or samples.
        draws: For each draw, its own value, and what it adds to the error of the mean: to first
            order, information minus its expectation is the mean of these. Readings of one call
            share their draws: draw d of one goes with draw d of another.
    """

    information: Tensor
    lower: Tensor | None = None
    upper: Tensor | None = None
    spread: Tensor | None = None
    standard_errors: Tensor | None = None
    draws: tuple[OneDraw, ...] = ()

    @classmethod
    def of_draws(cls, information: Tensor, draws: tuple[OneDraw, ...]) -> Reading:
        """Return a mean over draws with its spread and standard error; NaN for a single draw."""
        spread, errors = (
            torch.stack(part).double().std(0).to(information)
            if len(draws) > 1
            else torch.full_like(information, math.nan)
            for part in zip(*draws, strict=True)
        )
        errors = errors / math.sqrt(len(draws))
        return cls(information, spread=spread, standard_errors=errors, draws=draws)

    def minus(self, other: Reading) -> Reading:
        """The difference, with bounds by interval arithmetic.

        If both are means over draws, their draws are paired: each draw has its own difference. All
        else is independent, so squares of standard errors add.
        """
        information = self.information - other.information
        if self.draws and other.draws:
            pairs = zip(self.draws, other.draws, strict=True)
            return Reading.of_draws(information, tuple(OneDraw.between(a, b) for a, b in pairs))
        lower = upper = None
        if self.lower is not None and other.upper is not None:
            lower = self.lower - other.upper
        if self.upper is not None and other.lower is not None:
            upper = self.upper - other.lower
        spread = other.spread if self.spread is None else self.spread
        errors = [one.standard_errors for one in (self, other) if one.standard_errors is not None]
        error = torch.stack(torch.broadcast_tensors(*errors)).norm(dim=0) if errors else None
        draws = self.draws or tuple(OneDraw(-one.value, -one.deviation) for one in other.draws)
        return Reading(information, lower, upper, spread, error, draws)

    def map(self, change: Callable[[Tensor], Tensor]) -> Reading:
        """Change every part in the same way."""
        names = ("lower", "upper", "spread", "standard_errors")
        parts = {name: own for name in names if (own := getattr(self, name)) is not None}
        return Reading(
            change(self.information),
            **{name: change(own) for name, own in parts.items()},
            draws=tuple(OneDraw(*map(change, one)) for one in self.draws),
        )


class Reader(Protocol):
    """Reads outputs, for one class per example or for several."""

    @property
    def head(self) -> AnyHead:
        """The kind of output."""
        ...

    @property
    def unit(self) -> str:
        """``bits`` or ``nats``."""
        ...

    @property
    def has_partition(self) -> bool:
        """Whether a partition makes probabilities; its mean over samples needs bounds."""
        ...

    def check(self, output: Tensor, table: Tensor | None) -> None:
        """Refuse outputs and targets that do not fit the settings."""
        ...

    def __call__(self, output: Tensor, table: Tensor | None) -> Tensor:
        """Information of each example, in the unit; differentiable in the output."""
        ...

    def terms(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """The terms of the value: the information, and the information to subtract, if any."""
        ...

    def critic(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        """The critic's value and log partition of each example, float64, in nats."""
        ...


class Account(Protocol):
    """Keeps some sums per view of a network's outputs until all passes are done."""

    def __init__(self, reader: Reader, views: int) -> None: ...

    def add(self, rows: Tensor, output: Tensor, table: Tensor | None) -> None:
        """Read the outputs (B, ...) of some views, rows (B,)."""
        ...

    def reading(self) -> Reading:
        """The reading of all views, (V, ...), in the unit."""
        ...


class SinglePass:
    """The account of a deterministic network: one value per view.

    Args:
        reader: How outputs are read.
        views: V, the number of views.
    """

    def __init__(self, reader: Reader, views: int) -> None:
        self._reader, self._views = reader, views
        self._values: Tensor | None = None

    def add(self, rows: Tensor, output: Tensor, table: Tensor | None) -> None:
        """Read some views' outputs."""
        values = self._reader(output, table)
        if self._values is None:
            self._values = values.new_empty(self._views, *values.shape[1:])
        self._values[rows] = values

    def reading(self) -> Reading:
        """i(y; v) of all views."""
        assert self._values is not None, "a plan has at least one view"
        return Reading(self._values)


class Draws:
    r"""The account of random draws d of views; it averages posteriors, not their logarithms.

    .. math::

        i(y; v) = \log \operatorname{mean}_d\, p(y \mid v_d) - \log \pi_y,

    with the standard deviation of the single draws' values. Its standard error over D draws is that
    of the mean posterior :math:`\bar p`, divided by :math:`\bar p` (the delta method):

    .. math::

        \frac{1}{\sqrt D} \operatorname{sd}_d \frac{p(y \mid v_d)}{\bar p}.

    For the head ``raw`` it is the plain mean and its error. For a contrast, each class's posteriors
    are averaged before the difference is taken; the error is that of the difference
    :math:`p_d / \bar p - p'_d / \bar p'`, because both classes are read in the same draws.

    Args:
        reader: How outputs are read.
        views: V, the number of views.
    """

    def __init__(self, reader: Reader, views: int) -> None:
        self._reader, self._views = reader, views
        self._draws: list[Tensor] = []
        self._filled = views

    def add(self, rows: Tensor, output: Tensor, table: Tensor | None) -> None:
        """Read some views' outputs; a draw is complete when all views were read."""
        values = torch.stack(self._reader.terms(output, table))
        if self._filled == self._views:
            self._draws.append(values.new_empty(len(values), self._views, *values.shape[2:]))
            self._filled = 0
        self._draws[-1][:, rows] = values
        self._filled += len(rows)

    def reading(self) -> Reading:
        """The mean over draws, its spread and its standard error; these are NaN for one draw."""
        dtype = self._draws[0].dtype
        draws = torch.stack(self._draws, dim=1).double().unbind()
        means = [self._mean(term) for term in draws]
        deviations = [self._deviations(*term) for term in zip(draws, means, strict=True)]
        each = zip(_difference(draws).to(dtype), _difference(deviations).to(dtype), strict=True)
        return Reading.of_draws(_difference(means).to(dtype), tuple(OneDraw(*one) for one in each))

    def _mean(self, draws: Tensor) -> Tensor:
        """The information of the mean posterior of draws, (D, V, ...)."""
        if self._reader.head == "raw":
            return draws.mean(0)
        nats = NATS_PER_UNIT[self._reader.unit]
        return (torch.logsumexp(draws * nats, 0) - math.log(len(draws))) / nats

    def _deviations(self, draws: Tensor, mean: Tensor) -> Tensor:
        """What each draw adds to the error of the mean, to first order: (D, V, ...)."""
        if self._reader.head == "raw":
            return draws - mean
        nats = NATS_PER_UNIT[self._reader.unit]
        return torch.expm1((draws - mean) * nats) / nats


def _difference(terms: Sequence[Tensor]) -> Tensor:
    """The first term, less the second if there is one."""
    return terms[0] if len(terms) == 1 else terms[0] - terms[1]


class Samples:
    r"""The account of a stochastic network: it keeps five sums per view, and no samples.

    With :math:`T_y` the critic's value, :math:`Z = \sum_k \pi_k e^{T_k}` and
    :math:`\log S_y = T_y - \log Z`, over samples z of the network (Jensen, twice):

    .. math::

        E_z[T_y] - \log E_z[Z] \;\le\; E_z[\log S_y] \;\le\; \log E_z[S_y].

    The standard error of the mean in the middle is the standard deviation of :math:`\log S_y` over
    n samples, divided by :math:`\sqrt n`.

    Args:
        reader: How outputs are read.
        views: V, the number of views.

    Source: Qin & Kim, arXiv 1910.02629, Eq. 25 (the lower bound).
    """

    def __init__(self, reader: Reader, views: int) -> None:
        self._reader, self._views = reader, views
        self._dtype: torch.dtype | None = None

    def add(self, rows: Tensor, output: Tensor, table: Tensor | None) -> None:
        """Count one sample of some views."""
        critic, log_partition = self._reader.critic(output, table)
        if self._dtype is None:
            self._begin(critic, widen(output).dtype)
        log_ratio = critic - log_partition
        # Welford's sum of squares around the mean: no difference of large sums.
        before = self._count[rows]
        away = log_ratio - self._log_ratio[rows] / before.clamp(min=1)
        self._squares[rows] += away.square() * before / (before + 1)
        self._count[rows] += 1
        self._critic[rows] += critic
        self._log_ratio[rows] += log_ratio
        self._partition[rows] = torch.logaddexp(self._partition[rows], log_partition)
        self._ratio[rows] = torch.logaddexp(self._ratio[rows], log_ratio)

    def reading(self) -> Reading:
        """The mean and its bounds; without a partition (``raw``, contrasts) there are no bounds."""
        assert self._dtype is not None, "a plan has at least one view"
        dtype, nats = self._dtype, NATS_PER_UNIT[self._reader.unit]
        count, log_count = self._count, self._count.log()
        information = self._log_ratio / count
        # The error of a single sample is NaN: 0 / 0.
        errors = (self._squares / (count - 1) / count).sqrt()
        reading = Reading(information, standard_errors=errors)
        if self._reader.has_partition:
            lower = self._critic / count - (self._partition - log_count)
            upper = self._ratio - log_count
            # Jensen's order; rounding may break it if all samples agree.
            reading = replace(
                reading, lower=lower.minimum(information), upper=upper.maximum(information)
            )
        return reading.map(lambda part: (part / nats).to(dtype))

    def _begin(self, critic: Tensor, dtype: torch.dtype) -> None:
        self._dtype = dtype
        zeros = critic.new_zeros(self._views, *critic.shape[1:])
        self._count, self._critic, self._log_ratio = zeros, zeros.clone(), zeros.clone()
        self._squares = zeros.clone()
        self._partition = torch.full_like(zeros, -math.inf)
        self._ratio = torch.full_like(zeros, -math.inf)

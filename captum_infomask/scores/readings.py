# Information of views or regions, and what is known of its error.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Reading:
    """Information of views or regions with what is known of its error; all parts of one shape.

    Attributes:
        information: i(y; v); the mean of log S_y over the samples of a stochastic network; the
            logarithm of the mean posterior over the draws of a random imputer.
        lower: The Donsker–Varadhan value of the samples; None where the network was not sampled.
        upper: The information of the samples' mean posterior; None where it was not sampled.
        spread: The standard deviation over an imputer's draws; None where it does not draw.
        standard_errors: Of the information, where it is a mean over random orders.
    """

    information: Tensor
    lower: Tensor | None = None
    upper: Tensor | None = None
    spread: Tensor | None = None
    standard_errors: Tensor | None = None

    def minus(self, other: Reading) -> Reading:
        """The difference: bounds by interval arithmetic, spreads as of independent draws."""
        lower = upper = spread = None
        if self.lower is not None and other.upper is not None:
            lower = self.lower - other.upper
        if self.upper is not None and other.lower is not None:
            upper = self.upper - other.lower
        spreads = [part for part in (self.spread, other.spread) if part is not None]
        if spreads:
            spread = sum((part.square() for part in spreads), torch.zeros(())).sqrt()
        return Reading(self.information - other.information, lower, upper, spread)

    def map(self, change: Callable[[Tensor], Tensor]) -> Reading:
        """Change every part in the same way."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Reading(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]

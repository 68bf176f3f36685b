# What every engine can do.
from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from captum_infomask.views.plan import ViewPlan


class Engine(Protocol):
    """Turns views into the network's outputs, a chunk at a time."""

    @property
    def name(self) -> str:
        """The engine's name, as results record it."""
        ...

    def steps(self, plan: ViewPlan) -> int:
        """How many chunks ``run`` will yield."""
        ...

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows of the plan in a chunk, long (B,), and the network's output for them."""
        ...

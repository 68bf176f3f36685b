# What every view can do.
from __future__ import annotations

from typing import Protocol

from captum_infomask.scores.readings import Reading
from captum_infomask.views.plan import Blank, Scene, ViewPlan


class View(Protocol):
    """What the network is shown to score one region, and how its answers become information."""

    @property
    def name(self) -> str:
        """The view's name, as users write it."""
        ...

    @property
    def n_samples(self) -> int | None:
        """Orders, or samples of a stochastic network; None for a single pass."""
        ...

    @property
    def over_orders(self) -> bool:
        """Whether ``n_samples`` counts orders, each step of which is one pass."""
        ...

    def check(self, scene: Scene) -> None:
        """Refuse scenes that the view cannot be used on; the error says which view to pass."""
        ...

    def plan(self, scene: Scene) -> ViewPlan:
        """One view for every region that is present."""
        ...

    def blank(self, scene: Scene) -> Blank | None:
        """The all-imputed views that information is counted from, if it is."""
        ...

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """Information of each region, (n, R); NaN where an image does not have the region.

        Args:
            plan: What ``plan`` gave.
            shown: i(y; view) of the plan's views, (V,).
            total: i(y; x) of the whole images, (n,).
            blank: i(y; all-imputed view), (n, R), where ``blank`` gives any.
        """
        ...

# What every view can do.
from __future__ import annotations

from typing import Protocol

from torch import Tensor

from captum_infomask.views.plan import Blank, Scene, ViewPlan


class View(Protocol):
    """What the network is shown to score one region, and how its answers become information."""

    @property
    def name(self) -> str:
        """The view's name, as users write it."""
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

    def information(self, shown: Tensor, total: Tensor, blank: Tensor | None) -> Tensor:
        """Information of each region, (n, R).

        Args:
            shown: i(y; view) of each region's view, (n, R).
            total: i(y; x) of the whole images, (n, 1).
            blank: i(y; all-imputed view), (n, R), where ``blank`` gives any.
        """
        ...

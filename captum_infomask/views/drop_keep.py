# The views that leave regions in place: `drop` and `keep`.
from __future__ import annotations

from dataclasses import dataclass

from captum_infomask.scores.readings import Reading
from captum_infomask.views.view_plan import (
    Blank,
    Scene,
    ViewPlan,
    all_imputed,
    over_regions,
    region_pairs,
)


@dataclass(frozen=True)
class Keep:
    """The region in place, all else imputed: i(y; x_R), counted from the all-imputed view.

    Attributes:
        reference: ``blank`` (minus the all-imputed view's value) or ``prior`` (as it is).
        n_samples: Samples of a stochastic network; None for a single pass.
    """

    reference: str = "blank"
    n_samples: int | None = None
    over_orders = False
    name = "keep"

    def check(self, scene: Scene) -> None:
        """Any scene will do."""

    def plan(self, scene: Scene) -> ViewPlan:
        """Each region with the rest hidden."""
        images, regions = region_pairs(scene)
        return ViewPlan(scene, "rest", images, regions)

    def blank(self, scene: Scene) -> Blank | None:
        """One all-imputed view for each image."""
        if self.reference == "prior":
            return None
        return all_imputed(scene)

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """i(y; x_R in place) − i(y; all-imputed)."""
        shown = over_regions(plan, shown)
        return shown if blank is None else shown.minus(blank)


@dataclass(frozen=True)
class Drop:
    """The image, the region imputed: i(y; x_R given the rest) = i(y; x) − i(y; x without R).

    Attributes:
        n_samples: Samples of a stochastic network; None for a single pass.
    """

    n_samples: int | None = None
    over_orders = False
    name = "drop"

    def check(self, scene: Scene) -> None:
        """Any scene will do."""

    def plan(self, scene: Scene) -> ViewPlan:
        """Each image with one region hidden."""
        images, regions = region_pairs(scene)
        return ViewPlan(scene, "region", images, regions)

    def blank(self, scene: Scene) -> Blank | None:
        """A difference needs no reference."""
        return None

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """i(y; x) − i(y; x without R)."""
        return total.map(lambda part: part[:, None]).minus(over_regions(plan, shown))

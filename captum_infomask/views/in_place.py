# The views that leave the picture's frame as it is: keep and drop.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask.views.plan import Blank, Scene, ViewPlan, region_pairs


@dataclass(frozen=True)
class Keep:
    """The region in place, all else imputed: i(y; x_R), counted from the all-imputed view.

    Attributes:
        reference: ``blank`` (minus the all-imputed view's value) or ``prior`` (as it is).
    """

    reference: str = "blank"
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
        index = scene.images[:, None].expand(-1, len(scene.regions))
        return Blank(ViewPlan(scene, "everything", scene.images), index)

    def information(self, shown: Tensor, total: Tensor, blank: Tensor | None) -> Tensor:
        """i(y; x_R in place) − i(y; all-imputed)."""
        return shown if blank is None else shown - blank


@dataclass(frozen=True)
class Drop:
    """The image, the region imputed: i(y; x_R given the rest) = i(y; x) − i(y; x without R)."""

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

    def information(self, shown: Tensor, total: Tensor, blank: Tensor | None) -> Tensor:
        """i(y; x) − i(y; x without R)."""
        return torch.sub(total, shown)

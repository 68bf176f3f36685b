# The view that shows a region alone: cut out and resized.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._checks import ArgumentError
from captum_infomask.scores.samples import Reading
from captum_infomask.views.plan import Blank, Scene, ViewPlan, over_regions, region_pairs

_ELSE = "Pass view='drop' or view='keep'."


@dataclass(frozen=True)
class Crop:
    """The region cut out and resized: i(y; x_R), the paper's T(x_i, y).

    Attributes:
        size: (height, width) to resize to, ``native`` for no resizing, or None for the images' own.
        reference: ``prior`` (as it is) or ``blank`` (minus the value of the all-imputed picture at
            the same size).
        n_samples: Samples of a stochastic network; None for a single pass.
    """

    size: tuple[int, int] | str | None = None
    reference: str = "prior"
    n_samples: int | None = None
    over_orders = False
    name = "crop"

    def check(self, scene: Scene) -> None:
        """Crops need images, and regions that are rectangles."""
        inputs = scene.inputs
        if len(inputs) != 1 or inputs[0].dim() != 4:
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            hint = " inputs.unsqueeze(0) adds a batch dimension." if inputs[0].dim() == 3 else ""
            raise ArgumentError(
                f"Expected `inputs` to be one tensor of images (N, C, H, W) for view='crop'; got "
                f"{shapes}.{hint} {_ELSE}"
            )
        if scene.regions.rectangles() is None:
            raise ArgumentError(
                "Expected regions that are rectangles over all channels for view='crop'; got "
                f"regions that are not. {_ELSE}"
            )

    def plan(self, scene: Scene) -> ViewPlan:
        """Each region's rectangle, cut out."""
        images, regions = region_pairs(scene)
        rectangles = self._rectangles(scene)
        cuts = rectangles[images if len(rectangles) > 1 else 0, regions]
        return ViewPlan(scene, "nothing", images, regions, cuts, self._sizes(scene, cuts))

    def blank(self, scene: Scene) -> Blank | None:
        """Each image all imputed, at every size that its regions are shown at."""
        if self.reference == "prior":
            return None
        n, height, width = len(scene.inputs[0]), *scene.inputs[0].shape[2:]
        rectangles = self._rectangles(scene).expand(n, -1, -1)
        sizes, which = (
            self._sizes(scene, rectangles).reshape(-1, 2).unique(dim=0, return_inverse=True)
        )
        cuts = torch.tensor([0, 0, height, width]).expand(n * len(sizes), -1)
        plan = ViewPlan(
            scene,
            "everything",
            scene.images.repeat_interleave(len(sizes)),
            cuts=cuts,
            sizes=sizes.repeat(n, 1),
        )
        index = scene.images[:, None] * len(sizes) + which.reshape(n, -1)
        return Blank(plan, index)

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """i(y; x_R), less i(y; all-imputed) where it is counted from there."""
        shown = over_regions(plan, shown)
        return shown if blank is None else shown.minus(blank)

    def _rectangles(self, scene: Scene) -> Tensor:
        rectangles = scene.regions.rectangles()
        assert rectangles is not None, "check() comes first"
        return rectangles

    def _sizes(self, scene: Scene, cuts: Tensor) -> Tensor:
        if self.size == "native":
            return (cuts[..., 2:] - cuts[..., :2]).clamp_min(1)
        size = tuple(scene.inputs[0].shape[2:]) if self.size is None else self.size
        return torch.tensor(size).expand(*cuts.shape[:-1], 2)

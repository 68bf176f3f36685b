# The view that shows a region's features alone: the last feature map, averaged over the region.
from __future__ import annotations

from dataclasses import dataclass

from captum_infomask._errors import ArgumentError
from captum_infomask.regions.map_cells import span_channels
from captum_infomask.scores.readings import Reading
from captum_infomask.views.view_plan import Blank, Scene, ViewPlan, over_regions, region_pairs


@dataclass(frozen=True)
class Features:
    r"""The region's features in place of the whole picture's: i(y; f_R).

    .. math::

        f_R = \sum_c a_R(c)\, f(c), \qquad a_R(c) = |R \cap c| \,/\, |R|,

    with f the last feature map, whose mean over all cells c is all that the end of the network sees
    of a picture. A cell has seen more of the picture than lies under it, so f_R tells of R's
    surroundings too.

    Source: infoCAM (Qin, Kim & Gedeon, arXiv 2106.10472), with the log-partition kept.
    """

    name = "features"
    n_samples = None
    over_orders = False

    def check(self, scene: Scene) -> None:
        """Feature maps have places but not the picture's channels."""
        if len(scene.inputs) != 1 or scene.inputs[0].dim() != 4:
            shapes = ", ".join(str(tuple(x.shape)) for x in scene.inputs)
            raise ArgumentError(
                f"Expected `inputs` to be one tensor of images (N, C, H, W) for view='features'; "
                f"got {shapes}."
            )
        if not span_channels(scene.regions, *region_pairs(scene)):
            raise ArgumentError(
                "Expected regions over all channels for view='features'; got some over a part of "
                "them. Pass view='drop' or view='keep'."
            )

    def plan(self, scene: Scene) -> ViewPlan:
        """Each region's features."""
        images, regions = region_pairs(scene)
        return ViewPlan(scene, "features", images, regions)

    def blank(self, scene: Scene) -> Blank | None:
        """Nothing is imputed."""
        return None

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """i(y; f_R)."""
        return over_regions(plan, shown)

# A view is a description, not pixels: which image, which region, what is hidden, what is cut out.
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from captum_infomask._types import Tensors
from captum_infomask.imputers.base import StandIn
from captum_infomask.regions.base import Regions

Hidden = Literal["nothing", "everything", "region", "rest"]


@dataclass(frozen=True, eq=False)
class Scene:
    """What all views of one call share.

    Attributes:
        inputs: The inputs, (n, ...) each.
        regions: The regions to score.
        stand_in: The imputer, made ready for these inputs.
    """

    inputs: Tensors
    regions: Regions
    stand_in: StandIn

    @property
    def images(self) -> Tensor:
        """The numbers of the images, long (n,)."""
        return torch.arange(len(self.inputs[0]))


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """V views of a scene. All index tensors are on the CPU; only engines make pixels.

    Attributes:
        scene: Where the views are taken.
        hidden: What the imputer replaces: ``nothing``, ``everything``, the ``region`` of the view,
            or the ``rest`` of the image.
        images: The image of each view, long (V,).
        regions: The region of each view, long (V,); None where views have none.
        cuts: y0, x0, y1, x1 cut out of each view, long (V, 4); None shows the whole.
        sizes: Height and width that each cut is resized to, long (V, 2); given with ``cuts``.
    """

    scene: Scene
    hidden: Hidden
    images: Tensor
    regions: Tensor | None = None
    cuts: Tensor | None = None
    sizes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def describe(self, view: int) -> str:
        """Name a view in a message."""
        image = f"image {int(self.images[view])}"
        if self.regions is None:
            return f"the whole of {image}" if self.hidden == "nothing" else f"{image} all imputed"
        region = int(self.regions[view])
        return f"region {region} {self.scene.regions.describe(region)} of {image}"


@dataclass(frozen=True, eq=False)
class Blank:
    """All-imputed views, and which of them each region's information is counted from.

    Attributes:
        plan: The all-imputed views.
        index: For image i and region r, the row of ``plan``: long (n, R).
    """

    plan: ViewPlan
    index: Tensor


def whole_images(scene: Scene) -> ViewPlan:
    """Every image as it is."""
    return ViewPlan(scene, "nothing", scene.images)


def region_pairs(scene: Scene) -> tuple[Tensor, Tensor]:
    """Every (image, region) that is present, images running fastest: long (V,), long (V,)."""
    regions, images = scene.regions.present(len(scene.inputs[0])).T.nonzero(as_tuple=True)
    return images, regions

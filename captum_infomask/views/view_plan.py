# A view plan says what the network is shown: base images, regions and boxes. It has no pixels.
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from captum_infomask._types import Tensors
from captum_infomask.imputers.imputer_protocol import StandIn
from captum_infomask.imputers.remove_tokens import Removed
from captum_infomask.regions.region_protocol import OVERLAPS, Regions
from captum_infomask.regions.windows import default_windows
from captum_infomask.scores.readings import Reading

Hidden = Literal["nothing", "everything", "region", "rest", "later", "features"]
OwnEngine = Literal["features", "evidence"]


@dataclass(frozen=True, eq=False)
class Scene:
    """The parts that all views of one call share.

    Attributes:
        inputs: The inputs, (n, ...) each.
        regions: The regions to score.
        stand_in: The imputer, made ready for these inputs.
        has_regions: Whether the regions were asked for; if not, they are the view's own.
        draw: The number of the random draw that the views are of; None if nothing is drawn.
    """

    inputs: Tensors
    regions: Regions
    stand_in: StandIn
    has_regions: bool = True
    draw: int | None = None

    @property
    def images(self) -> Tensor:
        """The numbers of the images, long (n,)."""
        return torch.arange(len(self.inputs[0]))

    @property
    def has_pixels(self) -> bool:
        """Whether pixels stand in for what is hidden; if not, it is removed, as tokens are."""
        return not isinstance(self.stand_in, Removed)


@dataclass(frozen=True, eq=False)
class Orders:
    """Orders in which regions are added, and the order that each view belongs to.

    Attributes:
        ranks: For image i, order o and region r, the step that adds r: long (n, O, R). It is R for
            regions that the image does not have.
        of_views: For each view, the order that it is a step of, long (V,).
    """

    ranks: Tensor
    of_views: Tensor

    def added(self, rows: Tensor, images: Tensor, regions: Tensor) -> Tensor:
        """Mark the regions added up to each view's own: bool (B, R), for ``rows``, long (B,)."""
        ranks = self.ranks[images, self.of_views[rows]]
        return ranks <= ranks.gather(1, regions[:, None])


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """V views of a scene. All index tensors are on the CPU; only engines make pixels.

    Attributes:
        scene: The scene that the views show.
        hidden: What the imputer replaces: ``nothing``, ``everything``, the ``region`` of the view,
            or the ``rest`` of the image. With ``later`` it replaces all regions that the view's
            order adds after the view's own. With ``features`` no pixel is replaced, but the
            features of the rest.
        images: The image of each view, long (V,).
        regions: The region of each view, long (V,); None if views have none.
        cuts: The part that is cut out of each view, long (V, 2 · D): where it starts in the D
            places, and where it stops (y0, x0, y1, x1 of images); None shows the whole.
        sizes: The size that each cut is resized to, long (V, D); given with ``cuts``.
        orders: The orders that the views are steps of, if ``hidden`` is ``later``.
    """

    scene: Scene
    hidden: Hidden
    images: Tensor
    regions: Tensor | None = None
    cuts: Tensor | None = None
    sizes: Tensor | None = None
    orders: Orders | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: Tensor) -> ViewPlan:
        """Take some of the views, long (B,)."""
        return replace(
            self,
            images=self.images[rows],
            regions=None if self.regions is None else self.regions[rows],
            cuts=None if self.cuts is None else self.cuts[rows],
            sizes=None if self.sizes is None else self.sizes[rows],
            orders=self.orders and Orders(self.orders.ranks, self.orders.of_views[rows]),
        )

    def describe(self, view: int) -> str:
        """Name a view in a message."""
        image = f"image {int(self.images[view])}"
        if self.regions is None:
            return f"the whole of {image}" if self.hidden == "nothing" else f"{image} all imputed"
        region = int(self.regions[view])
        return f"region {region} {self.scene.regions.describe(region)} of {image}"


@dataclass(frozen=True, eq=False)
class Blank:
    """All-imputed views, and the one that each region's information is counted from.

    Attributes:
        plan: The all-imputed views.
        index: For image i and region r, the row of ``plan``: long (n, R).
    """

    plan: ViewPlan
    index: Tensor


def all_imputed(scene: Scene) -> Blank:
    """Show one all-imputed view for each image, the blank of all its regions."""
    index = scene.images[:, None].expand(-1, len(scene.regions))
    return Blank(ViewPlan(scene, "everything", scene.images), index)


def whole_images(scene: Scene) -> ViewPlan:
    """Show every image as it is."""
    return ViewPlan(scene, "nothing", scene.images)


def over_regions(plan: ViewPlan, shown: Reading) -> Reading:
    """Arrange the values of a plan's views (V, ...) by region, as (n, R, ...).

    The value is NaN if the image does not have the region.
    """
    shape = (len(plan.scene.inputs[0]), len(plan.scene.regions))

    def spread(values: Tensor) -> Tensor:
        table = values.new_full((*shape, *values.shape[1:]), torch.nan)
        table[plan.images, plan.regions] = values
        return table

    return shown.map(spread)


def region_pairs(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return every (image, region) that is present; the image changes fastest: two long (V,)."""
    regions, images = scene.regions.present(len(scene.inputs[0])).T.nonzero(as_tuple=True)
    return images, regions


def or_windows(asked: Regions | None, inputs: Tensors) -> Regions:
    """Return the regions that are asked for; if none are, windows, or one region per element."""
    return default_windows(inputs) if asked is None else asked


@dataclass(frozen=True)
class Needs:
    """The needs of a view. Most views need nothing.

    Attributes:
        engine: The name of the only engine that can show the view; None if any engine can.
        overlaps: How its regions may combine where they overlap.
        fixed_imputer: The reason, in words, why an imputer that draws cannot be used; empty if it
            can.
        lone_parts: Whether regions are shown without the rest of their picture. A network must have
            learned to read such parts.
        draws: Whether the view itself draws what it shows, so that several draws are averaged.
    """

    engine: OwnEngine | None = None
    overlaps: tuple[str, ...] = OVERLAPS
    fixed_imputer: str = ""
    lone_parts: bool = False
    draws: bool = False


class View(Protocol):
    """The parts that all views have, whichever engine shows them."""

    @property
    def name(self) -> str:
        """The view's name, as users write it."""
        ...

    @property
    def needs(self) -> Needs:
        """The needs of the view."""
        ...

    @property
    def n_samples(self) -> int | None:
        """The number of orders, or of samples of a stochastic network; None for a single pass."""
        ...

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """Return the regions to score, given those that are asked for, if any."""
        ...

    def check(self, scene: Scene) -> None:
        """Refuse scenes that do not suit the view; the error says which view to pass."""
        ...


class RegionView(View, Protocol):
    """A view that shows one region at a time, and turns the network's answers into information."""

    @property
    def over_orders(self) -> bool:
        """Whether ``n_samples`` counts orders, in which each step is one pass."""
        ...

    def plan(self, scene: Scene) -> ViewPlan:
        """Plan one view for every region that is present."""
        ...

    def blank(self, scene: Scene) -> Blank | None:
        """Return the all-imputed views that information is counted from, if it is."""
        ...

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return the information of each region, (n, R); NaN if the image does not have the region.

        Args:
            plan: The plan that ``plan`` returned.
            shown: i(y; view) of the plan's views, (V,).
            total: i(y; x) of the whole images, (n,).
            blank: i(y; all-imputed view), (n, R), if ``blank`` returned views.
        """
        ...

# What the network is shown of a view: base images, regions, boxes; no pixels.
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
    """What all views of one call share.

    Attributes:
        inputs: The inputs, (n, ...) each.
        regions: The regions to score.
        stand_in: The imputer, made ready for these inputs.
        has_regions: Whether the regions were asked for; else they are the view's own.
    """

    inputs: Tensors
    regions: Regions
    stand_in: StandIn
    has_regions: bool = True

    @property
    def images(self) -> Tensor:
        """The numbers of the images, long (n,)."""
        return torch.arange(len(self.inputs[0]))

    @property
    def has_pixels(self) -> bool:
        """Whether pixels stand in for what is hidden; else it is removed, as tokens are."""
        return not isinstance(self.stand_in, Removed)


@dataclass(frozen=True, eq=False)
class Orders:
    """Orders in which regions are added, and the step of one of them that each view shows.

    Attributes:
        ranks: For image i, order o and region r, the step that adds r: long (n, O, R), R for
            regions that the image does not have.
        of_views: The order that each view is a step of, long (V,).
    """

    ranks: Tensor
    of_views: Tensor

    def added(self, rows: Tensor, images: Tensor, regions: Tensor) -> Tensor:
        """The regions added up to the views' own: bool (B, R), for views ``rows``, long (B,)."""
        ranks = self.ranks[images, self.of_views[rows]]
        return ranks <= ranks.gather(1, regions[:, None])


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """V views of a scene. All index tensors are on the CPU; only engines make pixels.

    Attributes:
        scene: Where the views are taken.
        hidden: What the imputer replaces: ``nothing``, ``everything``, the ``region`` of the view,
            the ``rest`` of the image, or all but the regions that an order adds up to the view's
            own, which come ``later``. ``features``: no pixel, but the features of the rest.
        images: The image of each view, long (V,).
        regions: The region of each view, long (V,); None where views have none.
        cuts: y0, x0, y1, x1 cut out of each view, long (V, 4); None shows the whole.
        sizes: Height and width that each cut is resized to, long (V, 2); given with ``cuts``.
        orders: The orders that the views are steps of, where they hide what comes ``later``.
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
        """Some of the views, long (B,)."""
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
    """All-imputed views, and which of them each region's information is counted from.

    Attributes:
        plan: The all-imputed views.
        index: For image i and region r, the row of ``plan``: long (n, R).
    """

    plan: ViewPlan
    index: Tensor


def all_imputed(scene: Scene) -> Blank:
    """One all-imputed view for each image, the blank of all its regions."""
    index = scene.images[:, None].expand(-1, len(scene.regions))
    return Blank(ViewPlan(scene, "everything", scene.images), index)


def whole_images(scene: Scene) -> ViewPlan:
    """Every image as it is."""
    return ViewPlan(scene, "nothing", scene.images)


def over_regions(plan: ViewPlan, shown: Reading) -> Reading:
    """Values of a plan's views (V, ...), one for each region that is present, as (n, R, ...).

    NaN where an image does not have the region.
    """
    shape = (len(plan.scene.inputs[0]), len(plan.scene.regions))

    def spread(values: Tensor) -> Tensor:
        table = values.new_full((*shape, *values.shape[1:]), torch.nan)
        table[plan.images, plan.regions] = values
        return table

    return shown.map(spread)


def region_pairs(scene: Scene) -> tuple[Tensor, Tensor]:
    """Every (image, region) that is present, images running fastest: long (V,), long (V,)."""
    regions, images = scene.regions.present(len(scene.inputs[0])).T.nonzero(as_tuple=True)
    return images, regions


def or_windows(asked: Regions | None, inputs: Tensors) -> Regions:
    """The regions that are asked for; windows, or one region per element, where none are."""
    return default_windows(inputs) if asked is None else asked


@dataclass(frozen=True)
class Needs:
    """What a view needs of those who show it. Most views need nothing.

    Attributes:
        engine: The name of the only engine that can show the view; None where any engine can.
        overlaps: How its regions may combine where they overlap.
        fixed_imputer: Why an imputer that draws cannot stand in, in words; empty where it can.
        lone_parts: Whether regions are shown without the rest of their picture, which a network
            must have learned to read.
    """

    engine: OwnEngine | None = None
    overlaps: tuple[str, ...] = OVERLAPS
    fixed_imputer: str = ""
    lone_parts: bool = False


class View(Protocol):
    """What all views have, whoever shows them."""

    @property
    def name(self) -> str:
        """The view's name, as users write it."""
        ...

    @property
    def needs(self) -> Needs:
        """What it needs of those who show it."""
        ...

    @property
    def n_samples(self) -> int | None:
        """Orders, or samples of a stochastic network; None for a single pass."""
        ...

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """The regions to score, where these are asked for, or none are."""
        ...

    def check(self, scene: Scene) -> None:
        """Refuse scenes that the view cannot be used on; the error says which view to pass."""
        ...


class RegionView(View, Protocol):
    """What the network is shown to score one region, and how its answers become information."""

    @property
    def over_orders(self) -> bool:
        """Whether ``n_samples`` counts orders, each step of which is one pass."""
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

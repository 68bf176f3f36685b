# The view `chain` adds regions in random orders.
from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.scales import Scales
from captum_infomask.scores.readings import Reading
from captum_infomask.views.view_plan import (
    Blank,
    Needs,
    Orders,
    Scene,
    ViewPlan,
    all_imputed,
    or_windows,
)


def draw_orders(count: int, n_samples: int, seed: int) -> Tensor:
    """Orders of ``count`` regions, long (O, count): entry t is the region that step t adds.

    The orders depend on nothing but the arguments. If there are at most ``n_samples`` orders in
    all, each comes once. Else ``n_samples`` / 2 of them are drawn, and each is followed by its
    reverse.
    """
    if are_all(count, n_samples):
        return torch.tensor(list(itertools.permutations(range(count))), dtype=torch.long)
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(count, generator=generator) for _ in range(n_samples // 2)]
    return torch.stack([way for order in drawn for way in (order, order.flip(0))])


def are_all(count: int, n_samples: int) -> bool:
    """Whether ``count`` regions have no more than ``n_samples`` orders in all."""
    return math.lgamma(count + 1) < math.log(n_samples + 0.5)


def rank_table(present: Tensor, n_samples: int, seed: int) -> Tensor:
    """The step at which each order adds each region of each image: long (n, O, R).

    R stands for regions that an image does not have. It also fills the orders of images that have
    fewer regions than others, and so fewer orders.
    """
    n, size = present.shape
    per_image = [draw_orders(int(row.sum()), n_samples, seed) for row in present]
    ranks = torch.full((n, max(map(len, per_image)), size), size)
    for image, orders in enumerate(per_image):
        names = present[image].nonzero()[:, 0]
        steps = torch.arange(orders.shape[1]).expand(len(orders), -1)
        ranks[image, : len(orders)] = ranks[image, : len(orders)].scatter(1, names[orders], steps)
    return ranks


@dataclass(frozen=True)
class Chain:
    r"""Add regions to the all-imputed picture, and take the mean over random orders.

    .. math::

        \operatorname{mean}_o\; i(y; x_R \mid x_{S_o})
            = \operatorname{mean}_o\, [\, i(y; x_{S_o \cup R}) - i(y; x_{S_o})\, ],

    with :math:`S_o` the regions that come before R in order o. This estimates R's Shapley value in
    the game i(y; x_S). The steps of each order telescope. Therefore the values of all regions sum
    to i(y; all regions shown) − i(y; all-imputed), whatever the orders.

    Attributes:
        n_samples: The number of orders. It is even, because orders come in pairs: an order and its
            reverse. If an image's regions have no more orders than that, each comes once and the
            mean is exact.
        seed: The seed of the orders.

    Source: permutation sampling of Shapley values (Castro, Gómez & Tejada 2009) with antithetic
    pairs (Mitchell et al., arXiv 2104.12199).
    """

    n_samples: int
    seed: int
    name = "chain"
    over_orders = True
    needs = Needs(fixed_imputer="whose `n_samples` counts orders")

    def regions_of(self, inputs: Tensors, asked: Regions | None) -> Regions:
        """Return the regions that are asked for, or windows."""
        return or_windows(asked, inputs)

    def check(self, scene: Scene) -> None:
        """Refuse several scales, and regions that add nothing to what others have shown."""
        if isinstance(scene.regions, Scales):
            raise ArgumentError(
                "Expected regions of one scale for view='chain', in which every region adds to "
                "those before it; got several. Call it once for each."
            )

    def plan(self, scene: Scene) -> ViewPlan:
        """Plan every step of every order.

        The last step is the same for all orders, so only the first order has it.
        """
        present = scene.regions.present(len(scene.inputs[0]))
        ranks = rank_table(present, self.n_samples, self.seed)
        last = present.sum(1)[:, None, None] - 1
        wanted = ranks < last
        wanted[:, 0] |= ranks[:, 0] == last[:, 0]
        images, orders, regions = wanted.nonzero(as_tuple=True)
        steps = ranks[images, orders, regions]
        # The views go step by step: neighbours in a chunk then differ by one region.
        in_order = ((images * ranks.shape[1] + orders) * ranks.shape[2] + steps).argsort()
        return ViewPlan(
            scene,
            "later",
            images[in_order],
            regions[in_order],
            orders=Orders(ranks, orders[in_order]),
        )

    def blank(self, scene: Scene) -> Blank:
        """One all-imputed view for each image, where every order begins."""
        return all_imputed(scene)

    def information(
        self, plan: ViewPlan, shown: Reading, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return the mean over orders of what a region adds, and its standard error over pairs."""
        assert plan.orders is not None, "as planned"
        assert blank is not None, "as planned"
        ranks, orders = plan.orders.ranks, plan.orders.of_views
        n, count, size = ranks.shape
        values = shown.information.double().cpu()
        path = values.new_full((n, count, size + 1, *values.shape[1:]), torch.nan)
        path[:, :, 0] = blank.information[:, :1].to(path)
        steps = ranks[plan.images, orders, plan.regions]
        path[plan.images, orders, steps + 1] = values
        images = [self._over_orders(*image) for image in zip(ranks, path, strict=True)]
        means, errors = torch.stack(images).to(shown.information).unbind(1)
        return Reading(means, standard_errors=errors)

    def _over_orders(self, ranks: Tensor, path: Tensor) -> Tensor:
        """Return an image's means and standard errors: (O, R) and (O, R + 1, ...) → (2, R, ...)."""
        size = ranks.shape[1]
        present = ranks[0] < size
        table = path.new_full((2, size, *path.shape[2:]), math.nan)
        if not bool(present.any()):
            return table
        ranks = ranks[(ranks < size).any(1)][:, present]
        count = len(present.nonzero())
        path = path[: len(ranks), : count + 1]
        path[:, count] = path[0, count].clone()
        gains = path.diff(dim=1)[torch.arange(len(ranks))[:, None], ranks]
        errors = torch.zeros_like(gains[0])
        if not are_all(count, self.n_samples):
            pairs = gains.unflatten(0, (-1, 2)).mean(1)
            variance = (pairs - pairs.mean(0)).square().sum(0) / (len(pairs) - 1)
            errors = (variance / len(pairs)).sqrt()
        table[:, present] = torch.stack([gains.mean(0), errors])
        return table

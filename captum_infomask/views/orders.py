# Random orders of an image's regions, in pairs of an order and its reverse.
from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def draw_orders(count: int, n_samples: int, seed: int) -> Tensor:
    """Orders of ``count`` regions, long (O, count): entry t is the region that step t adds.

    They depend on nothing but the arguments. Where there are no more than ``n_samples`` orders in
    all, each comes once; else ``n_samples`` / 2 of them are drawn, each followed by its reverse.
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

    R stands for regions that an image does not have, and fills the orders of images that have
    fewer regions, and so fewer orders, than others.
    """
    n, size = present.shape
    per_image = [draw_orders(int(row.sum()), n_samples, seed) for row in present]
    ranks = torch.full((n, max(map(len, per_image)), size), size)
    for image, orders in enumerate(per_image):
        names = present[image].nonzero()[:, 0]
        steps = torch.arange(orders.shape[1]).expand(len(orders), -1)
        ranks[image, : len(orders)] = ranks[image, : len(orders)].scatter(1, names[orders], steps)
    return ranks

# What sets of regions cover together.
from __future__ import annotations

import torch
from torch import Tensor

from captum_infomask.regions.region_protocol import Regions

_GROUP = 16  # regions whose masks are held at a time


def unions(
    regions: Regions, image: int, sets: Tensor, device: torch.device
) -> tuple[Tensor | None, ...]:
    """Per input, which elements lie in any region of each set.

    Args:
        regions: The R regions.
        image: The image that they are regions of.
        sets: Which regions belong to each set, bool (V, R), on the CPU.
        device: Where the masks are wanted.

    Returns:
        Bool tensors that broadcast to ``(V, *shape)``; None where no region of any set touches the
        input.
    """
    covered: list[Tensor | None] = [None] * len(regions.shapes)
    for group in sets.any(0).nonzero()[:, 0].split(_GROUP):
        masks = regions.masks(torch.full_like(group, image), group, device)
        weights = sets[:, group].to(device, torch.float32)
        for k, mask in enumerate(masks):
            if mask is not None:
                hits = (weights @ mask.flatten(1).float()).reshape(len(sets), *mask.shape[1:]) > 0
                before = covered[k]
                covered[k] = hits if before is None else before | hits
    return tuple(covered)

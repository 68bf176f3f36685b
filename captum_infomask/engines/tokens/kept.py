# Which patches of a picture each view keeps.
from __future__ import annotations

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask.views.view_plan import Scene, ViewPlan

_GROUP = 64  # regions whose masks are held at a time


def kept_patches(plan: ViewPlan, patch: tuple[int, int]) -> Tensor:
    """The patches that each view of a plan shows: bool (V, P), row by row of the picture.

    Args:
        plan: Views that show a picture's place as it is, nothing cut out.
        patch: Height and width of a patch, in pixels; pictures are whole patches.

    Raises:
        ArgumentError: A region holds a part of a patch.
    """
    scene, images, regions = plan.scene, plan.images, plan.regions
    rows, columns = _patch_grid(scene, patch)
    if plan.hidden == "everything" or regions is None:
        return torch.full((len(plan), rows * columns), plan.hidden == "nothing")
    if plan.orders is None:
        own = _patches_of(scene, images, regions, patch)
        return own if plan.hidden == "rest" else ~own
    kept = torch.zeros(len(plan), rows * columns, dtype=torch.bool)
    for image in images.unique():
        views = (images == image).nonzero()[:, 0]
        added = plan.orders.added(views, images[views], regions[views])
        used = added.any(0).nonzero()[:, 0]
        patches = _patches_of(scene, image.expand(len(used)), used, patch)
        kept[views] = added[:, used].float() @ patches.float() > 0
    return kept


def check_pictures(scene: Scene, patch: tuple[int, int]) -> None:
    """Refuse pictures that are not made of whole patches."""
    height, width = scene.inputs[0].shape[2:]
    if height % patch[0] or width % patch[1]:
        raise ArgumentError(
            f"Expected `inputs` whose height and width are multiples of the network's patches, "
            f"{patch[0]} × {patch[1]} pixels, for RemoveTokens(); got {height} × {width}."
        )


def _patch_grid(scene: Scene, patch: tuple[int, int]) -> tuple[int, int]:
    height, width = scene.inputs[0].shape[2:]
    return height // patch[0], width // patch[1]


def _patches_of(scene: Scene, images: Tensor, regions: Tensor, patch: tuple[int, int]) -> Tensor:
    """The patches that make up regions (V,) of images (V,): bool (V, P)."""
    rows, columns = _patch_grid(scene, patch)
    parts = [torch.zeros(0, rows * columns, dtype=torch.bool)]
    for start in range(0, len(regions), _GROUP):
        group = slice(start, start + _GROUP)
        (mask,) = scene.regions.masks(images[group], regions[group], torch.device("cpu"))
        if mask is None:
            parts.append(torch.zeros(len(regions[group]), rows * columns, dtype=torch.bool))
            continue
        mask = mask.expand(len(regions[group]), -1, rows * patch[0], columns * patch[1])
        pixels = mask.unflatten(3, (columns, patch[1])).unflatten(2, (rows, patch[0]))
        pixels = pixels.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        whole = pixels.all(2)
        split = (pixels.any(2) & ~whole).any(1)
        if bool(split.any()):
            _refuse(scene, int(regions[group][split][0]), patch)
        parts.append(whole)
    return torch.cat(parts)


def _refuse(scene: Scene, region: int, patch: tuple[int, int]) -> None:
    channels = scene.inputs[0].shape[1]
    rows, columns = _patch_grid(scene, patch)
    windows, strides = (channels, 2 * patch[0], 2 * patch[1]), (channels, *patch)
    raise ArgumentError(
        f"Expected regions of whole patches of {patch[0]} × {patch[1]} pixels for RemoveTokens(); "
        f"region {region} {scene.regions.describe(region)} splits one. Make such regions by "
        f"grid(x, rows={rows}, columns={columns}) or sliding_windows(x, {windows}, {strides})."
    )

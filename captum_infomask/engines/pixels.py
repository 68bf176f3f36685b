# Draw views as pixels, a chunk at a time.
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.views.view_plan import ViewPlan

_GROUP = 16  # regions whose masks are held at a time


def unions(
    regions: Regions, image: int, sets: Tensor, device: torch.device
) -> tuple[Tensor | None, ...]:
    """Return, for each input, the elements that lie in any region of each set.

    Args:
        regions: The R regions.
        image: The image that has the regions.
        sets: The regions of each set, bool (V, R), on the CPU.
        device: The device of the result.

    Returns:
        Bool tensors that broadcast to ``(V, *shape)``; None if no region of any set touches the
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


def draw(plan: ViewPlan, rows: Tensor) -> Tensors:
    """Return the inputs that show some of a plan's views to the network.

    Args:
        plan: The views.
        rows: The views to draw, long (B,), on the CPU. If views are cut out, all have one size.

    Returns:
        A tensor (B, ...) for each input.
    """
    images = plan.images[rows]
    shown = _imputed(plan, rows, images)
    if plan.cuts is None or plan.sizes is None:
        return shown
    return (_cut_out(shown[0], plan.cuts[rows], tuple(plan.sizes[rows[0]].tolist())),)


def _imputed(plan: ViewPlan, rows: Tensor, images: Tensor) -> Tensors:
    """Return each view's image; the imputer's values replace the hidden part."""
    inputs = plan.scene.inputs
    device = inputs[0].device
    index = images.to(device)
    shown = tuple(x.index_select(0, index) for x in inputs)
    hidden = _hidden(plan, rows, images)
    if all(mask is None for mask in hidden):
        return shown
    stand_ins = plan.scene.stand_in(index, hidden)
    _check_shapes(stand_ins, shown)
    return tuple(
        x if mask is None else torch.where(mask, stand_in, x)
        for x, mask, stand_in in zip(shown, hidden, stand_ins, strict=True)
    )


def _check_shapes(stand_ins: Tensors, shown: Tensors) -> None:
    """Refuse an imputer's output if it is not one tensor per input that broadcasts to the input."""
    shapes = [tuple(getattr(stand_in, "shape", ())) for stand_in in stand_ins]
    wanted = [tuple(x.shape) for x in shown]
    fits = len(shapes) == len(wanted) and all(
        len(given) == len(want) and all(a in (1, b) for a, b in zip(given, want, strict=True))
        for given, want in zip(shapes, wanted, strict=True)
    )
    if not fits:
        raise ArgumentError(
            f"Expected `imputer` to give a tensor per input that broadcasts to "
            f"{', '.join(map(str, wanted))}; it gave {', '.join(map(str, shapes)) or 'nothing'}."
        )


def _hidden(plan: ViewPlan, rows: Tensor, images: Tensor) -> tuple[Tensor | None, ...]:
    inputs = plan.scene.inputs
    if plan.hidden == "nothing":
        return (None,) * len(inputs)
    device = inputs[0].device
    everything = torch.ones(1, dtype=torch.bool, device=device)
    if plan.hidden == "everything" or plan.regions is None:
        return tuple(everything.reshape([1] * x.dim()) for x in inputs)
    if plan.orders is not None:
        sets = plan.orders.added(rows, images, plan.regions[rows])
        masks = _covered(plan, images, sets)
    else:
        masks = plan.scene.regions.masks(images, plan.regions[rows], device)
    if plan.hidden == "region":
        return masks
    return tuple(
        everything.reshape([1] * x.dim()) if mask is None else ~mask
        for x, mask in zip(inputs, masks, strict=True)
    )


def _covered(plan: ViewPlan, images: Tensor, sets: Tensor) -> tuple[Tensor | None, ...]:
    """Return, for each input, the elements that each view's set of regions covers."""
    inputs = plan.scene.inputs
    shown = tuple(x.new_zeros(len(images), *x.shape[1:], dtype=torch.bool) for x in inputs)
    for image in images.unique().tolist():
        same = images == image
        masks = unions(plan.scene.regions, image, sets[same], inputs[0].device)
        for part, mask in zip(shown, masks, strict=True):
            if mask is not None:
                part[same.to(part.device)] = mask.expand(-1, *part.shape[1:])
    return shown


def _cut_out(pictures: Tensor, cuts: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cut a box out of each picture and resize it."""
    wide = pictures if pictures.dtype.itemsize >= 4 else pictures.float()
    out = wide.new_empty(len(wide), wide.shape[1], *size)
    ends = cuts.unflatten(1, (2, -1))
    shapes = (ends[:, 1] - ends[:, 0]).tolist()
    for shape in {tuple(s) for s in shapes}:
        same = [row for row, s in enumerate(shapes) if tuple(s) == shape]
        spots: list[Any] = [
            (row, slice(None), *(slice(a, b) for a, b in zip(*box, strict=True)))
            for row, box in zip(same, ends[same].tolist(), strict=True)
        ]
        patches = torch.stack([wide[spot] for spot in spots])
        out[torch.tensor(same, device=out.device)] = resized(patches, size)
    return out.to(pictures.dtype)


def resized(pictures: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize signals, images or volumes (V, C, ...): linear along each place, and antialiased.

    PyTorch's antialiased resizing is for planes, and works along one side after the other. So a
    signal is a plane of one row. A volume is resized as planes along its last two places, and then
    along the first.
    """
    if len(size) == 1:
        return _plane_resized(pictures[:, :, None], (1, *size))[:, :, 0]
    planes = pictures.reshape(len(pictures), -1, *pictures.shape[-2:])
    shown = _plane_resized(planes, size[-2:]).reshape(*pictures.shape[:-2], *size[-2:])
    for dim, side in enumerate(size[:-2], 2):
        before, after = shown.shape[:dim], shown.shape[dim + 1 :]
        planes = shown.reshape(len(shown), math.prod(before[1:]), shown.shape[dim], -1)
        shown = _plane_resized(planes, (side, planes.shape[3])).reshape(*before, side, *after)
    return shown


def _plane_resized(planes: Tensor, size: tuple[int, ...]) -> Tensor:
    if planes.shape[2:] == size:
        return planes
    return F.interpolate(planes, size=size, mode="bilinear", antialias=True, align_corners=False)

# What part of each cell of a coarser map a region covers, by area.
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from captum_infomask.regions.base import Regions

_GROUP = 32  # regions whose masks are held at a time


def cell_weights(regions: Regions, images: Tensor, numbers: Tensor, cells: Tensor) -> Tensor:
    r"""The weights by which regions average the cells of a map.

    A map of h × w cells cuts a picture of H × W pixels into rectangles of H/h × W/w, and

    .. math::

        a_R(c) = |R \cap c| \,/\, |R|,

    with areas in pixels: a cell's border may cut a pixel.

    Args:
        regions: Regions over all channels of images.
        images: The image of each region that is asked for, long (V,), on the CPU.
        numbers: Which regions, long (V,), on the CPU.
        cells: The map (..., h, w): its size, dtype and device are read.

    Returns:
        The weights (V, h, w); each region's sum to 1.
    """
    ((_, height, width),) = regions.shapes
    h, w = cells.shape[-2:]
    rectangles = regions.rectangles()
    if rectangles is not None:
        corners = rectangles[images if len(rectangles) > 1 else 0, numbers].to(cells)
        y0, x0, y1, x1 = corners.unbind(-1)
        areas = _shared(y0, y1, height, h)[:, :, None] * _shared(x0, x1, width, w)[:, None, :]
    else:
        y, x = torch.arange(height).to(cells), torch.arange(width).to(cells)
        down, across = _shared(y, y + 1, height, h), _shared(x, x + 1, width, w)
        areas = torch.cat(
            [
                down.T @ mask[:, 0].expand(-1, height, width).to(cells) @ across
                for mask in _masks(regions, images, numbers, cells.device)
            ]
        )
    return areas / areas.sum((1, 2), keepdim=True)


def span_channels(regions: Regions, images: Tensor, numbers: Tensor) -> bool:
    """Whether regions hold every channel of each of their pixels."""
    if regions.rectangles() is not None:
        return True
    masks = _masks(regions, images, numbers, torch.device("cpu"))
    return all(bool((mask == mask[:, :1]).all()) for mask in masks)


def _masks(
    regions: Regions, images: Tensor, numbers: Tensor, device: torch.device
) -> Iterator[Tensor]:
    """The masks of regions of single pictures, a group at a time: (B, 1 or C, ...) each."""
    for some, which in zip(images.split(_GROUP), numbers.split(_GROUP), strict=True):
        (mask,) = regions.masks(some, which, device)
        assert mask is not None, "every region has a pixel"
        yield mask


def _shared(start: Tensor, stop: Tensor, size: int, count: int) -> Tensor:
    """The lengths that spans (V,) share with the equal parts of a side, (V, count)."""
    edges = (torch.arange(count + 1, dtype=torch.float64) * size / count).to(start)
    first = start[:, None].maximum(edges[:-1])
    last = stop[:, None].minimum(edges[1:])
    return (last - first).clamp_min(0)

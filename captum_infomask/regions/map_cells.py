# Cells of feature maps: the share of each cell in a region, and regions that are cells.
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from captum_infomask._process import full_precision
from captum_infomask._types import Shape, Tensors
from captum_infomask.regions.region_protocol import Regions

_GROUP = 32  # regions whose masks are in memory at a time


def cell_weights(regions: Regions, images: Tensor, numbers: Tensor, cells: Tensor) -> Tensor:
    r"""The weights by which regions average the cells of a map.

    A map of h × w cells cuts a picture of H × W pixels into rectangles of H/h × W/w, a map of
    another number of places likewise, and

    .. math::

        a_R(c) = |R \cap c| \,/\, |R|,

    with areas in pixels. A cell's border may cut a pixel.

    Args:
        regions: Regions over all channels of images.
        images: The image of each requested region, long (V,), on the CPU.
        numbers: The numbers of the regions, long (V,), on the CPU.
        cells: The map (..., h, w), of as many places as the images have; only its size, dtype and
            device are read.

    Returns:
        The weights (V, h, w); each region's sum to 1.
    """
    ((_, *sizes),) = regions.shapes
    counts = cells.shape[-len(sizes) :]
    rectangles = regions.rectangles()
    if rectangles is not None:
        corners = rectangles[images if len(rectangles) > 1 else 0, numbers].to(cells)
        starts, stops = (ends.unbind(1) for ends in corners.chunk(2, dim=1))
        areas = torch.ones(len(corners)).to(cells)
        for start, stop, size, count in zip(starts, stops, sizes, counts, strict=True):
            areas = areas[..., None] * _along(_shared(start, stop, size, count), areas.dim())
    else:
        places = [torch.arange(size).to(cells) for size in sizes]
        shares = [
            _shared(place, place + 1, size, count)
            for place, size, count in zip(places, sizes, counts, strict=True)
        ]
        areas = torch.cat(
            [
                _summed(mask[:, 0].expand(-1, *sizes).to(cells), shares)
                for mask in _masks(regions, images, numbers, cells.device)
            ]
        )
    return areas / areas.flatten(1).sum(1).reshape(-1, *[1] * len(sizes))


def _along(lengths: Tensor, dim: int) -> Tensor:
    """The lengths (V, count) with their second dimension at this place."""
    return lengths.reshape(len(lengths), *[1] * (dim - 1), -1)


def _summed(values: Tensor, shares: list[Tensor]) -> Tensor:
    """Sum values (B, *sizes) over cells, by the share of each place in each cell, (size, count)."""
    with full_precision(values.device.type):
        for dim, share in enumerate(shares, 1):
            values = torch.tensordot(values, share, dims=([dim], [0])).movedim(-1, dim)
    return values


def span_channels(regions: Regions, images: Tensor, numbers: Tensor) -> bool:
    """Whether regions contain every channel of each of their pixels."""
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


@dataclass(frozen=True, eq=False, repr=False)
class MapCells:
    r"""The cells of a map over frames: the whole picture, or parts that were shown alone.

    A cell's score becomes a density. It is linear between the centres of cells, and constant beyond
    the outermost centres,

    .. math::

        d(p) = \sum_c \varphi_c \int_p \Lambda_c, \qquad \int \Lambda_c = 1,

    with :math:`\Lambda_c` the hat function of cell c and the integral over pixel p. So the map and
    the cells have the same sum. If frames are parts of the picture, their densities are for equal
    shares of it. Each pixel gets the mean over the frames that show it.

    Attributes:
        shapes: The shape of one example, (C, ...).
        grid: The number of cells along each dimension after the channels.
        frames: Start and stop of each frame in these dimensions, long (F, D, 2).
    """

    shapes: tuple[Shape, ...]
    grid: tuple[int, ...]
    frames: Tensor

    def __repr__(self) -> str:
        """The text that a prompt shows."""
        frames = f" in {len(self.frames)} frames" if len(self.frames) > 1 else ""
        return f"MapCells({' × '.join(map(str, self.grid))} cells{frames} of {self.shapes[0]})"

    def __len__(self) -> int:
        return len(self.frames) * math.prod(self.grid)

    def check_batch(self, n: int) -> None:
        """Accept any batch."""

    def of_images(self, images: Tensor) -> MapCells:
        """The same regions: all images share them."""
        return self

    def present(self, n: int) -> Tensor:
        """Every image has every cell."""
        return torch.ones(n, len(self), dtype=torch.bool)

    def masks(
        self, images: Tensor, regions: Tensor, device: torch.device
    ) -> tuple[Tensor | None, ...]:
        """The elements that each view's cell touches."""
        mask = torch.ones(len(regions), *[1] * len(self.shapes[0]), dtype=torch.bool, device=device)
        for dim, spans in enumerate(self._spans()[regions].unbind(1)):
            size = self.shapes[0][1 + dim]
            place = torch.arange(size, device=device)
            start, stop = spans.to(device).unbind(1)
            inside = (place >= start[:, None]) & (place < stop[:, None])
            shape = [len(regions), *[1] * len(self.shapes[0])]
            shape[2 + dim] = size
            mask = mask & inside.reshape(shape)
        return (mask,)

    def rectangles(self) -> Tensor | None:
        """The pixels that cells touch."""
        return self._spans().transpose(1, 2).reshape(1, -1, 2 * len(self.grid))

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """The densities; with ``max``, the highest score of all cells that touch an element."""
        shape = self.shapes[0]
        cells = scores.unflatten(1, (len(self.frames), *self.grid))
        if overlap == "max":
            highest = self._highest(cells)[:, None]
            return (highest.expand(len(scores), *shape).contiguous(),)
        canvas = scores.new_zeros(len(scores), *shape[1:])
        cover = scores.new_zeros(shape[1:])
        whole = math.prod(shape[1:])
        for frame, values in zip(self.frames.tolist(), cells.unbind(1), strict=True):
            spot = tuple(slice(start, stop) for start, stop in frame)
            spans = zip(frame, self.grid, strict=True)
            hats = [_hats(stop - start, count).T.to(values) for (start, stop), count in spans]
            density = _summed(values, hats)
            canvas[(slice(None), *spot)] += density * (cover[spot].numel() / whole)
            cover[spot] += 1
        painted = (canvas / cover.clamp_min(1))[:, None]
        return (painted.expand(len(scores), *shape).contiguous(),)

    def describe(self, region: int) -> str:
        """Name a cell by its spans."""
        spans = ", ".join(f"{start}:{stop}" for start, stop in self._spans()[region].tolist())
        return f"[:, {spans}]"

    def state(self) -> dict[str, Tensor]:
        """The frames, grid and shape as tensors."""
        return {
            "frames": self.frames.contiguous(),
            "grid": torch.tensor(self.grid).long(),
            "shape.0": torch.tensor(self.shapes[0]).long(),
        }

    def _highest(self, cells: Tensor) -> Tensor:
        """The highest score of the cells that touch each place, for cells (n, F, *grid)."""
        canvas = cells.new_full((len(cells), *self.shapes[0][1:]), -math.inf)
        for frame, values in zip(self.frames.tolist(), cells.unbind(1), strict=True):
            spot, highest = tuple(slice(start, stop) for start, stop in frame), values
            for dim, ((start, stop), count) in enumerate(zip(frame, self.grid, strict=True), 1):
                size = stop - start
                place = torch.arange(size, device=cells.device)
                first = place * count // size
                last = ((place + 1) * count - 1) // size
                most = int((last - first).max()) + 1
                touched = [(first + more).minimum(last) for more in range(most)]
                highest = torch.stack([highest.index_select(dim, each) for each in touched]).amax(0)
            where = (slice(None), *spot)
            canvas[where] = canvas[where].maximum(highest)
        return canvas

    def _spans(self) -> Tensor:
        """The elements that cells touch: start and stop in each dimension, long (R, D, 2)."""
        spans: list[tuple[tuple[int, int], ...]] = []
        for frame in self.frames.tolist():
            sides = [
                [
                    (
                        start + i * (stop - start) // count,
                        start - (-(i + 1) * (stop - start) // count),
                    )
                    for i in range(count)
                ]
                for (start, stop), count in zip(frame, self.grid, strict=True)
            ]
            spans += product(*sides)
        return torch.tensor(spans)


def over_picture(shape: Shape) -> MapCells:
    """The whole of a picture as one cell."""
    places = shape[1:]
    return MapCells((shape,), (1,) * len(places), torch.tensor([[[0, size] for size in places]]))


def sums(regions: Regions, images: Tensor, density: Tensor, present: Tensor) -> Tensor:
    """The integral of some images' densities over each region, (B, R).

    It is NaN if an image does not have the region.

    Args:
        regions: The regions.
        images: The numbers of the images, long (B,).
        density: The densities, (B, ...) without channels.
        present: Which image has which region, (N, R).
    """
    found = density.new_full((len(images), len(regions)), torch.nan)
    for row, image in enumerate(images.tolist()):
        for some in present[image].nonzero()[:, 0].split(_GROUP):
            (mask,) = regions.masks(torch.full_like(some, image), some, density.device)
            assert mask is not None, "every region has an element"
            inside = mask[:, 0].expand(-1, *density.shape[1:]).flatten(1).to(density)
            with full_precision(density.device.type):
                found[row, some] = inside @ density[row].flatten()
    return found


def _hats(size: int, count: int) -> Tensor:
    """The integrals of each cell's hat over each of a side's elements, float64 (size, count)."""
    width = size / count
    edges = torch.arange(size + 1, dtype=torch.float64)[:, None]
    centres = (torch.arange(count - 1, dtype=torch.float64) + 0.5) * width
    # Between two centres, the share of all later cells rises from 0 to 1. These are the integrals.
    rising = (edges - centres).clamp(0, width) ** 2 / (2 * width)
    later = rising + (edges - centres - width).clamp_min(0)
    later = torch.cat([edges, later, torch.zeros_like(edges)], dim=1)
    return (later[:, :-1] - later[:, 1:]).diff(dim=0) / width

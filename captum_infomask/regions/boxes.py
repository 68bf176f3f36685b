# Regions that are boxes: grids and sliding windows. Every image of a batch has all of them.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_infomask._types import Shape, Tensors


@dataclass(frozen=True, eq=False, repr=False)
class BoxRegions:
    """Half-open boxes over one or several inputs.

    Attributes:
        shapes: The shape of one example of each input.
        boxes: For each input, long (R_k, D_k, 2): start and stop in each dimension. Regions are
            numbered through the inputs in order.
    """

    shapes: tuple[Shape, ...]
    boxes: Tensors

    def __repr__(self) -> str:
        """What a prompt shows."""
        return f"BoxRegions({len(self)} regions of {', '.join(map(str, self.shapes))})"

    def __len__(self) -> int:
        return sum(len(boxes) for boxes in self.boxes)

    def check_batch(self, n: int) -> None:
        """Boxes suit any batch."""

    def present(self, n: int) -> Tensor:
        """Every image has every box."""
        return torch.ones(n, len(self), dtype=torch.bool)

    def masks(
        self, images: Tensor, regions: Tensor, device: torch.device
    ) -> tuple[Tensor | None, ...]:
        """Which elements of each input lie in each view's box."""
        masks: list[Tensor | None] = []
        first = 0
        for shape, boxes in zip(self.shapes, self.boxes, strict=True):
            own = (regions >= first) & (regions < first + len(boxes))
            index = (regions - first).clamp(0, len(boxes) - 1)
            masks.append(_inside(shape, boxes[index], own, device) if own.any() else None)
            first += len(boxes)
        return tuple(masks)

    def rectangles(self) -> Tensor | None:
        """The boxes' rows and columns, if they span every channel of one image."""
        if len(self.shapes) != 1 or len(self.shapes[0]) != 3:
            return None
        boxes = self.boxes[0]
        if bool((boxes[:, 0, 0] > 0).any() | (boxes[:, 0, 1] < self.shapes[0][0]).any()):
            return None
        return boxes[:, 1:].transpose(1, 2).reshape(1, -1, 4)

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """Combine the scores of the boxes that cover each element."""
        counts = [len(boxes) for boxes in self.boxes]
        parts = zip(self.shapes, self.boxes, scores.split(counts, dim=1), strict=True)
        return tuple(
            _paint(shape, boxes, part, overlap, nats_per_unit) for shape, boxes, part in parts
        )

    def describe(self, region: int) -> str:
        """Name a box by its spans."""
        for k, boxes in enumerate(self.boxes):
            if region < len(boxes):
                spans = ", ".join(f"{a}:{b}" for a, b in boxes[region].tolist())
                where = f" of input {k}" if len(self.boxes) > 1 else ""
                return f"[{spans}]{where}"
            region -= len(boxes)
        raise IndexError(region)

    def state(self) -> dict[str, Tensor]:
        """The boxes and shapes as tensors."""
        tensors = {f"boxes.{k}": boxes.contiguous() for k, boxes in enumerate(self.boxes)}
        shapes = {f"shape.{k}": torch.tensor(s).long() for k, s in enumerate(self.shapes)}
        return tensors | shapes


def _inside(shape: Shape, spans: Tensor, own: Tensor, device: torch.device) -> Tensor:
    """Which elements lie in spans (V, D, 2), for the views that own one: bool, broadcastable."""
    column = (-1, *[1] * len(shape))
    mask = own.to(device).reshape(column)
    for dim, size in enumerate(shape):
        start, stop = spans[:, dim].unbind(1)
        if bool((start > 0).any() | (stop < size).any()):
            place = torch.arange(size, device=device).reshape(-1, *[1] * (len(shape) - dim - 1))
            inside = (place >= start.to(device).reshape(column)) & (
                place < stop.to(device).reshape(column)
            )
            mask = mask & inside
    return mask


def _paint(
    shape: Shape, boxes: Tensor, scores: Tensor, overlap: str, nats_per_unit: float
) -> Tensor:
    n = len(scores)
    if not len(boxes):
        return scores.new_zeros(n, *shape)
    sizes = torch.tensor(shape).reshape(-1, 1)
    full = ((boxes[..., :1] == 0) & (boxes[..., 1:] == sizes)).all(0)[:, 0].tolist()
    canvas_shape = [1 if whole else size for whole, size in zip(full, shape, strict=True)]
    spots = [
        (
            slice(None),
            *(
                slice(None) if whole else slice(start, stop)
                for whole, (start, stop) in zip(full, spans, strict=True)
            ),
        )
        for spans in boxes.tolist()
    ]
    # Thousands of small sums, one after another: NumPy takes a quarter of the time for them that
    # PyTorch does on the CPU, where it does not launch each of them on a GPU.
    canvas = scores.new_zeros(n, *canvas_shape, device="cpu")
    cover, highest = canvas.new_zeros(1, *canvas_shape), torch.full_like(canvas, -torch.inf)
    values = scores.T.reshape(len(boxes), n, *[1] * len(shape)).detach().cpu()
    if overlap != "mean":
        _gather(np.maximum, highest, spots, values)
    _gather(np.add, cover, spots, torch.ones(()).expand(len(spots)))
    if overlap == "mixture":
        for spot, column in zip(spots, values, strict=True):
            canvas[spot] += ((column - highest[spot]) * nats_per_unit).exp()
        canvas = highest + (canvas / cover).log() / nats_per_unit
    elif overlap == "mean":
        _gather(np.add, canvas, spots, values)
        canvas /= cover
    else:
        canvas = highest
    canvas = torch.where(cover > 0, canvas, 0).to(scores.device)
    return canvas.expand(n, *shape).contiguous()


def _gather(rule: Any, canvas: Tensor, spots: list[Any], columns: Tensor) -> None:
    """Write into each spot of a canvas what a rule makes of it and of the box's value."""
    plane = canvas.numpy()
    for spot, column in zip(spots, columns.numpy(), strict=True):
        part = plane[spot]
        rule(part, column, out=part)

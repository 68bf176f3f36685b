# Regions that are boxes, from grids, windows, detectors or annotations.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import default_on_cpu
from captum_infomask._types import Shape, Tensors
from captum_infomask.regions.mask_regions import MaskRegions, from_masks
from captum_infomask.regions.region_protocol import box_columns, over_all_channels, place_sizes


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
        """The text that a prompt shows."""
        return f"BoxRegions({len(self)} regions of {', '.join(map(str, self.shapes))})"

    def __len__(self) -> int:
        return sum(len(boxes) for boxes in self.boxes)

    def check_batch(self, n: int) -> None:
        """Accept any batch."""

    def of_images(self, images: Tensor) -> BoxRegions:
        """The same regions: all images share them."""
        return self

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
        """The boxes' places, if they span every channel of one input."""
        sizes, boxes = over_all_channels(self.shapes), self.boxes[0]
        if sizes is None:
            return None
        if bool((boxes[:, 0, 0] > 0).any() | (boxes[:, 0, 1] < self.shapes[0][0]).any()):
            return None
        return boxes[:, 1:].transpose(1, 2).reshape(1, -1, 2 * len(sizes))

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """Combine the scores of all boxes that cover an element."""
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
    """Which elements lie in spans (V, D, 2), for the views that have one: bool, broadcastable."""
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
    # These are thousands of small sums, one after another. NumPy takes a quarter of PyTorch's time
    # on the CPU, and does not launch each sum on a GPU.
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
    """Combine each spot of a canvas with the box's value by a rule, and write the result."""
    plane = canvas.numpy()
    for spot, column in zip(spots, columns.numpy(), strict=True):
        part = plane[spot]
        rule(part, column, out=part)


@default_on_cpu()
def from_boxes(
    inputs: Tensor, boxes: Tensor | npt.NDArray[Any] | Sequence[Any]
) -> BoxRegions | MaskRegions:
    """Regions from boxes, which may overlap and leave gaps.

    Pixels in no box get an attribution of 0.

    Args:
        inputs: Images (N, C, H, W), signals (N, C, T) or volumes (N, C, D, H, W); only the shape
            and the device are read.
        boxes: x0, y0, x1, y1 in whole pixels, half-open. For signals they are t0, t1; for volumes
            x0, y0, z0, x1, y1, z1, with z along D. Give (R, 4), or (R, 2) or (R, 6), for all
            images, as a tensor, an array or a list. Or give a list with one such table per image,
            as ``bounding_boxes`` returns; boxes are then numbered from 0 in each image.

    Returns:
        The regions, in the order of their boxes.

    Raises:
        ArgumentError: ``boxes`` have another shape, numbers that are not whole, no pixel inside, or
            a corner outside the image.

    Example:
        >>> import torch
        >>> from captum_infomask import from_boxes
        >>> len(from_boxes(torch.zeros(2, 3, 8, 8), [[0, 0, 5, 4], [3, 2, 8, 8]]))
        2
    """
    sizes, channels = place_sizes(inputs), inputs.shape[1]
    if not _is_per_image(boxes):
        table = _checked(boxes, "", sizes)
        if not len(table):
            raise ArgumentError("Expected `boxes` with at least one box; got none.")
        spans = torch.tensor([0, channels]).expand(len(table), 1, 2)
        # The first place, such as D or H, is the last axis of a box.
        corners = table.unflatten(1, (2, -1)).transpose(1, 2).flip(1)
        return BoxRegions((tuple(inputs.shape[1:]),), (torch.cat([spans, corners], dim=1),))
    if len(boxes) != len(inputs):
        raise ArgumentError(
            f"Expected `boxes` to hold a table of boxes for each of the {len(inputs)} images; got "
            f"{len(boxes)}."
        )
    tables = [_checked(part, f" of image {image}", sizes) for image, part in enumerate(boxes)]
    if not any(len(table) for table in tables):
        raise ArgumentError("Expected `boxes` with at least one box; got none.")
    masks: list[Any] = []
    for table in tables:
        filled = torch.zeros(len(table), *sizes, dtype=torch.bool)
        for mask, box in zip(filled, table.unflatten(1, (2, -1)).flip(2).tolist(), strict=True):
            mask[tuple(slice(a, b) for a, b in zip(*box, strict=True))] = True
        masks.append(filled)
    return from_masks(inputs, masks)


def _is_per_image(boxes: Any) -> bool:
    """Whether these are tables of boxes, one per image, rather than one table."""
    if not isinstance(boxes, list | tuple):
        return False
    return any(
        hasattr(part, "__len__")
        and (len(part) == 0 or (hasattr(part[0], "__len__") and np.ndim(part[0]) > 0))
        for part in boxes
    )


def _checked(boxes: Any, where: str, sizes: Shape) -> Tensor:
    """One table of boxes as a long tensor (R, 2 · D)."""
    names, most = box_columns(len(sizes)), sizes[::-1]
    count = len(names)
    try:
        array = boxes.detach().cpu().numpy() if isinstance(boxes, Tensor) else np.asarray(boxes)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.size == 0 and array.ndim < 3 and array.dtype.kind in "iuf":
        array = array.reshape(0, count)
    if array.ndim != 2 or array.shape[1] != count or array.dtype.kind not in "iuf":
        raise ArgumentError(
            f"Expected `boxes`{where} to be (R, {count}), {', '.join(names)} in pixels; got "
            f"{describe(boxes)}."
        )
    for row, box in enumerate(array.tolist()):
        sides = list(zip(box[: len(sizes)], box[len(sizes) :], most, strict=True))
        if not all(float(value).is_integer() for value in box):
            fault = "whole numbers of pixels"
        elif not all(start >= 0 and stop <= size for start, stop, size in sides):
            ends = zip(names[len(sizes) :], most, strict=True)
            fault = f"inside the image, to {', '.join(f'{end} = {size}' for end, size in ends)}"
        elif not all(start < stop for start, stop, _ in sides):
            pairs = zip(names, names[len(sizes) :], strict=False)
            fault = f"with a pixel inside, {' and '.join(map(' < '.join, pairs))}"
        else:
            continue
        raise ArgumentError(f"Expected `boxes`{where} {fault}; box {row} is {box}.")
    return torch.from_numpy(array.astype(np.int64))

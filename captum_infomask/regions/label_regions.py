# Regions from label maps and feature masks, and how label maps merge into coarser ones.
from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._captum import is_mask_valid
from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import default_on_cpu
from captum_infomask._types import Shape, TensorOrTensors, Tensors
from captum_infomask.regions.region_protocol import (
    example_shapes,
    over_all_channels,
    place_sizes,
)

_ANY_INTEGERS = "from_feature_mask takes any integers."


@dataclass(frozen=True, eq=False, repr=False)
class LabelRegions:
    """Elements with the same label form one region, across all inputs.

    Attributes:
        shapes: The shape of one example of each input.
        labels: For each input, long (n or 1, ...), broadcastable to (n, *shape): region numbers.
        names: Long (R,): the labels as the user wrote them.
    """

    shapes: tuple[Shape, ...]
    labels: Tensors
    names: Tensor

    def __repr__(self) -> str:
        """The text that a prompt shows."""
        return f"LabelRegions({len(self)} regions of {', '.join(map(str, self.shapes))})"

    def __len__(self) -> int:
        return len(self.names)

    def check_batch(self, n: int) -> None:
        """Refuse a batch of another size, if label maps differ per image."""
        for labels in self.labels:
            if len(labels) not in (1, n):
                raise ArgumentError(
                    f"Expected `regions` made for 1 or {n} images; got regions for {len(labels)}."
                )

    def of_images(self, images: Tensor) -> LabelRegions:
        """The labels of some images; label maps that all images share stay as they are."""
        labels = tuple(own[images.to(own.device)] if len(own) > 1 else own for own in self.labels)
        return LabelRegions(self.shapes, labels, self.names)

    def present(self, n: int) -> Tensor:
        """Which image has which label."""
        found = torch.zeros(n, len(self), dtype=torch.bool)
        for labels in self.labels:
            flat = labels.flatten(1).cpu()
            one = torch.zeros(len(flat), len(self), dtype=torch.bool).scatter_(1, flat, True)
            found |= one
        return found

    def masks(
        self, images: Tensor, regions: Tensor, device: torch.device
    ) -> tuple[Tensor | None, ...]:
        """Which elements carry each view's label."""
        masks = []
        for labels in self.labels:
            own = labels.to(device)
            own = own[images.to(device)] if len(own) > 1 else own
            masks.append(own == regions.to(device).reshape(-1, *[1] * (labels.dim() - 1)))
        return tuple(masks)

    def rectangles(self) -> Tensor | None:
        """The labels' bounding boxes, if each label fills its box in all channels of one input."""
        sizes, labels = over_all_channels(self.shapes), self.labels[0]
        if sizes is None or bool((labels != labels[:, :1]).any()):
            return None
        flat = labels[:, 0].expand(-1, *sizes).flatten(1)
        blank = torch.zeros(len(flat), len(self), dtype=torch.long, device=flat.device)
        starts, stops = [], []
        for dim, size in enumerate(sizes):
            along = torch.arange(size, device=flat.device)
            column = [-1 if dim == other else 1 for other in range(len(sizes))]
            place = along.reshape(column).expand(sizes).flatten().expand_as(flat)
            starts.append((blank + size).scatter_reduce(1, flat, place, "amin"))
            stops.append(blank.scatter_reduce(1, flat, place + 1, "amax"))
        first, last = torch.stack(starts, dim=-1), torch.stack(stops, dim=-1)
        count = blank.scatter_add(1, flat, torch.ones_like(flat))
        if bool((((last - first).prod(-1) != count) & (count > 0)).any()):
            return None
        return torch.cat([first, last], dim=-1).cpu()

    def paint(self, scores: Tensor, overlap: str, nats_per_unit: float) -> Tensors:
        """Give every element its region's score; regions do not overlap."""
        n = len(scores)
        painted = []
        for shape, labels in zip(self.shapes, self.labels, strict=True):
            flat = labels.flatten(1).to(scores.device).expand(n, -1)
            values = scores.gather(1, flat).reshape(n, *labels.shape[1:])
            painted.append(values.expand(n, *shape).contiguous())
        return tuple(painted)

    def describe(self, region: int) -> str:
        """Name a region by its label."""
        return f"with label {int(self.names[region])}"

    def state(self) -> dict[str, Tensor]:
        """The labels, names and shapes as tensors."""
        tensors = {f"labels.{k}": labels.contiguous() for k, labels in enumerate(self.labels)}
        shapes = {f"shape.{k}": torch.tensor(s).long() for k, s in enumerate(self.shapes)}
        return tensors | shapes | {"names": self.names}


@default_on_cpu()
def from_feature_mask(inputs: TensorOrTensors, feature_mask: TensorOrTensors) -> LabelRegions:
    """Regions from Captum's ``feature_mask``: elements with the same integer are one region.

    Args:
        inputs: The inputs (N, ...), a tensor or a tuple of tensors; only their shapes are read.
        feature_mask: An integer tensor per input, broadcastable to it: (N or 1, ...). Labels need
            not be consecutive. The same label in several inputs is one region, as in Captum 0.9.

    Returns:
        The regions, in the order of their labels.

    Raises:
        ArgumentError: The number of masks, a shape or a dtype is wrong.

    Example:
        >>> import torch
        >>> from captum_infomask import from_feature_mask
        >>> halves = torch.tensor([[0, 0, 1, 1]])
        >>> len(from_feature_mask(torch.zeros(2, 4), halves))
        2

    Source: the form is that of ``captum.attr.FeatureAblation``.
    """
    shapes = example_shapes(inputs)
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    masks = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    if len(masks) != len(tensors):
        raise ArgumentError(
            f"Expected `feature_mask` to hold a mask for each of the {len(tensors)} inputs; got "
            f"{len(masks)}."
        )
    for mask, tensor in zip(masks, tensors, strict=True):
        _check_mask(mask, tensor)
    padded = [
        mask.detach().long().reshape((1,) * (tensor.dim() - mask.dim()) + tuple(mask.shape))
        for mask, tensor in zip(masks, tensors, strict=True)
    ]
    flat = torch.cat([mask.flatten().to(padded[0].device) for mask in padded])
    names, index = torch.unique(flat, return_inverse=True)
    parts = index.split([mask.numel() for mask in padded])
    labels = tuple(
        part.reshape(mask.shape).to(tensor.device)
        for part, mask, tensor in zip(parts, padded, tensors, strict=True)
    )
    return LabelRegions(shapes, labels, names.cpu())


def _check_mask(mask: object, tensor: Tensor) -> None:
    if not isinstance(mask, Tensor):
        array = " torch.from_numpy(feature_mask) makes one." if isinstance(mask, np.ndarray) else ""
        raise ArgumentError(f"Expected `feature_mask` to be a tensor; got {describe(mask)}.{array}")
    if mask.dtype.is_floating_point or mask.dtype.is_complex or mask.dtype == torch.bool:
        raise ArgumentError(
            f"Expected `feature_mask` to hold integers, one label per region; got {mask.dtype}. "
            f"feature_mask.long() converts it."
        )
    if mask.numel() == 0 or not is_mask_valid(mask, tensor):
        sizes = ["1" if size == 1 else f"1 or {size}" for size in tensor.shape]
        raise ArgumentError(
            f"Expected `feature_mask` of shape ({', '.join(sizes)}) for inputs "
            f"{tuple(tensor.shape)}, got {tuple(mask.shape)}. The first dimension is the batch: "
            f"1 shares one mask among all images."
        )


@default_on_cpu()
def from_label_map(inputs: Tensor, labels: Tensor | npt.NDArray[Any]) -> LabelRegions:
    """Regions from a map with a region number for every pixel.

    Every pixel is in one region, over all channels. If each image has its own map, an image need
    not have every region.

    Args:
        inputs: Images (N, C, H, W), signals (N, C, T) or volumes (N, C, D, H, W); only the shape
            and the device are read.
        labels: Integers from 0 to R − 1 without gaps: (H, W) for all images, or (N, H, W); for
            signals and volumes likewise (T,) or (D, H, W).

    Returns:
        The R regions, in the order of their numbers.

    Raises:
        ArgumentError: ``labels`` are not integers, have another shape, or are negative; or a number
            between 0 and the highest is missing.

    Example:
        >>> import torch
        >>> from captum_infomask import from_label_map
        >>> len(from_label_map(torch.zeros(1, 3, 2, 3), torch.tensor([[0, 0, 1], [2, 2, 1]])))
        3
    """
    sizes = place_sizes(inputs)
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else labels
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        raise ArgumentError(
            f"Expected `labels` to be a tensor or a numpy array of integers; got "
            f"{describe(labels)}."
        )
    if array.shape not in (sizes, (len(inputs), *sizes)):
        raise ArgumentError(
            f"Expected `labels` of shape {sizes} or {(len(inputs), *sizes)} for inputs "
            f"{tuple(inputs.shape)}; got {array.shape}."
        )
    found = np.unique(array)
    if found[0] < 0:
        raise ArgumentError(
            f"Expected `labels` of at least 0; the lowest is {found[0]}. {_ANY_INTEGERS}"
        )
    if found[-1] >= len(found):
        missing = int(np.argmax(found != np.arange(len(found))))
        raise ArgumentError(
            f"Expected `labels` to hold every number from 0 to the highest, {found[-1]}; "
            f"{missing} is missing. {_ANY_INTEGERS}"
        )
    maps = torch.from_numpy(array.astype(np.int64).reshape(-1, 1, *sizes))
    shape = tuple(inputs.shape[1:])
    return LabelRegions((shape,), (maps.to(inputs.device),), torch.arange(len(found)))


Labels = npt.NDArray[np.int64]


def connected(labels: Labels) -> Labels:
    """Give every part of a label map (H, W) or (D, H, W) its own number, from 0.

    A part is connected through pixels that share an edge, or a face.
    """
    from skimage.measure import label

    parts: Labels = label(labels, background=-1, connectivity=1).astype(np.int64) - 1
    return parts


def merged_labels(labels: Labels, colours: npt.NDArray[np.float64], count: int) -> Labels:
    """Join the smallest region with its most similar neighbour until ``count`` or fewer remain.

    Args:
        labels: (H, W) or (D, H, W), every number from 0 to R − 1, each of them connected.
        colours: The picture that decides which regions are similar, (H, W, C) or (D, H, W, C).
        count: The number of regions wanted.

    Returns:
        Labels of the same shape: min(R, ``count``) connected regions, numbered from the top left.
    """
    sizes, sums = _sizes(labels, colours)
    neighbours = _neighbours(labels, len(sizes))
    joined = np.arange(len(sizes))
    queue = [(size, region) for region, size in enumerate(sizes)]
    heapq.heapify(queue)
    left = len(sizes)
    while left > count:
        size, region = heapq.heappop(queue)
        if joined[region] != region or size != sizes[region]:
            continue  # it has grown, or was joined to another, since it was put on the heap
        mean = sums[region] / size
        near = min(
            sorted(neighbours[region]),
            key=lambda other: float(((sums[other] / sizes[other] - mean) ** 2).sum()),
        )
        joined[region] = near
        sizes[near] += size
        sums[near] += sums[region]
        for other in neighbours[region] - {near}:
            neighbours[other] = (neighbours[other] - {region}) | {near}
            neighbours[near].add(other)
        neighbours[near].discard(region)
        heapq.heappush(queue, (sizes[near], near))
        left -= 1
    while (joined != joined[joined]).any():
        joined = joined[joined]
    return in_order(joined[labels])


def in_order(labels: Labels) -> Labels:
    """Number regions from 0 in reading order: rows from the top."""
    _, first, index = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), dtype=np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    ordered: Labels = ranks[index].reshape(labels.shape)
    return ordered


def _sizes(
    labels: Labels, colours: npt.NDArray[np.float64]
) -> tuple[list[int], npt.NDArray[np.float64]]:
    """The number of pixels of each region, and the sums of their colours."""
    flat = labels.ravel()
    sizes = np.bincount(flat)
    channels = colours.reshape(len(flat), -1).T
    sums = np.zeros((len(sizes), len(channels)))
    for column, channel in zip(sums.T, channels, strict=True):
        column[:] = np.bincount(flat, channel)
    return sizes.tolist(), sums


def _neighbours(labels: Labels, count: int) -> list[set[int]]:
    """The regions that share an edge of a pixel, or a face of a voxel, with each region."""
    beside = (np.moveaxis(labels, axis, 0) for axis in range(labels.ndim))
    pairs = np.concatenate(
        [np.stack([along[1:].ravel(), along[:-1].ravel()]) for along in beside], axis=1
    )
    pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in pairs.T.tolist():
        neighbours[one].add(other)
        neighbours[other].add(one)
    return neighbours

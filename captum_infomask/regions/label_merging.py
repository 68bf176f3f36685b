# Label maps: finds their connected parts, and joins small parts to their neighbours.
from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


def connected(labels: Labels) -> Labels:
    """Give every 4-connected part of a label map (H, W) its own number, from 0."""
    from skimage.measure import label

    parts: Labels = label(labels, background=-1, connectivity=1).astype(np.int64) - 1
    return parts


def merged_labels(labels: Labels, colours: npt.NDArray[np.float64], count: int) -> Labels:
    """Join the smallest region with its most similar neighbour until ``count`` or fewer remain.

    Args:
        labels: (H, W), every number from 0 to R − 1, each of them 4-connected.
        colours: The picture that decides which regions are similar, (H, W, C).
        count: The number of regions wanted.

    Returns:
        (H, W), min(R, ``count``) regions, 4-connected, numbered from the top left.
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
    """The regions that share an edge of a pixel with each region."""
    pairs = np.concatenate(
        [
            np.stack([labels[1:].ravel(), labels[:-1].ravel()]),
            np.stack([labels[:, 1:].ravel(), labels[:, :-1].ravel()]),
        ],
        axis=1,
    )
    pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in pairs.T.tolist():
        neighbours[one].add(other)
        neighbours[other].add(one)
    return neighbours

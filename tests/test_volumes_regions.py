"""Regions of signals (N, C, T) and volumes (N, C, D, H, W), against loops over elements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from refused import refused
from torch import Tensor

from captum_infomask import (
    InfoMask,
    from_boxes,
    from_feature_mask,
    from_label_map,
    from_masks,
    from_run_lengths,
    grid,
    sliding_windows,
    superpixels,
)
from captum_infomask.regions.map_cells import MapCells, cell_weights
from captum_infomask.regions.windows import default_windows

SIGNALS, VOLUMES = torch.zeros(2, 3, 20), torch.zeros(2, 3, 6, 8, 10)
KINDS = {"signals": SIGNALS, "images": torch.zeros(2, 3, 8, 10), "volumes": VOLUMES}


def blocks(sizes: tuple[int, ...], parts: int = 2) -> Tensor:
    """A label map that cuts each side in so many equal parts."""
    labels = torch.zeros(sizes, dtype=torch.long)
    for place in itertools.product(*map(range, sizes)):
        number = 0
        for at, size in zip(place, sizes, strict=True):
            number = number * parts + at * parts // size
        labels[place] = number
    return labels


def masks_of(inputs: Tensor) -> Tensor:
    """Two boxes and a cross of two lines, (3, ...)."""
    sizes = tuple(inputs.shape[2:])
    masks = torch.zeros(3, *sizes, dtype=torch.bool)
    masks[(0, *(slice(0, size // 2) for size in sizes))] = True
    masks[(1, *(slice(size // 4, size) for size in sizes))] = True
    masks[(2, *(slice(None, None, size - 1) for size in sizes))] = True
    return masks


def kinds_of_regions(inputs: Tensor) -> dict[str, object]:
    sizes = tuple(inputs.shape[2:])
    places = len(sizes)
    boxes = [[0] * places + [3] * places, [1] * places + list(sizes[::-1])]
    return {
        "grid": grid(inputs, *[2] * places),
        "windows": sliding_windows(inputs, (3, *[4] * places), (3, *[2] * places)),
        "default": default_windows(inputs),
        "boxes": from_boxes(inputs, boxes),
        "boxes per image": from_boxes(inputs, [boxes, boxes[:1]]),
        "masks": from_masks(inputs, masks_of(inputs)),
        "masks per image": from_masks(inputs, [masks_of(inputs), masks_of(inputs)[:1]]),
        "label map": from_label_map(inputs, blocks(sizes)),
        "feature mask": from_feature_mask(inputs, blocks(sizes)[None, None]),
        "scales": None,
        "cells": MapCells(
            (tuple(inputs.shape[1:]),), (2,) * places, torch.tensor([[[0, s] for s in sizes]])
        ),
    }


NAMES = [name for name in kinds_of_regions(SIGNALS) if name != "scales"]


def elements(regions, image: int, region: int, inputs: Tensor) -> Tensor:
    """Bool (...): the places of one region, one mask alone."""
    (mask,) = regions.masks(torch.tensor([image]), torch.tensor([region]), torch.device("cpu"))
    return mask.expand(1, *inputs.shape[1:])[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_rectangles_are_the_boxes_around_masks_where_masks_fill_them(kind, name):
    inputs = KINDS[kind]
    regions = kinds_of_regions(inputs)[name]
    present = regions.present(2)
    rectangles = regions.rectangles()
    full = True
    for image, region in present.nonzero().tolist():
        mask = elements(regions, image, region, inputs)
        assert bool((mask == mask[:1]).all())
        places = mask[0].nonzero()
        box = [*places.amin(0).tolist(), *(places.amax(0) + 1).tolist()]
        area = np.prod(np.subtract(box[len(box) // 2 :], box[: len(box) // 2]))
        full &= len(places) == area
        if rectangles is not None:
            assert rectangles[image if len(rectangles) > 1 else 0, region].tolist() == box
    assert (rectangles is not None) == full
    assert full == (not name.startswith("masks"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "cells"])
@pytest.mark.parametrize("overlap", ["mean", "mixture", "max"])
def test_painting_combines_the_regions_that_cover_an_element(kind, name, overlap):
    inputs = KINDS[kind]
    regions = kinds_of_regions(inputs)[name]
    scores = torch.randn(2, len(regions), dtype=torch.float64)
    (painted,) = regions.paint(scores, overlap, 0.7)
    assert painted.shape == inputs.shape
    present = regions.present(2)
    for image in range(2):
        total, cover = torch.zeros(inputs.shape[1:]).double(), torch.zeros(inputs.shape[1:])
        highest = torch.full(inputs.shape[1:], -torch.inf).double()
        for region in present[image].nonzero()[:, 0].tolist():
            mask, score = elements(regions, image, region, inputs), scores[image, region]
            total[mask] += (0.7 * score).exp() if overlap == "mixture" else score
            cover[mask] += 1
            highest[mask] = highest[mask].clamp_min(float(score))
        mean = total / cover
        want = {"mean": mean, "mixture": mean.log() / 0.7, "max": highest}[overlap]
        torch.testing.assert_close(painted[image], torch.where(cover > 0, want, 0))
    assert float(painted.abs().max()) > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_cells_are_averaged_by_the_share_of_each_in_the_region(kind, name):
    """A finer grid of points, which pixels and cells both cut into whole parts, has the shares."""
    inputs = KINDS[kind][..., :4]
    if kind == "volumes":
        inputs = inputs[..., :4, :4, :]
    regions = kinds_of_regions(inputs)[name]
    sizes, counts = inputs.shape[2:], [2, 3, 2][: inputs.dim() - 2]
    images, numbers = regions.present(2).nonzero().unbind(1)
    found = cell_weights(regions, images, numbers, torch.zeros(1, *counts).double())
    for row, (image, number) in enumerate(zip(images.tolist(), numbers.tolist(), strict=True)):
        fine = elements(regions, image, number, inputs)[0].double()
        for dim, count in enumerate(counts):
            fine = fine.repeat_interleave(count, dim)  # points between every two borders of cells
        want = torch.zeros(counts).double()
        for cell in itertools.product(*map(range, counts)):
            spot = tuple(slice(c * size, (c + 1) * size) for c, size in zip(cell, sizes))  # noqa: B905
            want[cell] = fine[spot].sum()
        torch.testing.assert_close(found[row], want / want.sum())


def test_grids_cover_every_element_once():
    for inputs, counts in ((SIGNALS, (7,)), (VOLUMES, (2, 3, 4))):
        regions = grid(inputs, *counts)
        assert len(regions) == np.prod(counts)
        cover = sum(elements(regions, 0, r, inputs).int() for r in range(len(regions)))
        assert bool((cover == 1).all())
    assert torch.equal(grid(KINDS["images"], rows=2, columns=3).boxes[0],
                       grid(KINDS["images"], 2, columns=3).boxes[0])  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "count", "window"),
    [
        ((1000,), 32, (62,)),
        ((64,), 31, (4,)),
        ((3,), 2, (2,)),
        ((64, 64), 49, (16, 16)),
        ((96, 96, 96), 343, (24, 24, 24)),
        ((8, 112, 112), 343, (2, 28, 28)),
        ((2, 64, 64), 49, (2, 16, 16)),
    ],
)
def test_default_windows_are_few(sizes, count, window):
    regions = default_windows(torch.zeros(1, 2, *sizes))
    assert len(regions) == count
    assert (regions.boxes[0][0, :, 1]).tolist() == [2, *window]


def test_boxes_run_from_x_to_z():
    regions = from_boxes(VOLUMES, [[1, 2, 3, 9, 8, 5]])
    assert regions.describe(0) == "[0:3, 3:5, 2:8, 1:9]"
    assert from_boxes(SIGNALS, [[4, 9]]).describe(0) == "[0:3, 4:9]"
    table = InfoMask(lambda x: x.flatten(1)[:, :2]).score_regions(
        VOLUMES, target=0, view="drop", regions=regions
    )
    row = table.to_pandas().iloc[0]
    assert [row[name] for name in ("x0", "y0", "z0", "x1", "y1", "z1")] == [1, 2, 3, 9, 8, 5]


@pytest.mark.parametrize("name", ["grid", "masks", "masks per image", "feature mask"])
def test_tables_hold_boxes_of_any_places(name):
    for inputs, axes in ((SIGNALS, "t"), (VOLUMES, "xyz")):
        regions = kinds_of_regions(inputs)[name]
        table = InfoMask(lambda x: x.flatten(1)[:, :2]).score_regions(
            inputs, target=0, view="drop", regions=regions
        ).to_pandas()  # fmt: skip
        columns = [f"{axis}{end}" for end in (0, 1) for axis in axes]
        assert list(table.columns[2 : 2 + len(columns)]) == columns
        for row in table.to_dict("records"):
            places = elements(regions, row["picture"], row["region"], inputs)[0].nonzero()
            want = [*places.amin(0).flip(0).tolist(), *(places.amax(0) + 1).flip(0).tolist()]
            assert [row[column] for column in columns] == want


def lesion(seed: int = 0) -> Tensor:
    """A noisy volume with one bright box, 12 × 16 × 20."""
    volume = 0.05 * torch.randn(1, 1, 12, 16, 20, generator=torch.Generator().manual_seed(seed))
    volume[..., 4:8, 4:10, 5:13] += 2
    return volume


@pytest.mark.parametrize(("method", "least", "most"), [("slic", 0.9, 0.2), ("watershed", 0.7, 0.3)])
def test_superpixels_of_a_volume_follow_a_lesion(method, least, most):
    x = lesion()
    regions = superpixels(x, 40, method=method, sigma=0)
    (labels,) = regions.labels
    assert len(regions) == 40
    inside = torch.zeros(x.shape[2:], dtype=torch.bool)
    inside[4:8, 4:10, 5:13] = True
    held, cut = 0, 0
    for region in range(40):
        mask = labels[0, 0] == region
        within = int((mask & inside).sum())
        share = within / int(mask.sum())
        held += within if share > 0.5 else 0
        cut += int(mask.sum()) - within if share > 0.5 else within
    assert held > least * int(inside.sum())
    assert cut < most * int(inside.sum())
    assert torch.equal(labels, superpixels(x, 40, method=method, sigma=0).labels[0])


def test_superpixels_of_a_signal_are_intervals_that_end_at_its_steps():
    steps = torch.tensor([0.0, 3.0, -2.0, 5.0]).repeat_interleave(torch.tensor([30, 21, 17, 32]))
    (labels,) = superpixels(steps.expand(1, 3, -1), 8, sigma=0).labels
    row = labels[0, 0]
    assert bool((row.diff() >= 0).all())
    assert int(row.max()) == 7
    ends = set((row.diff().nonzero()[:, 0] + 1).tolist())
    assert {30, 51, 68} <= ends


def test_the_length_of_voxels_counts():
    x = lesion()
    flat, long = (superpixels(x, 24, spacing=(step, 1, 1)).labels[0][0, 0] for step in (0.2, 8))
    slices = [
        np.mean([len(torch.unique((one == r).nonzero()[:, 0])) for r in range(int(one.max()) + 1)])
        for one in (flat, long)
    ]
    assert slices[0] > 1.5 * slices[1]  # short voxels make superpixels of many slices


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (("`method`", "'slic' or 'watershed'", "felzenszwalb", "grid()"),
         lambda: superpixels(VOLUMES, 4, method="felzenszwalb")),
        (("`spacing`", "3 lengths"), lambda: superpixels(SIGNALS, 4, spacing=(1, 1))),
        (("`spacing`", "3 lengths"), lambda: superpixels(VOLUMES, 4, spacing=(1, 1))),
        (("`spacing`", "length along each place"), lambda: superpixels(VOLUMES, 4, spacing=2)),
        (("1 `counts`", "(2, 3, 20)"), lambda: grid(SIGNALS, 2, 2)),
        (("3 `counts`", "(2, 3, 6, 8, 10)"), lambda: grid(VOLUMES, rows=2, columns=2)),
        (("`rows` and `columns`",), lambda: grid(KINDS["images"], 2, rows=2)),
        (("`counts` of at most 6",), lambda: grid(VOLUMES, 7, 2, 2)),
        (("`inputs`", "(N, C, T)", "inputs[None]"), lambda: grid(torch.zeros(3, 20), 2)),
        (("`boxes`", "(R, 2), t0, t1"), lambda: from_boxes(SIGNALS, [[0, 0, 1, 1]])),
        (("`boxes`", "z1 = 6"), lambda: from_boxes(VOLUMES, [[0, 0, 0, 1, 1, 7]])),
        (("`boxes`", "t0 < t1"), lambda: from_boxes(SIGNALS, [[3, 3]])),
        (("`labels`", "(6, 8, 10)"), lambda: from_label_map(VOLUMES, blocks((8, 10)))),
        (("`masks`", "(R, 6, 8, 10)"), lambda: from_masks(VOLUMES, torch.ones(1, 8, 10) > 0)),
        (("`inputs`", "(N, C, H, W)"), lambda: from_run_lengths(VOLUMES, [])),
    ],
)  # fmt: skip
def test_refused(words, call):
    refused(words, call)

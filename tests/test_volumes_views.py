"""Views of signals (N, C, T) and volumes (N, C, D, H, W), against slow literal equations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from refused import refused
from torch import Tensor, nn

from captum_infomask import HalfCrops, InfoMask, grid, sliding_windows
from captum_infomask.engines.pixels import resized

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLINGS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
SIDES = {1: (24,), 2: (8, 10), 3: (6, 8, 10)}
PLACES = sorted(SIDES)


def network(places: int) -> nn.Sequential:
    """Two convolutions, a global average pooling and a linear layer, in double precision."""
    torch.manual_seed(places)
    convolution = CONVOLUTIONS[places]
    net = nn.Sequential(
        convolution(2, 6, 3, padding=1), nn.ReLU(), convolution(6, 5, 2, stride=2), nn.ReLU(),
        POOLINGS[places](1), nn.Flatten(), nn.Linear(5, 4),
    ).double().eval()  # fmt: skip
    with torch.no_grad():
        net[6].weight.mul_(12)
    return net


def inputs(places: int, n: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return 3 * torch.randn(n, 2, *SIDES[places], generator=generator, dtype=torch.float64)


def bits(net: nn.Module, x: Tensor, target: int) -> Tensor:
    """i(y; x) with a uniform prior, (n,)."""
    logits = net(x)
    return logits.log_softmax(1)[:, target] / math.log(2) + math.log2(logits.shape[1])


def tent(size: int, new: int) -> Tensor:
    """The weights (new, size) by which linear resizing averages; wider where it shrinks."""
    scale = size / new
    wide = max(scale, 1.0)
    weights = torch.zeros(new, size, dtype=torch.float64)
    for i, j in itertools.product(range(new), range(size)):
        weights[i, j] = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * scale) / wide)
    return weights / weights.sum(1, keepdim=True)


def resized_slowly(x: Tensor, size: tuple[int, ...]) -> Tensor:
    for dim, new in enumerate(size, 2):
        x = torch.tensordot(x, tent(x.shape[dim], new), dims=([dim], [1])).movedim(-1, dim)
    return x


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7])
def test_resizing_is_linear_and_antialiased_along_each_place(places, factor):
    x = inputs(places)
    size = tuple(max(1, round(factor * side)) for side in SIDES[places])
    torch.testing.assert_close(resized(x, size), resized_slowly(x, size), atol=1e-12, rtol=0)
    mixed = (3, *SIDES[places][1:])  # one side shrinks alone
    torch.testing.assert_close(resized(x, mixed), resized_slowly(x, mixed), atol=1e-12, rtol=0)


def test_a_shrunken_signal_keeps_no_frequency_that_it_cannot_hold():
    fast = torch.tensor([1.0, -1.0]).repeat(32).reshape(1, 1, 64)
    assert float(resized(fast, (16,)).abs().max()) < 0.2
    assert float(torch.nn.functional.interpolate(fast, 16, mode="linear").abs().max()) < 1e-6
    slow = torch.sin(torch.arange(64) / 10).reshape(1, 1, 64)
    shown = resized(slow, (16,))
    assert float((shown - slow[..., 1::4]).abs().max()) < 0.1


def boxes_of(regions) -> list[list[tuple[int, int]]]:
    half = regions.rectangles()[0]
    starts, stops = half.chunk(2, dim=1)
    return [
        list(zip(*pair, strict=True)) for pair in zip(starts.tolist(), stops.tolist(), strict=True)
    ]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("size", ["own", "native", "given"])
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_crop_shows_each_region_alone(places, size, margin):
    net, x = network(places), inputs(places)
    regions = grid(x, *[2] * places)
    given = {"own": None, "native": "native", "given": tuple(range(7, 7 + places))}[size]
    found = InfoMask(net).score_regions(
        x, target=1, view="crop", regions=regions, crop_size=given, crop_margin=margin
    )
    for r, box in enumerate(boxes_of(regions)):
        spot = []
        for (start, stop), side in zip(box, SIDES[places], strict=True):
            around = round((stop - start) * margin)
            spot.append(slice(max(0, start - around), min(side, stop + around)))
        part = x[(slice(None), slice(None), *spot)]
        shown = {"own": SIDES[places], "native": tuple(part.shape[2:]), "given": given}[size]
        want = bits(net, resized_slowly(part, shown), 1)
        torch.testing.assert_close(found.scores[:, r], want, atol=1e-10, rtol=0)
    assert float(found.scores.std()) > 0.01


@pytest.mark.parametrize("places", [1, 3])
def test_crops_at_random_are_averaged_in_probability(places):
    net, x = network(places), inputs(places, n=1)
    options = {"target": 1, "view": "crop", "regions": grid(x, *[2] * places), "crop_jitter": 0.4}
    found = InfoMask(net).score_regions(x, **options, n_samples=3, seed=5)
    again = InfoMask(net).score_regions(x, **options, n_samples=3, seed=5)
    other = InfoMask(net).score_regions(x, **options, n_samples=3, seed=6)
    still = InfoMask(net).score_regions(x, **options | {"crop_jitter": 0.0})
    assert torch.equal(found.scores, again.scores)
    assert float((found.scores - other.scores).abs().max()) > 1e-3
    assert float((found.scores - still.scores).abs().max()) > 1e-3
    assert bool((found.spread > 0).any())


@pytest.mark.parametrize("places", [1, 3])
def test_crop_counted_from_the_blank(places):
    net, x = network(places), inputs(places)
    options = {"target": 1, "view": "crop", "regions": grid(x, *[2] * places)}
    plain = InfoMask(net).score_regions(x, **options)
    found = InfoMask(net).score_regions(x, **options, reference="blank")
    blank = bits(net, torch.zeros_like(x), 1)
    torch.testing.assert_close(found.scores, plain.scores - blank[:, None], atol=1e-10, rtol=0)


@pytest.mark.parametrize("places", PLACES)
def test_features_are_averaged_over_each_region(places):
    net, x = network(places), inputs(places)
    regions = sliding_windows(x, (2, *[3] * places), (2, *[3] * places))
    found = InfoMask(net).score_regions(x, target=2, view="features", regions=regions)
    maps = net[:4](x)
    for r, box in enumerate(boxes_of(regions)):
        weights = torch.ones((), dtype=torch.float64)
        for (start, stop), side, count in zip(box, SIDES[places], maps.shape[2:], strict=True):
            cell = side / count
            shares = [
                max(0.0, min(stop, (c + 1) * cell) - max(start, c * cell)) for c in range(count)
            ]
            weights = weights[..., None] * torch.tensor(shares, dtype=torch.float64)
        pooled = (maps * weights / weights.sum()).flatten(2).sum(2)
        torch.testing.assert_close(found.scores[:, r], bits(net[6:], pooled, 2), atol=1e-10, rtol=0)
    assert found.engine == "features"
    assert float(found.scores.std()) > 0.01


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("view", ["evidence", "relay"])
@pytest.mark.parametrize(
    "sizes", [None, [None, 12], [HalfCrops()]], ids=["own", "two sizes", "half crops"]
)
def test_evidence_adds_up(places, view, sizes):
    net, x = network(places), inputs(places)
    found = InfoMask(net).score_regions(x, target=1, view=view, input_sizes=sizes)
    (painted,) = found.painted()
    summed = painted[:, 0].flatten(1).sum(1)
    torch.testing.assert_close(summed + found.residual, found.explained)
    assert float(found.residual.abs().max()) < 1e-2
    assert float(found.explained.abs().max()) > 0.1
    if sizes is None:
        nothing = bits(net[6:], torch.zeros(1, 5, dtype=torch.float64), 1)
        blank = bits(net, torch.zeros_like(x), 1) if view == "relay" else nothing
        torch.testing.assert_close(found.explained, bits(net, x, 1) - blank)


@pytest.mark.parametrize("places", [1, 3])
def test_evidence_is_the_path_integral_over_the_features(places):
    """Literal: 2,000 steps of the straight path from no features to all of them."""
    net, x = network(places), inputs(places, n=1)
    found = InfoMask(net).score_regions(x, target=1, view="evidence")
    maps = net[:4](x).detach()
    want = torch.zeros(maps.shape[2:], dtype=torch.float64)
    for step in range(2000):
        at = (maps * (step + 0.5) / 2000).requires_grad_()
        score = net[4:](at).log_softmax(1)[0, 1] / math.log(2)
        (slope,) = torch.autograd.grad(score, at)
        want += (slope * maps).sum((0, 1)) / 2000
    torch.testing.assert_close(found.scores[0], want.flatten(), atol=1e-5, rtol=0)
    assert float(want.abs().max()) > 0.01


@pytest.mark.parametrize("places", [1, 3])
def test_superpixels_sharpen_and_keep_the_sum(places):
    net, x = network(places), inputs(places)
    x[(slice(None), slice(None), *(slice(0, side // 2) for side in SIDES[places]))] += 6
    options = {"target": 1, "view": "drop", "regions": grid(x, *[2] * places)}
    plain = InfoMask(net).attribute(x, **options)
    sharp = InfoMask(net).score_regions(x, **options, sharpen="superpixels")
    labels = sharp.superpixels
    assert labels.shape == (2, 4, *SIDES[places])
    own = torch.stack([one.unique().numel() * torch.ones(()) for one in labels[0]])
    assert own.tolist() == sorted(own.tolist(), reverse=True)
    torch.testing.assert_close(sharp.attributions().sum(), plain.sum())
    assert not torch.allclose(sharp.attributions(), plain, atol=1e-3)
    image, scale = 1, 3
    means = torch.zeros(SIDES[places], dtype=torch.float64)
    for s in range(4):
        for number in labels[image, s].unique():
            mask = labels[image, s] == number
            means[mask] += plain[image, 0][mask].mean() / 4
    assert scale < len(labels[image])
    inner = sharp.attributions()[image, 0] - means  # a hundredth of the map inside the pieces
    assert float(inner.abs().max()) <= 0.01 * float(plain[image].max() - plain[image].min()) + 1e-9


@pytest.mark.parametrize("places", [1, 3])
def test_several_scales_with_a_crop_size_each(places):
    net, x = network(places), inputs(places)
    scales = [grid(x, *[1] * places), grid(x, *[2] * places)]
    sizes = ["native", SIDES[places]]
    found = InfoMask(net).score_regions(x, target=1, view="crop", regions=scales, crop_size=sizes)
    for infomap, regions, size in zip(found.scales(), scales, sizes, strict=True):
        alone = InfoMask(net).score_regions(
            x, target=1, view="crop", regions=regions, crop_size=size
        )
        torch.testing.assert_close(infomap.scores, alone.scores)


@pytest.mark.parametrize(
    ("words", "places", "options"),
    [
        (("`crop_size`", "a length", "got (4, 4)"), 1, {"crop_size": (4, 4)}),
        (("`crop_size`", "(depth, height, width)", "(8, 8, 8)?"), 3, {"crop_size": 8}),
        (("`crop_size`", "(height, width)", "(9, 9)?"), 2, {"crop_size": (3, 9, 9)}),
        (("`crop_size`", "at least 1"), 3, {"crop_size": (3, 0, 9)}),
        (("`input_sizes`", "3 sides", "(4, 4)"), 3, {"view": "evidence", "input_sizes": [(4, 4)]}),
        (("`input_sizes`", "a side"), 3, {"view": "evidence", "input_sizes": [(4,) * 4]}),
    ],
)
def test_refused(words, places, options):
    call = InfoMask(network(places)).attribute
    refused(words, lambda: call(inputs(places), target=1, **{"view": "crop", **options}))
    x = torch.rand(2, 5)
    refused(("`inputs`", "(N, C, T)", "view='crop'"), lambda: call(x, target=1, view="crop"))
    refused(("`inputs`", "(N, C, T)", "'features'"), lambda: call(x, target=1, view="features"))

"""attribute(crop_jitter=): rectangles that move at random, and the errors that come with them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from over_seeds import DRAWS, check, over_seeds
from tiny import Net, images

from captum_infomask import ArgumentError, Blur, InfoMask, UniformNoise, from_boxes, grid


class Places:
    """Keeps the rectangles that are shown: pictures hold their own rows and columns."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        first, last = x[:, :, 0, 0], x[:, :, -1, -1] + 1
        self.seen += torch.cat([first, last], 1).round().long().tolist()
        return x.mean((2, 3)) / 10


def places(height, width, n=1):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).double().expand(n, -1, -1, -1).contiguous()


def shown(x, box, **options):
    """The rectangles y0, x0, y1, x1 that 200 draws show of one box, long (200, 4)."""
    net = Places()
    InfoMask(net).score_regions(
        x, target=0, regions=from_boxes(x, torch.tensor([box])), crop_size="native",
        n_samples=200, **options,
    )  # fmt: skip
    return torch.tensor(net.seen[1:])  # the whole picture comes first


def test_rectangles_move_by_a_share_of_their_sides():
    x = places(30, 40)
    moves = shown(x, [8, 10, 20, 18], crop_jitter=0.25) - torch.tensor([10, 8, 18, 20])
    assert len(moves) == 200
    for edge, most in enumerate((2, 3, 2, 3)):  # a quarter of 8 rows, of 12 columns
        found = moves[:, edge]
        assert sorted(set(found.tolist())) == list(range(-most, most + 1))
        assert abs(float(found.double().mean())) < 4 * most / math.sqrt(3 * 200)
    others = torch.corrcoef(moves.T.double()) - torch.eye(4)
    assert bool((others.abs() < 0.3).all())  # each edge moves by itself
    beside = shown(x, [8, 10, 20, 18], crop_jitter=0.25, crop_margin=0.25)
    assert torch.equal((beside - torch.tensor([8, 5, 20, 23])).unique(dim=0), moves.unique(dim=0))


def test_rectangles_stay_inside_and_keep_a_pixel():
    x = places(30, 40)
    corner = shown(x, [0, 0, 10, 10], crop_jitter=0.2)
    assert corner.amin(0).tolist() == [0, 0, 8, 8]
    assert corner.amax(0).tolist() == [2, 2, 12, 12]
    last = shown(x, [38, 28, 40, 30], crop_jitter=0.5)
    assert set(map(tuple, last.tolist())) > {(29, 39, 30, 40), (28, 38, 30, 40)}
    assert bool((last[:, :2] < last[:, 2:]).all())
    assert bool((last <= torch.tensor([29, 39, 30, 40])).all())
    still = shown(x, [8, 10, 20, 18], crop_jitter=0.01)  # a small share of a pixel
    assert set(map(tuple, still.tolist())) == {(10, 8, 18, 20)}


def test_the_mean_over_crops_is_exact_to_its_error():
    """The rectangles of an 8-pixel region, each edge moved by −2 to 2 pixels: 625 in all."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 16, 16, generator=generator, dtype=torch.float64)

    def forward(pictures):
        low = pictures.flatten(1).mean(1)
        return torch.stack([40 * (low - 0.5), 30 * (pictures[:, 0, 0, 0] - 0.5)], 1)

    weights = {-2: 1 / 8, -1: 1 / 4, 0: 1 / 4, 1: 1 / 4, 2: 1 / 8}
    mean = 0.0
    for moves in itertools.product(weights, repeat=4):
        y0, x0, y1, x1 = (4 + moves[0], 4 + moves[1], 12 + moves[2], 12 + moves[3])
        shown = x[:, :, y0:y1, x0:x1]
        if shown.shape[2:] != (8, 8):
            shown = torch.nn.functional.interpolate(
                shown, size=(8, 8), mode="bilinear", antialias=True
            )
        p = float(forward(shown).softmax(1)[0, 0])
        mean += math.prod(weights[move] for move in moves) * p
    found = over_seeds(
        forward, x, from_boxes(x, torch.tensor([[4, 4, 12, 12]])), crop_size=(8, 8),
        crop_jitter=0.25, n_samples=DRAWS,
    )  # fmt: skip
    check(found, [math.log2(mean) + 1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop_size": "native", "reference": "blank"},
        {"crop_size": [(5, 7), None], "crop_margin": 0.2},
        {"reference": "blank", "imputer": UniformNoise()},
        {"reference": "blank", "imputer": Blur(), "n_samples": 3, "sharpen": "superpixels"},
        {"contrast": 2, "engine": "incremental"},
    ],
)
def test_crops_are_the_same_alone_in_a_batch_and_in_chunks(options):
    x = images(3).double()
    boxes = [
        torch.tensor(own)
        for own in ([[0, 0, 5, 4], [2, 3, 8, 8]], [[1, 1, 4, 7]], [[4, 4, 8, 8], [0, 0, 5, 4]])
    ]
    infomask = InfoMask(Net().double())
    options = {"crop_jitter": 0.4, "seed": 5, **options}
    together = infomask.score_regions(x, target=1, regions=from_boxes(x, boxes), **options)
    assert together.n_samples == options.get("n_samples", 8)
    assert together.view == "crop"
    assert int((together.standard_errors > 1e-4).sum()) == int(together.regions.present(3).sum())
    for image in range(3):
        is_own = together.regions.present(3)[image]
        one = x[image : image + 1]
        alone = infomask.score_regions(
            one, target=1, regions=from_boxes(one, [boxes[image]]), perturbations_per_eval=1,
            **options,
        )  # fmt: skip
        for name in ("scores", "standard_errors", "spread"):
            found, wanted = getattr(alone, name)[0], getattr(together, name)[image, is_own]
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    other = infomask.score_regions(
        x, target=1, regions=from_boxes(x, boxes), **{**options, "seed": 6}
    )
    assert not torch.allclose(other.scores[0], together.scores[0], atol=1e-4)


def test_the_blank_of_crops_at_random_has_no_error_of_its_own():
    x = images().double()
    infomask, regions = InfoMask(Net().double()), grid(images(), 2, 2)
    prior = infomask.score_regions(x, target=1, regions=regions, crop_jitter=0.3)
    blank = infomask.score_regions(x, target=1, regions=regions, crop_jitter=0.3, reference="blank")
    torch.testing.assert_close(blank.standard_errors, prior.standard_errors)
    torch.testing.assert_close(blank.scores, prior.scores - blank.blank)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_jitter": 0.1, "view": "drop"}, "`crop_jitter` with view='crop' only"),
        ({"crop_jitter": -0.1}, "`crop_jitter` to be a finite number of at least 0"),
        ({"crop_jitter": math.nan}, "`crop_jitter`"),
        ({"crop_jitter": "10%"}, "`crop_jitter`"),
        ({"crop_jitter": 0.6}, "`crop_jitter` of at most 0.5, half of a region's side; got 0.6"),
        ({"crop_jitter": 0.1, "n_samples": 0}, "`n_samples`"),
    ],
)
def test_wrong_jitters_are_refused(options, words):
    def never(x):
        raise AssertionError("the network ran")

    with pytest.raises(ArgumentError, match=words):
        InfoMask(never).score_regions(images(), target=1, **options)

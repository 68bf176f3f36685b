# The warning of networks that were never shown parts alone: when it comes, and when it does not.
import math
import warnings

import pytest
import torch
from run_samples import run_tiny, save_pictures, tiny
from torch import nn

from captum_infomask import InfoMask, compare, grid
from captum_infomask.datasets import (
    GaussianPatches,
    IndependentPatches,
    sklearn_digits,
    two_digits,
)
from captum_infomask.models.two_digits import load_two_digit_network

WORDS = "More than half of the regions say"
LEFT = torch.ones(1, 1, 8, 8)


class Telling(nn.Module):
    """Class 0 of a whole picture; of a picture with a share below a half, what ``parts`` says."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, pictures):
        shown = pictures.mean((1, 2, 3))
        said = torch.where(shown > 0.5, 3.0, self.parts * (0.2 + shown))
        return torch.stack([said, -said], 1)


class Bold(nn.Module):
    """Class 0 of what is varied, class 1 of what is mostly flat."""

    def forward(self, pictures):
        flat = (pictures == 0).double().mean((1, 2, 3)) > 0.5
        said = torch.where(flat, -8.0, 8.0)
        return torch.stack([said, -said, *[said * 0 - 9] * 3], 1)


def of_nine(count):
    """Nine parts of 2 × 2 pixels, of which ``count`` are dark."""
    parts = torch.where(torch.arange(9) < count, 1.0, 2.0).reshape(1, 1, 3, 3)
    return parts.repeat_interleave(2, 2).repeat_interleave(2, 3)


def log_odds(pictures):
    """High for much light, low for a dark part alone."""
    light = pictures.sum((1, 2, 3)) / 4
    return torch.where(light > 2, 4.0, 3 * (light - 1.5))


def warned(call):
    """How often a call warns of lone parts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return sum(WORDS in str(each.message) for each in caught)


@pytest.fixture(scope="module")
def digits():
    pictures = two_digits(*sklearn_digits(train=False), target=0, count=32)
    return pictures.holding_target_beside_another().images[:6]


@pytest.mark.parametrize("view", ["crop", "keep"])
def test_the_digits_network_never_saw_lone_parts(view, digits):
    infomask = InfoMask(load_two_digit_network())
    assert warned(lambda: infomask.attribute(digits, target=1, view=view)) == 1
    assert warned(lambda: infomask.score_classes(digits, view=view, top_k=1)) == 1
    assert warned(lambda: infomask.score_regions(digits, target=0, view=view)) == 0
    views = "view='drop', 'chain', 'features', 'evidence' and 'relay'"
    with pytest.warns(UserWarning, match=views):
        infomask.attribute(digits, target=1, view=view)


def test_other_views_are_silent(digits):
    infomask = InfoMask(load_two_digit_network())
    for view in ("drop", "features"):
        assert warned(lambda view=view: infomask.attribute(digits[:2], target=1, view=view)) == 0
    whole = {"sliding_window_shapes": (1, 20, 20), "strides": (1, 4, 4)}
    assert warned(lambda: infomask.attribute(digits, target=1, view="keep", **whole)) == 0


def test_the_shares_that_are_counted():
    picture, regions = torch.ones(1, 1, 8, 8), grid(torch.ones(1, 1, 8, 8), 2, 2)
    blank = {"view": "keep", "regions": regions, "reference": "prior"}
    for parts, expected in ((-8.0, 1), (-0.2, 0), (4.0, 0)):
        infomask = InfoMask(Telling(parts))
        said = infomask.score_regions(picture, target=1, **blank).scores
        for unit in ("bits", "nats"):
            asked = InfoMask(Telling(parts), unit=unit)
            assert warned(lambda asked=asked: asked.attribute(picture, target=0, **blank)) == (
                expected
            )
        # The class that the picture does not show is nothing to be warned of.
        assert warned(lambda one=infomask: one.attribute(picture, target=1, **blank)) == 0
        assert said.shape == (1, 4)
    # Half of the regions is not more than half: of nine, four and five.
    for count, expected in ((4, 0), (5, 1)):
        made = of_nine(count)
        ninth = {**blank, "regions": grid(made, 3, 3)}
        network = lambda x: torch.stack([log_odds(x), -log_odds(x)], 1)  # noqa: E731
        asked = InfoMask(network)
        assert int((asked.score_regions(made, target=0, **ninth).scores <= -1).sum()) == count
        assert (
            warned(
                lambda asked=asked, made=made, ninth=ninth: asked.attribute(made, target=0, **ninth)
            )
            == expected
        )


@pytest.mark.parametrize(
    "settings", [{"head": "raw"}, {"prior": [0.999999, 0.000001]}, {"temperature": 1e6}]
)
def test_where_it_does_not_hold(settings):
    picture = torch.ones(1, 1, 8, 8)
    infomask = InfoMask(Telling(-8.0), **settings)
    regions = grid(picture, 2, 2)
    target = 1 if "prior" in settings else 0
    asked = {"view": "keep", "regions": regions, "reference": "prior"}
    assert warned(lambda: infomask.attribute(picture, target=target, **asked)) == 0


def test_sigmoid_heads_and_places_of_maps():
    picture = torch.ones(1, 1, 8, 8)
    asked = {"view": "keep", "regions": grid(picture, 2, 2), "reference": "prior"}
    one = InfoMask(lambda x: Telling(-8.0)(x)[:, 0], head="sigmoid")
    assert warned(lambda: one.attribute(picture, **asked)) == 1
    maps = InfoMask(lambda x: Telling(-8.0)(x)[:, :, None, None].expand(-1, -1, 3, 3))
    assert warned(lambda: maps.attribute(picture, target=(0, 1, 2), **asked)) == 1


@pytest.mark.parametrize("view", ["crop", "keep"])
def test_networks_that_read_parts_rightly_are_not_warned_of(view):
    patches = GaussianPatches.random(classes=2, positions=1, strength=1.5)
    truth = IndependentPatches(patches, rows=2, columns=2)
    pictures, labels = truth.draw(400, seed=0, dtype=torch.float64)
    options = {"crop_size": "native"} if view == "crop" else {"reference": "prior"}
    scores = (
        InfoMask(truth.network())
        .score_regions(pictures, target=labels, view=view, regions=grid(pictures, 2, 2), **options)
        .scores
    )
    nats = scores.double() * math.log(2)
    assert 0.02 < float((scores <= -1).double().mean()) <= 0.5
    assert float((-nats).exp().mean()) == pytest.approx(1, abs=0.25)


def test_a_comparison_says_it_once(digits):
    network = load_two_digit_network()
    methods = {
        "a": (InfoMask(network), {"view": "crop"}),
        "b": (InfoMask(network, unit="nats"), {"view": "crop"}),
    }
    call = lambda: compare(network, digits[:3], [1, 1, 1], methods=methods, metrics=[])  # noqa: E731
    assert warned(call) == 1


def test_a_run_says_it_once(tmp_path):
    save_pictures(tmp_path / "data", 8)
    settings = {"view": "keep", "reference": "prior", "batch_size": 2, "shard_size": 4}
    infomaps = []

    def run():
        found = run_tiny(tmp_path / "data", tmp_path / "out", tiny(Bold()), **settings)
        infomaps.extend(found[key] for key in found)

    assert warned(run) == 1
    assert len(infomaps) == 8

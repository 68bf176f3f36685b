# Which view a call takes that names none.
from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from refused import refused
from run_samples import run_tiny, save_pictures
from tiny import Net, images, randomise
from torch import Tensor, nn

from captum_infomask import (
    Blur,
    InfoMask,
    MaxFraction,
    bounding_boxes,
    compare,
    grid,
    load_run,
    sliding_windows,
    threshold_mask,
)
from captum_infomask.report.words import decimals

X = images(2, height=16, width=16)
WINDOWS = {"sliding_window_shapes": (3, 8, 8), "strides": (3, 4, 4)}


FELL_BACK = "The default, view="


def unseen(x: Tensor) -> Tensor:
    """Logits that are made of the pictures by nothing that PyTorch sees."""
    return torch.from_numpy(9 * x.detach().numpy().mean((2, 3)) - 4)


@pytest.fixture
def net() -> nn.Module:
    return Net().eval()


def test_pictures_get_relay_over_superpixels(net: nn.Module) -> None:
    found = InfoMask(net).score_regions(X, target=1)
    wanted = InfoMask(net).score_regions(X, target=1, view="relay", sharpen="superpixels")
    assert (found.view, found.engine) == ("relay", wanted.engine)
    assert torch.equal(found.superpixels, wanted.superpixels)
    assert torch.equal(found.attributions(), wanted.attributions())
    assert torch.equal(found.attributions(), InfoMask(net).attribute(X, target=1))
    assert torch.equal(found.mask(), InfoMask(net).mask(X, target=1))
    plain = InfoMask(net).attribute(X, target=1, view="relay")
    assert (plain - found.attributions()).abs().max() > 1e-4  # whose edges are the features'
    sums = found.attributions()[:, 0].sum((1, 2))
    torch.testing.assert_close(sums, found.explained, atol=1e-3, rtol=0)


@pytest.mark.parametrize("own", [WINDOWS, {"regions": grid(X, 2, 2)}], ids=["windows", "grid"])
def test_regions_get_relay_as_it_is(net: nn.Module, own: dict[str, Any]) -> None:
    found = InfoMask(net).score_regions(X, target=1, **own)
    assert (found.view, found.superpixels) == ("relay", None)
    wanted = InfoMask(net).score_regions(X, target=1, view="relay", **own)
    assert torch.equal(found.scores, wanted.scores)


@pytest.mark.parametrize(
    ("options", "view"),
    [
        ({"crop_size": (8, 8)}, "crop"),
        ({"crop_margin": 0.1}, "crop"),
        ({"crop_jitter": 0.1}, "crop"),
        ({"reference": "blank"}, "crop"),
        ({"imputer": Blur(2)}, "drop"),
        ({"engine": "batched"}, "drop"),
        ({"n_samples": 4}, "drop"),
        ({"overlap": "max"}, "drop"),
        ({"baselines": 0.5}, "relay"),
        ({"layer": "conv"}, "relay"),
        ({"input_sizes": [None, 24]}, "relay"),
        ({"contrast": "runner_up"}, "relay"),
        ({"seed": 3}, "relay"),
        ({"perturbations_per_eval": 1}, "relay"),
    ],
    ids=str,
)
def test_options_ask_for_the_views_that_have_them(
    net: nn.Module, options: dict[str, Any], view: str
) -> None:
    if view == "crop":
        regions = sliding_windows(X, (3, 8, 8), (3, 8, 8))
        options = {**options, "regions": regions}
    assert InfoMask(net).score_regions(X, target=1, **options).view == view


@pytest.mark.filterwarnings(f"ignore:{FELL_BACK}")
def test_what_has_no_features_gets_drop() -> None:
    rows = nn.Linear(5, 3)
    for forward, inputs in (
        (unseen, X),
        (lambda a, b: unseen(a) - unseen(b), (X, X.flip(0))),
        (rows, torch.rand(2, 5)),
    ):
        found = InfoMask(forward).score_regions(inputs, target=1)
        wanted = InfoMask(forward).score_regions(inputs, target=1, view="drop")
        assert found.view == "drop"
        assert torch.equal(found.scores, wanted.scores)
    words = ("feature map", "Pass layer=")
    refused(words, lambda: InfoMask(unseen).attribute(X, target=1, input_sizes=[16]))


def test_a_default_that_cannot_be_had_is_told_of() -> None:
    with pytest.warns(
        UserWarning, match=f"{FELL_BACK}'relay'.*functions of PyTorch.*'drop' is used"
    ) as said:
        InfoMask(unseen).attribute(X, target=1)
    assert len(said) == 1
    with pytest.warns(UserWarning, match=f"{FELL_BACK}'evidence'"):
        InfoMask(unseen).score_classes(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InfoMask(unseen).attribute(X, target=1, view="drop")
        InfoMask(nn.Linear(5, 3)).attribute(torch.rand(2, 5), target=1)  # has no places at all


@pytest.mark.filterwarnings(f"ignore:{FELL_BACK}")
def test_all_classes_get_evidence(net: nn.Module) -> None:
    found = InfoMask(net).score_classes(X)
    wanted = InfoMask(net).score_classes(X, view="evidence")
    assert found.stacked.view == "evidence"
    assert torch.equal(found.scores, wanted.scores)
    alone = InfoMask(unseen).score_classes(X)
    assert alone.stacked.view == "drop"


@pytest.mark.filterwarnings(f"ignore:{FELL_BACK}")
def test_a_baseline_of_zero_is_no_class_where_there_is_no_target() -> None:
    one = InfoMask(lambda x: unseen(x)[:, :1], head="sigmoid")
    assert torch.equal(one.attribute(X, baselines=0), one.attribute(X, baselines=0.0))


def test_a_network_that_draws_is_told_of_once() -> None:
    noisy = nn.Sequential(Net(), nn.Dropout(0.5)).train()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert InfoMask(noisy).score_regions(X, target=1).view == "drop"
    words = [str(each.message) for each in said]
    assert sorted(each.startswith(FELL_BACK) for each in words) == [False, True]
    assert "it draws random numbers" in "".join(words)


def test_a_run_takes_the_view_that_our_own_picture_gets(tmp_path) -> None:
    save_pictures(tmp_path / "data", 2, seed=1)
    run = run_tiny(tmp_path / "data", tmp_path / "out", sliding_window_shapes=None, strides=None)
    first = next(iter(run.values()))
    assert first.view == "relay"
    assert first.superpixels is not None
    again = load_run(tmp_path / "out")
    assert torch.equal(next(iter(again.values())).attributions(), first.attributions())


def test_pictures_of_densities_say_bits_per_share_and_their_sum(net: nn.Module) -> None:
    found = InfoMask(net).score_regions(X, target=1)
    whole = float(found.attributions()[0, 0].sum())
    (shown,) = found.content().pictures[0].maps
    assert shown.unit == "bits per 1%"
    assert 100 * shown.plane.mean() == pytest.approx(whole, abs=1e-4)
    assert (f"{decimals(whole)} bits", "the map's sum") in found.content().pictures[0].facts
    figure, axes = found.figure()
    assert figure.axes[1].get_ylabel().endswith("bits per 1% of the picture")
    assert f"{decimals(whole)} in the map" in axes.texts[0].get_text().replace("\n", " ")
    regions = InfoMask(net).score_regions(X, target=1, **WINDOWS)
    assert regions.content().pictures[0].maps[0].unit == "bits"


def test_masks_keep_half_of_a_densitys_maximum_and_else_the_papers_share(
    net: nn.Module, tmp_path: Path
) -> None:
    infomask = InfoMask(net)
    bits = infomask.attribute(X, target=1)
    half, fifth = threshold_mask(bits, MaxFraction(0.5)), threshold_mask(bits, MaxFraction(0.2))
    assert not torch.equal(half, fifth)
    found = infomask.score_regions(X, target=1)
    assert torch.equal(infomask.mask(X, target=1), half)
    assert torch.equal(found.mask(), half)
    assert torch.equal(infomask.mask(X, target=1, rule=MaxFraction(0.2)), fifth)
    assert [box.tolist() for box in found.boxes()] == [box.tolist() for box in bounding_boxes(half)]
    assert found.content().threshold == ("max_fraction", 0.5)
    sizes = infomask.score_regions(X, target=1, view="evidence", input_sizes=[None, 24])
    assert torch.equal(sizes.mask(), threshold_mask(sizes.attributions(), MaxFraction(0.5)))
    for options in (WINDOWS, {"view": "drop", **WINDOWS}):
        regions = infomask.score_regions(X, target=1, **options)
        assert torch.equal(regions.mask(), threshold_mask(regions.attributions()))
        assert torch.equal(infomask.mask(X, target=1, **options), regions.mask())
        assert regions.content().threshold == ("max_fraction", 0.2)
    save_pictures(tmp_path / "data", 2, seed=1)
    for options, share in (({"sliding_window_shapes": None, "strides": None}, 0.5), ({}, 0.2)):
        run = run_tiny(tmp_path / "data", tmp_path / f"{share}", **options)
        assert run.manifest["settings"]["rule"] == str(MaxFraction(share))


class Leaving(nn.Module):
    """A network that leaves bits: what it is made of hangs on a comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2)
        self.head = nn.Linear(8, 5)
        randomise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x * (x > 1)))
        return self.head(x.mean((2, 3)))


def test_bits_that_go_to_no_pixel_are_told_of_once(tmp_path: Path) -> None:
    net = Leaving().eval()
    with pytest.warns(UserWarning, match="InfoMap.residual") as said:
        found = InfoMask(net).score_regions(X, target=1)
    assert len(said) == 1
    assert found.residual.abs().min() > 0.1
    with pytest.warns(UserWarning, match="InfoMap.residual") as said:
        compare(net, X, 1, methods=["InfoMask", "InfoMask evidence"], metrics=[])
    assert len(said) == 1


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_run_goes_on_with_the_rule_that_it_was_given_by_default(
    tmp_path: Path, share: float
) -> None:
    save_pictures(tmp_path / "data", 2, seed=1)
    options = {"sliding_window_shapes": None, "strides": None}
    run_tiny(tmp_path / "data", tmp_path / "out", rule=MaxFraction(share), **options)
    again = run_tiny(tmp_path / "data", tmp_path / "out", **options)
    assert again.manifest["settings"]["rule"] == str(MaxFraction(share))
    refused(
        ("settings.rule",),
        lambda: run_tiny(tmp_path / "data", tmp_path / "out", rule=MaxFraction(0.3), **options),
    )

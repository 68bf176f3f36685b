"""Common objects by their names, and rules by a number."""

from typing import get_args

import pytest
import torch
from refused import refused
from run_samples import run_tiny, save_pictures
from tiny import WINDOWS, Net, images

from captum_infomask import (
    Blur,
    Hysteresis,
    InfoMask,
    LocalMean,
    MaxFraction,
    compare,
    fit_critic,
    imputers,
    load_run,
    superpixels,
    threshold_mask,
)
from captum_infomask.imputers.choose_imputer import NAMED, ImputerName

X = images(2, height=16, width=16)
TAKES_SETTINGS = {"Constant", "MarginalPatches", "ConditionalPatches"}


def scores(**options):
    return InfoMask(Net()).score_regions(X, target=1, view="drop", **options).scores


def test_every_imputer_without_settings_has_a_name():
    assert set(NAMED) == set(get_args(ImputerName))
    exported = {name for name in imputers.__all__ if isinstance(getattr(imputers, name), type)}
    protocols = {"Imputer", "RandomImputer", "StandIn"}
    assert {made.__name__ for made in NAMED.values()} == exported - protocols - TAKES_SETTINGS


@pytest.mark.parametrize("name", sorted(NAMED.keys() - {"remove_tokens"}))
def test_an_imputers_name_is_the_imputer_with_its_defaults(name):
    by_name = scores(imputer=name, **WINDOWS)
    assert torch.equal(by_name, scores(imputer=NAMED[name](), **WINDOWS))
    assert not torch.equal(by_name, scores(**WINDOWS))


def test_a_name_goes_wherever_an_imputer_goes(tmp_path):
    save_pictures(tmp_path / "data", 2)
    run = run_tiny(tmp_path / "data", tmp_path / "out", view="drop", imputer="local_mean")
    again = run_tiny(tmp_path / "data", tmp_path / "out", view="drop", imputer=LocalMean())
    assert (run.scored, again.scored) == (2, 0)
    found = compare(Net(), X, 1, methods={"it": (InfoMask(Net()), {"imputer": "inpaint"})})
    assert not found["it"].error


@pytest.mark.filterwarnings("ignore:The fit diverged")
def test_a_critic_is_fitted_with_the_imputer_of_a_name():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))
    options = {"window_shapes": [4], "steps": 2}
    divergences = [
        [row.before for row in fit_critic(network, [X, X], imputer=one, **options).report.rows]
        for one in ("blur", Blur(), None)
    ]
    assert divergences[0] == divergences[1] != divergences[2]


def test_tokens_are_removed_by_name():
    refused(
        ("RemoveTokens()", "'batched'"),
        lambda: scores(imputer="remove_tokens", engine="batched", **WINDOWS),
    )


def test_superpixels_by_name():
    assert torch.equal(scores(regions="superpixels"), scores(regions=superpixels(X)))
    one = (X, X)
    refused(
        ("one input", "got 2"),
        lambda: InfoMask(lambda x, y: Net()(x)).attribute(one, target=1, regions="superpixels"),
    )


def test_a_run_refuses_regions_that_follow_each_picture(tmp_path):
    save_pictures(tmp_path / "data", 2)
    refused(
        ("`regions`", "'superpixels'"),
        lambda: run_tiny(tmp_path / "data", tmp_path / "out", regions="superpixels"),
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_number_is_a_share_of_the_maximum(share, tmp_path):
    rule, options = MaxFraction(share), {"view": "drop", **WINDOWS}
    infomask = InfoMask(Net())
    bits = infomask.attribute(X, target=1, **options)
    assert torch.equal(threshold_mask(bits, share), threshold_mask(bits, rule))
    given = infomask.mask(X, target=1, rule=share, **options)
    assert torch.equal(given, threshold_mask(bits, rule))
    assert not torch.equal(given, threshold_mask(bits, MaxFraction(0.45)))
    infomap = infomask.score_regions(X, target=1, **options)
    assert torch.equal(infomap.mask(share), infomap.mask(rule))
    assert all(map(torch.equal, infomap.boxes(share), infomap.boxes(rule)))
    assert compare(Net(), X, 1, methods=["Occlusion"], rule=share).rule == rule
    assert Hysteresis(share / 2, share) == Hysteresis(MaxFraction(share / 2), rule)
    save_pictures(tmp_path / "data", 1)
    run_tiny(tmp_path / "data", tmp_path / "out", rule=share)
    assert f"MaxFraction(fraction={share})" in str(load_run(tmp_path / "out").manifest)

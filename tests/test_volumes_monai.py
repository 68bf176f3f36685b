# MONAI's three-dimensional DenseNet goes through the same calls as networks of pictures.
from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_infomask import InfoMask

pytestmark = pytest.mark.slow

SIDE, CUBE = 32, 16
WINDOWS = {"sliding_window_shapes": (1, CUBE, CUBE, CUBE), "strides": (1, CUBE, CUBE, CUBE)}


@pytest.fixture(scope="module")
def densenet():
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    torch.manual_seed(0)
    return nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval().double()


@pytest.fixture(scope="module")
def scan():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 1, SIDE, SIDE, SIDE, generator=generator, dtype=torch.float64)


def bits_about(network, inputs, target):
    """i(y; x) of two equally likely classes, by its equation."""
    with torch.no_grad():
        return network(inputs).log_softmax(1)[:, target] / np.log(2) + 1


def test_drop_is_what_hiding_each_cube_by_hand_loses(densenet, scan):
    infomap = InfoMask(densenet).score_regions(scan, target=1, view="drop", **WINDOWS)
    whole = bits_about(densenet, scan, 1)
    lost = []
    for d in (0, CUBE):
        for h in (0, CUBE):
            for w in (0, CUBE):
                hidden = scan.clone()
                hidden[..., d : d + CUBE, h : h + CUBE, w : w + CUBE] = 0
                lost.append(whole - bits_about(densenet, hidden, 1))
    torch.testing.assert_close(infomap.scores[0].double(), torch.cat(lost), atol=1e-5, rtol=0)
    torch.testing.assert_close(infomap.total.double(), whole, atol=1e-5, rtol=0)
    assert len(infomap.figure(scan)[0].axes) == 4


@pytest.mark.parametrize("view", [None, "evidence"])
def test_maps_of_features_add_up(densenet, scan, view):
    options = {} if view is None else {"view": view}
    infomap = InfoMask(densenet).score_regions(scan, target=1, **options)
    assert "cells" in infomap.engine
    explained = bits_about(densenet, scan, 1) - bits_about(densenet, torch.zeros_like(scan), 1)
    if view == "evidence":
        torch.testing.assert_close(infomap.explained.double(), explained, atol=1e-4, rtol=0)
    attributions = infomap.attributions()
    assert attributions.shape == scan.shape
    said = attributions.double().sum() + infomap.residual.double()
    torch.testing.assert_close(said, infomap.explained.double(), atol=1e-4, rtol=0)
    assert "per 1% of the volume" in infomap.figure(scan)[0].axes[3].get_ylabel()


def test_the_page_of_a_volume_is_written(densenet, scan, tmp_path):
    infomap = InfoMask(densenet).score_regions(scan, target=1)
    infomap.to_html(tmp_path / "scan.html", scan)
    assert "1 method on 1 volume" in (tmp_path / "scan.html").read_text("utf-8")


def test_crop_is_each_cube_alone_in_the_size_of_the_scan(densenet, scan):
    infomap = InfoMask(densenet).score_regions(scan, target=1, view="crop", **WINDOWS)
    first = torch.nn.functional.interpolate(
        scan[..., :CUBE, :CUBE, :CUBE], size=(SIDE, SIDE, SIDE), mode="trilinear"
    )
    alone = bits_about(densenet, first, 1)
    torch.testing.assert_close(infomap.scores[0, :1].double(), alone, atol=1e-5, rtol=0)
    assert infomap.content(scan).pictures[0].maps[0].regions.boxes.shape == (8, 6)

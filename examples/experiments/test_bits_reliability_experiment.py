# The experiment that asks whether bits are true: its panels, its pictures, its files.
from __future__ import annotations

import numpy as np
import pytest
import reliability_in_bits as script
import torch
from experiments.bits_reliability_experiment import (
    PHOTOS,
    Panel,
    efficientnet_panels,
    known_truth,
    photographs,
    reliability_panels,
    reliability_table,
    resized_crops,
    two_digits_panels,
)
from PIL import Image
from torch import nn

from captum_infomask.datasets import sklearn_digits, two_digits
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess
from captum_infomask.models.two_digits import load_two_digit_network

pytestmark = pytest.mark.slow


def tiny() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(4, 1000))
    names = tuple(map(str, range(1000)))
    return Classifier("tiny", network.eval(), names, Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3))


def test_known_truth_is_on_the_line_and_what_is_wrong_is_not():
    equal, skewed = known_truth(1500)
    for panel in (equal, skewed):
        true, wrong = panel.found
        assert true.error.mean < 0.12
        assert wrong.error.low > 2 * true.error.high
    assert equal.found[1].excess.low > 0.1
    assert [one.name for one in skewed.found] == ["exact posterior", "read as equal classes"]


@pytest.mark.filterwarnings("ignore:The fit diverged")  # two steps are no fit
def test_two_digits_have_a_panel_per_view_and_window_and_a_curve_per_fit():
    seen, unseen = sklearn_digits(True), sklearn_digits(False)
    parts = [(seen, 60), (seen, 200), (unseen, 120)]
    pictures = [two_digits(*part, target=0, count=count) for part, count in parts]
    pictures[1].labels[0] = 1 - pictures[1].labels[0]  # else no temperature is best
    panels = two_digits_panels(load_two_digit_network(), *pictures, steps=2, sizes=((20, 12),))
    assert [panel.title for panel in panels] == [
        "two digits, crop, 20 × 20 pixels",
        "two digits, keep, 20 × 20 pixels",
    ]
    assert [panel.found[0].view for panel in panels] == ["crop", "keep"]
    for panel in panels:
        names = [one.name.split(",")[0] for one in panel.found]
        assert names == ["as trained", "fit_temperature", "then fit_critic"]
        # (28 − 20) / 12 + 1 rows and (56 − 20) / 12 + 1 columns of windows, the last ones cut
        assert {one.pictures for one in panel.found} == {120}
        assert all(one.observed_count.sum() == 120 * 8 for one in panel.found)


def test_crops_of_a_photograph_begin_with_its_centre_and_repeat():
    photo = np.zeros((300, 500, 3), np.uint8)
    photo[:, 100:400] = 255  # the centre square is white
    crops = resized_crops(photo, 9, tiny(), seed=0)
    assert crops.shape == (9, 3, 224, 224)
    assert (crops[0] == 1).all()
    assert any((crop != 1).any() for crop in crops[1:])
    assert torch.equal(crops, resized_crops(photo, 9, tiny(), seed=0))


def test_photographs_bring_their_labels(tmp_path):
    pictures, labels = photographs(None)
    assert (len(pictures), labels) == (5, list(PHOTOS.values()))
    for name in ("imagenet_00_243", "imagenet_01_7"):
        Image.new("L", (20, 10)).save(tmp_path / f"{name}.jpg")
    pictures, labels = photographs(tmp_path)
    assert labels == [243, 7]
    assert pictures[0].shape == (10, 20, 3)


def test_crops_of_one_photograph_are_one_picture_of_the_intervals():
    photos = [np.full((230, 230, 3), shade, np.uint8) for shade in range(10, 250, 20)]
    large, small = efficientnet_panels(tiny(), photos, list(range(12)), copies=2)
    found = [*large.found, *small.found]
    assert [one.view for one in found] == ["crop", "crop", "crop", "features"]
    assert {one.pictures for one in found} == {12}
    assert [one.observed_count.sum() for one in found] == [24, 24 * 4, 24 * 16, 24 * 16]


def test_the_table_has_a_row_and_the_figure_a_panel_for_each():
    panels = known_truth(300)
    lines = reliability_table(panels).splitlines()
    assert len(lines) == 2 + 4
    assert lines[3].startswith("| known truth, equal classes | its logits × 2 | ")
    assert "says 0." in lines[3]
    axes = reliability_panels([*panels, Panel("again", panels[0].found)], columns=2).axes
    assert [one.get_title(loc="left") for one in axes] == [*(p.title for p in panels), "again"]


def test_the_script_writes_its_table_and_its_figure(tmp_path, capsys):
    sizes = ["--count=60", "--train=200", "--steps=20", "--copies=1"]
    script.main([*sizes, f"--out={tmp_path}", f"--photographs={tmp_path / 'none'}"])
    written = (tmp_path / "bits_reliability.md").read_text(encoding="utf-8")
    assert "EfficientNet-Lite0, 5 photographs" in written
    assert written.strip() in capsys.readouterr().out
    assert (tmp_path / "bits_reliability.png").stat().st_size > 10_000

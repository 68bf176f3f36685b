# The script that fits critics for two digits: its rows, its tables, its files.
from __future__ import annotations

from functools import cache

import fit_critic as script
import pytest
import torch

from captum_infomask import FittedCritic, InfoMask, threshold_mask
from captum_infomask.datasets import TwoDigits, sklearn_digits, two_digits
from captum_infomask.evaluation.ground_truth import ink_iou
from captum_infomask.models.two_digits import load_two_digit_network

pytestmark = pytest.mark.slow


@cache
def few() -> TwoDigits:
    pictures = two_digits(*sklearn_digits(train=False), target=0, count=40, seed=5)
    return pictures.holding_target_beside_another().select(torch.arange(4))


@cache
def measured() -> dict[tuple[str, str, str], script.Measured]:
    network = load_two_digit_network()
    found = script.measure(network, network, few(), ("windows", "rest", "crops"))
    return {(row.view, row.window, row.reference): row for row in found}


def test_script_counts_from_the_prior_without_running_again():
    direct = InfoMask(load_two_digit_network()).score_regions(
        few().images,
        target=1,
        view="keep",
        reference="prior",
        sliding_window_shapes=(1, 20, 20),
        strides=(1, 4, 4),
    )
    torch.testing.assert_close(measured()["keep", "20/4", "prior"].after.scores, direct.scores)
    assert ("crop", "7/2", "blank") not in measured()
    assert ("drop", "7/2", "–") in measured()


def test_script_tables_hold_the_ink_iou_of_the_masks():
    found = list(measured().values())
    rows = [row.strip("| ").split(" | ") for row in script.table(found, few()).splitlines()[2:]]
    keep = measured()["keep", "20/4", "blank"].before
    expected = ink_iou(threshold_mask(keep.attributions()), few().images > 0.2, few().ink).mean()
    cell = next(row[2] for row in rows if row[:2] == ["keep", "20/4"])
    assert cell == f"{expected:.3f}"  # few pictures have no interval
    assert expected > 0.9
    lines = [
        row.strip("| ").split(" | ") for row in script.settings_table(found, few()).splitlines()
    ]
    assert [row[3] for row in lines if row[:3] == ["keep", "20/4", "blank"]] == [f"{expected:.3f}"]


def test_script_writes_tables_critic_and_figure(tmp_path, capsys):
    options = ["--steps=2", "--count=2", "--learning-rate=1e-4", f"--out={tmp_path}"]
    script.main([*options, "--views", "windows"])
    printed = capsys.readouterr().out
    assert "of 2 is kept" in printed
    assert "accuracy" in printed
    written = (tmp_path / "fit_critic_0.md").read_text()
    assert "| keep | 7/2 |" in written
    assert "| drop |" not in written
    assert (tmp_path / "fit_critic_0.png").stat().st_size > 10_000
    assert FittedCritic.load(tmp_path / "fit_critic_0.safetensors", load_two_digit_network())

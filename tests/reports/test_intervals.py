# No interval is shown that its number of pictures cannot hold.
from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from experiments.mosaic_experiment import MosaicRow, mosaic_table
from experiments.mosaic_figures import Setting, quality_figure
from experiments.two_digit_experiment import TwoDigitRow, two_digit_table
from tiny import Net, images
from torch import Tensor

from captum_infomask import compare
from captum_infomask.evaluation.ground_truth import bootstrap
from captum_infomask.evaluation.statistics import paired_difference

METHODS: dict[str, Any] = {
    "up": lambda model, x, target: x.mean(1, keepdim=True),
    "down": lambda model, x, target: -x.mean(1, keepdim=True),
}
METRICS = {"bright": lambda sample: float((sample.plane * sample.inputs[0, 0]).sum())}


@pytest.mark.parametrize(("pictures", "has_interval"), [(3, False), (9, False), (10, True)])
def test_a_comparison_of_few_pictures_shows_no_interval(
    pictures: int, has_interval: bool, tmp_path: Any
) -> None:
    found = compare(Net(), images(pictures), 0, methods=METHODS, metrics=METRICS, reference="up")
    gap = found["down"].differences["bright"]
    values = found["down"].metrics["bright"] - found["up"].metrics["bright"]
    assert gap.mean == pytest.approx(values.mean())
    assert (gap.low is not None) == (gap.high is not None) == has_interval
    assert ("95%" in found.text()) == ("[" in found.text()) == has_interval
    cell = found.content().rows[1].cells[0]
    assert (cell.low is not None) == has_interval
    found.to_json(tmp_path / "found.json")
    written = json.loads((tmp_path / "found.json").read_text())
    shown = written["methods"][1]["differences"]["bright"]
    assert (shown["low"] is not None) == has_interval
    assert shown["mean"] == gap.mean


def test_the_bootstrap_gives_no_ends_below_ten_values() -> None:
    few, enough = torch.linspace(0, 1, 9), torch.linspace(0, 1, 10)
    assert bootstrap(few) == (found := bootstrap(few))
    assert (found.mean, found.low, found.high) == (0.5, None, None)
    assert str(found) == "0.500"
    assert paired_difference(few, few * 0) == (0.5, None, None)
    sure = bootstrap(enough)
    assert 0.2 < sure.low < 0.45
    assert 0.55 < sure.high < 0.8
    assert str(bootstrap(enough)).startswith("0.500 [0.3")
    assert paired_difference(enough, enough * 0).low is not None


def rows(count: int) -> tuple[MosaicRow, TwoDigitRow]:
    values = torch.linspace(0, 1, count)
    blank: Tensor = torch.zeros(1)
    mosaics = MosaicRow("m", "bits", values[:, None], values[:, None], blank, 1.0, 1.0)
    return mosaics, TwoDigitRow("m", "bits", 1.0, blank, blank, values, values, values)


def test_tables_of_experiments_show_none_either() -> None:
    for count, brackets in ((9, 0), (10, 1)):
        mosaics, digits = rows(count)
        assert mosaic_table([mosaics]).count("[") == 2 * brackets
        assert two_digit_table([digits]).count("[") == 3 * brackets
        assert "| 0.500" in mosaic_table([mosaics])


def test_a_figure_draws_a_point_without_a_bar() -> None:
    settings = [
        Setting("a", "s", 1.0, ((0.5, None, None),)),
        Setting("b", "s", 2.0, ((0.6, 0.5, 0.8),)),
    ]
    _, (panel,) = quality_figure(settings, measures={"share": (0, 1)}, cost="cost", title="")
    bars = panel.containers[0].lines[2][0].get_segments()
    assert [tuple(bar[:, 1]) for bar in bars] == [(0.5, 0.5), (0.5, 0.8)]

# What a run's page, a figure and the command line say of the run's evidence.
from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from browser import Offline, chromium_fixture
from page_content import HOSTILE
from refused import refused
from test_run_summary import Tags
from torch import nn

from captum_infomask import InfoMask, combine_evidence, grid, run_dataset
from captum_infomask.cli import main, runs
from captum_infomask.dataset_run.summary.evidence_summary import MAPS, ROWS
from captum_infomask.dataset_run.summary.summary_content import run_content
from captum_infomask.models.classifier import Classifier
from captum_infomask.report.evidence_content import outlined_map
from captum_infomask.report.page import run_html

SIDE = 16
NAMES = ("ant", "bee", "cat")
chromium = chromium_fixture()


class Marks(nn.Module):
    """White says bee; all else says nothing."""

    def __init__(self, classes=3) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x):
        is_white = (x.mean((1, 2, 3)) > 0.95).float()[:, None]
        return 4 * is_white * torch.eye(self.classes)[1]


def made(out, *, labels=None, names=NAMES, count=90, mark=(0, 0), cells=4, **settings):
    """A run over pictures whose bees have a white mark."""
    x = 0.5 * torch.rand(count, 3, SIDE, SIDE)
    row, column = mark
    x[1::3, :, row : row + 4, column : column + 4] = 1
    labels = torch.arange(count) % 3 if labels is None else labels
    usual = {"view": "crop", "target": "label", "batch_size": 32, "workers": 0}
    usual["regions"] = grid(torch.zeros(1, 3, SIDE, SIDE), cells, cells)
    network = Classifier("marks", Marks(len(names)), names, preprocess=None)
    pairs = list(zip(x, labels.tolist(), strict=True))
    return run_dataset(pairs, network, out, **{**usual, **settings})


def words_of(run):
    return Tags(run_html(run_content(run))).words()


def test_the_table_is_the_evidence_the_strongest_first(tmp_path):
    run = made(tmp_path)
    evidence, told = run.evidence(), run_content(run).evidence
    assert (told.classes, told.places, told.pictures, told.size) == (3, 16, 90, (SIDE, SIDE))
    assert told.found == int(evidence.discoveries(0.05).sum()) == 3
    assert len(told.rows) == ROWS < told.pairs == 48
    first = told.rows[0]
    assert (first.label, first.box, first.is_found) == ("bee", (0, 0, 4, 4), True)
    assert first.place == "x 0–4, y 0–4"
    assert first.pictures == 30
    assert first.mean == pytest.approx(float(evidence.mean_bits[1, 0]))
    assert first.mean == pytest.approx(np.log2(3 * np.exp(4) / (2 + np.exp(4))), abs=1e-4)
    assert first.evidence == float(evidence.log2_e_values[1, 0]) > 20
    found = [row.evidence for row in told.rows]
    assert found == sorted(found, reverse=True)
    assert found == evidence.log2_e_values.flatten().sort(descending=True).values[:ROWS].tolist()
    assert told.edges[0].label == "bee"
    assert all(row.box == (0, 0, 4, 4) for row in told.edges)
    text = words_of(run)
    assert "3 of 48 pairs of a class and a place are beyond chance" in text
    assert "of the other 18, 0 are beyond chance" in text
    assert re.search(r"At the edge of the picture: bee at x 0–4, y 0–4 \(2 \d\d\.\d \)", text)
    assert "e-BH at rate 0.05 over all 48 pairs" in text
    assert "If the label did not depend on what the place shows" in text


def test_maps_show_where(tmp_path):
    run = made(tmp_path, mark=(4, 8))
    told = run_content(run).evidence
    assert {one.label for one in told.maps} == set(NAMES)
    (bee,) = [one for one in told.maps if one.label == "bee"]
    assert told.maps[0] is bee
    assert (bee.pictures, bee.found) == (30, 1)
    wanted = np.zeros((SIDE, SIDE), bool)
    wanted[4:8, 8:12] = True
    assert np.array_equal(bee.places, wanted)
    assert np.allclose(bee.plane[wanted], run.evidence().mean_bits[1, 6], atol=1e-5)
    assert np.allclose(bee.plane[~wanted], 0, atol=1e-5)
    assert bee.largest == pytest.approx(bee.plane.max())
    assert bee.pixels is not None
    assert (bee.pixels[4:8, 8:12] == 255).all(), "it is a picture of the class"
    assert told.edges == ()
    assert "None of them is a small place at the edge of the picture" in words_of(run)
    page = run_html(run_content(run))
    assert page.count('<img src="data:image/png') >= 3


def test_large_places_at_the_edge_are_not_told_apart(tmp_path):
    told = run_content(made(tmp_path, cells=2, mark=(0, 0), **{"crop_size": None})).evidence
    assert told.places == 4
    assert told.edges == ()


def test_nothing_found_is_said(tmp_path):
    run = made(tmp_path, labels=torch.randint(3, (90,)))
    told = run_content(run).evidence
    assert (told.found, told.maps, told.edges) == (0, (), ())
    text = words_of(run)
    assert "No place says a class beyond chance, in 90 pictures and 48 pairs" in text
    assert "At the edge" not in text


def test_answers_are_not_called_labels(tmp_path):
    text = words_of(made(tmp_path, target="prediction"))
    assert "If the network’s answer did not depend on what the place shows" in text
    assert "has not learned from" not in text


@pytest.mark.parametrize("settings", [{"view": "drop"}, {"head": "sigmoid"}])
def test_runs_without_bets_have_no_such_section(tmp_path, settings):
    run = made(tmp_path, **settings)
    assert not run.has_evidence
    assert run_content(run).evidence is None
    assert "What places say" not in words_of(run)


def test_names_of_classes_stay_text(tmp_path):
    run = made(tmp_path, names=(f"{HOSTILE} 0", f"{HOSTILE} 1", f"{HOSTILE} 2"))
    page = run_html(run_content(run))
    assert f"{HOSTILE} 1" not in page.split('id="evidence"')[1].split('id="examples"')[0]
    assert HOSTILE in Tags(page).words()


def test_many_classes_are_named_after_the_maps(tmp_path):
    names = tuple(f"kind {k}" for k in range(40))
    labels = torch.arange(600) % 40

    class Shades(nn.Module):
        def forward(self, x):
            level = (x.mean((1, 2, 3)) * 40 - 0.5)[:, None]
            return -4 * (level - torch.arange(40)).abs()

    x = ((labels.float() + 0.5) / 40)[:, None, None, None].expand(-1, 3, 8, 8)
    run = run_dataset(
        list(zip(x, labels.tolist(), strict=True)),
        Classifier("shades", Shades(), names, preprocess=None),
        tmp_path,
        target="label",
        view="crop",
        regions=grid(torch.zeros(1, 3, 8, 8), 2, 2),
    )
    told = run_content(run).evidence
    assert told.found == 160
    assert len(told.maps) == MAPS
    assert len(told.others) == 40 - MAPS
    assert sorted([one.label for one in told.maps] + list(told.others)) == sorted(names)
    assert "and 8 more classes" in words_of(run)
    assert len(run_html(run_content(run))) < 1_000_000


def test_outlines_lie_inside_of_their_places():
    places = np.zeros((2, 4), bool)
    places[0, 1] = True
    drawn = outlined_map(np.zeros((2, 4), np.float32), places, None)
    assert drawn.shape == (160, 320, 3)
    grey, white, black = 128, 255, 0
    assert (drawn[0:3, 80:160] == white).all()
    assert (drawn[3:5, 83:157] == black).all()
    assert (drawn[5:75, 85:155] == grey).all()
    assert (drawn[:, :80] == grey).all()
    assert (drawn[80:] == grey).all()
    assert (outlined_map(np.zeros((2, 4), np.float32), ~places & False, None) == grey).all()


# --- figures ------------------------------------------------------------------------------------


def test_a_figure_outlines_the_places_that_are_found(tmp_path):
    run = made(tmp_path)
    evidence = run.evidence()
    figure, axes = evidence.figure()
    assert axes.get_title("left") == "bee"
    assert figure.axes[1].get_ylabel() == "mean bits"
    (below,) = [each.get_text() for each in axes.texts]
    assert below.startswith("1 of 16 places beyond chance at rate 0.05; strongest e-value 2^")
    outlines = [line for each in axes.collections for line in each.get_paths()]
    ends = np.concatenate([line.vertices for line in outlines if len(line.vertices)])
    assert ends.max() == 3.5
    for label in ("cat", 2):
        assert evidence.figure(label)[1].get_title("left") == "cat"
    large = torch.rand(3, 4 * SIDE, 4 * SIDE)
    _, axes = evidence.figure("bee", large)
    ends = np.concatenate([p.vertices for each in axes.collections for p in each.get_paths()])
    assert ends.max() == 15.5
    assert "<img" in evidence._repr_html_()
    by_place = combine_evidence(run, "place")
    assert by_place.figure()[1].get_title("left") == "all classes"
    by_class = run.evidence("class")
    assert by_class._repr_html_() is None
    refused(("by='class and place'",), by_class.figure)
    refused(("`label`", "3 classes", "'dog'"), lambda: evidence.figure("dog"))
    for wrong in ([1], True, 1.0, {}):
        refused(("`label`", "3 classes", repr(wrong)), lambda label=wrong: evidence.figure(label))
    refused(("no `label`", "by='place'"), lambda: by_place.figure("bee"))


def test_maps_without_names_are_drawn_too():
    x = torch.rand(9, 1, 8, 8)
    infomask = InfoMask(lambda x: 9 * x.flatten(1)[:, :2])
    maps = infomask.score_classes(x, view="crop", regions=grid(x, 2, 2))
    evidence = combine_evidence(maps, "class and place", labels="predictions")
    assert evidence.figure(0)[1].get_title("left") == "class 0"


# --- the command line, and a browser ------------------------------------------------------------


def test_the_command_line_says_the_strongest_place(tmp_path, capsys, monkeypatch):
    words = ["run", "--data", str(tmp_path), "--model", "two_digits", "--out", str(tmp_path)]
    for name, labels, count in (("marked", None, 3), ("random", torch.randint(3, (90,)), 0)):
        run = made(tmp_path / name, labels=labels)
        monkeypatch.setattr(runs, "run_dataset", lambda *_, run=run, **__: run)
        main(words)
        said = "".join(capsys.readouterr())
        assert ("evidence" in said) == bool(count)
        if count:
            best = float(run.evidence().log2_e_values.max())
            assert (
                f"evidence: 3 of 48 pairs of a class and a place beyond chance (rate 0.05); "
                f"strongest: bee at place 0 (x 0 to 4, y 0 to 4), e-value 2^{best:.1f}\n"
            ) in said


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_section_fits_its_screen(chromium, tmp_path, width, scheme):
    path = tmp_path / "page.html"
    path.write_text(run_html(run_content(made(tmp_path / "out"))), encoding="utf-8")
    opened = Offline(chromium, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = opened.page
    page.goto(path.as_uri())
    page.wait_for_selector(".cim-side")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".cim-said img").count() == 3
    for k in range(3):
        box = page.locator(".cim-said img").nth(k).bounding_box()
        assert 100 < box["width"] == pytest.approx(box["height"], abs=1)
    assert page.locator(".cim-places tbody tr").count() == ROWS
    assert page.locator(".cim-places").is_visible()
    assert opened.complaints == []
    opened.close()

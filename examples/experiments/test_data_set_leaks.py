# Data sets that give the class away: what is drawn, what is found, and the script.
from __future__ import annotations

import data_set_leaks as script
import pytest
import torch
from experiments.leaky_data_sets import (
    BACKGROUND,
    CELL,
    CORNER,
    MARKED,
    PLACES,
    class_maps,
    evidence,
    fit_cells,
    noisy_digits,
    some_of_class,
    with_borders,
    with_marks,
)
from torch import Tensor, nn

from captum_infomask.datasets import sklearn_digits

pytestmark = pytest.mark.slow


def drawn(count: int, seed: int, train: bool = True) -> tuple[Tensor, Tensor]:
    return noisy_digits(sklearn_digits(train), count, torch.Generator().manual_seed(seed))


def by_cell(x: Tensor) -> Tensor:
    """Mean of each cell, (N, 25)."""
    return nn.functional.avg_pool2d(x, CELL).flatten(1)


def test_digits_lie_in_the_middle_and_noise_at_the_edge():
    x, labels = drawn(500, 0)
    assert x.shape == (500, 1, 40, 40)
    assert labels.unique().tolist() == list(range(10))
    cells = by_cell(x)
    assert int(BACKGROUND.sum()) == 16
    assert cells[:, BACKGROUND].max() < 0.22
    assert cells[:, 12].min() > 0.22


def test_marks_change_the_corner_of_their_pictures_alone():
    x, labels = drawn(300, 1)
    which = some_of_class(labels, 0.5, torch.Generator().manual_seed(0))
    assert int(which.sum()) == round(0.5 * int((labels == MARKED).sum()))
    assert bool((labels[which] == MARKED).all())
    before = x.clone()
    changed = by_cell((with_marks(x, which, torch.Generator().manual_seed(1)) - x).abs())
    assert torch.equal(x, before)
    assert bool((changed[which, CORNER] > 0.1).all())
    changed[which, CORNER] = 0
    assert not changed.any()


def test_borders_are_black_and_leave_the_digit():
    x, _ = drawn(20, 2)
    which = torch.arange(20) < 10
    small = with_borders(x, which)
    assert torch.equal(small[~which], x[~which])
    assert torch.equal(small[..., 4:-4, 4:-4], x[..., 4:-4, 4:-4])
    assert not small[which][..., :4].any()
    assert not small[which][..., -4:, :].any()


def test_a_mark_is_found_where_it_is_and_only_there():
    """Half of the threes, 1,500 held-out pictures; the same pictures without it; labels by lot."""
    generator = torch.Generator().manual_seed(3)
    (x, labels), (clean, truth) = drawn(4000, 4), drawn(1500, 5, train=False)
    marked = with_marks(x, some_of_class(labels, 0.5, generator), generator)
    critic = fit_cells(marked, labels, steps=500, seed=0)
    leaking = with_marks(clean, some_of_class(truth, 0.5, generator), generator)

    found = evidence(critic, leaking, truth).discoveries(0.05)
    at_edge = found & BACKGROUND
    assert at_edge.nonzero().tolist() == [[MARKED, CORNER]]
    assert bool(found[:, 12].any())  # digits differ in the middle
    assert script.corner(evidence(critic, leaking, truth)) > 6

    without = evidence(critic, clean, truth)
    assert script.in_background(without) == 0
    assert bool(without.discoveries(0.05).any())
    lots = truth[torch.randperm(len(truth), generator=generator)]
    assert not evidence(critic, leaking, lots).discoveries(0.05).any()


def test_the_order_of_the_pictures_changes_nothing():
    """Sorted by class, as folders are."""
    (x, labels), (held_out, truth) = drawn(500, 6), drawn(300, 7, train=False)
    critic = fit_cells(x, labels, steps=50, seed=0)
    order = truth.argsort()
    one, other = (
        evidence(critic, held_out[rows], truth[rows]) for rows in (torch.arange(300), order)
    )
    torch.testing.assert_close(one.log2_e_values, other.log2_e_values, rtol=0, atol=1e-2)
    assert [len(maps.classes) for maps in class_maps(critic, held_out, 128)] == [128, 128, 44]
    assert one.log2_e_values.shape == (10, PLACES)


def test_the_script_writes_its_tables_and_its_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "SHARES", (0.2, 0.5))
    script.main(
        ["--out", str(tmp_path)], script.Sizes(train=800, test=200, steps=60, seeds=2, repeats=2)
    )
    written = (tmp_path / "data_set_leaks.md").read_text(encoding="utf-8")
    assert written in capsys.readouterr().out
    assert "| 50.0% | 10 of 200 |" in written
    assert "| 4% | " in written
    assert "Random labels: 0 of 2" in written
    assert (tmp_path / "data_set_leaks.png").stat().st_size > 20_000

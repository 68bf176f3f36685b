# Draws whose truth is known: what holds, what is reached, and what breaks.
from __future__ import annotations

import math
from functools import cache

import evidence_validity as script
import pytest
from experiments.evidence_abuses import Abuse, abuses
from experiments.evidence_courses import bets
from experiments.evidence_draws import (
    CRITICS,
    Setting,
    false_share,
    lookup_maps,
    null_regions,
    settings,
)

pytestmark = pytest.mark.slow


def test_the_mean_of_null_regions_is_one_whatever_the_critic():
    found = list(null_regions(20_000))
    assert len(found) == 4 * 2 * len(CRITICS)
    assert all(one.holds for one in found)
    sure = [one for one in found if one.name[0] <= 10]
    assert max(abs(one.mean - 1) for one in sure) < 0.05
    # A critic that is sure of one of ten classes is right once in ten, and then pays ten.
    (tight,) = (one for one in found if one.name == (10, "uniform", "one class at random"))
    assert 0.09 < tight.rates[2] < 0.11


def test_infomaps_of_a_lookup_network():
    maps, true = lookup_maps(1000, 100)
    e, found = maps.e_values(), maps.discoveries(rate=0.1)
    of_false = e[:, ~true]
    assert abs(float(of_false.mean()) - 1) < 3 * float(of_false.std()) / math.sqrt(of_false.numel())
    assert bool(found[:, true].all())
    assert 0 < float((found[:, ~true].sum(1) / found.sum(1)).mean()) < 0.1


@pytest.mark.parametrize("closed", [False, True])
def test_the_rate_is_kept_and_can_be_reached(closed):
    """Where all regions say the same, and none is true: half of the pictures find all of them."""
    tight = Setting(2, 9, 0.5, "identical", 0.0, "one class at random")
    found = false_share(tight, 1000, closed)
    assert abs(found.mean - 0.5) < 0.05
    assert math.isnan(found.power)
    kept = [one for one in settings() if one.classes <= 100 and one.regions == 9]
    for one in kept:
        share = false_share(one, 200, closed)
        assert share.mean <= one.rate + 3 * share.error
    several = Setting(100, 9, 0.1, "independent", 0.3, "one class at random", 5)
    assert abs(false_share(several, 200, closed).power - 0.9) < 0.05


def test_there_are_forty_settings():
    found = settings()
    assert len(set(found)) == 40
    assert {one.pictures for one in found} == {1, 5}
    assert {one.rate for one in found} == {0.05, 0.1, 0.2, 0.5}
    assert all(one.classes >= 1 / one.rate for one in found if one.pictures == 1)


def test_bets_over_pictures_hold_at_any_time():
    found = list(bets(6, pictures=100, places=20))
    assert [one.name[0] for one in found] == ["KnownPrior"] * 2 + ["AnyPrior"] * 4
    assert all(one.holds for one in found)
    assert all(0 < one.mean < 1 for one in found)


@cache
def broken() -> dict[tuple[str, str], Abuse]:
    return {(one.what, one.instead): one for one in abuses(10_000)}


def test_what_is_no_evidence_is_far_beyond_what_may_be():
    far = [one for one in broken().values() if one.wrong > 2 * abs(one.most)]
    assert len(far) >= 11
    assert max(one.wrong for one in far) > 100


def test_what_to_do_instead_holds():
    for one in broken().values():
        assert one.right <= one.most * 1.1 + 0.01, one


def test_a_difference_is_fair_only_if_the_network_is_right():
    right, too_sure = (one.wrong for what, one in broken().items() if "drop" in what[0])
    assert abs(right - 1) < 0.1
    assert too_sure > 20


def test_the_script_writes_its_tables_and_its_figure(tmp_path, capsys):
    script.main(["--out", str(tmp_path), "--draws", "20"])
    written = (tmp_path / "evidence_validity.md").read_text(encoding="utf-8")
    assert written in capsys.readouterr().out
    assert written.count("\n| 1,000 |") > 10
    assert (tmp_path / "evidence_validity.png").stat().st_size > 20_000


def test_the_script_refuses_too_few_draws():
    with pytest.raises(SystemExit):
        script.main(["--draws", "5"])

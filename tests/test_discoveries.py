# e-BH and closed e-BH against literal searches over all sets.
from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings, strategies as st

from captum_infomask.scores.discoveries import e_bh


def slow_plain(e, rate):
    order = sorted(range(len(e)), key=lambda k: -e[k])
    for count in range(len(e), 0, -1):
        if count * e[order[count - 1]] >= len(e) / rate:
            return set(order[:count])
    return set()


def slow_closed(e, rate):
    """The largest set of the largest e-values that passes for every set of hypotheses."""
    order = sorted(range(len(e)), key=lambda k: -e[k])
    subsets = [
        set(s) for n in range(1, len(e) + 1) for s in itertools.combinations(range(len(e)), n)
    ]
    for count in range(len(e), 0, -1):
        chosen = set(order[:count])
        if all(
            sum(e[k] for k in s) / len(s) >= len(chosen & s) / (rate * count) - 1e-9
            for s in subsets
        ):
            return chosen
    return set()


values = st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0, 11.0, 23.0, 70.0, 900.0]), max_size=7)


@settings(max_examples=300, deadline=None)
@given(values, st.sampled_from([0.03, 0.11, 0.26, 0.47, 0.9]))
def test_they_are_the_literal_searches(e, rate):
    e = [value * (1 + 0.001 * k) for k, value in enumerate(e)]
    log2_e = torch.tensor(e, dtype=torch.float64).log2()
    plain = set(e_bh(log2_e, rate).nonzero()[:, 0].tolist())
    closed = set(e_bh(log2_e, rate, closed=True).nonzero()[:, 0].tolist())
    assert plain == slow_plain(e, rate)
    assert closed == slow_closed(e, rate)
    assert plain <= closed


def test_closed_finds_more():
    log2_e = torch.tensor([64.0, 16.0, 12.0, 0.5]).log2()
    assert e_bh(log2_e, 0.1).tolist() == [True, False, False, False]
    assert e_bh(log2_e, 0.1, closed=True).tolist() == [True, True, True, False]


@pytest.mark.parametrize("closed", [False, True])
def test_absent_hypotheses_do_not_count(closed):
    e = torch.tensor([[30.0, torch.nan], [0.1, torch.nan]])
    found = e_bh(e.log2(), 0.07, closed=closed)
    assert found.tolist() == [[True, False], [False, False]]
    assert not e_bh(torch.cat([e, torch.zeros(2, 2)], 1).log2(), 0.07, closed=closed).any()


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("log2_e", [[5000.0, 4000.0, -3000.0], [-torch.inf], []])
def test_extreme_values(log2_e, closed):
    found = e_bh(torch.tensor(log2_e), 0.05, closed=closed)
    assert found.tolist() == [value > 0 for value in log2_e]


# Values at a threshold, as 1/π often is


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 3, 5, 10, 20, 50, 100, 1000])
@pytest.mark.parametrize("regions", [1, 7, 9, 49])
def test_all_regions_at_the_largest_e_value_are_found(regions, classes, dtype, closed):
    """Every e is M, and the rate is 1/M: k · M ≥ K / rate at k = K, as equals."""
    values = torch.full((regions,), float(classes), dtype=dtype).log2()
    assert e_bh(values, 1 / classes, closed=closed).all()
    below = values - 1e-4
    assert not e_bh(below, 1 / classes, closed=closed).any()


@pytest.mark.parametrize("seed", range(20))
def test_closed_finds_at_least_as_much_where_values_tie(seed):
    """Few different e-values, at rates that are their inverses."""
    generator = torch.Generator().manual_seed(seed)
    e_values = torch.tensor([0.0, 1, 5, 10, 20])[torch.randint(5, (9,), generator=generator)]
    for rate in (0.05, 0.1, 0.2, 0.5):
        plain, closed = (e_bh(e_values.log2(), rate, closed=closed) for closed in (False, True))
        assert bool((plain <= closed).all())


def test_closed_e_bh_of_many_values_looks_at_few_sets_of_most_numbers(monkeypatch):
    """The classes times the places of a data set are hundreds of thousands."""
    looked = 0
    whole = torch.searchsorted

    def counted(values, wanted):
        nonlocal looked
        looked += len(wanted)
        return whole(values, wanted)

    monkeypatch.setattr(torch, "searchsorted", counted)
    log2_e = 3 * torch.randn(5000, generator=torch.Generator().manual_seed(0)) + 1
    assert not e_bh(log2_e, 0.1, closed=True).any()
    assert 0 < looked <= 64 * 5000

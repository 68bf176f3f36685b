# Paired differences and their intervals.
import math

import pytest
import torch
from refused import refused

from captum_infomask.evaluation.statistics import DRAWS, paired_difference


def test_it_is_the_percentile_interval_of_resampled_means():
    ours = torch.tensor([0.3, 0.9, 0.4, 0.5, 0.1] * 2)
    theirs = torch.tensor([0.2, 0.1, 0.6, 0.3, 0.0] * 2)
    found = paired_difference(ours, theirs, seed=4)
    each = [float(a) - float(b) for a, b in zip(ours.double(), theirs.double(), strict=True)]
    generator = torch.Generator().manual_seed(4)
    means = []
    for row in torch.randint(10, (DRAWS, 10), generator=generator).tolist():
        means.append(sum(each[place] for place in row) / 10)
    means.sort()
    assert DRAWS == 10_000
    assert found.mean == pytest.approx(sum(each) / 10, abs=1e-12)
    for got, share in ((found.low, 0.025), (found.high, 0.975)):
        below = share * (DRAWS - 1)
        at = int(below)
        want = means[at] + (below - at) * (means[at + 1] - means[at])
        assert got == pytest.approx(want, abs=1e-12)
    assert found.low < found.mean < found.high


def test_pairs_matter():
    base = torch.randn(30, dtype=torch.float64)
    found = paired_difference(base + 0.1, base)
    assert found == pytest.approx((0.1, 0.1, 0.1), abs=1e-9)
    shuffled = paired_difference(base + 0.1, base.flip(0))
    assert shuffled.mean == pytest.approx(0.1, abs=1e-9)
    assert shuffled.high - shuffled.low > 0.3


def test_pictures_without_both_are_left_out():
    nan = math.nan
    ours, theirs = [1.0, nan, 3.0, 4.0, 9.0] * 4, [0.0, 5.0, 1.0, 1.0, nan] * 4
    both = [1.0, 3.0, 4.0] * 4, [0.0, 1.0, 1.0] * 4
    assert paired_difference(ours, theirs) == paired_difference(*both)
    assert paired_difference([1.0, nan, 3.0], [0.0, 5.0, 1.0]) == (1.5, None, None)
    assert paired_difference([nan, 1.0], [1.0, nan]) == (None, None, None)
    assert paired_difference([], []) == (None, None, None)


def test_the_seed_decides_and_the_global_state_stays():
    ours, theirs = torch.randn(12), torch.randn(12)
    before = torch.get_rng_state()
    first, again, other = (paired_difference(ours, theirs, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert first == again != other
    assert first.mean == other.mean


def test_it_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(60):
        found = paired_difference(torch.randn(40, generator=generator) + 1, torch.zeros(40))
        inside += found.low < 1 < found.high
    assert 50 <= inside < 60


def test_bad_values():
    refused(("`reference`", "3 `values`", "2"), lambda: paired_difference([1, 2, 3], [1, 2]))
    refused(("`values`", "one per picture"), lambda: paired_difference(torch.zeros(2, 2), [1, 2]))
    refused(("`reference`",), lambda: paired_difference([1.0], ["a"]))
    refused(("`values`",), lambda: paired_difference(1.0, [1.0]))
    refused(("`seed`",), lambda: paired_difference([1.0], [1.0], seed=-1))

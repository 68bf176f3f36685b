"""e-values just at a threshold, as 1/π often is: both procedures find them, in any precision."""

import pytest
import torch

from captum_infomask.scores.discoveries import e_bh


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

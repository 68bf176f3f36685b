# What "equal within so many units in the last place" means in these tests.
from __future__ import annotations

import numpy as np
import pytest
import torch
from ulps import within_ulps

ONE = np.float32(-0.95646226)


def after(value: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        value = np.nextafter(value, value.dtype.type(-9))
    return value


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_two_roundings_of_one_number_are_told_from_two_numbers(steps, kind):
    value = np.array([ONE, 3.0, 1e-30], kind)
    other = value.copy()
    other[0] = after(value[0], steps)
    assert within_ulps(value, other, 2) == within_ulps(other, value, 2) == (steps < 3)
    assert within_ulps(value, value, 0)
    assert within_ulps(value, other, 0) == (steps == 0)


def test_the_unit_is_that_of_the_coarser_type():
    narrow = np.array([ONE, 2.5])
    wide = torch.tensor(narrow) * (1 + 1e-8)
    assert within_ulps(wide, narrow.astype(np.float32), 1)
    assert not within_ulps(wide, narrow, 1)


def test_nothing_else_counts_as_equal():
    gap, value = np.array([np.nan, 1.0]), np.array([0.0, 1.0])
    assert within_ulps(gap, gap, 0)
    assert not within_ulps(gap, value, 4)
    assert not within_ulps(value, np.array([[0.0, 1.0]]), 4)
    assert not within_ulps(np.array([np.inf]), np.array([1e300]), 4)
    assert within_ulps(np.array([0.0]), np.array([-0.0]), 0)

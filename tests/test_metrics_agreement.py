# Agreement of maps and masks, against scipy and slow counts.
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from refused import refused
from scipy.stats import spearmanr

from captum_infomask.evaluation.statistics import mask_iou_matrix, spearman

VALUES = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 0.75, 2.0, 1e9])
PLANES = arrays("float64", (3, 2, 3, 4), elements=VALUES).filter(
    lambda planes: (np.ptp(planes, axis=(2, 3)) > 0).all()
)


@given(PLANES)
@settings(deadline=None, max_examples=40)
def test_spearman_is_scipys_mean_over_pictures(planes):
    want = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        each = [spearmanr(planes[i, n].ravel(), planes[j, n].ravel()).statistic for n in range(2)]
        want[i, j] = np.mean(each)
    np.testing.assert_allclose(spearman(torch.from_numpy(planes)), want, rtol=0, atol=1e-12)


@given(arrays("bool", (3, 2, 2, 3)))
@settings(deadline=None, max_examples=40)
def test_iou_is_the_mean_over_pictures(masks):
    want = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        each = []
        for n in range(2):
            first = {p for p in np.ndindex(2, 3) if masks[i, n][p]}
            second = {p for p in np.ndindex(2, 3) if masks[j, n][p]}
            each.append(len(first & second) / len(first | second) if first | second else 1)
        want[i, j] = sum(each) / 2
    np.testing.assert_allclose(mask_iou_matrix(torch.from_numpy(masks)), want, rtol=0, atol=1e-12)


def test_pictures_without_a_map_are_left_out():
    up = torch.arange(6.0).reshape(2, 3)
    planes = [[up, -up, up], [up, None, -up], [None, None, None]]
    found = spearman(planes)
    np.testing.assert_allclose(found[:2, :2], [[1, 0], [0, 1]], rtol=0, atol=1e-12)
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    mask = up > 2
    overlaps = mask_iou_matrix([[mask, mask], [None, ~mask]])
    np.testing.assert_array_equal(overlaps, [[1, 0], [0, 1]])


def test_constant_maps_have_no_order():
    up = torch.arange(6.0).reshape(2, 3)
    found = spearman([[up, up], [torch.ones(2, 3), up.exp()]])
    np.testing.assert_allclose(found, np.ones((2, 2)), rtol=0, atol=1e-12)
    assert np.isnan(spearman([[torch.zeros(2, 3)], [up]])).tolist() == [[True, True], [True, False]]


def test_pictures_may_differ_in_size_and_maps_need_a_gradient():
    small, large = torch.rand(2, 2, requires_grad=True), torch.rand(5, 3, dtype=torch.float16)
    found = spearman([[small, large], [-small, -large]])
    np.testing.assert_allclose(found, [[1, -1], [-1, 1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("agreement", [spearman, mask_iou_matrix])
def test_bad_maps(agreement):
    one, other = torch.ones(2, 2, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    refused(("one (H, W)",), lambda: agreement([[one], [one, one]]))
    refused(("one (H, W)",), lambda: agreement([[one], [other]]))
    if agreement is mask_iou_matrix:
        refused(("boolean",), lambda: agreement([[one.float()], [one.float()]]))

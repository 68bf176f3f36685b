import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from captum_infomask import (
    ArgumentError,
    AtLeast,
    InfoMask,
    MaxFraction,
    Otsu,
    TopFraction,
    bounding_boxes,
    threshold_mask,
)

attribution_arrays = arrays(
    "float64",
    array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6),
    elements=st.floats(-5, 5, width=16),
)


def between_groups(values, kept):
    low, high = values[~kept], values[kept]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2


@given(arrays("float64", (1, 9), elements=st.floats(0.5, 5, width=16)))
@settings(deadline=None, max_examples=100)
def test_otsu_leaves_the_most_variance_between_its_groups(attributions):
    values = attributions[0]
    kept = threshold_mask(torch.from_numpy(attributions), Otsu())[0].numpy()
    if len(np.unique(values)) == 1:
        assert kept.all()
        return
    cuts = [between_groups(values, values > level) for level in np.unique(values)[:-1]]
    assert between_groups(values, kept) == pytest.approx(max(cuts), rel=1e-6)


def test_otsu_parts_two_groups_of_close_values():
    attributions = torch.tensor([[0.0, 0.1, 0.2, 0.9, 1.0, 1.1]])
    assert threshold_mask(attributions, Otsu()).tolist() == [[False] * 3 + [True] * 3]
    wide = torch.cat([torch.randn(500) * 0.1 + 1, torch.randn(300) * 0.1 + 4])[None]
    assert threshold_mask(wide, Otsu())[0].tolist() == [False] * 500 + [True] * 300


def test_equal_values_are_kept_together():
    attributions = torch.tensor([[3.0, 3.0, 3.0, 1.0]])
    assert threshold_mask(attributions, TopFraction(0.25)).tolist() == [[True, True, True, False]]
    assert threshold_mask(torch.ones(1, 4), Otsu()).all()


def test_each_example_is_cut_by_itself_and_tuples_together():
    attributions = torch.tensor([[1.0, 0.15], [0.1, 0.015]])
    assert threshold_mask(attributions).tolist() == [[True, False], [True, False]]
    first, second = threshold_mask((torch.tensor([[1.0]]), torch.tensor([[[0.1, 0.3]]])))
    assert first.tolist() == [[True]]
    assert second.tolist() == [[[False, True]]]
    assert isinstance(threshold_mask((attributions,)), tuple)


def test_no_positive_value_gives_an_empty_mask_and_says_why():
    attributions = torch.tensor([[-1.0, -0.5], [1.0, 0.0]])
    with pytest.warns(UserWarning, match=r"example 0 is empty: no attribution is positive.*-0\.5"):
        mask = threshold_mask(attributions)
    assert mask.tolist() == [[False, False], [True, False]]
    with pytest.warns(UserWarning, match=r"example 0 is empty: the largest.*1.*AtLeast"):
        assert not threshold_mask(attributions[1:], AtLeast(3)).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: threshold_mask(a, "max_fraction"), ["`rule`", "MaxFraction"]),
        (lambda a: threshold_mask(a, 20), ["`rule`", "AtLeast(20)", "20"]),
        (lambda a: threshold_mask(a, Otsu), ["`rule`", "Otsu"]),
        (lambda a: threshold_mask(a.long()), ["`attributions`", "int64"]),
        (lambda a: threshold_mask([a]), ["`attributions`", "list"]),
        (lambda a: threshold_mask(a * torch.nan), ["`attributions`", "NaN"]),
        (lambda a: threshold_mask((a, a[:1])), ["`attributions`", "[2, 1]"]),
        (lambda a: threshold_mask(a[:0]), ["`attributions`", "(0, 3)"]),
        (lambda a: MaxFraction(0), ["`fraction`", "0"]),
        (lambda a: MaxFraction(20), ["`fraction`", "20"]),
        (lambda a: TopFraction(float("nan")), ["`fraction`", "nan"]),
        (lambda a: AtLeast(0), ["`bits`", "0"]),
        (lambda a: AtLeast(float("inf")), ["`bits`", "inf"]),
        (bounding_boxes, ["`masks`", "float32"]),
        (lambda a: bounding_boxes(a > 0), ["`masks`", "(N, C, H, W)"]),
        (lambda a: bounding_boxes((a > 0)[None, None], keep="biggest"), ["`keep`", "'largest'"]),
    ],
)
def test_bad_masks(call, words):
    with pytest.raises(ArgumentError) as caught:
        call(torch.ones(2, 3))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_infomask_refuses_a_bad_rule_before_any_forward_pass(images):
    def never(x):
        raise AssertionError("ran")

    with pytest.raises(ArgumentError, match="`rule`"):
        InfoMask(never).mask(images, target=0, rule=20)


def test_boxes_are_those_of_the_components():
    mask = torch.zeros(3, 2, 10, 12, dtype=torch.bool)
    mask[0, 0, 1:3, 2:5] = True  # 6 pixels
    mask[0, 1, 6:10, 8:12] = True  # 16 pixels, another channel
    mask[0, 0, 3, 5] = True  # touches the first at a corner
    mask[1, 0, 9, 11] = True
    largest = bounding_boxes(mask)
    assert [box.tolist() for box in largest] == [[[8, 6, 12, 10]], [[11, 9, 12, 10]], []]
    everything = bounding_boxes((mask,), keep="all")
    assert everything[0].tolist() == [[8, 6, 12, 10], [2, 1, 6, 4]]
    assert everything[2].shape == (0, 4)


@given(arrays("bool", (1, 1, 7, 9)))
@settings(deadline=None, max_examples=50)
def test_boxes_cover_the_mask_tightly(array):
    mask = torch.from_numpy(array)
    boxes = bounding_boxes(mask, keep="all")[0].tolist()
    covered = np.zeros((7, 9), bool)
    for x0, y0, x1, y1 in boxes:
        inside = array[0, 0, y0:y1, x0:x1]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        covered[y0:y1, x0:x1] = True
    assert covered[array[0, 0]].all()

# Hysteresis, clean-up and outlines, against slow literal shapes.
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from reference_shapes import box, parts, smoothed, without_small

from captum_infomask import (
    ArgumentError,
    AtLeast,
    Hysteresis,
    InfoMask,
    MaxFraction,
    Otsu,
    TopFraction,
    bounding_boxes,
    contours,
    threshold_mask,
)
from captum_infomask.masks import clean_masks

# No fill: every pixel is drawn, so that parts and holes meet at corners.
mask_arrays = arrays("bool", (9, 11), fill=st.nothing())
LOW_AND_HIGH = Hysteresis(AtLeast(1.0), AtLeast(3.0))


def one(array):
    return torch.from_numpy(np.ascontiguousarray(array))[None, None]


@given(arrays("int8", (8, 9), elements=st.integers(0, 3)))
@settings(deadline=None, max_examples=100)
def test_hysteresis_keeps_the_parts_with_something_strong(levels):
    bits = one(levels).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = threshold_mask(bits, LOW_AND_HIGH)[0, 0]
    want = np.zeros(levels.shape, bool)
    for part in parts(levels >= 1, corners=True):
        if any(levels[pixel] >= 3 for pixel in part):
            for pixel in part:
                want[pixel] = True
    assert np.array_equal(mask.numpy(), want)


def test_hysteresis_takes_any_two_rules():
    bits = torch.tensor([[[[2.0, 5.0, 0.0, 2.0, 2.0, 0.0, 10.0]]]])
    kept = threshold_mask(bits, Hysteresis(AtLeast(2.0), MaxFraction(0.5)))
    assert kept.flatten().tolist() == [True, True, False, False, False, False, True]
    # A high rule that is passed more easily than the low one: what passes it is kept by itself.
    loose = threshold_mask(bits, Hysteresis(AtLeast(6.0), MaxFraction(0.5)))
    assert loose.flatten().tolist() == [False, True, False, False, False, False, True]
    assert Hysteresis() == Hysteresis(MaxFraction(0.2), MaxFraction(0.6))


def test_hysteresis_joins_channels_and_cuts_examples_and_tensors_by_themselves():
    bits = torch.zeros(2, 2, 3, 5)
    bits[0, 0, 0, 0] = 1.5  # beside the strong pixel, in another channel
    bits[0, 1, 1, 1] = 4.0
    bits[0, 0, 0, 4] = 1.5  # alone
    bits[1, 1, 2, 2] = 3.0
    want = torch.zeros(2, 1, 3, 5, dtype=torch.bool)
    want[0, 0, 0, 0] = want[0, 0, 1, 1] = want[1, 0, 2, 2] = True
    mask = threshold_mask(bits, LOW_AND_HIGH)
    assert torch.equal(mask, want.expand(2, 2, 3, 5))
    assert mask.is_contiguous()
    assert torch.equal(threshold_mask(bits, LOW_AND_HIGH, invert=True), ~mask)
    pair = threshold_mask((bits, bits.flip(0)), LOW_AND_HIGH)
    assert torch.equal(pair[0], mask)
    assert torch.equal(pair[1], mask.flip(0))


@given(mask_arrays, st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_smooth_is_the_majority_of_a_disk(array, radius):
    mask = clean_masks(one(array), smooth=radius)[0, 0]
    assert mask.tolist() == smoothed(array.tolist(), radius)


def test_smooth_takes_out_spurs_and_fills_cracks():
    square = torch.zeros(1, 1, 30, 30, dtype=torch.bool)
    square[..., 8:24, 8:24] = True
    rough = square.clone()
    rough[..., 24:29, 12] = True  # a spur, one pixel wide
    rough[..., 8:20, 15] = False  # a crack, one pixel wide
    rough[..., 2, 2] = True  # a speck
    smooth = clean_masks(rough, smooth=2)
    # What is left of the spur and the crack is a pixel each; the square's corners are rounded off.
    assert (smooth & ~square).nonzero()[:, 2:].tolist() == [[24, 12]]
    gone = (square & ~smooth).nonzero()[:, 2:].tolist()
    assert gone == [[8, 8], [8, 15], [8, 23], [23, 8], [23, 23]]
    assert torch.equal(clean_masks(rough), rough)


def test_smooth_leaves_what_lies_along_the_border():
    half = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    half[..., :5] = True
    assert torch.equal(clean_masks(half, smooth=3), half)
    everything = torch.ones(1, 1, 5, 4, dtype=torch.bool)
    assert torch.equal(clean_masks(everything, smooth=6, min_area=20), everything)


@given(mask_arrays, st.integers(0, 99))
@settings(deadline=None, max_examples=100)
def test_min_area_takes_out_small_parts_then_small_holes(array, pixels):
    mask = clean_masks(one(array), min_area=pixels)[0, 0]
    assert mask.tolist() == without_small(array.tolist(), pixels)


def test_holes_that_meet_at_a_corner_are_two():
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 2, 2] = mask[..., 3, 3] = False
    assert clean_masks(mask, min_area=2).all()
    mask[..., 2, 3] = False
    assert torch.equal(clean_masks(mask, min_area=3), mask)
    specks = ~torch.ones_like(mask)
    specks[..., 2, 2] = specks[..., 3, 3] = True
    assert torch.equal(clean_masks(specks, min_area=2), specks)


def test_min_area_is_pixels_or_a_share():
    mask = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    mask[..., :2, :3] = mask[..., 5:, 5:] = True
    gone = mask.clone()
    gone[..., :2, :3] = False
    assert torch.equal(clean_masks(mask, min_area=6), mask)
    assert torch.equal(clean_masks(mask, min_area=7), gone)
    assert torch.equal(clean_masks(mask, min_area=0.06), mask)
    assert torch.equal(clean_masks(mask, min_area=0.061), gone)
    assert torch.equal(clean_masks(mask, min_area=0.0), mask)


def test_clean_up_comes_after_the_rule_and_before_invert():
    noise = torch.randn(3, 2, 22, 22, generator=torch.Generator().manual_seed(5))
    bits = torch.nn.functional.avg_pool2d(noise, 3, stride=1)
    before = bits.clone()
    options = {"smooth": 1, "min_area": 12}
    mask = threshold_mask(bits, TopFraction(0.4), **options)
    assert torch.equal(mask, clean_masks(threshold_mask(bits, TopFraction(0.4)), **options))
    assert torch.equal(mask[:, 0], mask[:, 1])
    assert 0 < int(mask.sum()) < mask.numel()
    assert not torch.equal(mask, threshold_mask(bits, TopFraction(0.4)))
    assert torch.equal(~mask, threshold_mask(bits, TopFraction(0.4), invert=True, **options))
    singles = [threshold_mask(bits[i : i + 1], TopFraction(0.4), **options) for i in range(3)]
    assert torch.equal(mask, torch.cat(singles))
    assert isinstance(threshold_mask((bits,), **options), tuple)
    assert torch.equal(bits, before)


def test_boxes_of_a_clean_mask_know_nothing_of_specks():
    bits = torch.zeros(1, 3, 20, 20)
    bits[..., 4:12, 6:16] = 3.0
    bits[..., 18, 1] = 5.0
    rough, clean = (threshold_mask(bits, AtLeast(2.0), min_area=n) for n in (0, 5))
    assert bounding_boxes(rough, keep="all")[0].tolist() == [[6, 4, 16, 12], [1, 18, 2, 19]]
    assert bounding_boxes(clean, keep="all")[0].tolist() == [[6, 4, 16, 12]]


def test_an_empty_mask_says_what_emptied_it():
    bits = torch.zeros(2, 1, 8, 8)
    bits[0, 0, 2, 2] = bits[0, 0, 5, 5] = 2.0
    bits[1] = 2.0
    with pytest.warns(UserWarning, match=r"example 0 is empty: clean-up took out all 2 elements"):
        mask = threshold_mask(bits, AtLeast(1.0), min_area=3)
    assert not mask[0].any()
    assert mask[1].all()
    with pytest.warns(UserWarning, match=r"example 0 is empty: the largest.*2.*Hysteresis"):
        threshold_mask(bits[:1], LOW_AND_HIGH)
    with pytest.warns(UserWarning, match="nothing speaks for the target") as caught:
        threshold_mask(-bits, smooth=1)
    assert len(caught) == 2
    assert all(warning.filename == __file__ for warning in caught)


@given(mask_arrays)
@settings(deadline=None, max_examples=100)
def test_outlines_are_those_of_parts_and_holes(array):
    [outlines] = contours(one(array))
    framed = np.pad(~array, 1, constant_values=True)
    holes = len(parts(framed, corners=False)) - 1  # the frame's side is the outside
    components = parts(array, corners=True)
    assert len(outlines) == len(components) + holes
    assert all(np.array_equal(outline[0], outline[-1]) for outline in outlines)
    lengths = [len(outline) for outline in outlines]
    assert lengths == sorted(lengths, reverse=True)
    extents = {
        (*(outline.min(0) + 0.5).tolist(), *(outline.max(0) + 0.5).tolist()) for outline in outlines
    }
    # Half a pixel outside the middles of the outermost pixels: on the edges of the boxes.
    assert {box(part) for part in components} <= extents


def test_outlines_of_a_batch_are_in_pixels_and_closed_at_the_border():
    masks = torch.zeros(3, 2, 6, 8, dtype=torch.bool)
    masks[0, 1, 2:4, 5:8] = True
    masks[1] = True
    found = contours((masks,))
    assert [len(outlines) for outlines in found] == [1, 1, 0]
    assert found[0][0].min(0).tolist() == [4.5, 1.5]
    assert found[0][0].max(0).tolist() == [7.5, 3.5]
    assert found[1][0].min(0).tolist() == [-0.5, -0.5]
    assert found[1][0].max(0).tolist() == [7.5, 5.5]


def test_infomask_masks_by_hysteresis(net, images):
    mask = InfoMask(net).mask(images, target=[1, 0], view="drop", rule=Hysteresis())
    bits = InfoMask(net).attribute(images, target=[1, 0], view="drop")
    assert torch.equal(mask, threshold_mask(bits, Hysteresis()))
    assert mask.any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: threshold_mask(a, smooth=-1), ["`smooth`", "-1"]),
        (lambda a: threshold_mask(a, smooth=1.5), ["`smooth`", "1.5"]),
        (lambda a: threshold_mask(a, smooth=True), ["`smooth`", "True"]),
        (lambda a: threshold_mask(a, min_area=-1), ["`min_area`", "-1"]),
        (lambda a: threshold_mask(a, min_area=50.0), ["`min_area`", "50.0", "share"]),
        (lambda a: threshold_mask(a, min_area=float("nan")), ["`min_area`", "nan"]),
        (lambda a: threshold_mask(a, min_area=True), ["`min_area`", "True"]),
        (lambda a: threshold_mask(a, min_area="1%"), ["`min_area`", "1%"]),
        (lambda a: threshold_mask(a, min_area=13), ["`min_area`", "12 pixels", "13"]),
        (lambda a: threshold_mask(a[0, 0], smooth=1), ["`attributions`", "`smooth`", "(3, 4)"]),
        (lambda a: threshold_mask(a[0, 0], Hysteresis()), ["`attributions`", "Hysteresis"]),
        (lambda a: threshold_mask((a, a[:, 0, 0]), min_area=2), ["`min_area`", "(1, 4)"]),
        (lambda a: threshold_mask(a, "hysteresis"), ["`rule`", "Did you mean Hysteresis(…)?"]),
        (lambda a: Hysteresis(2, 0.6), ["`low`", "2"]),
        (lambda a: Hysteresis(AtLeast(1), "otsu"), ["`high`", "Otsu"]),
        (lambda a: Hysteresis(AtLeast(4), AtLeast(2)), ["`low`", "bits=4", "bits=2"]),
        (lambda a: Hysteresis(MaxFraction(0.7)), ["`low`", "0.7", "0.6"]),
        (lambda a: Hysteresis(TopFraction(0.1), TopFraction(0.2)), ["`low`", "0.1", "0.2"]),
        (lambda a: Hysteresis(Hysteresis(), Otsu()), ["`low`", "one threshold"]),
        (lambda a: clean_masks(a, smooth=1), ["`masks`", "float32"]),
        (lambda a: contours(a > 0.5)[0] and contours(a), ["`masks`", "float32"]),
        (lambda a: contours((a > 0)[0]), ["`masks`", "(N, C, H, W)"]),
    ],
)
def test_bad_shapes(call, words):
    with pytest.raises(ArgumentError) as caught:
        call(torch.ones(1, 2, 3, 4))
    assert all(word in str(caught.value) for word in words), str(caught.value)

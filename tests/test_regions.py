import numpy as np
import pytest
import reference
import torch
from captum.attr import Occlusion
from hypothesis import given, settings, strategies as st

from captum_infomask import ArgumentError, from_feature_mask, grid, sliding_windows
from captum_infomask.regions.windows import default_windows
from captum_infomask.results.map_files import restore

CPU = torch.device("cpu")


def covered(regions, region, image=0):
    """Which elements belong to a region: one bool array per input."""
    masks = regions.masks(torch.tensor([image]), torch.tensor([region]), CPU)
    return [
        np.zeros(shape, bool) if mask is None else np.broadcast_to(mask[0].numpy(), shape)
        for mask, shape in zip(masks, regions.shapes, strict=True)
    ]


def occlusion_windows(inputs, window, stride):
    """What Captum's Occlusion hides, seen from inside the network: a set of masks."""
    seen = []

    def spy(x):
        seen.extend((x == 0).numpy())
        return x.flatten(1).sum(1)

    Occlusion(spy).attribute(
        inputs, sliding_window_shapes=window, strides=stride, perturbations_per_eval=1
    )
    return {mask.tobytes() for mask in seen[1:]}


@st.composite
def window_cases(draw):
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    window = tuple(draw(st.integers(1, size)) for size in shape)
    stride = tuple(draw(st.integers(1, w)) for w in window)
    return shape, window, stride


@given(window_cases())
@settings(deadline=None, max_examples=40)
def test_windows_are_exactly_occlusions(case):
    shape, window, stride = case
    inputs = torch.ones(1, *shape)
    regions = sliding_windows(inputs, window, stride)
    ours = {covered(regions, r)[0].tobytes() for r in range(len(regions))}
    assert ours == occlusion_windows(inputs, window, stride)
    assert len(ours) == len(regions) == len(reference.windows(shape, window, stride))


@pytest.mark.parametrize("strides", [None, 2, (2, 1), ((2, 1),)])
def test_stride_forms_are_occlusions(strides):
    inputs = torch.ones(1, 6, 4)
    regions = sliding_windows(inputs, (3, 2), strides)
    ours = {covered(regions, r)[0].tobytes() for r in range(len(regions))}
    assert ours == occlusion_windows(inputs, (3, 2), strides)


def test_windows_over_several_inputs():
    inputs = (torch.ones(2, 4), torch.ones(2, 3, 6, 6))
    regions = sliding_windows(inputs, ((2,), (3, 3, 3)), (2, (3, 3, 3)))
    assert len(regions) == 2 + 4
    first, second = covered(regions, 1)
    assert first.tolist() == [False, False, True, True]
    assert not second.any()
    first, second = covered(regions, 5)
    assert not first.any()
    assert second[:, 3:, 3:].all()
    assert second.sum() == 27
    assert regions.describe(5) == "[0:3, 3:6, 3:6] of input 1"


@given(st.integers(1, 9), st.integers(1, 9), st.data())
@settings(deadline=None, max_examples=30)
def test_grid_covers_every_pixel_once(height, width, data):
    rows, columns = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    regions = grid(torch.zeros(1, 2, height, width), rows, columns)
    assert len(regions) == rows * columns
    count = sum(covered(regions, r)[0].astype(int) for r in range(len(regions)))
    assert (count == 1).all()


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 28, 56), (3, 33, 47), (2, 1, 5)])
def test_default_windows_cover_images_without_slivers(shape):
    regions = default_windows(torch.zeros(1, *shape))
    rectangles = regions.rectangles()[0]
    sides = rectangles[:, 2:] - rectangles[:, :2]
    count = sum(covered(regions, r)[0].astype(int) for r in range(len(regions)))
    assert (count > 0).all()
    assert (sides.min(0).values >= sides.max(0).values * 0.5).all()
    assert len(regions) <= 64


def test_other_inputs_default_to_one_region_per_element():
    regions = default_windows((torch.zeros(2, 5), torch.zeros(2, 1, 1, 1, 2, 3)))
    assert len(regions) == 11
    assert covered(regions, 7)[1].sum() == 1
    assert len(default_windows(torch.zeros(3))) == 1


def test_labels_need_not_be_consecutive_and_may_span_inputs():
    inputs = (torch.zeros(2, 3), torch.zeros(2, 2, 2))
    mask = (torch.tensor([[7, 7, -2]]), torch.tensor([[[100, -2], [100, 100]]]))
    regions = from_feature_mask(inputs, mask)
    assert regions.names.tolist() == [-2, 7, 100]
    first, second = covered(regions, 0)
    assert first.tolist() == [False, False, True]
    assert second.tolist() == [[False, True], [False, False]]
    assert regions.rectangles() is None


@pytest.mark.parametrize("shape", [(1, 1, 4, 6), (2, 1, 4, 6), (1, 3, 4, 6), (2, 3, 4, 6), (4, 6)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_feature_mask_broadcasts(shape, dtype):
    inputs = torch.zeros(2, 3, 4, 6)
    mask = torch.randint(0, 4, shape).to(dtype)
    regions = from_feature_mask(inputs, mask)
    full = mask.expand(2, 3, 4, 6)
    for image in range(2):
        for r in range(len(regions)):
            assert (
                covered(regions, r, image)[0] == (full[image] == regions.names[r]).numpy()
            ).all()


def test_images_may_have_different_labels():
    mask = torch.tensor([[0, 0, 1], [1, 2, 2]])
    regions = from_feature_mask(torch.zeros(2, 3), mask)
    assert regions.present(2).tolist() == [[True, True, False], [False, True, True]]


def test_rectangular_labels_are_rectangles():
    labels = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]])
    inputs = torch.zeros(1, 3, 3, 4)
    assert from_feature_mask(inputs, labels[None, None]).rectangles()[0].tolist() == [
        [0, 0, 2, 2],
        [0, 2, 2, 4],
        [2, 0, 3, 4],
    ]
    hooked = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [2, 2, 2, 2]])
    assert from_feature_mask(inputs, hooked[None, None]).rectangles() is None
    per_channel = torch.stack([labels, labels, labels + 3])[None]
    assert from_feature_mask(inputs, per_channel).rectangles() is None
    per_image = torch.stack([labels, labels.flip(1)])[:, None]
    both = from_feature_mask(torch.zeros(2, 3, 3, 4), per_image).rectangles()
    assert both[1, 0].tolist() == [0, 2, 2, 4]


@given(window_cases(), st.sampled_from(["mean", "mixture", "max"]))
@settings(deadline=None, max_examples=40)
def test_paint_matches_element_by_element(case, overlap):
    shape, window, stride = case
    inputs = torch.ones(2, *shape)
    regions = sliding_windows(inputs, window, stride)
    scores = 4 * torch.randn(2, len(regions), dtype=torch.float64)
    painted = regions.paint(scores, overlap, np.log(2))[0]
    spots = reference.windows(shape, window, stride)
    for image in range(2):
        want = reference.spread(scores[image].tolist(), spots, shape, overlap)
        np.testing.assert_allclose(painted[image].numpy(), want, atol=1e-9)


def test_mixture_survives_a_thousand_bits():
    regions = sliding_windows(torch.ones(1, 3), (2,), 1)
    painted = regions.paint(torch.tensor([[-1000.0, -4000.0]]), "mixture", np.log(2))[0]
    assert painted[0].tolist() == [-1000.0, -1001.0, -4000.0]


def test_painted_labels_are_their_scores():
    mask = torch.tensor([[0, 0, 1], [1, 2, 2]])
    regions = from_feature_mask(torch.zeros(2, 3), mask)
    scores = torch.tensor([[1.0, 2.0, torch.nan], [torch.nan, 5.0, 6.0]])
    assert regions.paint(scores, "mean", 1.0)[0].tolist() == [[1, 1, 2], [5, 6, 6]]


@pytest.mark.parametrize("kind", ["windows", "labels"])
def test_state_restores(kind):
    inputs = (torch.zeros(2, 4), torch.zeros(2, 1, 3, 3))
    if kind == "windows":
        regions = sliding_windows(inputs, ((2,), (1, 2, 2)), (1, 2))
    else:
        regions = from_feature_mask(
            inputs, (torch.arange(4)[None], 9 + torch.arange(9).reshape(1, 1, 3, 3))
        )
    again = restore(regions.state())
    assert type(again) is type(regions)
    assert again.shapes == regions.shapes
    for r in range(len(regions)):
        for a, b in zip(covered(again, r), covered(regions, r), strict=True):
            assert (a == b).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: sliding_windows(x, (3, 9, 2)), ["`sliding_window_shapes`", "(3, 8, 8)", "9"]),
        (lambda x: sliding_windows(x, (2, 2)), ["`sliding_window_shapes`", "3 entries", "(2, 2)"]),
        (lambda x: sliding_windows(x, (0, 2, 2)), ["`sliding_window_shapes`", "0"]),
        (lambda x: sliding_windows(x, 4), ["`sliding_window_shapes`", "4"]),
        (lambda x: sliding_windows(x[0], (3, 2, 2)), ["batch dimension", "unsqueeze"]),
        (lambda x: sliding_windows(x, (3, 4, 4), 0), ["`strides`", "0"]),
        (lambda x: sliding_windows(x, (3, 4, 4), (3, 5, 4)), ["`strides`", "gaps", "(3, 5, 4)"]),
        (lambda x: sliding_windows(x, (3, 4, 4), (2, 2)), ["`strides`", "(2, 2)"]),
        (lambda x: sliding_windows(x, (3, 4, 4), 1.5), ["`strides`", "1.5"]),
        (lambda x: sliding_windows((x, x), (3, 4, 4)), ["`sliding_window_shapes`", "2 inputs"]),
        (lambda x: grid(x, 9, 2), ["`rows`", "8", "9"]),
        (lambda x: grid(x, 2, 0), ["`columns`", "0"]),
        (lambda x: grid(x[0, 0], 2, 2), ["`inputs`", "(N, C, H, W)"]),
        (lambda x: grid([x], 2, 2), ["`inputs`", "list"]),
        (
            lambda x: from_feature_mask(x, torch.zeros(4, 4).long()),
            ["`feature_mask`", "(1 or 2, 1 or 3, 1 or 8, 1 or 8)", "(2, 3, 8, 8)", "(4, 4)"],
        ),
        (lambda x: from_feature_mask(x, torch.zeros(1, 1, 8, 8)), ["`feature_mask`", "float32"]),
        (lambda x: from_feature_mask(x, x[:1, :1] > 0), ["`feature_mask`", "bool"]),
        (lambda x: from_feature_mask(x, (torch.zeros(1).long(),) * 2), ["`feature_mask`", "2"]),
        (lambda x: from_feature_mask(x, [[1]]), ["`feature_mask`", "list"]),
    ],
)
def test_bad_regions(call, words):
    with pytest.raises(ArgumentError) as caught:
        call(torch.zeros(2, 3, 8, 8))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_patches_begin_at_the_floor_of_their_share():
    """Patch i of 3 over 7 rows begins at ⌊7 i / 3⌋: 0, 2, 4."""
    boxes = grid(torch.zeros(1, 1, 7, 5), rows=3, columns=2).boxes[0]
    assert boxes[:, 1].tolist() == [[0, 2], [0, 2], [2, 4], [2, 4], [4, 7], [4, 7]]
    assert boxes[:, 2].tolist() == [[0, 2], [2, 5]] * 3

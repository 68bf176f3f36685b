import math

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from hypothesis import given, settings, strategies as st
from refused import refused

from captum_infomask import (
    InfoMap,
    InfoMask,
    bounding_boxes,
    from_boxes,
    from_feature_mask,
    from_label_map,
    from_masks,
    from_run_lengths,
)
from captum_infomask._run_length import encode
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.results.map_files import restore

CPU = torch.device("cpu")
HEIGHT, WIDTH = 11, 9

# Four boxes that cover an 11 × 9 picture once: x0, y0, x1, y1.
TILES = [[0, 0, 4, 5], [4, 0, 9, 5], [0, 5, 4, 11], [4, 5, 9, 11]]


def filled(boxes):
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def overlapping():
    """Three masks per image for two images: they overlap, leave gaps, and one is missing."""
    masks = torch.rand(2, 3, HEIGHT, WIDTH) > 0.6
    masks[:, :, :2, :2] = False
    masks[1, 1] = False
    return masks


def pixels_of(regions, region, image):
    mask = regions.masks(torch.tensor([image]), torch.tensor([region]), CPU)[0]
    return mask[0].expand(3, HEIGHT, WIDTH)


@pytest.fixture
def kinds(images):
    """The same four regions, made by every factory."""
    masks = filled(TILES)
    labels = masks.int().argmax(0)
    lengths = [encode(mask) for mask in masks]
    return {
        "feature_mask": from_feature_mask(images, labels[None, None]),
        "label_map": from_label_map(images, labels),
        "label_maps": from_label_map(images, torch.stack([labels, labels])),
        "boxes": from_boxes(images, TILES),
        "boxes per image": from_boxes(images, [torch.tensor(TILES), np.array(TILES, float)]),
        "masks": from_masks(images, masks),
        "masks (N, R)": from_masks(images, torch.stack([masks, masks])),
        "masks per image": from_masks(images, [masks, masks.numpy()]),
        "run lengths": from_run_lengths(images, lengths),
        "run lengths per image": from_run_lengths(images, [lengths, lengths]),
    }


@pytest.mark.parametrize("view", ["keep", "drop", "chain", "crop"])
def test_every_kind_gives_the_same_information(view, kinds, images, net):
    found = {
        name: InfoMask(net).score_regions(images, target=2, view=view, regions=regions)
        for name, regions in kinds.items()
    }
    want = found.pop("feature_mask")
    assert want.scores.abs().min() > 1e-3
    assert want.scores.shape == (2, 4)
    for name, infomap in found.items():
        torch.testing.assert_close(infomap.scores, want.scores, rtol=0, atol=1e-12, msg=name)
        torch.testing.assert_close(
            infomap.attributions(), want.attributions(), rtol=0, atol=1e-12, msg=name
        )


def test_every_kind_covers_the_same_pixels(kinds):
    masks = filled(TILES)
    for name, regions in kinds.items():
        assert isinstance(regions, Regions), name
        assert len(regions) == 4, name
        assert regions.present(2).all(), name
        for image in range(2):
            for region in range(4):
                want = masks[region].expand(3, -1, -1)
                assert torch.equal(pixels_of(regions, region, image), want), name
        corners = regions.rectangles().expand(2, -1, -1)[:, :, [1, 0, 3, 2]]
        assert corners.tolist() == [TILES, TILES], name


@pytest.mark.parametrize("view", ["keep", "drop"])
@torch.no_grad()
def test_overlapping_masks_by_hand(view, images, net):
    masks = overlapping()
    regions = from_masks(images, masks)
    scores = (
        InfoMask(net, unit="nats")
        .score_regions(images, target=1, view=view, regions=regions, baselines=0.25)
        .scores
    )

    def log_p(x):
        return float(net(x[None]).log_softmax(1)[0, 1])

    for image, x in enumerate(images):
        blank = torch.full_like(x, 0.25)
        for region in range(3):
            own = masks[image, region]
            if not own.any():
                assert math.isnan(scores[image, region])
                continue
            if view == "drop":
                want = log_p(x) - log_p(torch.where(own, blank, x))
            else:
                want = log_p(torch.where(own, x, blank)) - log_p(blank)
            assert abs(want) > 1e-3
            assert abs(float(scores[image, region]) - want) < 1e-12


def test_drop_is_captums_feature_ablation(images, net):
    labels = torch.randint(0, 5, (2, HEIGHT, WIDTH))
    labels[:, 0, :5] = torch.arange(5)
    found = InfoMask(net, unit="nats").attribute(
        images, 0.0, target=3, view="drop", regions=from_label_map(images, labels)
    )
    want = FeatureAblation(lambda x: net(x).log_softmax(1)).attribute(
        images, 0.0, target=3, feature_mask=labels[:, None]
    )
    assert want.abs().max() > 1e-2
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)


def test_chain_sums_to_what_all_masks_tell_together(images, net):
    masks = overlapping()
    infomap = InfoMask(net, unit="nats").score_regions(
        images,
        target=0,
        view="chain",
        regions=from_masks(images, masks),
        baselines=0.0,
        n_samples=4,
    )
    shown = torch.where(masks.any(1)[:, None], images, 0.0)
    blank = torch.zeros_like(images)
    want = (net(shown).log_softmax(1) - net(blank).log_softmax(1))[:, 0]
    assert want.abs().min() > 1e-3
    torch.testing.assert_close(infomap.scores.nansum(1), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("view", ["keep", "drop", "chain"])
def test_an_image_without_any_region(view, images, net):
    masks = overlapping()
    masks[1] = False
    infomap = InfoMask(net).score_regions(
        images, target=0, view=view, regions=from_masks(images, masks)
    )
    alone = InfoMask(net).score_regions(
        images[:1], target=0, view=view, regions=from_masks(images[:1], masks[0])
    )
    assert infomap.scores[1].isnan().all()
    assert (infomap.attributions()[1] == 0).all()
    torch.testing.assert_close(infomap.attributions()[:1], alone.attributions())


def test_a_batch_gives_what_its_images_give_alone(images, net):
    masks = overlapping()
    per_image = [masks[0], masks[1][[0, 2]]]
    both = InfoMask(net).attribute(
        images, target=0, view="drop", regions=from_masks(images, per_image)
    )
    for image in range(2):
        x = images[image : image + 1]
        alone = InfoMask(net).attribute(
            x, target=0, view="drop", regions=from_masks(x, per_image[image])
        )
        torch.testing.assert_close(both[image : image + 1], alone, rtol=0, atol=1e-12)


@given(st.integers(0, 2**31), st.sampled_from(["mean", "mixture", "max"]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_paint_pixel_by_pixel(seed, overlap, shared):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, 4, 5, 6, generator=generator) > 0.7
    masks[:, :, 0, 0] = torch.tensor([True, False, True, False])
    masks[:, 1, 0, 1] = masks[:, 3, 0, 2] = True
    masks = masks[0] if shared else masks
    regions = from_masks(torch.zeros(2, 2, 5, 6), masks)
    scores = 4 * torch.randn(2, 4, dtype=torch.float64, generator=generator)
    scores = torch.where(regions.present(2), scores, torch.nan)
    painted = regions.paint(scores, overlap, math.log(2))[0]
    assert painted.shape == (2, 2, 5, 6)
    for image, channel, y, x in np.ndindex(2, 2, 5, 6):
        own = masks if shared else masks[image]
        covering = [float(scores[image, r]) for r in range(4) if own[r, y, x]]
        if not covering:
            want = 0.0
        elif overlap == "mean":
            want = sum(covering) / len(covering)
        elif overlap == "max":
            want = max(covering)
        else:
            want = math.log2(sum(2**score for score in covering) / len(covering))
        assert abs(float(painted[image, channel, y, x]) - want) < 1e-9
        assert bool(regions.uncovered[0 if shared else image, y, x]) == (not covering)


def test_mixture_survives_a_thousand_bits():
    masks = torch.tensor([[[True, True, False, False]], [[False, True, True, False]]])
    regions = from_masks(torch.zeros(1, 1, 1, 4), masks)
    painted = regions.paint(torch.tensor([[-1000.0, -4000.0]]), "mixture", math.log(2))[0]
    assert painted[0, 0, 0].tolist() == [-1000.0, -1001.0, -4000.0, 0.0]


def test_rectangles_only_where_all_masks_are(images):
    masks = filled([[1, 2, 4, 6], [3, 3, 9, 11]])
    assert from_masks(images, masks).rectangles().tolist() == [[[2, 1, 6, 4], [3, 3, 11, 9]]]
    masks[0, 2, 1] = False
    assert from_masks(images, masks).rectangles() is None
    absent = torch.stack([filled(TILES[:2]), filled(TILES[2:])])
    absent[1, 0] = False
    found = from_masks(images, absent).rectangles()
    assert found[0].tolist() == [[0, 0, 5, 4], [0, 4, 5, 9]]
    assert found[1, 1].tolist() == [5, 4, 11, 9]


def test_crops_of_boxes_that_images_lack(images, net):
    tables = [torch.tensor(TILES[:3]), torch.tensor(TILES[3:])]
    infomap = InfoMask(net).score_regions(
        images, target=0, view="crop", regions=from_boxes(images, tables)
    )
    assert infomap.scores.isnan().tolist() == [[False] * 3, [False, True, True]]
    alone = InfoMask(net).score_regions(
        images[1:], target=0, view="crop", regions=from_boxes(images[1:], TILES[3:])
    )
    torch.testing.assert_close(infomap.scores[1, 0], alone.scores[0, 0], rtol=0, atol=1e-12)


def test_boxes_are_what_bounding_boxes_returns(images):
    masks = torch.zeros(2, 1, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 0, 2:5, 1:4] = masks[0, 0, 7:11, 5:9] = masks[1, 0, :3, 6:] = True
    regions = from_boxes(images, bounding_boxes(masks, keep="all"))
    assert regions.present(2).tolist() == [[True, True], [True, False]]
    assert torch.equal(regions.uncovered, ~masks[:, 0])
    empty = masks.clone()
    empty[0] = False
    regions = from_boxes(images, bounding_boxes(empty))
    assert regions.present(2).tolist() == [[False], [True]]


def test_state_and_files_hold_every_bit(images, net, tmp_path):
    for masks in (overlapping(), overlapping()[0]):
        regions = from_masks(images, masks)
        again = restore(regions.state())
        assert type(again) is type(regions)
        assert again.shapes == regions.shapes == ((3, HEIGHT, WIDTH),)
        assert torch.equal(again.pixels, regions.pixels)
        infomap = InfoMask(net).score_regions(images, target=0, view="drop", regions=regions)
        infomap.save(tmp_path / "map.safetensors")
        loaded = InfoMap.load(tmp_path / "map.safetensors")
        assert torch.equal(loaded.regions.pixels, regions.pixels)
        assert torch.equal(loaded.attributions(), infomap.attributions())


def test_masks_are_copied_and_described(images):
    masks = filled(TILES)
    regions = from_masks(images, masks)
    masks[:] = False
    assert regions.pixels.flatten(2).sum(2).tolist() == [[20, 25, 24, 30]]
    assert regions.describe(1) == "of 25 pixels"
    two = torch.stack([filled(TILES), filled(TILES[::-1])])
    assert from_masks(images, two).describe(0) == "of 20 to 30 pixels"
    assert repr(regions) == "MaskRegions(4 regions of (3, 11, 9))"
    read_only = filled(TILES).numpy()
    read_only.flags.writeable = False
    assert len(from_masks(images, read_only[:, ::-1])) == 4


def test_masks_per_image_suit_their_batch_only(images, net):
    regions = from_masks(images, overlapping())
    refused(
        ("`regions`", "1 or 1 images", "2"),
        lambda: InfoMask(net).attribute(images[:1], target=0, view="drop", regions=regions),
    )


BAD_MASKS = [
    (("`masks`", "boolean", "float32"), torch.ones(2, HEIGHT, WIDTH)),
    (("`masks`", "(R, 11, 9)", "(11, 9)"), torch.ones(HEIGHT, WIDTH) > 0),
    (("`masks`", "(R, 11, 9)", "(2, 9, 11)"), torch.ones(2, WIDTH, HEIGHT) > 0),
    (("`masks`", "(2, R, 11, 9)", "(3, 1, 11, 9)"), torch.ones(3, 1, HEIGHT, WIDTH) > 0),
    (("`masks`", "a list of 2"), [torch.ones(1, HEIGHT, WIDTH) > 0]),
    (("`masks`", "a list of 2"), [torch.ones(HEIGHT, WIDTH) > 0] * 2),
    (("`masks`", "at least one mask"), torch.ones(0, HEIGHT, WIDTH) > 0),
    (("`masks`", "at least one mask"), [torch.ones(0, HEIGHT, WIDTH) > 0] * 2),
    (("`masks`", "mask 1 holds none"), filled([[0, 0, 1, 1], [3, 3, 3, 4]])),
    (("`masks`", "None"), None),
    (("`masks`", "a list of 2"), []),
]


@pytest.mark.parametrize(("words", "masks"), BAD_MASKS)
def test_bad_masks(words, masks, images):
    refused(words, lambda: from_masks(images, masks))


BAD_BOXES = [
    (
        ("`boxes`", "inside the image", "x1 = 9, y1 = 11", "box 1"),
        [[0, 0, 4, 4], [0, 0, 10, 4]],
    ),
    (("`boxes`", "inside the image", "box 0 is [0, 0, 4, 12]"), [[0, 0, 4, 12]]),
    (("`boxes`", "inside the image", "-1"), [[-1, 0, 4, 4]]),
    (("`boxes`", "pixel inside", "x0 < x1", "[4, 0, 4, 4]"), [[4, 0, 4, 4]]),
    (("`boxes`", "pixel inside", "[4, 3, 5, 2]"), torch.tensor([[4, 3, 5, 2]])),
    (("`boxes`", "whole numbers", "1.5"), [[0, 0, 1.5, 4]]),
    (("`boxes`", "whole numbers", "nan"), [[0, 0, math.nan, 4]]),
    (("`boxes`", "whole numbers", "inf"), np.array([[0, 0, math.inf, 4]])),
    (("`boxes`", "(R, 4)", "(2, 3)"), torch.zeros(2, 3)),
    (("`boxes`", "(R, 4)"), [0, 0, 4, 4]),
    (("`boxes`", "(R, 4)"), [[0, 0, 4, 4], [0, 0, 4]]),
    (("`boxes`", "(R, 4)"), [["a", 0, 4, 4]]),
    (("`boxes`", "(R, 4)", "(1, 2, 4)"), torch.zeros(1, 2, 4)),
    (("`boxes`", "at least one box"), torch.zeros(0, 4)),
    (("`boxes`", "at least one box"), [[], []]),
    (("`boxes`", "each of the 2 images", "3"), [[[0, 0, 1, 1]]] * 3),
    (("`boxes` of image 1", "inside the image", "box 0"), [[[0, 0, 1, 1]], [[0, 0, 1, 99]]]),
    (("`boxes` of image 1", "(R, 4)"), [[[0, 0, 1, 1]], [0, 0, 1, 9]]),
    (("`boxes`", "None"), None),
]


@pytest.mark.parametrize(("words", "boxes"), BAD_BOXES)
def test_bad_boxes(words, boxes, images):
    refused(words, lambda: from_boxes(images, boxes))


ONE = {"size": [HEIGHT, WIDTH], "counts": [0, 5, HEIGHT * WIDTH - 5]}

BAD_RUN_LENGTHS = [
    (("`masks[1]`", "[11, 9]", "[9, 11]"), [ONE, {"size": [9, 11], "counts": [99]}]),
    (("`masks[0]`", "add up to", "98"), [{**ONE, "counts": [98]}]),
    (("`masks[0]`", "characters", "'~'"), [{**ONE, "counts": "~"}]),
    (("`masks[1][0]`", "add up to"), [[ONE], [{**ONE, "counts": [1]}]]),
    (("`masks[0]`", "COCO"), ["0<"]),
    (("`masks`", "list", "dict"), ONE),
    (("`masks`", "list of run-length masks"), []),
    (("`masks`", "each of the 2 images", "1"), [[ONE]]),
    (("`masks`", "a list for each image", "entry 1"), [[ONE], ONE]),
    (("`masks`", "mask 0 holds none"), [{**ONE, "counts": [99]}]),
    (("`masks`", "at least one mask"), [[], []]),
]


@pytest.mark.parametrize(("words", "masks"), BAD_RUN_LENGTHS)
def test_bad_run_length_regions(words, masks, images):
    refused(words, lambda: from_run_lengths(images, masks))


def test_an_image_may_have_no_run_lengths(images):
    regions = from_run_lengths(images, [[ONE], []])
    assert regions.present(2).tolist() == [[True], [False]]
    assert regions.pixels[0, 0, :5, 0].all()
    assert regions.pixels.sum() == 5

"""Every view × head against the literal reference, and the identities that tie views together."""

import numpy as np
import pytest
import reference
import torch

from captum_infomask import InfoMask, from_feature_mask, grid, sliding_windows

SKEWED = [0.1, 0.2, 0.3, 0.4]
READINGS = {
    "logits": {},
    "logits, prior": {"prior": SKEWED, "temperature": 1.7},
    "pc_softmax": {"prior": SKEWED, "trained_with": "pc_softmax", "unit": "nats"},
    "log_probs": {"head": "log_probs"},
    "probs": {"head": "probs", "prior": SKEWED, "temperature": 0.8},
    "sigmoid": {"head": "sigmoid"},
    "raw": {"head": "raw", "unit": "nats"},
}
VIEWS = {
    "crop": {"view": "crop"},
    "crop, blank": {"view": "crop", "reference": "blank"},
    "crop, resized": {"view": "crop", "crop_size": (13, 6)},
    "crop, native": {"view": "crop", "crop_size": "native"},
    "crop, native, blank": {"view": "crop", "crop_size": "native", "reference": "blank"},
    "keep": {"view": "keep"},
    "keep, prior": {"view": "keep", "reference": "prior"},
    "drop": {"view": "drop"},
}
FILL = 0.3


def with_head(net, head):
    if head == "log_probs":
        return lambda x: net(x).log_softmax(1)
    if head == "probs":
        return lambda x: net(x).softmax(1)
    return net


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("reading", READINGS)
def test_every_view_and_head_matches_the_reference(net, images, view, reading):
    window, stride = (3, 5, 4), (3, 4, 3)
    score, options = READINGS[reading], dict(VIEWS[view])
    model = with_head(net, score.get("head"))
    fill = torch.full_like(images[:1], FILL)
    needs_fill = options["view"] != "crop"
    arguments = {"baselines": FILL} if needs_fill else {}
    if options.get("reference") == "blank" and not needs_fill:
        fill = torch.zeros_like(images[:1])
    targets = [2, 0]
    infomap = InfoMask(model, **score).score_regions(
        images, target=targets, sliding_window_shapes=window, strides=stride, **options, **arguments
    )
    spots = reference.windows((3, 11, 9), window, stride)
    reference_of = {"crop": "prior", "keep": "blank", "drop": None}
    oracle = {
        "reference": options.get("reference", reference_of[options["view"]]),
        "crop_size": options.get("crop_size"),
    }
    for image, y in enumerate(targets):
        x = images[image : image + 1]
        want = [
            reference.region_information(
                model, x, y, spot, options["view"], fill, **oracle, **score
            )
            for spot in spots
        ]
        assert infomap.scores[image].tolist() == pytest.approx(want, abs=1e-9)
        assert np.ptp(want) > 0.01
        spread = reference.spread(want, spots, (3, 11, 9))
        np.testing.assert_allclose(infomap.attributions()[image].numpy(), spread, atol=1e-9)


@pytest.mark.parametrize("overlap", ["mean", "mixture", "max"])
@pytest.mark.parametrize("view", ["crop", "keep", "drop"])
def test_overlap_rules(net, images, view, overlap):
    window, stride = (3, 5, 4), (3, 2, 3)
    infomap = InfoMask(net).score_regions(
        images,
        target=1,
        view=view,
        overlap=overlap,
        sliding_window_shapes=window,
        strides=stride,
    )
    spots = reference.windows((3, 11, 9), window, stride)
    sign = -1.0 if view == "drop" else 1.0
    want = reference.spread(infomap.scores[1].tolist(), spots, (3, 11, 9), overlap, sign=sign)
    np.testing.assert_allclose(infomap.attributions()[1].numpy(), want, atol=1e-9)


def test_drop_mixture_averages_the_probabilities_that_were_shown(net, images):
    """With one pixel under two windows: i = i(y; x) − log2 mean p(y | x without R) + log2 π."""
    infomap = InfoMask(net).score_regions(
        images, target=1, view="drop", overlap="mixture",
        sliding_window_shapes=(3, 11, 6), strides=(3, 11, 3),
    )  # fmt: skip
    without = []
    for left in (0, 3):
        hidden = images.clone()
        hidden[:, :, :, left : left + 6] = 0
        without.append(net(hidden).softmax(1)[:, 1])
    mixed = (torch.stack(without).mean(0) * 4).log2()
    want = infomap.total - mixed
    torch.testing.assert_close(infomap.attributions()[:, 0, 0, 4], want.detach())


def test_the_whole_image_as_one_region(net, images):
    infomask = InfoMask(net)
    whole = grid(images, 1, 1)
    total = torch.tensor(
        [reference.information(row, 3) for row in net(images).tolist()], dtype=torch.float64
    )
    blank = reference.information(net(torch.zeros_like(images[:1]))[0].tolist(), 3)
    crop = infomask.score_regions(images, target=3, view="crop", regions=whole)
    keep = infomask.score_regions(images, target=3, view="keep", regions=whole)
    drop = infomask.score_regions(images, target=3, view="drop", regions=whole)
    torch.testing.assert_close(crop.scores[:, 0], total)
    torch.testing.assert_close(crop.total, total)
    torch.testing.assert_close(keep.scores[:, 0], total - blank)
    torch.testing.assert_close(keep.blank[:, 0], torch.full((2,), blank, dtype=torch.float64))
    torch.testing.assert_close(drop.scores[:, 0], total - blank)
    assert float((total - blank).abs().min()) > 0.1


def test_drop_is_keep_of_the_complement(net, images):
    """i(y; x_R | rest) = i(y; x) − i(y; x_rest): drop(R) + keep(rest) = i(y; x) − i(y; blank)."""
    labels = torch.zeros(1, 1, 11, 9, dtype=torch.long)
    labels[..., 2:7, 3:8] = 1
    infomask = InfoMask(net)
    options = {"target": 2, "feature_mask": labels, "baselines": FILL}
    drop = infomask.score_regions(images, view="drop", **options)
    keep = infomask.score_regions(images, view="keep", **options)
    whole = drop.total - keep.blank[:, 0]
    torch.testing.assert_close(drop.scores[:, 1] + keep.scores[:, 0], whole)
    torch.testing.assert_close(drop.scores[:, 0] + keep.scores[:, 1], whole)


def test_rectangular_labels_score_as_their_windows(net, images):
    regions = sliding_windows(images, (3, 5, 4), (3, 5, 4))
    labels = regions.paint(torch.arange(len(regions)).float()[None], "mean", 1.0)[0].long()
    for view in ("crop", "keep", "drop"):
        by_window = InfoMask(net).attribute(images, target=1, view=view, regions=regions)
        by_label = InfoMask(net).attribute(images, target=1, view=view, feature_mask=labels)
        torch.testing.assert_close(by_window, by_label)


def test_images_with_different_labels_score_as_they_do_alone(net, images):
    first, second = torch.zeros(2, 1, 1, 11, 9, dtype=torch.long)
    first[..., :5, :] = 1
    second[..., 4:] = 7
    both = InfoMask(net).score_regions(
        images, target=1, view="drop", feature_mask=torch.cat([first, second])
    )
    assert both.scores.isnan().tolist() == [[False, False, True], [False, True, False]]
    for image, labels in enumerate((first, second)):
        alone = InfoMask(net).attribute(
            images[image : image + 1], target=1, view="drop", feature_mask=labels
        )
        torch.testing.assert_close(both.attributions()[image : image + 1], alone)


def test_inputs_of_any_number_of_dimensions():
    weights = torch.randn(5, 3)
    signal = torch.randn(2, 5)

    def model(x):
        return x.reshape(len(x), -1)[:, :5] @ weights

    for shape in ((2, 5), (2, 5, 1), (2, 1, 5, 1, 1)):
        elements = torch.arange(5).reshape(1, *shape[1:])
        got = InfoMask(model).attribute(
            signal.reshape(shape), target=1, view="drop", feature_mask=elements
        )
        assert got.shape == shape
        for image in range(2):
            for element in range(5):
                hidden = signal[image].clone()
                hidden[element] = 0
                want = reference.information((signal[image] @ weights).tolist(), 1)
                want -= reference.information((hidden @ weights).tolist(), 1)
                assert float(got.reshape(2, 5)[image, element]) == pytest.approx(want, abs=1e-5)


def test_token_ids_are_scored_behind_integer_baselines():
    table = torch.randn(10, 3)
    tokens = torch.randint(1, 10, (2, 4))
    got = InfoMask(lambda t: table[t].sum(1)).attribute(tokens, baselines=0, target=2, view="drop")
    assert got.dtype == torch.float32
    hidden = tokens.clone()
    hidden[1, 3] = 0
    want = [reference.information(table[t].sum(1)[1].tolist(), 2) for t in (tokens, hidden)]
    assert float(got[1, 3]) == pytest.approx(want[0] - want[1], abs=1e-5)


def test_feature_masks_label_one_region_in_several_inputs(net):
    a, b = torch.randn(1, 4), torch.randn(1, 2, 3)
    mask = (torch.tensor([[0, 0, 1, 1]]), torch.tensor([[[1, 1, 2], [2, 2, 2]]]))

    def model(a, b):
        return torch.cat([a * 2, b.flatten(1)], dim=1)[:, :6] ** 2

    got_a, got_b = InfoMask(model).attribute((a, b), target=4, view="drop", feature_mask=mask)
    hidden = (a * (mask[0] != 1), b * (mask[1] != 1))
    want = reference.information(model(a, b)[0].tolist(), 4)
    want -= reference.information(model(*hidden)[0].tolist(), 4)
    assert got_a[0, 2:].tolist() == pytest.approx([want, want], abs=1e-5)
    assert got_b[0, 0, :2].tolist() == pytest.approx([want, want], abs=1e-5)


def test_regions_made_beforehand_and_by_feature_mask_agree(net, images):
    mask = torch.randint(0, 5, (1, 1, 11, 9))
    made = InfoMask(net).attribute(
        images, target=1, view="keep", regions=from_feature_mask(images, mask)
    )
    torch.testing.assert_close(
        made, InfoMask(net).attribute(images, target=1, view="keep", feature_mask=mask)
    )

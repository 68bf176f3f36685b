# sharpen=: attributions averaged over superpixels of the picture; sums stay what they were.
from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings, strategies as st
from refused import refused
from skimage.segmentation import felzenszwalb
from state import unchanged
from tiny import Counting, Net, two_inputs

from captum_infomask import (
    InfoMap,
    InfoMask,
    bounding_boxes,
    from_feature_mask,
    from_label_map,
    from_masks,
    grid,
    superpixels,
    threshold_mask,
)
from captum_infomask.regions.sharpening import averaged, label_maps

VIEWS = ("crop", "keep", "drop", "chain", "features")


@pytest.fixture
def photo():
    """A bright disk on a dark ground, with some noise: (2, 3, 24, 20), the second one turned."""
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    disk = ((rows - 10) ** 2 + (columns - 8) ** 2 < 36).float()
    one = torch.stack([disk, 1 - disk, 0.3 * disk]) + 0.02 * torch.rand(3, 24, 20)
    return torch.stack([one, one.flip(1, 2)])


class Pooled(torch.nn.Module):
    """A network that every view can read, ``features`` too."""

    def __init__(self, channels=3):
        super().__init__()
        self.body = torch.nn.Conv2d(channels, 6, 3, padding=1)
        self.head = torch.nn.Linear(6, 4)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))

    def forward(self, x):
        return self.head(torch.relu(self.body(x)).mean((2, 3)))


@st.composite
def maps_and_labels(draw):
    n, channels, scales = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    maps = 10 * torch.randn(n, channels, height, width, generator=generator, dtype=dtype)
    size = (draw(st.sampled_from([1, n])), scales, height, width)
    labels = torch.randint(draw(st.integers(1, 9)), size, generator=generator, dtype=torch.int32)
    return maps, labels


@given(maps_and_labels())
@settings(max_examples=40)
def test_the_average_is_that_of_the_equation_and_keeps_sums(case):
    maps, labels = case
    found = averaged(maps, labels)
    assert found.dtype == maps.dtype
    assert found.shape == maps.shape
    assert found.is_contiguous()
    for k, picture in enumerate(maps):
        scales = labels[k if len(labels) > 1 else 0].numpy()
        for channel, plane in enumerate(picture):
            want = reference.averaged_over_superpixels(plane.double().numpy(), scales)
            eps = torch.finfo(maps.dtype).eps
            np.testing.assert_allclose(found[k, channel], want, rtol=8 * eps, atol=80 * eps)
    wide = maps.double().sum((2, 3))
    moved = (found.double().sum((2, 3)) - wide).abs()
    assert bool((moved <= 1e-6 * maps.double().abs().sum((2, 3)) + 1e-12).all())


@given(maps_and_labels())
@settings(max_examples=40)
def test_maps_that_are_constant_over_superpixels_stay(case):
    _, labels = case
    own = labels[:, :1]
    values = torch.randn(9, generator=torch.Generator().manual_seed(1))
    constant = values[own.long()]
    assert torch.equal(averaged(constant, own), constant)
    again = averaged(constant, own.repeat(1, 3, 1, 1))
    assert torch.equal(again, constant)


def test_many_maps_at_once_are_what_they_are_alone():
    """More than are taken at a time, with dimensions between pictures and channels."""
    maps = torch.randn(2, 70, 2, 9, 7)
    labels = torch.randint(5, (2, 3, 9, 7)).int()
    together = averaged(maps, labels)
    for k in (0, 63, 64, 69):
        assert torch.equal(together[:, k], averaged(maps[:, k], labels))
    assert float((together - maps).abs().mean()) > 0.1


def test_many_scales_of_many_superpixels_are_told_apart():
    """So many that the numbers of all scales together are beyond 64 bits."""
    pixels = torch.arange(4096).reshape(64, 64)
    scales = [pixels, pixels.T, pixels.flip(0), pixels.flip(1), pixels // 2 * 2, pixels * 0 + 4095]
    labels = torch.stack(scales)[None].int()
    maps = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    want = reference.averaged_over_superpixels(maps[0, 0].numpy(), labels[0].numpy())
    np.testing.assert_allclose(averaged(maps, labels)[0, 0], want, atol=1e-12)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_sharpened(photo, view):
    infomask, options = InfoMask(Pooled().eval()), {"view": view, "regions": grid(photo, 4, 4)}
    plain = infomask.score_regions(photo, target=1, **options)
    sharp = infomask.score_regions(photo, target=1, **options, sharpen="superpixels")
    assert torch.equal(sharp.scores, plain.scores)
    want = averaged(plain.attributions(), label_maps("superpixels", (photo,), 0))
    assert torch.equal(sharp.attributions(), want)
    assert float((want - plain.attributions()).abs().max()) > 1e-3
    found = infomask.attribute(photo, target=1, **options, sharpen="superpixels")
    assert torch.equal(found, want)
    torch.testing.assert_close(found.sum((2, 3)), plain.attributions().sum((2, 3)))
    for k in range(2):  # a batch gives what its pictures give alone
        alone = {**options, "regions": grid(photo[:1], 4, 4), "sharpen": "superpixels"}
        if view != "chain":  # whose orders hang on the place in the batch
            one = infomask.attribute(photo[k : k + 1], target=1, **alone)
            torch.testing.assert_close(one[0], found[k])


@pytest.mark.parametrize("overlap", ["mean", "mixture", "max"])
def test_what_is_averaged_is_the_painted_map(photo, overlap):
    options = {"view": "drop", "overlap": overlap, "sliding_window_shapes": (3, 8, 8)}
    options["strides"] = (3, 4, 4)
    plain = InfoMask(Net()).attribute(photo, target=1, **options)
    labels = label_maps("superpixels", (photo,), 0)
    found = InfoMask(Net()).attribute(photo, target=1, **options, sharpen="superpixels")
    assert torch.equal(found, averaged(plain, labels))


def test_channels_of_their_own_are_averaged_by_themselves(photo):
    options = {"view": "drop", "sliding_window_shapes": (1, 6, 5), "strides": (1, 6, 5)}
    plain = InfoMask(Net()).attribute(photo, target=1, **options)
    found = InfoMask(Net()).attribute(photo, target=1, **options, sharpen="superpixels")
    assert float((plain[:, 0] - plain[:, 1]).abs().max()) > 0.01
    torch.testing.assert_close(found.sum((2, 3)), plain.sum((2, 3)))
    assert float((found[:, 0] - found[:, 1]).abs().max()) > 0.01


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (40, 120), (160, 160), (260, 240)])
def test_superpixels_have_their_least_size(size):
    """A share of the picture."""
    area = size[0] * size[1]
    labels = label_maps("superpixels", (torch.rand(1, 3, *size),), 0)[0]
    for share, own in zip((0.004, 0.008, 0.016, 0.032), labels, strict=True):
        assert own.flatten().bincount().min() >= round(share * area)
    assert labels[0].max() >= 1


def test_a_square_of_another_colour_gets_its_edges():
    """A map that leaks over the edge is sharp afterwards: what is inside lies above the rest."""
    photo = torch.zeros(1, 3, 32, 32)
    photo[..., 9:21, 7:23] = 1
    network = Counting(lambda x: 20 * torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], dim=1))
    options = {"view": "drop", "sliding_window_shapes": (3, 8, 8), "strides": (3, 4, 4)}
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[9:21, 7:23] = True
    plain = InfoMask(network).attribute(photo, target=0, **options)[0, 0]
    found = InfoMask(network).attribute(photo, target=0, **options, sharpen="superpixels")[0, 0]
    assert float(plain[inside].max() - plain[inside].min()) > 0.01
    assert float(plain[inside].min()) < 0.8 * float(plain[~inside].max())
    for place in (inside, ~inside):  # level, but for a hundredth: its pixels keep their order
        left = found[place] - found[place].mean()
        torch.testing.assert_close(left, 0.01 * (plain[place] - plain[place].mean()))
    assert float(found[inside].min()) > 3 * float(found[~inside].max())


def test_the_largest_value_is_the_maps_own_in_its_piece():
    maps, labels = torch.zeros(1, 1, 6, 6), torch.zeros(1, 2, 6, 6, dtype=torch.int32)
    labels[0, 0, :, 3:], labels[0, 1, 2:] = 1, 1
    maps[0, 0, 2:, 3:], maps[0, 0, 4, 4] = 1, 1.5
    assert int(averaged(maps, labels).argmax()) == 4 * 6 + 4


def test_regions_that_an_image_lacks(photo):
    labels = torch.zeros(2, 1, 24, 20, dtype=torch.long)
    labels[0, :, 12:], labels[1, :, :, 10:] = 1, 2
    infomap = InfoMask(Net()).score_regions(
        photo, target=1, view="drop", feature_mask=labels, sharpen="superpixels"
    )
    assert infomap.scores.isnan().any()
    assert infomap.attributions().isfinite().all()
    torch.testing.assert_close(infomap.attributions().sum((2, 3)), infomap.painted()[0].sum((2, 3)))


def test_several_scales_of_regions(photo):
    regions = [grid(photo, 2, 2), from_masks(photo, torch.ones(1, 24, 20).bool())]
    options = {"view": "drop", "regions": regions}
    infomap = InfoMask(Net()).score_regions(photo, target=1, **options, sharpen="superpixels")
    mean = torch.stack([part.attributions() for part in infomap.scales()]).mean(0)
    torch.testing.assert_close(infomap.attributions(), mean)


def test_regions_and_functions_say_which_superpixels(photo):
    def sharp(sharpen):
        return InfoMask(Net()).score_regions(photo, target=1, view="drop", sharpen=sharpen)

    regions = superpixels(photo, 9)
    labels = regions.labels[0][:, 0]
    want = sharp(regions)
    assert torch.equal(want.superpixels, labels[:, None].int())
    assert torch.equal(sharp([regions, regions]).attributions(), want.attributions())
    shared = from_label_map(photo, torch.arange(480).reshape(24, 20) // 100)
    both = sharp([regions, shared])
    assert both.superpixels.shape == (2, 2, 24, 20)
    plain = InfoMask(Net()).attribute(photo, target=1, view="drop")
    scales = torch.cat([labels[:, None], shared.labels[0].expand(2, -1, -1, -1)[:, :1]], dim=1)
    torch.testing.assert_close(both.attributions(), averaged(plain, scales))
    assert sharp(shared).superpixels.shape == (1, 1, 24, 20)

    def bright(picture):
        assert picture.shape == (24, 20, 3)
        assert (picture.min(), picture.max()) == (0, 1)
        found = picture[..., 0] > 0.5
        picture[:] = 0  # its own copy
        return found

    two = sharp(bright)
    assert two.superpixels.unique().tolist() == [0, 1]
    as_list = sharp(lambda picture: [picture[..., 0] > 0.5, (picture[..., 0] > 0.5) * -7])
    assert as_list.superpixels.shape == (2, 2, 24, 20)
    torch.testing.assert_close(as_list.attributions(), two.attributions())
    skimages = sharp(lambda picture: felzenszwalb(picture, scale=100, min_size=5))
    torch.testing.assert_close(skimages.attributions().sum((2, 3)), two.attributions().sum((2, 3)))
    tensors = sharp(lambda picture: torch.from_numpy(picture[..., 0] > 0.5))
    assert torch.equal(tensors.superpixels, two.superpixels)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 7), (6, 1), (2, 2), (9, 8)], ids=lambda s: f"{s[0]}x{s[1]}"
)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_small_and_constant_pictures(shape, channels):
    picture = torch.rand(1, channels, *shape)
    found = label_maps("superpixels", (picture,), 0)
    assert found.dtype == torch.int32
    assert found.shape[2:] == shape
    whole = label_maps("superpixels", (torch.full_like(picture, 3.7),), 0)
    assert not whole.any()
    network = Counting(lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], dim=1))
    options = {"target": 0, "view": "drop", "regions": grid(picture, 1, 1)}
    constant = InfoMask(network).attribute(
        torch.full_like(picture, 3.7), sharpen="superpixels", **options
    )
    assert float(constant.max() - constant.min()) == 0


def test_superpixels_do_not_hang_on_the_units_of_the_picture(photo):
    want = label_maps("superpixels", (photo,), 0)
    assert len(want.unique()) > 2
    assert torch.equal(label_maps("superpixels", (photo * 64,), 0), want)
    assert torch.equal(label_maps("superpixels", (photo.double() - 3,), 0), want)


def test_a_large_picture_is_cut_up_at_a_smaller_size(photo, monkeypatch):
    monkeypatch.setattr("captum_infomask.regions.sharpening._MOST", 24 * 20)
    large = photo.repeat_interleave(3, 2).repeat_interleave(3, 3)[..., :71, :]
    small = label_maps("superpixels", (photo,), 0)
    found = label_maps("superpixels", (large,), 0)
    assert found.shape == (2, len(small[0]), 71, 60)
    blocks = label_maps("superpixels", (photo.repeat_interleave(3, 2).repeat_interleave(3, 3),), 0)
    assert torch.equal(blocks, small.repeat_interleave(3, 2).repeat_interleave(3, 3))


def test_class_maps_are_sharpened(photo):
    options = {"view": "drop", "regions": grid(photo, 4, 4), "sharpen": "superpixels"}
    maps = InfoMask(Net()).score_classes(photo, **options)
    ranks = torch.stack([maps.rank(k).attributions() for k in range(5)])
    assert torch.equal(
        maps.of_class(2).attributions(), InfoMask(Net()).attribute(photo, target=2, **options)
    )
    values, best = ranks.max(0)
    assert torch.equal(maps.class_map(), torch.where(values > 0, best, -1))
    options["sharpen"] = None
    assert not torch.equal(
        InfoMask(Net()).score_classes(photo, **options).class_map(), maps.class_map()
    )


def test_saved_and_loaded(photo, tmp_path):
    options = {"target": 1, "view": "drop", "sharpen": "superpixels"}
    infomap = InfoMask(Net()).score_regions(photo, **options)
    infomap.save(tmp_path / "map.safetensors")
    again = InfoMap.load(tmp_path / "map.safetensors")
    assert torch.equal(again.superpixels, infomap.superpixels)
    assert torch.equal(again.attributions(), infomap.attributions())
    assert "over superpixels" in infomap.figure()[1].texts[0].get_text()


def test_masks_and_boxes_follow(photo):
    likeliest = Net()(photo).argmax(1)
    options = {"target": likeliest, "view": "drop", "sharpen": "superpixels"}
    infomap = InfoMask(Net()).score_regions(photo, **options)
    assert bool((infomap.attributions().amax((1, 2, 3)) > 1e-3).all())
    mask = InfoMask(Net()).mask(photo, **options)
    assert torch.equal(mask, threshold_mask(infomap.attributions()))
    assert torch.equal(infomap.mask(), mask)
    assert all(map(torch.equal, infomap.boxes(), bounding_boxes(mask)))
    options["sharpen"] = None
    assert not torch.equal(mask, InfoMask(Net()).mask(photo, **options))


def test_a_tuple_of_one_stays_a_tuple(photo):
    options = {"target": 1, "view": "drop", "sharpen": "superpixels"}
    (found,) = InfoMask(Net()).attribute((photo,), **options)
    assert torch.equal(found, InfoMask(Net()).attribute(photo, **options))
    maps = InfoMask(Net()).score_classes((photo,), view="drop", sharpen="superpixels")
    assert isinstance(maps.class_map(), tuple)


def test_nothing_is_changed_and_draws_are_the_calls_own(photo):
    def draws(picture):
        return np.random.rand(24, 20) + torch.rand(24, 20).numpy() > 1

    net, found = Net(), []
    for _ in range(2):
        with unchanged(net, photo):
            options = {"target": 1, "view": "drop", "seed": 4}
            found.append(InfoMask(net).score_regions(photo, **options, sharpen=draws).superpixels)
    assert torch.equal(*found)
    assert torch.equal(found[0][0], found[0][1])  # every picture by the same seed


PHOTO = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
PHOTO[:, 0, 0, 0] = torch.tensor([0.0, 1.0])
BAD = {
    "name": ("superpixel", ("`sharpen`", "'superpixels'", "got 'superpixel'")),
    "number": (4, ("`sharpen`", "superpixels()", "got 4")),
    "labels": (torch.zeros(8, 8).long(), ("`sharpen`", "from_label_map", "tensor of shape (8, 8)")),
    "list": ([], ("`sharpen`", "Regions", "list of 0")),
    "function": (superpixels, ("`sharpen`", "Call it: superpixels(inputs")),
    "class": (Net, ("`sharpen`", "Regions", "got <class")),
    "boxes": (grid(PHOTO, 2, 2), ("`sharpen`", "one label for each pixel", "BoxRegions")),
    "other size": (superpixels(PHOTO[..., :6], 3), ("`sharpen`", "(3, 8, 8)", "(3, 8, 6)")),
    "other batch": (superpixels(PHOTO.repeat(2, 1, 1, 1), 3), ("2 images", "regions for 4")),
    "by channel": (
        from_feature_mask(PHOTO, torch.arange(3).reshape(1, 3, 1, 1)),
        ("`sharpen`", "over all channels"),
    ),
    "floats": (lambda p: p[..., 0], ("`sharpen`", "integers (8, 8)", "float64")),
    "shape": (lambda p: np.zeros((8, 7), int), ("`sharpen`", "(8, 8)", "(8, 7)")),
    "none": (lambda p: None, ("`sharpen`", "(8, 8)", "None")),
    "no maps": (lambda p: np.zeros((0, 8, 8), int), ("`sharpen`", "gave none")),
    "ragged": (lambda p: [np.zeros((8, 8), int), 3], ("`sharpen`", "(8, 8)", "list of 2")),
    "varying": (
        lambda p: np.zeros((1 + int(p[0, 0, 0]), 8, 8), int),
        ("`sharpen`", "as many label maps for every picture"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_way_to_sharpen(name):
    sharpen, words = BAD[name]
    network = Counting(Net())
    for call in (InfoMask(network).attribute, InfoMask(network).mask):
        refused(words, lambda call=call: call(PHOTO, target=1, view="drop", sharpen=sharpen))
    assert network.calls == 0


def test_only_pictures_are_sharpened():
    network = Counting(two_inputs)
    pair = (torch.rand(2, 2), torch.rand(2, 2))
    for inputs in (pair, (PHOTO, PHOTO), torch.rand(2, 4), torch.rand(1, 3, 4, 4, 4, 4)):
        refused(
            ("`sharpen`", "(N, C, H, W)", "the inputs are"),
            lambda inputs=inputs: InfoMask(network).attribute(
                inputs, target=1, view="drop", sharpen="superpixels"
            ),
        )
    spoilt = PHOTO.clone()
    spoilt[0, 0, 0, 0] = float("nan")
    refused(
        ("`inputs`", "`sharpen`", "NaN"),
        lambda: InfoMask(network).attribute(spoilt, target=1, sharpen="superpixels"),
    )
    assert network.calls == 0

"""Several scales: lists of regions and of crop sizes, and crops with a margin."""

import pytest
import reference
import torch
from tiny import Net

from captum_infomask import (
    ArgumentError,
    InfoMap,
    InfoMask,
    from_feature_mask,
    grid,
    sliding_windows,
)

VIEWS = ("crop", "keep", "drop")


def each(net, x, regions, **options):
    return [InfoMask(net).score_regions(x, target=1, regions=r, **options) for r in regions]


@pytest.mark.parametrize("view", VIEWS)
def test_scales_are_scored_as_they_are_alone_and_their_maps_averaged(net, images, view):
    regions = [grid(images, 1, 1), grid(images, 3, 2), grid(images, 5, 4)]
    alone = each(net, images, regions, view=view)
    together = InfoMask(net).score_regions(images, target=1, view=view, regions=regions)
    assert together.scores.shape == (2, 1 + 6 + 20)
    for part, single in zip(together.scales(), alone, strict=True):
        torch.testing.assert_close(part.scores, single.scores)
        torch.testing.assert_close(part.attributions(), single.attributions())
    mean = torch.stack([single.attributions() for single in alone]).mean(0)
    torch.testing.assert_close(together.attributions(), mean)
    assert float((mean - alone[0].attributions()).abs().max()) > 0.1
    assert len(alone[0].scales()) == 1


@pytest.mark.parametrize("view", ["keep", "drop"])
def test_labels_and_boxes_together(net, images, view):
    """The first image lacks labels that the second has: absent, and no scale is the poorer."""
    first, second = torch.arange(99).reshape(1, 1, 11, 9) // 33, torch.zeros(1, 1, 11, 9).long()
    second[..., 5:] = 9
    labels = from_feature_mask(images, torch.cat([first, second]))
    regions = [labels, grid(images, 2, 2)]
    alone = each(net, images, regions, view=view)
    together = InfoMask(net).score_regions(images, target=1, view=view, regions=regions)
    assert together.scores.isnan().any()
    mean = (alone[0].attributions() + alone[1].attributions()) / 2
    torch.testing.assert_close(together.attributions(), mean)


@pytest.mark.parametrize("overlap", ["mean", "mixture", "max"])
def test_overlap_rules_hold_within_a_scale(net, images, overlap):
    regions = [sliding_windows(images, (3, 5, 4), (3, 2, 3)), grid(images, 2, 2)]
    options = {"view": "keep", "overlap": overlap}
    alone = each(net, images, regions, **options)
    together = InfoMask(net).attribute(images, target=1, regions=regions, **options)
    want = (alone[0].attributions() + alone[1].attributions()) / 2
    torch.testing.assert_close(together, want)


def test_several_crop_sizes_are_scales(net, images):
    sizes = [(5, 7), "native", None]
    regions = grid(images, 2, 3)
    alone = [each(net, images, [regions], view="crop", crop_size=size)[0] for size in sizes]
    together = InfoMask(net).score_regions(images, target=1, regions=regions, crop_size=sizes)
    for part, single in zip(together.scales(), alone, strict=True):
        torch.testing.assert_close(part.scores, single.scores)
    mean = torch.stack([single.attributions() for single in alone]).mean(0)
    torch.testing.assert_close(together.attributions(), mean)
    paired = InfoMask(net).score_regions(
        images, target=1, regions=[regions, grid(images, 1, 1)], crop_size=[(5, 7), (6, 6)]
    )
    torch.testing.assert_close(paired.scales()[0].scores, alone[0].scores)
    small = each(net, images, [grid(images, 1, 1)], crop_size=(6, 6))[0]
    torch.testing.assert_close(paired.scales()[1].scores, small.scores)


def test_sizes_and_blanks_of_scales(net, images):
    """Counted from the blank, every scale has the blank of its own size."""
    regions = grid(images, 2, 3)
    options = {"reference": "blank"}
    together = InfoMask(net).score_regions(
        images, target=1, regions=regions, crop_size=[(5, 7), (8, 4)], **options
    )
    for part, size in zip(together.scales(), [(5, 7), (8, 4)], strict=True):
        single = each(net, images, [regions], crop_size=size, **options)[0]
        torch.testing.assert_close(part.scores, single.scores)
        torch.testing.assert_close(part.blank, single.blank)


@pytest.mark.parametrize("margin", [0.25, 0.5, 3.0])
def test_a_margin_shows_what_is_around(net, images, margin):
    infomap = InfoMask(net).score_regions(
        images, target=1, regions=grid(images, 3, 3), crop_margin=margin, crop_size=(6, 6)
    )
    spots = [
        (slice(None), slice(i * 11 // 3, (i + 1) * 11 // 3), slice(3 * j, 3 * j + 3))
        for i in range(3)
        for j in range(3)
    ]
    for region, (channels, rows, columns) in enumerate(spots):
        down = round(margin * (rows.stop - rows.start) + 1e-9)
        across = round(margin * 3 + 1e-9)
        wide = (
            channels,
            slice(max(rows.start - down, 0), min(rows.stop + down, 11)),
            slice(max(columns.start - across, 0), min(columns.stop + across, 9)),
        )
        want = reference.region_information(
            net, images[:1], 1, wide, "crop", None, crop_size=(6, 6)
        )
        assert float(infomap.scores[0, region]) == pytest.approx(want, abs=1e-9)


def test_saved_and_loaded_with_scales(net, images, tmp_path):
    regions = [grid(images, 1, 2), from_feature_mask(images, torch.arange(99).reshape(1, 1, 11, 9))]
    infomap = InfoMask(net).score_regions(images, target=1, view="drop", regions=regions)
    infomap.save(tmp_path / "map.safetensors")
    again = InfoMap.load(tmp_path / "map.safetensors")
    assert torch.equal(again.attributions(), infomap.attributions())
    assert again.regions.counts == [2, 99]
    assert "scale 1" in infomap.regions.describe(5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"regions": []}, "`regions` to be Regions"),
        ({"regions": "grid"}, "`regions` to be Regions"),
        ({"view": "chain"}, "one scale for view='chain'"),
        ({"crop_size": [(4, 4), (5, 5), (6, 6)]}, "each of the 2 scales; got 3 sizes"),
        ({"crop_size": [(4, 4), (5,)]}, "`crop_size` to be"),
        ({"crop_margin": -0.1}, "`crop_margin` to be a finite number of at least 0"),
        ({"crop_margin": "10%"}, "`crop_margin`"),
        ({"crop_margin": 0.1, "view": "drop"}, "`crop_margin` with view='crop' only"),
    ],
)
def test_bad_settings(options, words):
    x = torch.rand(1, 3, 8, 8)
    arguments = {"regions": [grid(x, 2, 2), grid(x, 4, 4)], **options}
    with pytest.raises(ArgumentError, match=words):
        InfoMask(Net()).attribute(x, target=1, **arguments)

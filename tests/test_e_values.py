# e-values of InfoMaps: what they are, when they are refused, discoveries and their masks.
from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from refused import refused
from small_net import SmallNet
from tiny import Counting

from captum_infomask import (
    FalseDiscoveries,
    InfoMap,
    InfoMask,
    LocalMean,
    Score,
    compare,
    from_feature_mask,
    grid,
    keep_dropout,
    superpixels,
    threshold_mask,
)
from captum_infomask.report.overlay import draw_outline

BALANCED = {"prior": "balanced"}
SKEWED = [0.4, 0.3, 0.2, 0.1]


def pictures(n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 16, 16, generator=generator, dtype=torch.float64)


def scored(view="crop", target=1, x=None, settings=BALANCED, **options):
    x = pictures() if x is None else x
    return InfoMask(SmallNet(), **settings).score_regions(
        x, target=target, view=view, regions=grid(x, 2, 2), **options
    )


# What they are


@pytest.mark.parametrize("unit", ["bits", "nats"])
@pytest.mark.parametrize(
    "options",
    [
        {"view": "crop"},
        {"view": "crop", "reference": "blank"},
        {"view": "keep"},
        {"view": "keep", "reference": "prior"},
    ],
)
@pytest.mark.parametrize(
    "settings", [BALANCED, {"prior": SKEWED}, {"prior": SKEWED, "temperature": 2.0}]
)
def test_their_mean_over_labels_of_the_prior_is_one(settings, options, unit):
    prior = torch.tensor(SKEWED if settings["prior"] == SKEWED else [0.25] * 4)
    every = torch.stack(
        [
            scored(target=y, settings={**settings, "unit": unit}, **options).e_values()
            for y in range(4)
        ]
    )
    mean = (prior.double()[:, None, None] * every).sum(0)
    assert torch.allclose(mean, torch.ones_like(mean), atol=1e-12)
    assert (every - 1).abs().max() > 0.3


def test_pc_softmax_and_groups_have_mean_one_too():
    x = pictures()
    settings = {"prior": SKEWED, "trained_with": "pc_softmax"}
    every = torch.stack([scored(target=y, settings=settings).e_values() for y in range(4)])
    assert torch.allclose(
        (torch.tensor(SKEWED).double()[:, None, None] * every).sum(0), every.new_ones(2, 4)
    )
    grouped = InfoMask(SmallNet(), prior=SKEWED, groups=[[0, 3], [1, 2]])
    two = [grouped.score_regions(x, target=k, view="crop", regions=grid(x, 2, 2)) for k in (0, 1)]
    mean = 0.5 * two[0].e_values() + 0.5 * two[1].e_values()
    assert torch.allclose(mean, torch.ones_like(mean))


def test_a_random_imputer_has_mean_one_and_a_sampled_network_at_most_one():
    x = pictures()
    draws = {"imputer": "normal_noise", "n_samples": 3, "reference": "prior"}
    mean = sum(scored("keep", target=y, **draws).e_values() for y in range(4)) / 4
    assert torch.allclose(mean, torch.ones_like(mean))
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(768, 4)
    ).double()
    network = InfoMask(model.eval(), **BALANCED)
    options = {"view": "keep", "reference": "prior", "regions": grid(x, 2, 2), "n_samples": 6}
    with keep_dropout(model):
        mean = sum(network.score_regions(x, target=y, **options).e_values() for y in range(4)) / 4
    assert (mean < 1 - 1e-4).all()


def test_p_values_are_the_inverse():
    for target, is_one in ((0, True), (1, False)):
        infomap = scored(target=target)
        assert torch.allclose(infomap.p_values(), (1 / infomap.e_values()).clamp_max(1))
        assert bool((infomap.p_values() == 1).all()) is is_one


def test_absent_regions_have_none():
    x = pictures()
    labels = torch.zeros(2, 1, 16, 16, dtype=torch.long)
    labels[1, :, 8:] = 1
    regions = from_feature_mask(x, labels)
    infomap = InfoMask(SmallNet(), **BALANCED).score_regions(
        x, target=1, view="keep", regions=regions
    )
    assert infomap.e_values().isnan().tolist() == [[False, True], [False, False]]
    assert not infomap.discoveries(0.5)[0, 1]


def test_files_keep_how_outputs_were_read(tmp_path):
    for settings in (BALANCED, {"prior": SKEWED, "temperature": 1.5}, {}):
        infomap = scored(settings=settings)
        infomap.save(tmp_path / "map")
        again = InfoMap.load(tmp_path / "map")
        assert again.score == Score(**settings) == infomap.score
        if settings:
            assert torch.equal(again.e_values(), infomap.e_values())


# What is refused


@pytest.mark.parametrize("view", ["drop", "chain", "evidence", "relay"])
def test_differences_are_refused(view):
    x = pictures()
    infomap = InfoMask(SmallNet(), **BALANCED).score_regions(x, target=1, view=view)
    for call in (infomap.e_values, infomap.p_values, infomap.discoveries):
        refused((f"view={view!r}", "differences", "view='crop'"), call)
    refused(("differences",), lambda: infomap.mask(FalseDiscoveries()))


@pytest.mark.parametrize("options", [{}, {"view": "drop"}, {"view": "crop", "contrast": 2}])
def test_the_rule_is_refused_before_any_work(options):
    counting = Counting(SmallNet())
    rule = FalseDiscoveries(0.2)
    refused(
        ("differences",),
        lambda: InfoMask(counting).mask(pictures(), target=1, rule=rule, **options),
    )
    assert counting.calls == 0


def test_a_contrast_and_raw_outputs_are_refused():
    refused(("contrast",), scored(contrast=2).e_values)
    refused(("raw",), scored(settings={"head": "raw"}).e_values)
    refused(("absence", "two classes"), scored(settings={"head": "sigmoid"}).e_values)
    x = pictures()
    gain = InfoMask(SmallNet(), **BALANCED).score_classes(x, view="crop", regions=grid(x, 2, 2))
    refused(("no single target",), gain.information_gain().e_values)
    refused(("earlier version",), replace(scored(), score=None).e_values)


def test_the_logits_of_two_classes_that_the_message_gives_are_right():
    x = pictures()
    single = lambda x: SmallNet()(x)[:, :1]  # noqa: E731
    two = InfoMask(lambda x: torch.cat([-single(x), single(x)], 1) / 2, **BALANCED)
    one = InfoMask(single, head="sigmoid")
    options = {"view": "crop", "regions": grid(x, 2, 2)}
    a, b = two.score_regions(x, target=1, **options), one.score_regions(x, target=None, **options)
    assert torch.allclose(a.scores, b.scores)
    mean = (two.score_regions(x, target=0, **options).e_values() + a.e_values()) / 2
    assert torch.allclose(mean, torch.ones_like(mean))


def test_an_unknown_prior_is_doubted():
    infomap = scored(settings={})
    with pytest.warns(UserWarning, match="prior=estimate_prior") as caught:
        infomap.e_values()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in (BALANCED, {"prior": SKEWED}):
            scored(settings=settings).e_values()


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, "0.1", None, math.nan])
def test_bad_rates(rate):
    refused(("`rate`",), lambda: scored().discoveries(rate))
    refused(("`rate`",), lambda: FalseDiscoveries(rate))


def test_bad_families_and_places_of_the_rule():
    refused(("`family`", "image"), lambda: scored().discoveries(family="all"))
    attributions = torch.rand(1, 3, 8, 8)
    refused(
        ("InfoMap", "FalseDiscoveries"), lambda: threshold_mask(attributions, FalseDiscoveries())
    )
    refused(
        ("`rule`", "InfoMap"),
        lambda: compare(SmallNet(), pictures(), 1, rule=FalseDiscoveries(), methods=["InfoMask"]),
    )
    refused(("prior",), lambda: Score(prior="uniform"))
    refused(("prior",), lambda: Score(prior="balanced", head="sigmoid"))


# Balanced priors are uniform priors


def test_balanced_is_uniform():
    x = pictures()
    for view in ("crop", "drop", "relay"):
        a = InfoMask(SmallNet()).score_regions(x, target=1, view=view)
        b = InfoMask(SmallNet(), **BALANCED).score_regions(x, target=1, view=view)
        assert torch.equal(a.scores, b.scores)
    assert repr(Score(**BALANCED)) == "Score(head='logits', prior='balanced', unit='bits')"
    assert Score(**BALANCED) != Score()


# Discoveries


def lookup(values):
    """A network of 1,000 classes: a view of grey k/10 says ``values[k]`` bits about class 3."""
    table = torch.tensor(values, dtype=torch.float64)

    def network(x):
        which = (x.mean((1, 2, 3)) * 10).round().long()
        p = 2 ** table[which] / 1000
        others = (1 - p)[:, None].expand(-1, 1000) / 999
        return torch.where(torch.arange(1000) == 3, p[:, None], others).log()

    return network


def greys(levels):
    """Pictures of 2 × 2 flat squares."""
    table = torch.tensor(levels, dtype=torch.float64) / 10
    return table.reshape(len(levels), 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)


def found_map(levels, values=(0.0, 9.0, 6.0, 3.0, -2.0), **score):
    x = greys(levels)
    infomask = InfoMask(lookup(values), **(score or BALANCED))
    return infomask.score_regions(x, target=3, view="crop", regions=grid(x, 2, 2))


def test_discoveries_by_image_and_by_batch():
    infomap = found_map([[1, 2, 0, 4], [3, 0, 0, 4]])  # e = 512, 64, 1, 1/4; 8, 1, 1, 1/4
    rate = 0.05
    assert infomap.discoveries(rate).tolist() == [[True, True, False, False], [False] * 4]
    batch = infomap.discoveries(rate, family="batch")
    assert batch.tolist() == [[True, False, False, False], [False] * 4]
    closed = infomap.discoveries(rate, family="batch", closed=True)
    assert closed.tolist() == [[True, True, False, False], [False] * 4]
    assert infomap.discoveries(0.6).tolist()[1] == [True, False, False, False]


def test_masks_and_boxes_of_discoveries():
    infomap = found_map([[1, 2, 0, 4]])
    mask = infomap.mask(FalseDiscoveries(0.1))
    assert mask.shape == (1, 1, 8, 8)
    assert mask.dtype == torch.bool
    assert mask[0, 0, :4].all()
    assert not mask[0, 0, 4:].any()
    assert torch.equal(infomap.mask(FalseDiscoveries(0.1), invert=True), ~mask)
    assert infomap.boxes(FalseDiscoveries(0.1))[0].tolist() == [[0, 0, 8, 4]]
    x = greys([[1, 2, 0, 4]])
    direct = InfoMask(lookup((0.0, 9.0, 6.0, 3.0, -2.0)), **BALANCED).mask(
        x, target=3, view="crop", regions=grid(x, 2, 2), rule=FalseDiscoveries(0.1)
    )
    assert torch.equal(direct, mask)


def test_an_empty_mask_says_why():
    with pytest.warns(
        UserWarning, match=r"No region of image 0 and 1 other images is beyond chance"
    ):
        mask = found_map([[3, 0, 0, 4], [0, 0, 0, 0]]).mask(FalseDiscoveries(0.1))
    assert not mask.any()
    with pytest.warns(UserWarning, match=r"at most 1/π = 4, so no region of one picture"):
        scored().mask(FalseDiscoveries(0.1))
    with pytest.warns(UserWarning, match=r"at least 10\.$"):
        found_map([[0, 0, 0, 0]]).mask(FalseDiscoveries(0.1))


@pytest.mark.parametrize("closed", [False, True])
def test_the_rate_holds_and_the_true_region_is_found(closed):
    """The exact mean of the false share, over all grey levels of three regions of no use."""
    values, rate = (-2.0, 9.0, 6.0, 3.0), 0.2
    chances = torch.tensor([0.0, 2**-9, 2**-6, 2**-3], dtype=torch.float64) / 4
    chances[0] = 1 - chances.sum()
    mean = float((chances * 2 ** torch.tensor(values, dtype=torch.float64)).sum())
    assert 0.98 < mean <= 1
    false_share = power = 0.0
    levels = list(itertools.product(range(4), repeat=3))
    found = found_map([[1, *nulls] for nulls in levels], values).discoveries(rate, closed=closed)
    for nulls, row in zip(levels, found.tolist(), strict=True):
        chance = math.prod(float(chances[k]) for k in nulls)
        false_share += chance * sum(row[1:]) / max(1, sum(row))
        power += chance * row[0]
    assert 0 < false_share <= rate
    assert power == pytest.approx(1)


def test_a_rate_that_no_region_can_reach_is_doubted():
    with pytest.warns(UserWarning, match=r"at rate 0.1. One label .* at most 1/π = 4,") as caught:
        found = scored().discoveries(0.1)
    assert len(caught) == 1
    assert not found.any()


def test_a_figure_outlines_the_discoveries():
    infomap = found_map([[1, 2, 0, 4]])
    photo = np.full((80, 80, 3), 90, np.uint8)
    outlined = _pixels(infomap.figure(photo, contour=FalseDiscoveries(0.1)))
    plain = _pixels(infomap.figure(photo, contour=None))
    assert (outlined != plain).any()
    mask = infomap.mask(FalseDiscoveries(0.1))[:, 0]
    by_hand, axes = infomap.figure(photo, contour=None)
    draw_outline(axes, mask[0].numpy().repeat(10, 0).repeat(10, 1), smooth=False)
    assert (_pixels((by_hand, axes)) == outlined).all()
    refused(("differences",), lambda: scored("drop").figure(contour=FalseDiscoveries(0.1)))


def _pixels(drawn):
    figure, _ = drawn
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


def test_superpixels_have_masks_too():
    x = pictures(1)
    infomap = InfoMask(SmallNet(), prior=SKEWED).score_regions(
        x, target=3, view="keep", regions=superpixels(x)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = infomap.mask(FalseDiscoveries(0.9))
    inside = infomap.regions.paint(infomap.discoveries(0.9).double(), "max", 1.0)[0] > 0
    assert torch.equal(mask, inside)


def test_images_alone_give_what_the_batch_gives():
    infomap = scored("keep", imputer=LocalMean())
    for k, one in enumerate(infomap):
        assert torch.equal(one.e_values()[0], infomap.e_values()[k])
        assert torch.equal(one.discoveries(0.7)[0], infomap.discoveries(0.7)[k])

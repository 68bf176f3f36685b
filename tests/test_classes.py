"""score_classes: many classes from one set of forward passes."""

import itertools
import math

import numpy as np
import pytest
import torch
from test_views import READINGS, with_head
from tiny import WINDOWS, Counting, Net, images, two_inputs

from captum_infomask import ArgumentError, InfoMap, InfoMask, MaxFraction, grid, keep_dropout

VIEWS = ("crop", "keep", "drop", "chain")
PARTS = ("scores", "total", "blank", "lower", "upper", "spread", "standard_errors")


def same(got, want):
    for name in PARTS:
        mine, theirs = getattr(got, name), getattr(want, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("reading", READINGS)
def test_every_class_is_as_it_is_alone(net, images, view, reading):
    score = READINGS[reading]
    infomask = InfoMask(with_head(net, score.get("head")), **score)
    options = {"view": view, "regions": grid(images, 3, 2)}
    maps = infomask.score_classes(images, **options)
    assert maps.scores.shape == (2, 6, 4)
    assert maps.classes.tolist() == [[0, 1, 2, 3]] * 2
    for k in range(4):
        same(maps.rank(k), infomask.score_regions(images, target=k, **options))


def test_bounds_of_every_class():
    net, x = Net(), images()
    options = {"view": "drop", "n_samples": 4, **WINDOWS}
    with keep_dropout(net):
        maps = InfoMask(net).score_classes(x, classes=[4, 1], **options)
        for k, label in enumerate((4, 1)):
            same(maps.rank(k), InfoMask(net).score_regions(x, target=label, **options))


@pytest.mark.parametrize("view", VIEWS)
def test_it_costs_as_many_passes_as_one_class(view):
    x = images()
    one, many = Counting(Net()), Counting(Net())
    InfoMask(one).attribute(x, target=1, view=view, **WINDOWS)
    InfoMask(many).score_classes(x, view=view, **WINDOWS)
    assert many.calls == one.calls


def test_the_likeliest_classes_of_each_image(net):
    x = 3 * torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    maps = InfoMask(net).score_classes(x, top_k=2, view="drop", **WINDOWS)
    assert torch.equal(maps.classes, net(x).topk(2, dim=1).indices)
    assert len(maps.classes.unique(dim=0)) > 1
    first = InfoMask(net).score_regions(x, target=net(x).argmax(1), view="drop", **WINDOWS)
    same(maps.rank(0), first)


def test_likeliest_is_by_probability_not_by_information():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    infomask = InfoMask(lambda x: logits.expand(len(x), -1), prior=[0.9, 0.09, 0.01])
    maps = infomask.score_classes(torch.ones(1, 1, 2, 2), top_k=3, view="drop")
    assert maps.classes.tolist() == [[0, 1, 2]]
    assert maps.total.argmax() == 2


def test_classes_that_never_occur_are_left_out():
    prior = [0.5, 0.0, 0.3, 0.2, 0.0]
    x = images()
    for trained_with in ("cross_entropy", "pc_softmax"):
        infomask = InfoMask(Net(), prior=prior, trained_with=trained_with)
        maps = infomask.score_classes(x, view="drop", **WINDOWS)
        assert maps.classes.tolist() == [[0, 2, 3]] * 2
        assert maps.scores.isfinite().all()
        with pytest.raises(ArgumentError, match="class 4 has 0"):
            infomask.score_classes(x, classes=[0, 4], view="drop", **WINDOWS)
        with pytest.raises(ArgumentError, match="`top_k` of at most 3"):
            infomask.score_classes(x, top_k=4, view="drop", **WINDOWS)


def test_the_class_that_each_region_says_most_about():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    maps = InfoMask(net).score_classes(x, classes=[3, 0, 2], view="keep", regions=grid(x, 4, 4))
    best = maps.class_map()
    assert best.shape == x.shape
    for image in range(2):
        for region in range(16):
            values = maps.scores[image, region]
            want = [3, 0, 2][int(values.argmax())] if float(values.max()) > 0 else -1
            row, column = region // 4 * 2, region % 4 * 2
            assert best[image, :, row : row + 2, column : column + 2].eq(want).all()
    assert len(best.unique()) > 2


def test_a_class_by_its_number():
    net, x = Net(), images(4)
    maps = InfoMask(net).score_classes(x, top_k=5, view="drop", **WINDOWS)
    same(maps.of_class(3), InfoMask(net).score_regions(x, target=3, view="drop", **WINDOWS))
    few = InfoMask(net).score_classes(x, top_k=1, view="drop", **WINDOWS)
    absent = next(k for k in range(5) if not few.classes.eq(k).all())
    with pytest.raises(ArgumentError, match="every image was asked for"):
        few.of_class(absent)


def test_several_inputs_give_tuples():
    x, y = torch.randn(3, 2), torch.randn(3, 2)
    maps = InfoMask(two_inputs).score_classes((x, y), view="drop")
    both = maps.class_map()
    assert [part.shape for part in both] == [(3, 2), (3, 2)]
    assert all(part.dtype == torch.long for part in both)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": [1], "top_k": 2}, "one of `classes` and `top_k`; got both"),
        ({"classes": []}, "`classes` to be a list of class numbers"),
        ({"classes": [1.0]}, "`classes` to be a list of class numbers"),
        ({"classes": [True]}, "`classes` to be a list of class numbers"),
        ({"classes": [-1]}, "`classes` to be a list of class numbers"),
        ({"classes": [[1]]}, "`classes` to be a list of class numbers"),
        ({"classes": "cat"}, "`classes` to be a list of class numbers"),
        ({"classes": [1, 1]}, "name each once"),
        ({"classes": [0, 5]}, "between 0 and 4"),
        ({"top_k": 0}, "`top_k` to be an integer of at least 1"),
        ({"top_k": 6}, "`top_k` of at most 5"),
        ({"view": "crops"}, "`view`"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ArgumentError, match=words):
        InfoMask(Net()).score_classes(images(), **{**WINDOWS, **options})


def test_dense_outputs_are_refused():
    with pytest.raises(ArgumentError, match="a number per class, for score_classes"):
        InfoMask(torch.nn.Conv2d(3, 5, 3)).score_classes(images())


def test_ranks_out_of_range():
    maps = InfoMask(Net()).score_classes(images(), top_k=2, view="drop", **WINDOWS)
    for k in (-1, 2, 0.0, True):
        with pytest.raises(ArgumentError, match="`k` from 0 to 1"):
            maps.rank(k)


def gain_by_hand(model, x, prior, shown, difference_to=None):
    """KL(p(y | shown) ‖ π) of one picture; or the mean over p(y | x) of a difference, in bits."""
    p = {name: model(picture)[0].softmax(0).tolist() for name, picture in shown.items()}
    if difference_to is None:
        return sum(q * math.log2(q / w) for q, w in zip(p["v"], prior, strict=True))
    return sum(
        own * math.log2(p[difference_to[0]][y] / p[difference_to[1]][y])
        for y, own in enumerate(p["x"])
    )


@pytest.mark.parametrize("prior", [None, [0.5, 0.2, 0.1, 0.1, 0.1]])
@pytest.mark.parametrize("view", ["crop", "keep", "keep, prior", "drop"])
def test_information_gain_is_by_hand(view, prior):
    net, x = Net().double(), images().double()
    regions = grid(x, 2, 2)
    options = {"reference": "prior"} if "prior" in view else {}
    maps = InfoMask(net, prior=prior).score_classes(
        x,
        view=view[:4],
        regions=regions,
        **options,
        **({"crop_size": "native"} if view == "crop" else {}),
    )
    gain = maps.information_gain()
    weights = prior or [0.2] * 5
    for n, (r, (i, j)) in itertools.product(range(2), enumerate(np.ndindex(2, 2))):
        spot = np.s_[..., 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
        picture, blank = x[n : n + 1], torch.zeros_like(x[n : n + 1])
        kept, dropped = blank.clone(), picture.clone()
        kept[spot], dropped[spot] = picture[spot], 0
        shown = {"x": picture, "b": blank, "v": picture[spot] if view == "crop" else kept}
        shown["d"] = dropped
        pair = {"keep": ("v", "b"), "drop": ("x", "d")}.get(view)
        want = gain_by_hand(net, x, weights, shown, pair)
        assert float(gain.scores[n, r]) == pytest.approx(want, abs=1e-6)
        whole = gain_by_hand(net, x, weights, {"v": picture})
        assert float(gain.total[n]) == pytest.approx(whole, abs=1e-6)
    if view != "keep":
        assert gain.scores.min() >= 0
        assert gain.scores.max() > 0.1
    assert gain.mask(MaxFraction(0.5)).shape == x.shape


def test_information_gain_of_a_chain_sums_to_the_whole(tmp_path):
    net, x = Net().double(), images().double()
    infomask = InfoMask(net, unit="nats")
    maps = infomask.score_classes(x, view="chain", regions=grid(x, 2, 2), n_samples=4)
    gain = maps.information_gain()
    p, blank = net(x).log_softmax(1), net(torch.zeros_like(x)).log_softmax(1)
    want = (p.exp() * (p - blank)).sum(1)
    torch.testing.assert_close(gain.scores.sum(1), want, rtol=0, atol=1e-9)
    # Errors of classes add up to no less than the error of their mean.
    assert (gain.standard_errors >= 0).all()
    low, high = gain.interval()
    assert (low <= high).all()
    gain.save(tmp_path / "gain")
    assert torch.equal(InfoMap.load(tmp_path / "gain").scores, gain.scores)


def test_information_gain_of_what_is_sampled_and_of_overlaps():
    net, x = Net(), images()
    with keep_dropout(net):
        maps = InfoMask(net).score_classes(x, view="drop", n_samples=4, **WINDOWS)
        gain = maps.information_gain()
        assert (gain.lower <= gain.scores + 1e-6).all()
        assert (gain.scores <= gain.upper + 1e-6).all()
        shown = InfoMask(net).score_classes(x, view="crop", n_samples=4, **WINDOWS)
        assert shown.information_gain().lower is None
        assert (shown.information_gain().scores >= 0).all()
    mixed = InfoMask(Net()).score_classes(x, overlap="mixture", **WINDOWS).information_gain()
    plain = InfoMask(Net()).score_classes(x, view="drop", **WINDOWS).information_gain()
    assert torch.equal(mixed.attributions(), plain.attributions())
    assert mixed.scores.dtype == plain.total.dtype == torch.float32


def test_information_gain_of_impossible_classes_and_absent_regions():
    x = images()
    labels = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    labels[0, :, 4:] = 1
    prior = [0.5, 0.0, 0.3, 0.2, 0.0]
    maps = InfoMask(Net(), prior=prior).score_classes(x, view="keep", feature_mask=labels)
    gain = maps.information_gain()
    assert maps.log_priors.exp().tolist() == [pytest.approx([0.5, 0.3, 0.2])] * 2
    assert gain.scores.isnan().tolist() == [[False, False], [False, True]]
    every = InfoMask(Net()).score_classes(x, top_k=5, **WINDOWS).information_gain()
    plain = InfoMask(Net()).score_classes(x, **WINDOWS).information_gain()
    torch.testing.assert_close(every.scores, plain.scores)


@pytest.mark.parametrize(
    ("score", "options"),
    [
        ({}, {"top_k": 2}),
        ({}, {"classes": [0, 1, 2, 3]}),
        ({"head": "sigmoid"}, {}),
        ({"head": "raw"}, {}),
    ],
)
def test_information_gain_needs_all_classes_of_a_softmax(score, options):
    maps = InfoMask(Net(), **score).score_classes(images(), **WINDOWS, **options)
    with pytest.raises(ArgumentError, match=r"every class of a softmax.*without `classes`"):
        maps.information_gain()

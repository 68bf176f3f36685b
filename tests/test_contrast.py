"""Why this class and not that one: i(y; v) - i(y'; v) in every view."""

import dataclasses
import math

import pytest
import reference
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from refused import refused
from test_draws import VALUES, Levels
from test_samples import DRAWS, Noisy
from test_views import READINGS, SKEWED, with_head
from tiny import WINDOWS, Counting, Net, images as pictures

from captum_infomask import ArgumentError, InfoMap, InfoMask, Score, grid
from captum_infomask._files import read, write
from captum_infomask.scores.contrast import ContrastScore

VIEWS = {
    "crop": {"view": "crop"},
    "crop, blank": {"view": "crop", "reference": "blank"},
    "keep": {"view": "keep"},
    "drop": {"view": "drop"},
    "chain": {"view": "chain", "n_samples": 4},
}

# Some rows that Hypothesis draws look like probabilities.
pytestmark = pytest.mark.filterwarnings("ignore:All outputs lie in .0, 1. and sum to 1")

logit_rows = arrays("float64", 4, elements=st.floats(-50, 50))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("reading", READINGS)
def test_every_view_and_head_against_the_literal_difference(net, images, view, reading):
    """The oracle is a network of one output, the literal difference, read as it is."""
    settings, options = READINGS[reading], {**VIEWS[view], "regions": grid(images, 3, 2)}
    model = with_head(net, settings.get("head"))

    def literal(x):
        rows = model(x).tolist()
        scale = math.log(2) if settings.get("unit", "bits") == "bits" else 1
        found = [scale * reference.contrast(row, 2, 1, **settings) for row in rows]
        return torch.tensor(found, dtype=torch.float64)

    got = InfoMask(model, **settings).score_regions(images, target=2, contrast=1, **options)
    want = InfoMask(literal, head="raw", unit=settings.get("unit", "bits")).score_regions(
        images, **options
    )
    for part in ("scores", "total", "blank", "standard_errors"):
        mine, theirs = getattr(got, part), getattr(want, part)
        assert (mine is None) == (theirs is None), part
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    assert float(got.scores.abs().max()) > 0.01
    assert got.contrast.tolist() == [[2, 1]] * 2


def test_features_are_told_apart_too():
    x = pictures(height=16, width=16)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 5),
    ).eval()  # fmt: skip
    infomask, options = InfoMask(net), {"view": "features", **WINDOWS}
    first, second = (infomask.score_regions(x, target=k, **options) for k in (3, 1))
    found = infomask.score_regions(x, target=3, contrast=1, **options)
    torch.testing.assert_close(found.scores, first.scores - second.scores)
    torch.testing.assert_close(found.total, first.total - second.total)
    assert float(found.scores.abs().max()) > 0.1


def test_each_image_has_its_own(net, images):
    options = {"view": "drop", "regions": grid(images, 2, 2)}
    infomask = InfoMask(net)
    found = infomask.score_regions(images, target=[2, 0], contrast=[1, 3], **options)
    for k, (target, other) in enumerate([(2, 1), (0, 3)]):
        alone = infomask.score_regions(images[k : k + 1], target=target, contrast=other, **options)
        torch.testing.assert_close(found.scores[k], alone.scores[0])
        torch.testing.assert_close(found.total[k], alone.total[0])
    again = infomask.score_regions(images, target=[2, 0], contrast=torch.tensor([1, 3]), **options)
    assert torch.equal(found.scores, again.scores)


@given(logit_rows, st.permutations(range(4)), st.none() | st.just(SKEWED))
def test_contrasts_change_sign_and_add(row, classes, prior):
    a, b, c, _ = classes
    output = torch.from_numpy(row)[None]
    reader = ContrastScore(Score(prior=prior))

    def told(y, other):
        return float(reader(output, torch.tensor([[y, other]])))

    assert told(a, b) == -told(b, a)
    assert told(a, b) + told(b, c) == pytest.approx(told(a, c), rel=1e-9, abs=1e-9)


def test_the_reader_is_differentiable_and_linear_in_logits():
    output = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    reader = ContrastScore(Score(prior=SKEWED, temperature=2.0, unit="nats"))
    table = torch.tensor([[0, 3], [2, 1]])
    (gradient,) = torch.autograd.grad(reader(output, table).sum(), output)
    want = torch.tensor([[0.5, 0, 0, -0.5], [0, -0.5, 0.5, 0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("view", ["keep", "drop"])
def test_posteriors_of_draws_are_averaged_class_by_class(net, images, view):
    options = {"reference": "prior"} if view == "keep" else {}
    found = InfoMask(net).score_regions(
        images, target=1, contrast=2, view=view, imputer=Levels(), n_samples=3,
        regions=grid(images, 1, 3), **options,
    )  # fmt: skip
    for region in range(3):
        spot = (slice(None), slice(None), slice(3 * region, 3 * region + 3))
        drawn = [
            net(reference.shown(images[:1], spot, view, torch.full_like(images[:1], level)))
            .detach()
            .softmax(1)[0]
            for level in VALUES[:3]
        ]
        means = torch.stack(drawn).mean(0)
        ratios = torch.stack([(p[1] / p[2]).log2() for p in drawn])
        mixed = float((means[1] / means[2]).log2())
        want = mixed if view == "keep" else float(found.total[0]) - mixed
        assert float(found.scores[0, region]) == pytest.approx(want, abs=1e-9)
        assert float(found.spread[0, region]) == pytest.approx(float(ratios.std()), abs=1e-9)
        assert abs(mixed - float(ratios.mean())) > 1e-4
    assert found.lower is None


@pytest.mark.parametrize("head", ["logits", "sigmoid", "raw"])
def test_samples_have_a_mean_and_no_bounds(net, images, head):
    options = {"view": "drop", "regions": grid(images, 1, 2), "n_samples": DRAWS}
    first, second = (
        InfoMask(Noisy(net), head=head).score_regions(images, target=k, **options) for k in (2, 1)
    )
    for contrast in (1, "runner_up"):
        found = InfoMask(Noisy(net), head=head).score_regions(
            images, target=2, contrast=contrast, **options
        )
        assert found.lower is None
        assert found.upper is None
        if contrast == 1:
            torch.testing.assert_close(found.scores, first.scores - second.scores)
            torch.testing.assert_close(found.total, first.total - second.total)
            assert float(found.scores.abs().max()) > 0.1


@pytest.mark.parametrize("settings", [{}, {"prior": [0.01, 0.9, 0.04, 0.05]}, {"head": "raw"}])
def test_the_runner_up_is_the_likeliest_other_class(net, settings):
    x = 3 * torch.randn(6, 3, 8, 8, dtype=torch.float64)
    targets = net(x).argmax(1)
    targets[0] = net(x)[0].argmin()
    infomask, options = InfoMask(net, **settings), {"view": "drop", **WINDOWS}
    found = infomask.score_regions(x, target=targets, contrast="runner_up", **options)
    outputs = net(x).scatter(1, targets[:, None], -torch.inf)
    assert torch.equal(found.contrast, torch.stack([targets, outputs.argmax(1)], 1))
    assert len(found.contrast[:, 1].unique()) > 1
    named = infomask.score_regions(x, target=targets, contrast=found.contrast[:, 1], **options)
    assert torch.equal(found.scores, named.scores)
    assert torch.equal(found.total, named.total)


def test_the_runner_up_is_by_the_posterior_of_pc_softmax_and_can_occur():
    f = torch.tensor([[5.0, 4.0, 3.0, 4.5]])
    infomask = InfoMask(
        lambda x: f.expand(len(x), -1), prior=[0.1, 0.1, 0.8, 0.0], trained_with="pc_softmax"
    )
    found = infomask.score_regions(
        torch.ones(1, 1, 2, 2), target=0, contrast="runner_up", view="drop"
    )
    assert found.contrast.tolist() == [[0, 2]]  # 3 + log 0.8 > 4 + log 0.1
    assert float(found.total) == pytest.approx(2 / math.log(2))


def test_groups_are_told_apart(net, images):
    infomask, options = InfoMask(net, groups=[[0, 1], [3]]), {"view": "drop", **WINDOWS}
    found = infomask.score_regions(images, target=0, contrast="runner_up", **options)
    want = [
        reference.group_information(row, [0, 1]) - reference.group_information(row, [3])
        for row in net(images).tolist()
    ]
    assert found.total.tolist() == pytest.approx(want)
    assert found.contrast.tolist() == [[0, 1]] * 2
    one = InfoMask(net, groups=[[0, 1]])
    refused(
        ("runner_up", "at least two"),
        lambda: one.attribute(images, target=0, contrast="runner_up", **options),
    )


def test_a_place_is_told_from_another_class_at_it():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    weight = torch.randn(5, 3, dtype=torch.float64)

    def model(x):
        return torch.einsum("kc,nchw->nkhw", weight, x)

    infomask, options = InfoMask(model), {"view": "drop", "regions": grid(x, 4, 4)}
    found = infomask.score_regions(x, target=[(0, 1, 2), (4, 3, 3)], contrast=[3, 1], **options)
    spots = [(0, 3, 1, 2), (4, 1, 3, 3)]
    want = [
        reference.contrast(model(x)[k, :, row, column].tolist(), y, other)
        for k, (y, other, row, column) in enumerate(spots)
    ]
    assert found.total.tolist() == pytest.approx(want)
    assert found.scores.count_nonzero(1).tolist() == [1, 1]  # all of it is at the place itself
    nearest = infomask.score_regions(x, target=(0, 1, 2), contrast="runner_up", **options)
    assert nearest.contrast[:, 1].tolist() == (1 + model(x)[:, 1:, 1, 2].argmax(1)).tolist()


def test_many_classes_are_told_from_one(net, images):
    infomask, options = InfoMask(net), {"view": "keep", "regions": grid(images, 2, 2)}
    every = infomask.score_classes(images, contrast=[2, 0], **options)
    assert every.classes.tolist() == [[0, 1, 3], [1, 2, 3]]
    for k in range(3):
        alone = infomask.score_regions(
            images, target=every.classes[:, k], contrast=[2, 0], **options
        )
        one = every.rank(k)
        torch.testing.assert_close(one.scores, alone.scores)
        torch.testing.assert_close(one.total, alone.total)
        assert torch.equal(one.contrast, alone.contrast)
    assert every.of_class(1).contrast.tolist() == [[1, 2], [1, 0]]
    best = infomask.score_classes(images, top_k=2, contrast="runner_up", **options)
    assert torch.equal(best.rank(0).contrast, best.classes)
    assert torch.equal(best.rank(1).contrast, best.classes.flip(1))
    torch.testing.assert_close(best.rank(0).scores, -best.rank(1).scores)
    refused(
        ("`contrast`", "2 for image 0"),
        lambda: infomask.score_classes(images, classes=[1, 2], contrast=2, **options),
    )
    top = int(net(images)[1].argmax())
    refused(
        ("`contrast`", f"{top} for image"),
        lambda: infomask.score_classes(images, top_k=1, contrast=top, **options),
    )


@pytest.mark.parametrize("contrast", [3, "runner_up"])
def test_it_costs_no_further_pass(contrast):
    x = pictures()
    one, told = Counting(Net()), Counting(Net())
    InfoMask(one).attribute(x, target=1, view="drop", **WINDOWS)
    InfoMask(told).attribute(x, target=1, contrast=contrast, view="drop", **WINDOWS)
    assert told.calls == one.calls


def test_it_is_shown_saved_and_loaded(net, images, tmp_path):
    found = InfoMask(net).score_regions(images, target=3, contrast=[1, 2], view="crop", **WINDOWS)
    totals = ", ".join(f"{value:.2f}" for value in found.total.tolist())
    assert f"why 3, not 1; why 3, not 2, i(y; x) − i(y′; x) = {totals} bits" in repr(found)
    _, axes = found.figure(k=1)
    assert axes.get_title("left") == "why 3, not 2"
    assert found.content(k=1).title == "InfoMask crop, why 3, not 2"
    found.save(tmp_path / "map")
    again = InfoMap.load(tmp_path / "map")
    assert torch.equal(again.contrast, found.contrast)
    assert torch.equal(again.scores, found.scores)


def test_files_without_a_contrast_still_load_and_wrong_ones_do_not(net, images, tmp_path):
    found = InfoMask(net).score_regions(images, target=3, **WINDOWS)
    found.save(tmp_path / "old")
    assert InfoMap.load(tmp_path / "old").contrast is None
    tensors, facts = read("path", tmp_path / "old", "captum_infomask.InfoMap 1")
    assert "contrast" not in tensors
    for wrong in (torch.zeros(2, 3).long(), torch.zeros(2, 2)):
        write(
            "path",
            tmp_path / "new",
            "captum_infomask.InfoMap 1",
            {**tensors, "contrast": wrong},
            facts,
        )
        with pytest.raises(ArgumentError, match=r"damaged.*contrast"):
            InfoMap.load(tmp_path / "new")


def test_the_maximum_is_of_contrasts_and_masks_follow(net, images):
    options = {"contrast": 1, "view": "drop", "overlap": "max", "regions": grid(images, 3, 3)}
    found = InfoMask(net).score_regions(images, target=2, **options)
    assert torch.equal(found.attributions(), InfoMask(net).attribute(images, target=2, **options))
    assert torch.equal(found.mask(), InfoMask(net).mask(images, target=2, **options))
    moved = dataclasses.replace(found, contrast=None)
    assert torch.equal(moved.attributions(), found.attributions())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contrast": 2}, ("`contrast`", "another class", "2 for image 0")),
        ({"target": [1, 2], "contrast": [0, 2]}, ("`contrast`", "2 for image 1")),
        ({"contrast": 4}, ("`contrast`", "0 and 3", "got 4")),
        ({"contrast": -1}, ("`contrast`", "-1")),
        ({"contrast": [1]}, ("`contrast`", "2 in all", "got 1")),
        ({"contrast": 1.0}, ("`contrast`", "1.0")),
        ({"contrast": (1, 0, 0)}, ("`contrast`", "class alone")),
        ({"contrast": "second"}, ("`contrast`", "'runner_up'", "'second'")),
        ({"contrast": torch.ones(2, 2).long()}, ("`contrast`", "(2, 2)")),
        ({"contrast": 1, "target": None}, ("`target`", "`contrast`")),
        ({"contrast": 1, "overlap": "mixture"}, ("`overlap`", "`contrast`", "'mixture'")),
    ],
)
def test_bad_contrasts_are_refused(net, images, options, words):
    asked = {"target": 2, "view": "drop", **WINDOWS, **options}
    refused(words, lambda: InfoMask(net).attribute(images, **asked))


def test_what_the_settings_tell_is_refused_before_any_pass(images):
    prior = InfoMask(Counting(Net()), prior=[0.5, 0.5, 0.0])
    refused(("`prior`", "contrast", "2 has 0"), lambda: prior.attribute(images, 0, 1, contrast=2))
    refused(("`contrast`", "got 3"), lambda: prior.attribute(images, None, 1, contrast=3))
    grouped = InfoMask(prior.forward_func, groups=[[0], [2]])
    refused(("`contrast`", "2 `groups`"), lambda: grouped.attribute(images, None, 1, contrast=2))
    assert prior.forward_func.calls == 0


def test_one_logit_has_no_other_class(images):
    infomask = InfoMask(lambda x: x.mean((1, 2, 3)), head="sigmoid")
    for contrast, words in ((1, "negative logit"), ("runner_up", "no other one")):
        refused(
            ("contrast", words),
            lambda given=contrast: infomask.attribute(
                images, target=0, contrast=given, view="drop", **WINDOWS
            ),
        )

"""Classes merged by adding their probabilities."""

import itertools
import math
from dataclasses import replace

import pytest
import reference
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from refused import refused
from test_views import READINGS, with_head

from captum_infomask import InfoMask, Score, grid, information

SOFTMAX = {name: given for name, given in READINGS.items() if name not in ("sigmoid", "raw")}
VIEWS = ("crop", "keep", "drop", "chain")
GROUPS = [[2, 0], [3]]  # class 1 is in none

# Some rows that Hypothesis draws look like probabilities.
pytestmark = pytest.mark.filterwarnings("ignore:All outputs lie in .0, 1. and sum to 1")

logit_rows = arrays("float64", 6, elements=st.floats(-50, 50))
priors = arrays("float64", 6, elements=st.floats(0.01, 1)).map(lambda p: p / p.sum())


@st.composite
def groupings(draw):
    """Disjoint groups of six classes; some classes may be in none."""
    order = draw(st.permutations(range(6)))
    kept = order[: draw(st.integers(1, 6))]
    cuts = draw(st.sets(st.integers(1, max(1, len(kept) - 1))))
    ends = [0, *sorted(cut for cut in cuts if cut < len(kept)), len(kept)]
    return [kept[start:end] for start, end in itertools.pairwise(ends)]


drawn = pytest.mark.filterwarnings("ignore:All outputs lie in")  # as drawn logits may


@drawn
@given(logit_rows, groupings(), st.none() | priors, st.sampled_from([0.7, 1.0, 3.0]), st.data())
def test_probabilities_and_priors_add(row, groups, prior, temperature, data):
    trained_with = data.draw(st.sampled_from(["cross_entropy", "pc_softmax"]))
    settings = {"prior": prior, "temperature": temperature, "trained_with": trained_with}
    output = torch.from_numpy(row)[None].expand(len(groups), -1)
    got = information(output, list(range(len(groups))), groups=groups, **settings)
    want = [reference.group_information(row.tolist(), group, **settings) for group in groups]
    assert got.tolist() == pytest.approx(want, rel=1e-9, abs=1e-9)


@drawn
@given(logit_rows, st.none() | priors, st.sampled_from(["cross_entropy", "pc_softmax"]))
def test_one_group_per_class_changes_nothing(row, prior, trained_with):
    output = torch.from_numpy(row)[None].expand(6, -1)
    settings = {"prior": prior, "trained_with": trained_with}
    alone = information(output, list(range(6)), **settings)
    grouped = information(output, list(range(6)), groups=[[k] for k in range(6)], **settings)
    torch.testing.assert_close(grouped, alone, rtol=1e-12, atol=1e-12)


@drawn
@given(logit_rows, st.none() | priors, st.sampled_from(["cross_entropy", "pc_softmax"]))
def test_all_classes_in_one_group_tell_nothing(row, prior, trained_with):
    output = torch.from_numpy(row)[None]
    settings = {"prior": prior, "trained_with": trained_with}
    found = information(output, 0, groups=[range(6)], **settings)
    assert abs(float(found)) < 1e-12
    assert abs(float(information(output.float(), 0, groups=[range(6)], **settings))) < 1e-5


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("reading", SOFTMAX)
def test_views_read_groups_as_a_network_of_merged_classes(net, images, view, reading):
    """The oracle adds probabilities itself; its last class is what no group holds."""
    settings = SOFTMAX[reading]
    prior = torch.tensor(settings.get("prior", [0.25] * 4), dtype=torch.float64)
    tau = settings.get("temperature", 1.0)
    shift = prior.log() if settings.get("trained_with") else 0
    model = with_head(net, settings.get("head"))

    def merged(x):
        p = (net(x) / tau + shift).softmax(1)
        return torch.stack([p[:, 2] + p[:, 0], p[:, 3], p[:, 1]], dim=1)

    of_groups = torch.stack([prior[2] + prior[0], prior[3], prior[1]])
    options = {"view": view, "regions": grid(images, 3, 2), "target": [1, 0]}
    unit = settings.get("unit", "bits")
    want = InfoMask(merged, head="probs", prior=of_groups, unit=unit).score_regions(
        images, **options
    )
    got = InfoMask(model, groups=GROUPS, **settings).score_regions(images, **options)
    torch.testing.assert_close(got.scores, want.scores, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got.total, want.total, rtol=1e-9, atol=1e-9)
    assert float(got.scores.abs().max()) > 0.01


@pytest.mark.parametrize("reading", SOFTMAX)
def test_bounds_of_sampled_groups(reading):
    """T_G = log of the prior's mean of exp T_y over the group; the partition is that of classes."""
    settings = SOFTMAX[reading]
    score = Score(**settings, groups=GROUPS)
    output = with_head(lambda x: x, settings.get("head"))(torch.randn(3, 4, dtype=torch.float64))
    prior = settings.get("prior", [0.25] * 4)
    for place, group in enumerate(GROUPS):
        table = torch.full((3, 1), place)
        value, partition = score.critic(output, table)
        alone = replace(score, unit="nats", groups=None)
        classes, of_classes = alone.critic_of_all(output)
        mass = sum(prior[y] for y in group)
        mean = sum(prior[y] / mass * classes[:, y].exp() for y in group)
        torch.testing.assert_close(value, mean.log())
        torch.testing.assert_close(partition, of_classes[:, 0])
        scale = math.log(2) if score.unit == "bits" else 1
        torch.testing.assert_close((value - partition) / scale, score(output, table))


def test_targets_classes_and_top_k_count_groups(images):
    logits = torch.tensor([0.20, 0.35, 0.15, 0.1, 0.2], dtype=torch.float64).log()
    infomask = InfoMask(lambda x: logits.expand(len(x), -1), groups=[[1], [0, 2, 4], [3]])
    options = {"regions": grid(images, 1, 1), "view": "drop"}
    maps = infomask.score_classes(images, top_k=2, **options)
    assert maps.classes.tolist() == [[1, 0]] * 2  # p 0.55 and 0.35, though 0 has more bits
    assert maps.total[0].tolist() == pytest.approx([math.log2(0.55 / 0.6), math.log2(0.35 / 0.2)])
    every = infomask.score_classes(images, **options)
    assert every.classes.tolist() == [[0, 1, 2]] * 2
    refused(("`target`", "3 `groups`", "got 3"), lambda: infomask.attribute(images, target=3))
    refused(("`classes`",), lambda: infomask.score_classes(images, classes=[0, 0]))
    refused(
        ("`top_k`", "3", "groups"), lambda: infomask.score_classes(images, top_k=4, view="drop")
    )


def test_groups_of_prior_0_are_left_out():
    x = torch.ones(1, 1, 4, 4)
    for trained_with in ("cross_entropy", "pc_softmax"):
        infomask = InfoMask(
            lambda x: x.flatten(1)[:, :4],
            prior=[0.0, 0.0, 0.4, 0.6],
            groups=[[0, 1], [2], [3]],
            trained_with=trained_with,
        )
        maps = infomask.score_classes(x, view="drop")
        assert maps.classes.tolist() == [[1, 2]]
        assert maps.scores.isfinite().all()
        refused(("`prior`", "group 0 has 0"), lambda own=infomask: own.attribute(x, target=0))


def test_places_of_groups():
    """A map of classes, (N, M, h, w), is merged at every place."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    weight = torch.randn(5, 3, dtype=torch.float64)

    def model(x):
        return torch.einsum("kc,nchw->nkhw", weight, x)

    got = InfoMask(model, groups=[[0, 4], [2]]).score_regions(x, target=(0, 1, 2), view="drop")
    want = [reference.group_information(model(one[None])[0, :, 1, 2].tolist(), [0, 4]) for one in x]
    assert got.total.tolist() == pytest.approx(want)


@given(logit_rows, groupings())
def test_readers_of_groups_are_differentiable(row, groups):
    output = torch.from_numpy(row)[None].requires_grad_()
    score = Score(unit="nats", groups=groups)
    (gradient,) = torch.autograd.grad(score(output, torch.zeros(1, 1).long()).sum(), output)
    p = output.detach()[0].softmax(0)
    inside = torch.zeros(6, dtype=torch.float64)
    inside[list(groups[0])] = output.detach()[0, list(groups[0])].softmax(0)
    torch.testing.assert_close(gradient[0], inside - p, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"groups": []}, ("`groups`", "a list of groups")),
        ({"groups": "34"}, ("`groups`", "'34'")),
        ({"groups": [3, 4]}, ("`groups`", "[[3, 4]]")),
        ({"groups": [[0], []]}, ("`groups`", "empty")),
        ({"groups": [[0, 1], [1]]}, ("`groups`", "class 1")),
        ({"groups": [[0, 0]]}, ("`groups`", "class 0")),
        ({"groups": [[-1]]}, ("`groups`", "-1")),
        ({"groups": [[0.5]]}, ("`groups`", "0.5")),
        ({"groups": [[True]]}, ("`groups`", "True")),
        ({"groups": [[4]], "prior": [0.25] * 4}, ("`groups`", "`prior` has 4", "got 4")),
        ({"groups": [[0]], "head": "sigmoid"}, ("`groups`", "head='sigmoid'", "independent")),
        ({"groups": [[0]], "head": "raw"}, ("`groups`", "head='raw'")),
    ],
)
def test_bad_groups_are_refused_at_once(settings, words):
    refused(words, lambda: InfoMask(lambda x: x, **settings))


def test_a_class_that_the_network_does_not_have_is_refused(net, images):
    infomask = InfoMask(net, groups=[[0], [4]])
    refused(("`groups`", "0 to 3", "got 4"), lambda: infomask.attribute(images, target=0))


def test_forms_of_groups_and_how_they_are_shown(net):
    infomask = InfoMask(net, groups=(torch.tensor([2, 0]), range(3, 4)))
    assert infomask.score.groups == ((2, 0), (3,))
    assert "groups=[[2, 0], [3]]" in repr(infomask)
    assert "groups=<9 classes in 2>" in repr(InfoMask(net, groups=[range(8), [9]]))

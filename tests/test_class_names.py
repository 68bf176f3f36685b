"""Classes by their names, wherever the network's categories are known; methods by theirs."""

import numpy as np
import pytest
import torch
from refused import refused
from tiny import WINDOWS, Counting, Net, images

from captum_infomask import ClassMaps, InfoMap, InfoMask, compare
from captum_infomask.models.classifier import Classifier, resolve_target

NAMES = ("tiger cat", "crane", "tripod", "espresso", "crane")
X = images(2)
CLASSIFIER = Classifier("five", Net(), NAMES)
KNOWN = [InfoMask(CLASSIFIER), InfoMask(Net(), categories=list(NAMES))]
DROP = {"view": "drop", **WINDOWS}


def same(one: InfoMap, other: InfoMap) -> bool:
    return torch.equal(one.scores, other.scores) and torch.equal(one.total, other.total)


@pytest.mark.parametrize("infomask", KNOWN, ids=["classifier", "categories"])
@pytest.mark.parametrize("name", ["tiger cat", "Tiger_Cat", "tiger-cat", "TigerCat", "0"])
def test_a_name_is_its_number(infomask, name):
    by_name = infomask.score_regions(X, target=name, **DROP)
    by_number = InfoMask(Net()).score_regions(X, target=0, **DROP)
    assert same(by_name, by_number)
    assert not same(by_name, infomask.score_regions(X, target=1, **DROP))
    assert torch.equal(infomask.attribute(X, target=name, **DROP), by_number.attributions())
    tripod = InfoMask(Net()).score_regions(X, target=2, **DROP)
    assert torch.equal(infomask.mask(X, target="Tripod", **DROP), tripod.mask())


@pytest.mark.parametrize("target", [["espresso", "tripod"], ("espresso", "tripod"), ["3", 2]])
def test_each_image_may_have_a_name(target):
    by_name = KNOWN[0].score_regions(X, target=target, **DROP)
    assert same(by_name, InfoMask(Net()).score_regions(X, target=[3, 2], **DROP))
    assert by_name.targets.tolist() == [3, 2]
    assert by_name.labels == ("espresso", "tripod")


def test_a_contrast_and_a_place_may_have_names():
    plain = InfoMask(Net())
    for name, number in (("tripod", 2), (["tripod", "tiger cat"], [2, 0])):
        by_name = KNOWN[0].score_regions(X, target="espresso", contrast=name, **DROP)
        assert same(by_name, plain.score_regions(X, target=3, contrast=number, **DROP))
    runner = plain.score_regions(X, target=3, contrast="runner_up", **DROP)
    for word in ("runner_up", "runner-up", "Runner up"):
        assert same(KNOWN[0].score_regions(X, target=3, contrast=word, **DROP), runner)

    maps = InfoMask(
        lambda x: 9 * x.mean(1, keepdim=True) * torch.ones(1, 5, 1, 1), categories=NAMES
    )
    place = maps.score_regions(X, target=("tripod", 2, 3), **DROP)
    assert same(place, maps.score_regions(X, target=(2, 2, 3), **DROP))
    assert place.labels == ("tripod", "tripod")


def test_several_classes_may_have_names():
    maps = KNOWN[0].score_classes(X, classes=["espresso", "Tripod"], **DROP)
    assert maps.classes.tolist() == [[3, 2], [3, 2]]
    by_number = InfoMask(Net()).score_classes(X, classes=[3, 2], **DROP)
    assert torch.equal(maps.scores, by_number.scores)
    assert same(maps.of_class("espresso"), by_number.of_class(3))
    assert maps.of_class("espresso").labels == maps.rank(0).labels == ("espresso",) * 2
    assert maps.rank(1).targets.tolist() == [2, 2]
    refused(("`label`", "'tripot'", "Nearest: tripod"), lambda: maps.of_class("tripot"))
    refused(("`label`", "not known"), lambda: by_number.of_class("espresso"))
    likely = KNOWN[0].score_classes(X, top_k=2, **DROP)
    first = likely.rank(0)
    assert first.labels == tuple(NAMES[k] for k in first.targets.tolist())
    assert KNOWN[0].score_classes(X, **DROP).information_gain().targets is None
    assert isinstance(likely, ClassMaps)


def test_groups_have_the_names_of_their_first_class_or_given_ones():
    groups = [[0, 3], [2]]
    grouped = InfoMask(CLASSIFIER, groups=groups)
    assert grouped.categories == ("tiger cat and 1 more", "tripod")
    found = grouped.score_regions(X, target="tripod", **DROP)
    assert same(found, InfoMask(Net(), groups=groups).score_regions(X, target=1, **DROP))
    named = InfoMask(CLASSIFIER, groups=groups, categories=["warm", "tripod"])
    warm = named.score_regions(X, target="warm", **DROP)
    assert same(warm, InfoMask(Net(), groups=groups).score_regions(X, target=0, **DROP))
    assert warm.labels == ("warm", "warm")


def test_wrong_names_are_told_before_any_pass():
    network = Counting(Net())
    known, unknown = InfoMask(network, categories=NAMES), InfoMask(network)
    calls = [
        (known, {"target": "expresso"}, ("`target`", "'expresso'", "Nearest: espresso")),
        (known, {"target": "cat"}, ("`target`", "Nearest: tiger cat")),
        (known, {"target": "crane"}, ("`target`", "[1, 4]", "Give an index")),
        (known, {"target": 0, "contrast": "tripot"}, ("`contrast`", "Nearest: tripod")),
        (unknown, {"target": "espresso"}, ("`target`", "InfoMask(model, categories=names)")),
        (unknown, {"target": 0, "contrast": "tripod"}, ("`contrast`", "categories=names")),
    ]
    for infomask, options, words in calls:
        for call in (infomask.attribute, infomask.mask, infomask.score_regions):
            refused(words, lambda call=call, options=options: call(X, **options))
    for classes in ("espresso", ["expresso"]):
        refused(("`classes`",), lambda classes=classes: known.score_classes(X, classes=classes))
    assert network.calls == 0
    for categories in ("abcde", [], 5):
        refused(("`categories`",), lambda given=categories: InfoMask(network, categories=given))


@pytest.mark.parametrize("view", ["drop", "evidence", "relay"])
def test_names_are_as_many_as_classes(view):
    few = InfoMask(Net(), categories=["a", "b"])
    refused(
        ("`categories` to hold 5 names", "got 2"), lambda: few.attribute(X, target=1, view=view)
    )
    refused(
        ("`categories` to hold 1 names",),
        lambda: InfoMask(Net(), groups=[[0, 1]], categories=NAMES).attribute(
            X, target=0, view=view
        ),
    )


def test_a_map_without_names_knows_its_targets():
    infomap = InfoMask(Net()).score_regions(X, target=torch.tensor([4, 2]), **DROP)
    assert infomap.targets.tolist() == [4, 2]
    assert infomap.labels is None
    one = InfoMask(lambda x: x.mean((1, 2, 3)), head="raw").score_regions(X, **DROP)
    assert one.targets is None


def test_targets_and_names_are_saved(tmp_path):
    path = tmp_path / "map.safetensors"
    for infomask in (KNOWN[0], InfoMask(Net())):
        infomap = infomask.score_regions(X, target=[3, 1], **DROP)
        infomap.save(path)
        again = InfoMap.load(path)
        assert torch.equal(again.targets, infomap.targets)
        assert again.labels == infomap.labels


def test_a_comparison_takes_names():
    found = compare(CLASSIFIER, X, ["espresso", "Tiger_Cat"], methods=["InfoMask drop"])
    assert found.targets.tolist() == [3, 0]
    assert found.labels == ("espresso", "tiger cat")
    given = compare(Net(), X, "tripod", methods=["InfoMask drop"], categories=NAMES)
    assert given.targets.tolist() == [2, 2]
    refused(
        ("`target`", "compare(model, inputs, categories=names)"), lambda: compare(Net(), X, "a")
    )
    grouped = compare(CLASSIFIER, X, groups=[[0, 3], [1, 2, 4]], methods=["InfoMask drop"])
    assert set(grouped.labels) <= {"tiger cat and 1 more", "crane and 2 more"}


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("gradcam", "Grad-CAM"),
        ("GradCAM", "Grad-CAM"),
        ("grad_cam", "Grad-CAM"),
        ("Grad CAM", "Grad-CAM"),
        ("occlusion", "Occlusion"),
        ("infomask-drop", "InfoMask drop"),
        ("IntegratedGradients", "Integrated gradients"),
        ("integrated_gradients", "Integrated gradients"),
        ("InputXGradient", "Input x gradient"),
    ],
)
def test_methods_have_their_names_whatever_the_case_and_hyphens(typed, name):
    found = compare(Net(), X[:1], 1, methods=[typed, "infomask evidence"], reference=typed)
    assert found.names == (name, "InfoMask evidence")
    assert found.reference == name
    assert found[typed] is found[name]
    refused(("once",), lambda: compare(Net(), X[:1], 1, methods=[typed, name]))


def test_a_name_that_means_two_is_none():
    both = {"Mine": lambda model, x, target: x, "MINE": lambda model, x, target: -x}
    found = compare(Net(), X[:1], 1, methods=both)
    assert found["Mine"] is not found["MINE"]
    refused(("'Mine'", "'MINE'"), lambda: found["mine"])


def test_exact_names_come_first():
    assert resolve_target("a b", ["ab", "a b", "A B"]) == 1
    refused(("[0, 1, 2]",), lambda: resolve_target("A-B", ["ab", "a b", "A B"]))


@pytest.mark.parametrize("dtype", [np.str_, object])
def test_an_array_of_names_is_a_name_per_image(dtype):
    names = np.array(["tripod", "Tiger Cat"], dtype)
    assert KNOWN[1].score_regions(X, target=names, **DROP).targets.tolist() == [2, 0]

# What users pass by habit: numbers of other libraries, orders of other methods, odd shapes.
from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from refused import refused
from run_samples import run_tiny, save_pictures, tiny as five_classes
from state import unchanged
from tiny import VIEWS, WINDOWS, Counting, Net, images
from torch import Tensor, nn

from captum_infomask import (
    AtLeast,
    Constant,
    Deletion,
    InfoMask,
    MaxFraction,
    NormalNoise,
    Otsu,
    TopFraction,
    bounding_boxes,
    compare,
    contours,
    default_methods,
    estimate_prior,
    fit_critic,
    fit_temperature,
    grid,
    measure_bounds,
    randomisation_check,
    superpixels,
    threshold_mask,
)
from captum_infomask.dataset_run.scoring import Scorer
from captum_infomask.evaluation.ground_truth import bootstrap
from captum_infomask.evaluation.statistics import paired_difference
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.preprocessing import Preprocess

X = images()
WHOLE: list[Callable[[int], Any]] = [np.int64, np.uint8, torch.tensor, np.array]
REAL: list[Callable[[float], Any]] = [np.float32, np.float64, torch.tensor, np.array]


def same(given: Tensor, expected: Tensor) -> None:
    assert torch.equal(given, expected)
    assert float(expected.abs().max()) > 0.05


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("whole", WHOLE)
def test_a_seed_and_counts_out_of_numpy_or_torch_are_numbers(
    whole: Callable[[int], Any], view: str
) -> None:
    infomask = InfoMask(Net())
    counts = {"perturbations_per_eval": 2, "n_samples": 4, "seed": 3}
    given = {name: whole(value) for name, value in counts.items()}
    windows = {"sliding_window_shapes": (whole(3), whole(4), whole(4)), "strides": whole(4)}
    same(
        infomask.attribute(X, target=1, view=view, **given, **windows),
        infomask.attribute(
            X, target=1, view=view, **counts, sliding_window_shapes=(3, 4, 4), strides=4
        ),
    )


@pytest.mark.parametrize("whole", WHOLE)
def test_every_count_and_size_of_the_api_may_come_from_numpy_or_torch(
    whole: Callable[[int], Any],
) -> None:
    infomask, two, six = InfoMask(Net()), whole(2), whole(6)
    assert len(grid(X, two, two)) == len(grid(X, 2, 2)) == 4
    same(
        infomask.attribute(X, target=1, crop_size=[six, six]),
        infomask.attribute(X, target=1, crop_size=[6, 6]),
    )
    drawn = {"view": "drop", "n_samples": 2, **WINDOWS}
    same(
        infomask.attribute(X, target=1, imputer=NormalNoise(), seed=two, **drawn),
        infomask.attribute(X, target=1, imputer=NormalNoise(), seed=2, **drawn),
    )
    maps = infomask.score_classes(X, top_k=two, **WINDOWS)
    assert maps.classes.shape == (2, 2)
    same(maps.rank(whole(1)).scores, maps.rank(1).scores)
    labels = superpixels(X, count=whole(4)).labels
    assert torch.equal(labels[0], superpixels(X, count=4).labels[0])
    assert estimate_prior([0, 1, 1], classes=whole(2)).shape == (2,)
    assert Deletion(steps=whole(4)).note == Deletion(steps=4).note
    values = torch.randn(12)
    assert bootstrap(values, seed=two) == bootstrap(values, seed=2) != bootstrap(values, seed=3)
    drawn_pairs = [paired_difference(values, 0 * values, seed) for seed in (two, 2, 3)]
    assert drawn_pairs[0] == drawn_pairs[1] != drawn_pairs[2]


@pytest.mark.parametrize("real", REAL)
def test_every_fraction_and_level_may_come_from_numpy_or_torch(
    real: Callable[[float], Any],
) -> None:
    infomask = InfoMask(Net())
    for given, expected in [
        (MaxFraction(real(0.5)), MaxFraction(0.5)),
        (TopFraction(real(0.5)), TopFraction(0.5)),
        (AtLeast(real(0.5)), AtLeast(0.5)),
    ]:
        assert repr(given) == repr(expected)
        assert given == expected
    same(
        InfoMask(Net(), temperature=real(2.0)).attribute(X, target=1),
        InfoMask(Net(), temperature=2.0).attribute(X, target=1),
    )
    same(
        infomask.attribute(X, target=1, crop_margin=real(0.5)),
        infomask.attribute(X, target=1, crop_margin=0.5),
    )
    same(
        infomask.attribute(X, real(0.5), 1, view="drop", **WINDOWS),
        infomask.attribute(X, 0.5, 1, view="drop", **WINDOWS),
    )
    chain = infomask.score_regions(X, target=1, view="chain", n_samples=4, regions=grid(X, 3, 3))
    same(chain.interval(real(0.5))[0], chain.interval(0.5)[0])


def test_seeds_of_comparisons_and_fits_may_come_from_numpy() -> None:
    net = Net()
    noisy = {"noise": lambda model, x, target: torch.rand_like(x)}
    for seed in (np.int64(5), torch.tensor(5)):
        ours, theirs = (
            compare(net, X[:1], 0, methods=noisy, metrics=[], seed=s)["noise"].planes
            for s in (seed, 5)
        )
        assert (ours == theirs).all()
        checks = [
            randomisation_check(net, X[:1], target, layers=["head"], seed=s).spearman
            for target, s in ((np.int64(1), seed), (1, 5))
        ]
        assert np.array_equal(*checks, equal_nan=True)
    batches = [X.repeat(4, 1, 1, 1) for _ in range(2)]
    critics = [
        fit_critic(net, batches, steps=s, seed=s, window_shapes=[4])(X) for s in (np.int8(2), 2)
    ]
    assert torch.equal(*critics)
    logits, labels = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    fitted = [fit_temperature(lambda x: x, [(logits, labels)], bins=b) for b in (np.int64(3), 3)]
    assert fitted[0].before.count.tolist() == fitted[1].before.count.tolist()
    assert fitted[0].temperature == fitted[1].temperature != 1


def test_one_region_of_a_chain_is_all_that_the_picture_says() -> None:
    infomask, one = InfoMask(Net()), grid(X, 1, 1)
    maps = infomask.score_classes(X, view="chain", regions=one)
    for label in range(5):
        alone = infomask.score_regions(X, target=label, view="chain", regions=one)
        torch.testing.assert_close(maps.of_class(label).scores, alone.scores)
        expected = alone.total - alone.blank[:, 0]
        torch.testing.assert_close(alone.scores[:, 0], expected)
        assert float(expected.abs().max()) > 0.05
        assert torch.equal(maps.of_class(label).standard_errors, torch.zeros(2, 1))


def dense(x: Tensor) -> Tensor:
    return torch.cat([x, -x], 1)


def test_a_pixel_as_the_target_is_refused_where_every_view_shows_another_place() -> None:
    forward = Counting(dense)
    refused(
        ("`target`", "view='crop'", "(3, 6, 5)", "view='drop'"),
        lambda: InfoMask(forward).attribute(X, target=(3, 6, 5), view="crop"),
    )
    refused(
        ("`target`", "view='crop'", "(3, 6, 5)"),
        lambda: InfoMask(forward).mask(X, target=[(3, 6, 5), (2, 0, 1)], crop_size=(8, 8)),
    )
    assert forward.calls == 0
    drop = InfoMask(dense).attribute(X, target=(3, 6, 5), view="drop", **WINDOWS)
    assert set(drop.nonzero()[:, 2].tolist()) == {4, 5, 6, 7}  # the window of the pixel alone
    assert set(drop.nonzero()[:, 3].tolist()) == {4, 5, 6, 7}


def test_a_head_of_several_tasks_keeps_its_crops() -> None:
    net = Net()
    tasks = InfoMask(lambda x: torch.stack([net(x), -net(x)], 2))
    same(
        tasks.attribute(X, target=(1, 0), view="crop", **WINDOWS),
        InfoMask(net).attribute(X, target=1, view="crop", **WINDOWS),
    )


@pytest.mark.parametrize("view", ["keep", "drop", "chain"])
@pytest.mark.parametrize(
    ("given", "batched"),
    [
        (X[1], X[1:]),
        (torch.tensor([0.1, 0.5, 0.9]).reshape(3, 1, 1), None),
        (torch.tensor([0.1, 0.5, 0.9]).reshape(1, 3, 1, 1), None),
        (torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1), None),
        (torch.tensor(0.5), None),
    ],
    ids=["picture", "channels", "channels of a batch", "pictures", "number"],
)
def test_baselines_take_the_shapes_that_captum_takes(
    given: Tensor, batched: Tensor | None, view: str
) -> None:
    infomask = InfoMask(Net())
    whole = given.expand_as(X).contiguous() if batched is None else batched
    same(
        infomask.attribute(X, given, 1, view=view, **WINDOWS),
        infomask.attribute(X, whole, 1, view=view, **WINDOWS),
    )
    same(
        infomask.attribute(X, target=1, view=view, imputer=Constant(given), **WINDOWS),
        infomask.attribute(X, whole, 1, view=view, **WINDOWS),
    )


def test_a_comparison_takes_one_picture_without_a_batch_as_its_fill() -> None:
    net = Net()
    found, expected = (
        compare(net, X, 1, methods=["InfoMask drop", "Occlusion"], baselines=fill)
        for fill in (X[0], X[:1])
    )
    for name in found.names:
        assert (found[name].planes == expected[name].planes).all()
        assert (found[name].metrics["deletion"] == expected[name].metrics["deletion"]).all()
    assert "InfoMask" in default_methods(net, X, baselines=X[0])


def test_not_a_number_in_the_inputs_is_not_blamed_on_the_network() -> None:
    x = X.clone()
    x[1, 0, 0, 0] = torch.nan
    net = Net()
    with unchanged(net):
        refused(
            ("`inputs`", "image 1 holds NaN or infinity"),
            lambda: InfoMask(net).attribute(x, target=1),
        )
    pair = InfoMask(lambda a, b: net(a) + net(b))
    refused(
        ("`inputs`", "input 1, image 1 holds NaN"),
        lambda: pair.attribute((X, x), target=1, view="drop"),
    )
    refused(
        ("`forward_func`", "finite numbers"),
        lambda: InfoMask(lambda x: net(x) * torch.nan).attribute(X, target=1),
    )


@pytest.mark.parametrize("method", ["attribute", "mask", "score_regions"])
def test_a_class_in_the_second_place_is_told_where_it_belongs(method: str) -> None:
    forward = Counting(Net())
    call = getattr(InfoMask(forward), method)
    refused(("`target`", "3 (int)", "Pass target=3 by name"), lambda: call(X, 3))
    refused(("`target`", "Pass target=3 by name"), lambda: call(X, np.int64(3)))
    refused(("`target`", "by name"), lambda: call(X, [1, 3]))
    refused(("`target`", "by name"), lambda: call(X, torch.tensor([1, 3])))
    assert forward.calls == 0
    same(
        InfoMask(Net()).attribute(X, 1, 3, view="drop"),  # a number that hides pixels is one
        InfoMask(Net()).attribute(X, 1.0, 3, view="drop"),
    )


@pytest.mark.parametrize("view", VIEWS)
def test_the_order_of_occlusion_is_told_by_its_windows(view: str) -> None:
    forward = Counting(Net())
    infomask = InfoMask(forward)
    words = ("`baselines`", "Occlusion", "sliding_window_shapes=", "strides=", "by name")
    refused(words, lambda: infomask.attribute(X, (3, 4, 4), 4, view=view))
    refused(words, lambda: infomask.attribute(X, (3, 4, 4), (3, 4, 4), 0, 1, view=view))
    refused(words, lambda: infomask.attribute(X, ((3, 4, 4),), 4, view=view))
    refused(words, lambda: infomask.score_classes(X, (3, 4, 4), view=view))
    assert forward.calls == 0
    net = Net()
    three = InfoMask(lambda a, b, c: net(a + b + c))  # a number for each of three inputs
    pairs = zip(
        three.attribute((X, X, X), (0, 1, 0), 1, view="drop"),
        three.attribute((X, X, X), (0.0, 1.0, 0.0), 1, view="drop"),
        strict=True,
    )
    for given, expected in pairs:
        same(given, expected)


def test_a_wide_network_is_shown_by_its_name() -> None:
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(60)))
    usual = "head='logits', prior=uniform, temperature=1, unit='bits'"
    assert repr(InfoMask(net)) == f"InfoMask(Sequential, {usual})"
    assert repr(InfoMask(net.forward)) == f"InfoMask(Sequential.forward, {usual})"
    assert repr(InfoMask(lambda x: x)) == f"InfoMask(<lambda>, {usual})"
    assert repr(InfoMask(partial(dense))) == f"InfoMask(partial(dense), {usual})"
    shown = repr(InfoMask(dense, prior=[0.25] * 4, temperature=np.float64(2), unit="nats"))
    assert shown == (
        "InfoMask(dense, head='logits', prior=[0.25, 0.25, 0.25, 0.25], temperature=2, unit='nats')"
    )
    assert "prior=<1000 classes>" in repr(InfoMask(net, prior=[1e-3] * 1000))
    classifier = Classifier("convolutions", net, ("a", "b", "c"))
    named = "categories=<3 names>"
    assert repr(InfoMask(classifier)) == f"InfoMask(Sequential, {usual}, {named})"
    grouped = repr(InfoMask(classifier, groups=[[0, 1], [2]]))
    groups = "groups=[[0, 1], [2]], categories=<2 names>"
    assert grouped == f"InfoMask(Sequential, {usual}, {groups})"
    assert "prior=1/2" in repr(InfoMask(net, head="sigmoid"))
    assert "prior" not in repr(InfoMask(net, head="raw"))
    assert "trained_with='pc_softmax'" in repr(InfoMask(net, trained_with="pc_softmax"))
    refused(("`layer`",), lambda: compare(Net(), X, 0, layer=net))


@pytest.mark.usefixtures("terminal")
def test_the_bar_is_called_info_mask_attribution(capsys: pytest.CaptureFixture[str]) -> None:
    InfoMask(Net()).attribute(X, target=1, show_progress=True)
    bar = capsys.readouterr().err.strip().split("\r")[-1]
    assert bar.startswith("Info Mask attribution: 100%|")


def test_a_file_gets_no_progress_bars(capsys: pytest.CaptureFixture[str]) -> None:
    net, loader = Net(), [(X, torch.tensor([0, 1]))]
    InfoMask(net).attribute(X, target=1, show_progress=True)
    compare(net, X[:1], 0, methods=["InfoMask", "Occlusion"], metrics=[], show_progress=True)
    estimate_prior(loader, show_progress=True)
    randomisation_check(net, X[:1], 1, layers=["head"], show_progress=True)
    fit_critic(net, [X, X], steps=2, window_shapes=[4], show_progress=True)
    assert capsys.readouterr() == ("", "")


class Notebook(io.StringIO):
    pass


Notebook.__module__ = "ipykernel.iostream"


def test_a_notebook_has_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, has_bar in ((Notebook(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        InfoMask(Net()).attribute(X, target=1, show_progress=True)
        assert ("Info Mask attribution: 100%" in stream.getvalue()) == has_bar
    monkeypatch.setattr(sys, "stderr", None)
    InfoMask(Net()).attribute(X, target=1, show_progress=True)


# --- what was probably meant ----------------------------------------------------------------------

NAMED = "Did you mean {!r}?".format


@pytest.mark.parametrize(
    ("method", "name", "words"),
    [
        ("attribute", "targets", NAMED("target")),
        ("attribute", "baseline", NAMED("baselines")),
        ("attribute", "stride", NAMED("strides")),
        ("attribute", "window", NAMED("sliding_window_shapes")),
        ("attribute", "head", "InfoMask() takes it"),
        ("attribute", "rule", "mask() takes it"),
        ("attribute", "top_k", "score_classes() takes it"),
        ("attribute", "internal_batch_size", "perturbations_per_eval="),
        ("attribute", "n_steps", "as many points"),
        ("attribute", "attribute_to_layer_input", "view='evidence'"),
        ("score_regions", "feature_masks", NAMED("feature_mask")),
        ("mask", "rul", NAMED("rule")),
        ("mask", "view_", NAMED("view")),
        ("mask", "fraction", "rule=MaxFraction(0.2)"),
        ("mask", "keep", "rule=MaxFraction(0.2)"),
        ("score_classes", "target", "classes=, a list such as [3]"),
        ("score_classes", "classess", NAMED("classes")),
        ("score_classes", "sliding_window_shape", NAMED("sliding_window_shapes")),
        ("score_classes", "rule", "mask() takes it"),
    ],
)
def test_an_unknown_keyword_is_told_by_the_one_that_was_meant(
    method: str, name: str, words: str
) -> None:
    forward = Counting(Net())
    with pytest.raises(TypeError) as caught:
        getattr(InfoMask(forward), method)(X, **{name: 3})
    assert str(caught.value).startswith(f"InfoMask.{method}() got an unexpected keyword argument")
    assert repr(name) in str(caught.value)
    assert words in str(caught.value)
    assert forward.calls == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: InfoMask(net, heads="probs"), ("InfoMask()", NAMED("head"))),
        (lambda net: InfoMask(net, view="drop"), ("InfoMask()", "attribute() takes it")),
        (lambda net: InfoMask(model=net), ("`forward_func`, the first",)),
        (lambda net: InfoMask(net, layer=net.conv), ("attribute() takes it",)),
        (lambda net: InfoMask(net, net.conv), ("forward_func by place", "got 2")),
        (lambda net: InfoMask(net).attribute(X, 0, 1, None, None, 4), ("by place", "got 6")),
        (lambda net: compare(net, X, 1, method="InfoMask"), ("compare()", NAMED("methods"))),
        (lambda net: compare(net, X, 1, class_names=["a"]), (NAMED("categories"),)),
        (lambda net: compare(net, X, 1, view="drop"), ("{'view': 'drop'}",)),
        (lambda net: compare(net, X, 1, ["InfoMask"]), ("model, inputs, target by place",)),
        (lambda net: default_methods(net, X, layers=1), (NAMED("layer"),)),
    ],
)
def test_functions_tell_arguments_that_they_do_not_have(
    call: Callable[[nn.Module], Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(TypeError) as caught:
        call(Net())
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Net, ("the class Net", "Net(...)")),
        ("resnet18", ("'resnet18'", "load its weights")),
        (None, ("None", "return it?")),
        (Net().state_dict(), ("OrderedDict", "load_state_dict")),
        (Net().load_state_dict(Net().state_dict()), ("IncompatibleKeys", "load_state_dict")),
        (Saliency(Net()), ("Pass its `forward_func`",)),
    ],
    ids=["class", "name", "None", "weights", "keys", "method"],
)
def test_what_is_no_network_yet_is_told(given: Any, words: tuple[str, ...]) -> None:
    refused(("`forward_func`", "a model or function", *words), lambda: InfoMask(given))
    refused(("`model`", *words), lambda: compare(given, X, 1))
    refused(("`model`", *words), lambda: default_methods(given, X))
    loader = [(X, torch.tensor([0, 1]))]
    refused(("`forward_func`", *words), lambda: fit_temperature(given, loader))


# --- inputs that the network does not take --------------------------------------------------------


class Meta(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Net().to("meta")

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


@pytest.mark.parametrize("view", [*VIEWS, "features"])
@pytest.mark.parametrize(
    ("own", "given"),
    [
        (torch.float32, torch.float64),
        (torch.float32, torch.float16),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
    ],
)
def test_inputs_of_another_dtype_are_told_what_the_network_takes(
    own: torch.dtype, given: torch.dtype, view: str
) -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    net, x = pooled.to(own), X.to(given)
    words = ("`inputs`", f"dtype {own}", f"got {given}", f"inputs.to({own})", "raised RuntimeError")
    for forward in (net, net.forward, lambda x: net(x) + 0):
        if view != "features" or forward is net:
            with unchanged(net, x):
                call = InfoMask(forward)
                refused(words, lambda c=call: c.attribute(x, target=1, view=view, **WINDOWS))
    assert InfoMask(net).attribute(x.to(own), target=1, view=view, **WINDOWS).dtype == own


def test_every_reader_tells_the_dtype_and_the_device() -> None:
    net, double = Net(), X.double()
    batches = [(double, torch.tensor([0, 1]))]
    words = ("`inputs`", "dtype torch.float32", "got torch.float64")
    refused(words, lambda: InfoMask(net).score_classes(double))
    # Others follow the type of a network; a function has none.
    refused(words, lambda: compare(lambda x: 1 * net(x), double, 1))
    refused(words, lambda: fit_temperature(lambda x: 1 * net(x), batches))
    refused(words, lambda: measure_bounds(lambda x: 1 * net(x), batches))
    refused(("meta device", "have weights"), lambda: InfoMask(Meta()).attribute(X, target=1))
    meta = X.to("meta")
    for call in (lambda: InfoMask(net).attribute(meta, target=1), lambda: compare(net, meta, 1)):
        refused(("`inputs`", "with values", "meta device"), call)
    rows = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    whole = torch.ones(2, 3, dtype=torch.long)
    refused(
        ("dtype torch.float32", "got torch.int64"),
        lambda: InfoMask(rows).attribute(whole, target=1, view="drop"),
    )


def test_networks_that_convert_their_inputs_are_left_alone() -> None:
    net = Net()
    given = InfoMask(lambda x: net(x.float())).attribute(X.double(), target=1)
    torch.testing.assert_close(given, InfoMask(net).attribute(X, target=1))
    words = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(IndexError, match="out of range"):
        InfoMask(words).attribute(torch.full((2, 3), 20), target=1, view="drop")


def test_channels_last_are_told_whether_the_network_takes_them_or_not() -> None:
    net, x = Net(), images(1, 12, 12, 3)
    words = ("`inputs`", "channels first", "(1, 12, 12, 3)", "inputs.permute(0, 3, 1, 2)")
    with pytest.warns(UserWarning, match="channels last"):
        refused(words, lambda: InfoMask(net).attribute(x, target=1))
    refused(words, lambda: compare(net, x, 1))
    last = InfoMask(lambda x: net(x.permute(0, 3, 1, 2)))
    with pytest.warns(UserWarning, match="their rows count as channels"):
        last.attribute(x, target=1, view="drop")
    windows = {"sliding_window_shapes": (4, 4, 3), "strides": (4, 4, 3)}
    torch.testing.assert_close(
        last.attribute(x, target=1, view="drop", **windows).permute(0, 3, 1, 2),
        InfoMask(net).attribute(x.permute(0, 3, 1, 2), target=1, view="drop", **WINDOWS),
        atol=1e-3,
        rtol=1e-3,
    )


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "inputs", "meant"),
    [
        (4, X, "(3, 4, 4)"),
        ((4, 4), X, "(3, 4, 4)"),
        ([3, 4, 4], X, "(3, 4, 4)"),
        ((3, 4.0, 4.0), X, "(3, 4, 4)"),
        ((1, 3, 4, 4), X, "(3, 4, 4)"),
        ((4, 4, 3), X, "(3, 4, 4)"),
        (np.array([3, 4, 4]), X, "(3, 4, 4)"),
        (4, X.flatten(1), "(4,)"),
        ("4x4", X, ""),
        ((3, 9, 9), X, ""),
        ((0, 4, 4), X, ""),
    ],
    ids=str,
)
def test_a_window_of_another_form_is_told_as_the_tuple_that_was_meant(
    window: Any, inputs: Tensor, meant: str
) -> None:
    error = refused(
        ("`sliding_window_shapes`", f"Did you mean {meant}?" if meant else ""),
        lambda: InfoMask(Net()).attribute(
            inputs, target=1, view="drop", sliding_window_shapes=window
        ),
    )
    assert ("mean" in str(error)) == bool(meant)


@pytest.mark.parametrize(
    ("end", "hint"),
    [
        (lambda y: (y, y), "model(x)[0]."),
        (lambda y: (None, y), "model(x)[1]."),
        (lambda y: {"loss": None, "out": y}, "model(x)['out']."),
        (lambda y: SimpleNamespace(scores=y), "model(x).scores."),
        (lambda y: y.detach().numpy(), "torch.from_numpy(model(x))."),
        (lambda y: None, "return of its logits?"),
        (lambda y: 1.0, "got float"),
    ],
)
def test_an_output_that_is_no_tensor_is_told_by_what_to_take_of_it(
    end: Callable[[Tensor], Any], hint: str
) -> None:
    net = Net()
    refused((hint,), lambda: InfoMask(lambda x: end(net(x))).attribute(X, target=1))
    refused((hint,), lambda: compare(lambda x: end(net(x)), X, 1))


def test_classes_in_the_place_of_logits_are_told() -> None:
    net = Net()
    refused(
        ("int64", "return the logits"),
        lambda: InfoMask(lambda x: net(x).argmax(1)).attribute(X, target=1),
    )


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("cat", "categories=names"),
        (["cat", "dog"], "categories=names"),
        (torch.eye(5)[:2], "argmax(1)"),
        (torch.tensor([[1], [2]]), "target.flatten()"),
        ((0, 1), "such as [0, 1]"),
    ],
    ids=str,
)
def test_a_target_of_another_form_is_told_how_to_give_it(target: Any, hint: str) -> None:
    refused(("`target`", hint), lambda: InfoMask(Net()).attribute(X, target=target))
    refused(("`target`", hint), lambda: compare(Net(), X, target))


def test_several_classes_of_one_picture_and_the_one_of_one_logit_are_told() -> None:
    net = Net()
    for call in (InfoMask(net).attribute, lambda x, target: compare(net, x, target)):
        refused(("1 in all; got 2", "repeat_interleave"), lambda c=call: c(X[:1], target=[0, 1]))
    one = InfoMask(lambda x: net(x)[:, :1], head="sigmoid")
    refused(("`target` 0 or None", "got 1", "-model(x)"), lambda: one.attribute(X, target=1))
    refused(("unsqueeze(0)",), lambda: compare(net, X[0], 1))


def test_rules_in_another_place_are_told() -> None:
    infomask = InfoMask(Counting(Net()))
    for args in ((AtLeast(1),), (None, AtLeast(1))):
        refused(("`rule` by name", "rule=AtLeast(bits=1)"), lambda a=args: infomask.mask(X, *a))
    refused(("`rule` by name",), lambda: threshold_mask(MaxFraction(0.2), X))
    refused(("mean MaxFraction(1)?",), lambda: infomask.mask(X, target=1, rule=1))
    refused(("mean AtLeast(3)?",), lambda: threshold_mask(X, 3))
    refused(("Make one: Otsu(",), lambda: threshold_mask(X, Otsu))
    refused(("classes=[3] by name",), lambda: infomask.score_classes(X, 3))
    refused(("mean (8, 8)?",), lambda: infomask.attribute(X, target=1, crop_size=8))


def test_maps_and_masks_in_each_others_place_are_told() -> None:
    infomap = InfoMask(Net()).score_regions(X, target=1)
    mask = X > 0.5
    refused(("`attributions`", "mask(rule)"), lambda: threshold_mask(infomap))
    refused(("`attributions`", "a mask already"), lambda: threshold_mask(mask))
    refused(("`attributions`", "from_numpy"), lambda: threshold_mask(X.numpy()))
    for take in (bounding_boxes, contours):
        refused(("`masks`", "threshold_mask(attributions, rule)"), lambda t=take: t(X))
        refused(("`masks`", "mask(rule)"), lambda t=take: t(infomap))
        refused(("`masks`", "from_numpy"), lambda t=take: t(mask.numpy()))
        refused(("`masks`", "masks > 0"), lambda t=take: t(mask.long()))


@pytest.mark.parametrize(
    ("methods", "hint"),
    [
        ([Saliency(Net())], "methods={'Saliency': Saliency(model)}"),
        ([Saliency], "methods={'Saliency': Saliency(model)}"),
        (Saliency(Net()), "methods={'Saliency': Saliency(model)}"),
        (["InfoMask", Saliency(Net())], "default_methods(model, inputs)"),
        ([lambda model, x, target: x], "methods={'mine': method}"),
        ({"mine": Saliency}, "Make one: Saliency(model)"),
        ({"mine": "InfoMask"}, "named in a list"),
    ],
    ids=["method", "class", "no list", "among names", "function", "named class", "named name"],
)
def test_methods_without_a_name_are_told_how_to_give_them(methods: Any, hint: str) -> None:
    refused(("`methods`", hint), lambda: compare(Counting(Net()), X, 1, methods=methods))


def test_a_list_of_masks_is_one_mask_for_each_picture() -> None:
    net, masks = Net(), X[:, 0] > 0.5
    name = "centred blob (control)"
    settings = {"methods": [name], "metrics": ["iou"]}
    expected = compare(net, X, 1, ground_truth=masks, **settings)
    for given in (list(masks), [m.numpy() for m in masks], [m.expand(3, -1, -1) for m in masks]):
        found = compare(net, X, 1, ground_truth=given, **settings)
        assert (found.truth == expected.truth).all()
        assert (found[name].metrics["iou"] == expected[name].metrics["iou"]).all()
    assert expected[name].metrics["iou"].max() > 0.05


@pytest.mark.parametrize(
    ("truth", "hint"),
    [
        (torch.ones(2, 8, 8), "ground_truth > 0?"),
        ([[0, 0, 4, 4], [1, 1, 5, 5]], "torch.tensor(boxes)"),
        ([0, 0, 4, 4], "one box"),
        (torch.full((2, 8, 8), 255, dtype=torch.uint8), "a mask is boolean"),
        ([torch.ones(8, 8).bool(), torch.ones(4, 4).bool()], "one size"),
    ],
    ids=str,
)
def test_a_truth_of_another_form_is_told_how_to_give_it(truth: Any, hint: str) -> None:
    settings = {"methods": ["InfoMask"], "metrics": []}
    refused(
        ("`ground_truth`", hint),
        lambda: compare(Counting(Net()), X, 1, ground_truth=truth, **settings),
    )


def test_regions_and_arrays_of_other_forms_are_told() -> None:
    infomask = InfoMask(Net())
    for given, hint in ((superpixels, "Call it: superpixels("), (X[0, 0].long(), "from_label_map")):
        refused(("`regions`", hint), lambda g=given: infomask.attribute(X, target=1, regions=g))
    refused(("from_numpy",), lambda: infomask.attribute(X.numpy(), target=1))
    refused(("from_numpy",), lambda: default_methods(Net(), X.numpy()))


def test_crops_of_a_size_that_the_network_does_not_take_are_told() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    for size, shown in (((4, 6), "(4, 6)"), ("native", "(2, 2)")):
        refused(
            ("`crop_size`", f"crops of {shown}", "(8, 8)", "crop_size=None", "RuntimeError"),
            lambda s=size: InfoMask(net).attribute(X, target=1, crop_size=s),
        )
    assert InfoMask(net).attribute(X, target=1).abs().max() > 0.05


def test_a_network_that_takes_fewer_arguments_is_told_what_it_was_given() -> None:
    infomask = InfoMask(Net())
    words = ("2 `inputs` and 0 `additional_forward_args`", "TypeError")
    refused(words, lambda: infomask.attribute((X, X), target=1, view="drop"))
    refused(("1 `inputs` and 1",), lambda: infomask.attribute(X, 0, 1, 5, view="drop"))
    with pytest.raises(TypeError, match="the network's own"):
        InfoMask(lambda x: raising(TypeError("the network's own"))).attribute(X, target=1)


def raising(error: Exception) -> Tensor:
    raise error


# --- windows without strides ---------------------------------------------------------------------


def test_a_run_of_very_many_views_says_so_before_it_begins(tmp_path, monkeypatch):
    """Captum's meaning of windows without strides is a step of one pixel: 12,769 views here."""
    save_pictures(tmp_path / "data", 1)
    seen = Preprocess(resize=128, crop=128)
    monkeypatch.setattr(Scorer, "infomap", lambda *_: pytest.fail("it began"))
    words = r"12,769 views.*strides=\(1, 8, 8\), half a window, are 225\."

    def run(**windows: Any) -> None:
        with pytest.raises(pytest.fail.Exception):
            run_tiny(tmp_path / "data", tmp_path / "out", five_classes(preprocess=seen), **windows)

    for strides in (None, 1, (3, 1, 1)):
        with pytest.warns(UserWarning, match=words):
            run(sliding_window_shapes=(3, 16, 16), strides=strides)
    run(sliding_window_shapes=(3, 16, 16), strides=2)  # and no warning
    run(sliding_window_shapes=None, strides=None)

# What users pass by habit: numbers of other libraries, orders of other methods, odd shapes.
from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from refused import refused
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
    TopFraction,
    compare,
    default_methods,
    estimate_prior,
    fit_critic,
    fit_temperature,
    grid,
    randomisation_check,
    superpixels,
)
from captum_infomask.comparison.ground_truth import bootstrap
from captum_infomask.comparison.metrics.bootstrap import paired_difference
from captum_infomask.models.classifier import Classifier

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
        lambda: InfoMask(forward).attribute(X, target=(3, 6, 5)),
    )
    refused(
        ("`target`", "view='crop'", "(3, 6, 5)"),
        lambda: InfoMask(forward).mask(X, target=[(3, 6, 5), (2, 0, 1)]),
    )
    assert forward.calls == 0
    drop = InfoMask(dense).attribute(X, target=(3, 6, 5), view="drop", **WINDOWS)
    assert set(drop.nonzero()[:, 2].tolist()) == {4, 5, 6, 7}  # the window of the pixel alone
    assert set(drop.nonzero()[:, 3].tolist()) == {4, 5, 6, 7}


def test_a_head_of_several_tasks_keeps_its_crops() -> None:
    net = Net()
    tasks = InfoMask(lambda x: torch.stack([net(x), -net(x)], 2))
    same(
        tasks.attribute(X, target=(1, 0), **WINDOWS),
        InfoMask(net).attribute(X, target=1, **WINDOWS),
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
    assert repr(InfoMask(net)) == "InfoMask(Sequential, head='logits', unit='bits')"
    shown = repr(InfoMask(dense, prior=[0.25] * 4, temperature=np.float64(2), unit="nats"))
    assert shown == (
        "InfoMask(dense, head='logits', prior=[0.25, 0.25, 0.25, 0.25], temperature=2, unit='nats')"
    )
    assert "prior=<1000 classes>" in repr(InfoMask(net, prior=[1e-3] * 1000))
    classifier = Classifier("convolutions", net, ("a", "b", "c"))
    refused(("`forward_func`", "its `network`"), lambda: InfoMask(classifier))
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

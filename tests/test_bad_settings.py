# Bad settings of InfoMask, and forward functions that answer with something else than was said.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from refused import refused
from state import unchanged
from tiny import VIEWS, WINDOWS, Counting, Net, images
from torch import Tensor, nn

from captum_infomask import ArgumentError, InfoMask

X = images()
FIFTHS = [0.2] * 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "logit"}, ("`head`", "'probs'", "got 'logit'", "mean 'logits'?")),
        ({"head": "Probs"}, ("`head`", "got 'Probs'", "mean 'probs'?")),
        ({"head": None}, ("`head`", "'sigmoid', 'raw'", "got None")),
        ({"unit": "bit"}, ("`unit`", "'bits', 'nats'", "got 'bit'", "mean 'bits'?")),
        ({"unit": 2}, ("`unit`", "'bits', 'nats'", "got 2")),
        ({"trained_with": "pc-softmax"}, ("`trained_with`", "mean 'pc_softmax'?")),
        ({"trained_with": "pc_softmax", "head": "probs"}, ("head='logits'", "head='probs'")),
        ({"temperature": 10**400}, ("`temperature`", "finite")),
        ({"temperature": None}, ("`temperature`", "above 0", "None")),
        ({"temperature": torch.ones(2)}, ("`temperature`", "above 0", "tensor([1., 1.])")),
        ({"temperature": 1j}, ("`temperature`", "above 0", "1j")),
        ({"prior": [-0.2, 0.3, 0.3, 0.3, 0.3]}, ("`prior`", "between 0 and 1", "-0.2")),
        ({"prior": [math.nan] * 5}, ("`prior`", "between 0 and 1", "nan")),
        ({"prior": [math.inf, 0, 0, 0, 0]}, ("`prior`", "between 0 and 1", "inf")),
        ({"prior": [0.3] * 5}, ("`prior`", "sum to 1", "1.5")),
        ({"prior": [0.0] * 5}, ("`prior`", "sum to 1", "0")),
        ({"prior": []}, ("`prior`", "per class", "(0,)")),
        ({"prior": 0.2}, ("`prior`", "per class")),
        ({"prior": torch.full((1, 5), 0.2)}, ("`prior`", "one-dimensional", "(1, 5)")),
        ({"prior": "uniform"}, ("`prior`", "per class", "'uniform'")),
        ({"prior": [0.2, None]}, ("`prior`", "per class", "None")),
        ({"prior": {0: 1.0}}, ("`prior`", "per class", "dict")),
        ({"prior": [0.2 + 0j] * 5}, ("`prior`", "per class")),
        ({"prior": 1.0, "head": "sigmoid"}, ("`prior`", "strictly between 0 and 1", "1.0")),
        ({"prior": 1.5, "head": "sigmoid"}, ("`prior`", "between 0 and 1", "1.5")),
        ({"prior": FIFTHS, "head": "raw"}, ("`prior`", "None", "head='raw'")),
        ({"forward_func": None}, ("`forward_func`", "model or function", "None")),
        ({"forward_func": "resnet18"}, ("`forward_func`", "model or function", "'resnet18'")),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_settings(settings: dict[str, Any], words: tuple[str, ...]) -> None:
    net = Net().train()
    with unchanged(net):
        refused(words, lambda: InfoMask(**{"forward_func": net, **settings}))


@pytest.mark.parametrize(
    ("prior", "target", "words"),
    [
        ([0.25, 0.0, 0.25, 0.25, 0.25], 1, ("`prior`", "above 0", "class 1 has 0")),
        ([0.5, 0.5], 3, ("`target`", "between 0 and 1", "2 classes", "got 3")),
    ],
)
def test_prior_and_target(prior: list[float], target: int, words: tuple[str, ...]) -> None:
    forward = Counting(Net())
    refused(words, lambda: InfoMask(forward, prior=prior).attribute(X, target=target))
    assert forward.calls == 0


# What only the first answer can tell: words of the message, and the calls of forward_func.
@pytest.mark.filterwarnings("ignore:The network's answers change")
@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    [
        *(
            ({}, {"target": 5, "view": view}, ("`target`", "between 0 and 4", "(2, 5)", "got 5"))
            for view in VIEWS
        ),
        ({}, {"target": None}, ("`target`", "(2, 5)", "got None", "target=<class index>")),
        ({}, {"target": torch.tensor([1, 7])}, ("`target`", "between 0 and 4", "got 7")),
        ({}, {"target": (1, 0)}, ("`target`", "one value per example", "(1, 0)")),
        ({}, {"target": [(1, 0), (2, 0)]}, ("`target`", "one value per example", "(1, 0)")),
        ({"prior": [0.5, 0.5]}, {}, ("`prior`", "5 probabilities", "(2, 5)", "got 2")),
        ({"prior": [0.5] * 4, "head": "sigmoid"}, {}, ("`prior`", "5 probabilities", "got 4")),
        ({"head": "probs"}, {}, ("`forward_func`", "sum to 1", "mean head='logits'?")),
        ({"head": "log_probs"}, {}, ("`forward_func`", "sum to 1", "mean head='logits'?")),
    ],
    ids=str,
)
def test_known_from_the_first_answer(
    settings: dict[str, Any], arguments: dict[str, Any], words: tuple[str, ...]
) -> None:
    net = Net().train()
    forward = Counting(net)
    infomask = InfoMask(forward, **settings)
    call = {"inputs": X, "target": 1, "view": "drop", **arguments}
    refused(words, lambda: infomask.attribute(**call))
    assert forward.calls == 1
    model = InfoMask(net, **settings)
    with unchanged(net, X):
        refused(words, lambda: model.attribute(**call))


NET = Net()
ANSWERS: dict[str, tuple[Callable[[Tensor], Any], str, tuple[str, ...]]] = {
    "tuple": (lambda x: (NET(x),), "logits", ("a tensor", "got tuple", "model(x)[0]")),
    "dict": (lambda x: {"out": NET(x)}, "logits", ("a tensor", "got dict")),
    "float": (lambda x: 1.0, "raw", ("a tensor", "got float")),
    "None": (lambda x: None, "logits", ("a tensor", "got NoneType")),
    "array": (lambda x: NET(x).numpy(), "logits", ("a tensor", "got ndarray")),
    "sum": (lambda x: NET(x).sum(), "raw", ("one row per example, 2 in all", "got shape ()")),
    "batch": (lambda x: NET(x)[:1], "logits", ("one row per example, 2 in all", "(1, 5)")),
    "squeezed": (lambda x: NET(x)[:, 1], "logits", ("M ≥ 2 classes", "(2,)", "head='sigmoid'")),
    "one class": (lambda x: NET(x)[:, :1], "logits", ("M ≥ 2 classes", "(2, 1)", "head='raw'")),
    "integers": (lambda x: NET(x).long(), "logits", ("floating-point", "torch.int64")),
    "booleans": (lambda x: NET(x) > 0, "probs", ("floating-point", "torch.bool")),
    "complex": (lambda x: NET(x) + 0j, "logits", ("real", "complex64")),
    "complex raw": (lambda x: NET(x) + 0j, "raw", ("real", "complex64")),
    "NaN": (lambda x: NET(x) * math.nan, "logits", ("finite", "nan", "the whole of image 0")),
    "infinite": (lambda x: NET(x) + math.inf, "raw", ("finite", "inf", "the whole of image 0")),
    "NaN in another class": (
        lambda x: NET(x) + torch.tensor([0.0, 0.0, 0.0, 0.0, math.nan]),
        "logits",
        ("finite", "nan", "the whole of image 0"),
    ),
}


@pytest.mark.parametrize(
    ("name", "view"),
    [*((name, "drop") for name in ANSWERS), *(("NaN", view) for view in VIEWS if view != "drop")],
)
def test_answers(name: str, view: str) -> None:
    answer, head, words = ANSWERS[name]
    forward = Counting(answer)
    refused(
        ("`forward_func`", *words),
        lambda: InfoMask(forward, head=head).attribute(X, target=1, view=view),
    )
    assert forward.calls == 1


def test_answers_with_more_dimensions_than_the_target() -> None:
    dense = InfoMask(lambda x: x.repeat(1, 2, 1, 1))
    refused(
        ("`target`", "(2, 6, 8, 8)", "3 indices", "got 1", "forward_func"),
        lambda: dense.attribute(X, target=1),
    )


@pytest.mark.parametrize("view", ["crop", "keep", "drop"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_for_one_region_names_it(value: float, view: str) -> None:
    """Region 2 of image 1 alone: rows 4 to 8, columns 0 to 4."""

    def corner(x: Tensor) -> Tensor:
        return x[:, :, -4:, :4].flatten(1)

    def is_it(x: Tensor) -> Tensor:
        if view == "drop":
            return (corner(x) == 0).all(1) & (x[:, 0, 0, 0] == X[1, 0, 0, 0])
        if view == "keep":
            return (corner(x) == X[1, :, -4:, :4].flatten()).all(1) & (x[:, 0, 0, 0] == 0)
        return (x.shape[-1] == 4) & (corner(x) == X[1, :, -4:, :4].flatten()).all(1)

    def forward(x: Tensor) -> Tensor:
        return torch.where(is_it(x)[:, None], value, NET(x))

    arguments = {"view": view, **WINDOWS, **({"crop_size": "native"} if view == "crop" else {})}
    refused(
        ("`forward_func`", "finite", "region 2 [0:3, 4:8, 0:4] of image 1", "1 of 8 views"),
        lambda: InfoMask(forward).attribute(X, target=1, **arguments),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("view", VIEWS)
def test_inputs_that_are_not_finite_are_judged_by_the_answer(value: float, view: str) -> None:
    """A network may know what to do with missing values; if it does not, the error says where."""
    x = X.clone()
    x[1, :, :4, :4] = value
    refused(
        ("`inputs`", "image 1 holds NaN", "the whole of image 1", "1 of 2 views"),
        lambda: InfoMask(NET).attribute(x, target=1, view=view, **WINDOWS),
    )
    patient = InfoMask(lambda x: NET(x.nan_to_num(0, 0, 0)))
    assert patient.attribute(x, target=1, view=view, **WINDOWS).isfinite().all()


@pytest.mark.parametrize("view", ["keep", "drop", "chain"])
def test_baselines_that_are_not_finite_name_the_view(view: str) -> None:
    named = "region 0" if view == "drop" else "image 0 all imputed"
    refused(
        ("`forward_func`", "finite", named),
        lambda: InfoMask(NET).attribute(X, math.nan, 1, view=view, **WINDOWS),
    )


@pytest.mark.filterwarnings("ignore:The network's answers change")
@pytest.mark.parametrize("view", ["keep", "drop"])
def test_one_image_without_a_batch_dimension(view: str) -> None:
    """Three rows of pixels could be a batch of sequences: it is the network that says no."""
    net = Net().train()
    with unchanged(net):
        error = refused(
            ("`inputs`", "(N, C, H, W)", "got (3, 8, 8)", "unsqueeze(0)"),
            lambda: InfoMask(net).attribute(X[0], target=1, view=view),
        )
    assert isinstance(error.__cause__, ValueError | RuntimeError)
    sequences = InfoMask(lambda x: 9 * x.flatten(1)[:, :4])
    assert sequences.attribute(X[0], target=1, view=view).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("layers", "shape", "hint"),
    [
        ((nn.Conv1d(2, 3, 3), nn.AdaptiveAvgPool1d(1)), (2, 20), "one signal"),
        ((nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1)), (4, 8, 8), "one image"),
        ((nn.Conv3d(2, 3, 3), nn.AdaptiveAvgPool3d(1)), (2, 6, 6, 6), "one volume"),
    ],
)
def test_one_example_is_known_by_the_networks_convolutions(layers, shape, hint):
    """PyTorch's own layers take one example alone: rows of its answer are then its channels."""
    x, net = torch.rand(shape), nn.Sequential(*layers, nn.Flatten())
    wanted = ("one row per example", f"inputs.unsqueeze(0) adds a batch dimension to {hint}.")
    refused(wanted, lambda: InfoMask(net).attribute(x, target=0, view="drop"))
    told = ("(N, C, T)", f"got {shape}", f"unsqueeze(0) adds a batch dimension to {hint}.")
    last = nn.Sequential(net, nn.Linear(3, 2))
    refused(told, lambda: InfoMask(last).attribute(x, target=0, view="drop"))


@pytest.mark.parametrize(
    ("layers", "shape", "hint"),
    [
        ((nn.Conv1d(1, 3, 3), nn.AdaptiveAvgPool1d(1)), (20,), "one signal"),
        ((nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1)), (8, 8), "one image"),
        ((nn.Conv3d(1, 3, 3), nn.AdaptiveAvgPool3d(1)), (6, 6, 6), "one volume"),
    ],
)
def test_one_example_without_a_channel_is_told(layers, shape, hint):
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(3, 2))
    told = (f"got {shape}", f"inputs[None, None] adds a batch dimension and a channel to {hint}.")
    refused(told, lambda: InfoMask(net).attribute(torch.rand(shape), target=0))
    found = InfoMask(net).attribute(torch.rand(shape)[None, None], target=0)
    assert found.shape == (1, 1, *shape)


def test_a_batch_is_not_taken_for_one_example():
    """The network is at fault; another dimension would not help."""
    net = nn.Sequential(nn.Conv1d(4, 2, 3), nn.Flatten(), nn.Linear(5, 2))
    with pytest.raises(RuntimeError) as caught:
        InfoMask(net).attribute(torch.rand(1, 4, 20), target=0, view="drop")
    assert "unsqueeze" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "at"),
    [*((RuntimeError, at) for at in (1, 2, 4)), (ValueError, 1), (KeyboardInterrupt, 4)],
)
def test_the_users_own_exceptions_pass(error: type[BaseException], at: int) -> None:
    def forward(x: Tensor) -> Tensor:
        if counted.calls == at:
            raise error("the network's own words")
        return NET(x)

    counted = Counting(forward)
    with pytest.raises(error, match="the network's own words") as caught:
        InfoMask(counted).attribute(X, target=1, view="drop", perturbations_per_eval=1)
    assert not isinstance(caught.value, ArgumentError)
    assert counted.calls == at


def test_numbers_of_numpy_are_numbers() -> None:
    infomask = InfoMask(NET, temperature=np.float32(2), prior=np.full(5, 0.2))
    got = infomask.attribute(X, target=np.int64(1), perturbations_per_eval=np.int64(2))
    assert torch.equal(
        got, InfoMask(NET, temperature=2).attribute(X, target=1, perturbations_per_eval=2)
    )

# Numbers do not hang on which pictures and views share a forward pass; where they must, it is said.
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from refused import refused
from state import unchanged
from tiny import VIEWS, WINDOWS, Net, images
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from captum_infomask import (
    InfoMask,
    compare,
    fill_disagreement,
    fit_temperature,
    keep_dropout,
    measure_bounds,
)
from captum_infomask.models.classifier import Classifier, log_probabilities
from captum_infomask.models.loading import as_classifier

X = images(3)
PROMPTS = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
NET = Net()
CHANGED = "answers change with the size of chunks"


def zero_shot(x: Tensor, prompts: Tensor) -> Tensor:
    """A class for every prompt, whatever the batch."""
    return NET(x) @ prompts.T


def shifted(x: Tensor, shift: Tensor) -> Tensor:
    """An answer of its own for every picture."""
    return NET(x) + shift


# --- further arguments -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 2])
@pytest.mark.parametrize("view", VIEWS)
def test_as_many_prompts_as_pictures_are_not_taken_for_the_pictures(
    view: str, chunk: int | None
) -> None:
    options = {"view": view, "perturbations_per_eval": chunk, "target": 1, **WINDOWS}
    infomask = InfoMask(zero_shot)
    refused(
        ("`additional_forward_args`[0]", "(3, 5)", "args_per_example=False", "(N, 1)", "(N, 3)"),
        lambda: infomask.attribute(X, additional_forward_args=(PROMPTS,), **options),
    )
    expected = InfoMask(lambda x: zero_shot(x, PROMPTS)).attribute(X, **options)
    for given in (False, [False]):
        found = infomask.attribute(
            X, additional_forward_args=PROMPTS, args_per_example=given, **options
        )
        assert torch.equal(found, expected)
    assert float(expected.abs().max()) > 0.5


def test_as_many_prompts_as_pictures_for_every_class() -> None:
    infomask = InfoMask(zero_shot)
    refused(
        ("`additional_forward_args`[0]", "args_per_example=False"),
        lambda: infomask.score_classes(X, additional_forward_args=PROMPTS, **WINDOWS),
    )
    maps = infomask.score_classes(
        X, additional_forward_args=PROMPTS, args_per_example=False, **WINDOWS
    )
    expected = InfoMask(lambda x: zero_shot(x, PROMPTS)).score_classes(X, **WINDOWS)
    assert torch.equal(maps.scores, expected.scores)


@pytest.mark.parametrize("view", VIEWS)
def test_an_argument_per_picture_follows_its_picture_as_before(view: str) -> None:
    for shift in (torch.arange(15.0).reshape(3, 5), torch.arange(3.0)[:, None] * torch.eye(5)[1]):
        alone = torch.cat(
            [
                InfoMask(lambda x, k=k, s=shift: NET(x) + s[k]).attribute(
                    X[k : k + 1], target=1, view=view, **WINDOWS
                )
                for k in range(3)
            ]
        )
        for given in (None, True, [True]):
            found = InfoMask(shifted).attribute(
                X, target=1, view=view, additional_forward_args=shift, args_per_example=given,
                **WINDOWS,
            )  # fmt: skip
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_as_many_classes_as_pictures_are_no_fault() -> None:
    five = images(5)
    shift = torch.arange(25.0).reshape(5, 5) / 10
    found = InfoMask(shifted).attribute(five, target=1, additional_forward_args=shift)
    alone = InfoMask(lambda x: NET(x) + shift[4]).attribute(five[4:], target=1)
    torch.testing.assert_close(found[4:], alone, atol=1e-5, rtol=1e-5)


def test_one_picture_and_one_prompt() -> None:
    one = PROMPTS[:1]
    options = {"target": 0, "view": "drop", **WINDOWS}
    refused(
        ("args_per_example=False",),
        lambda: InfoMask(zero_shot, head="raw").attribute(
            X[:1], additional_forward_args=one, **options
        ),
    )
    found = InfoMask(zero_shot, head="raw").attribute(
        X[:1], additional_forward_args=one, args_per_example=False, **options
    )
    expected = InfoMask(lambda x: zero_shot(x, one), head="raw").attribute(X[:1], **options)
    assert torch.equal(found, expected)


def test_what_an_argument_is_taken_for_must_fit_it() -> None:
    def call(given: Any, *further: Any) -> Callable[[], Any]:
        return lambda: InfoMask(lambda x, *rest: NET(x)).attribute(
            X, target=1, additional_forward_args=further, args_per_example=given
        )

    refused(("`args_per_example`", "True, False or a list"), call("all", PROMPTS))
    refused(("`args_per_example`", "1 entries", "got 2"), call([True, False], PROMPTS))
    refused(("`additional_forward_args`[0]", "3 entries", "(2, 5)"), call([True], PROMPTS[:2]))
    refused(("`additional_forward_args`[1]", "3 entries", "'a'"), call([True, True], PROMPTS, "a"))
    refused(("`additional_forward_args`[0]", "3 entries"), call(True, PROMPTS[:2], "a"))
    assert call(True, PROMPTS, "a", None)().shape == X.shape


@pytest.mark.parametrize("view", VIEWS)
def test_classes_that_change_from_pass_to_pass_are_refused(view: str) -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.cat([NET(x)] * (1 + (len(x) != 3)), 1)

    refused(
        ("`forward_func`", "the same classes in every pass", "(N, 5)", "(N, 10)"),
        lambda: InfoMask(forward).attribute(X, target=1, view=view, **WINDOWS),
    )


# --- training mode -------------------------------------------------------------------------------


def messages(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [one for one in caught if CHANGED in str(one.message)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("method", ["attribute", "mask", "score_regions"])
def test_training_mode_is_told_once_a_call_at_the_users_line(view: str, method: str) -> None:
    net = Net().train()
    call = getattr(InfoMask(net), method)
    with unchanged(net):
        (said,) = messages(lambda: call(X, target=1, view=view, n_samples=4, **WINDOWS))
    assert said.category is UserWarning
    assert said.filename == __file__
    for words in ("'norm'", "model.eval()", "keep_dropout"):
        assert words in str(said.message)
    assert len(messages(lambda: InfoMask(net.forward).score_classes(X))) == 1
    assert messages(lambda: call(X, target=1, view=view) if net.eval() else None) == []


def test_a_classifier_leaves_the_users_network_in_its_mode() -> None:
    net = Net().train()
    net.norm.eval()
    with unchanged(net):
        classifier = Classifier("mine", net, tuple("abcde"))
        said = log_probabilities(classifier, X[:1])
        as_classifier(net)
        as_classifier(classifier)
    assert len(messages(lambda: InfoMask(classifier.network).attribute(X, target=1))) == 1
    assert torch.equal(said, net.eval()(X[:1]).log_softmax(1)[0].detach())


def test_what_is_on_is_named() -> None:
    net = Net()
    net.dropout.train()
    (said,) = messages(lambda: InfoMask(net).attribute(X, target=1))
    assert "dropout ('dropout')" in str(said.message)
    assert "batch normalisation" not in str(said.message)
    net.dropout.p = 0.0
    assert messages(lambda: InfoMask(net).attribute(X, target=1)) == []
    net.norm.train()
    (said,) = messages(lambda: InfoMask(net).attribute(X, target=1))
    assert "batch normalisation ('norm')" in str(said.message)


def test_batch_norm_without_running_statistics_is_told_in_eval_mode_too() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip
    a, b = (
        InfoMask(lambda x: 1 * net(x)).attribute(X, target=1, view="crop", perturbations_per_eval=k)
        for k in (1, 9)
    )
    assert float((a - b).abs().max()) > 0.01  # what is warned of
    (said,) = messages(lambda: InfoMask(net).attribute(X, target=1))
    assert "'1'" in str(said.message)
    assert "eval() does not help" in str(said.message)


@pytest.mark.parametrize(
    "layer",
    [
        StochasticDepth(0.5, "row"),
        timm.layers.DropPath(0.5),
        nn.RReLU(),
        nn.Dropout2d(0.1),
        nn.AlphaDropout(0.1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_layer_that_draws_in_training_mode_is_known(layer: nn.Module) -> None:
    net = nn.Sequential(layer, Net()).eval()
    assert messages(lambda: InfoMask(net).attribute(X, target=1)) == []
    layer.train()
    (said,) = messages(lambda: InfoMask(net).attribute(X, target=1))
    assert "dropout ('0')" in str(said.message)


class Attending(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=dropout, batch_first=True)
        self.memory = nn.LSTM(4, 4, 2, dropout=dropout, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x, x, x)[0]
        return self.memory(x)[0].sum(1)


def test_dropout_inside_of_attention_and_recurrent_layers_is_known() -> None:
    x = torch.randn(2, 3, 4)
    for dropout, count in ((0.3, 1), (0.0, 0)):
        net = Attending(dropout).train()
        said = messages(lambda net=net: InfoMask(net).attribute(x, target=1, view="drop"))
        assert len(said) == count
    assert "('attention' and 1 more)" in str(
        messages(lambda: InfoMask(Attending(0.3).train()).attribute(x, target=1, view="drop"))[
            0
        ].message
    )


def test_a_stochastic_network_that_is_sampled_is_meant() -> None:
    net = Net()
    with keep_dropout(net):
        assert messages(lambda: InfoMask(net).score_regions(X, target=1, n_samples=3)) == []
        assert messages(lambda: compare(net, X[:1], 1, metrics=[], methods=["Occlusion"])) == []
        once = messages(lambda: InfoMask(net).score_regions(X, target=1))
        orders = messages(lambda: InfoMask(net).attribute(X, target=1, view="chain", n_samples=2))
        assert len(once) == len(orders) == 1  # one draw of each view; n_samples counts orders
    whole = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3)).train()
    assert messages(lambda: InfoMask(whole).score_regions(X, target=1, n_samples=3)) == []
    assert len(messages(lambda: InfoMask(Net().train()).attribute(X, target=1, n_samples=3))) == 1


def test_a_call_that_runs_others_inside_says_it_once() -> None:
    net, loader = Net().train(), [(X, torch.tensor([0, 1, 2]))]
    for call in (
        lambda: compare(net, X, 1, metrics=["deletion"], methods=["InfoMask", "InfoMask drop"]),
        lambda: fill_disagreement(InfoMask(net), X, 1),
        lambda: fit_temperature(net, loader * 4),
        lambda: measure_bounds(net, loader, n_samples=2),
    ):
        (said,) = messages(call)
        assert said.filename == __file__
    with keep_dropout(net.eval()):
        for samples in (1, 2):
            assert messages(lambda n=samples: measure_bounds(net, loader, n_samples=n)) == []

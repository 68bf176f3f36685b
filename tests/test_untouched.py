# Nothing of the user's is touched: after success, after an error, after an interruption.
from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from state import differences, take_down, unchanged
from tiny import VIEWS, WINDOWS, Net, images
from torch import Tensor, nn

from captum_infomask import ArgumentError, Blur, Constant, InfoMask

pytestmark = pytest.mark.filterwarnings("ignore:The network's answers change")


class Restless(Net):
    """Moves and replaces buffers in training and in evaluation, and caches what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("latest", torch.zeros(5))
        self.cache: Tensor | None = None
        self.until = 10**6

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        if self.cache is None:
            self.cache = torch.ones(5)
        out = super().forward(x) * self.cache
        self.latest = 0.9 * self.latest + out.detach().mean(0)
        if self.count >= self.until:
            raise self.error("interrupted")
        return out

    error: type[BaseException] = RuntimeError


def prepared() -> Restless:
    """A model in the middle of training: mixed modes, frozen parts, gradients, a user's hook."""
    net = Restless()
    net.train()
    net.norm.eval()
    net.conv.bias.requires_grad_(False)
    net(images()).sum().backward()
    net.head.register_forward_hook(lambda module, inputs, output: None)
    net.norm.train()
    net.dropout.eval()
    return net


def view_arguments(view: str) -> dict[str, Any]:
    return {"target": 1, "view": view, "perturbations_per_eval": 1, **WINDOWS}


def test_the_comparison_sees_every_kind_of_change() -> None:
    changes: dict[str, Callable[[Net, Tensor], Any]] = {
        "conv.weight value": lambda net, x: net.conv.weight.data.add_(1),
        "conv.weight grad": lambda net, x: net.conv.weight.grad.add_(1),
        "conv.weight requires_grad": lambda net, x: net.conv.weight.requires_grad_(False),
        "norm.running_mean value": lambda net, x: net.norm.running_mean.add_(1),
        "latest identity": lambda net, x: setattr(net, "latest", net.latest.clone()),
        "dropout training": lambda net, x: net.dropout.train(),
        "head _forward_hooks": lambda net, x: net.head.register_forward_hook(print),
        "tensor 0 value": lambda net, x: x.add_(1),
        "torch rng": lambda net, x: torch.rand(1),
        "numpy rng": lambda net, x: np.random.rand(),
        "python rng": lambda net, x: random.random(),
    }
    for name, change in changes.items():
        net, x = prepared(), images()
        before = take_down(net, (x,))
        change(net, x)
        assert differences(before, take_down(net, (x,))) == [name]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("method", ["attribute", "mask", "score_regions"])
@pytest.mark.filterwarnings("ignore:The mask of example:UserWarning")
def test_after_success(view: str, method: str) -> None:
    net, x = prepared(), images()
    with unchanged(net, x):
        getattr(InfoMask(net), method)(x, **view_arguments(view))


@pytest.mark.parametrize("view", VIEWS)
def test_a_methods_model_is_found(view: str) -> None:
    net, x = prepared(), images()
    with unchanged(net, x):
        InfoMask(net.forward).attribute(x, **view_arguments(view))


@pytest.mark.parametrize("view", ["keep", "drop"])
def test_baselines_masks_and_additional_arguments(view: str) -> None:
    net, x = prepared(), images()
    baselines, mask = images(seed=1), torch.arange(64).reshape(1, 1, 8, 8) // 16
    scale, prior = torch.tensor([[1.0], [2.0]]), torch.full((5,), 0.2)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return self.net(x.mul_(2)) * scale.mul_(2)  # in place, on what it is given

    model = Scaled()
    arguments = {"target": torch.tensor([1, 2]), "additional_forward_args": scale, "view": view}
    with unchanged(model, x, baselines, mask, scale, prior, arguments["target"]):
        infomask = InfoMask(model, prior=prior)
        infomask.attribute(x, baselines, feature_mask=mask, **arguments)
        infomask.attribute(x, imputer=Blur(), **arguments)
        infomask.attribute(x, imputer=Constant(baselines), **arguments)


@pytest.mark.parametrize(
    ("view", "error", "at", "show_progress"),
    [
        *((view, RuntimeError, at, at == 4) for view in VIEWS for at in (2, 4)),
        *((view, KeyboardInterrupt, 4, False) for view in VIEWS),
        ("drop", SystemExit, 2, True),
    ],
)
def test_after_an_exception_in_the_middle(
    view: str, error: type[BaseException], at: int, show_progress: bool
) -> None:
    net, x = prepared(), images()
    net.error = error
    net.until = int(net.count) + at
    with unchanged(net, x), pytest.raises(error, match="interrupted"):
        InfoMask(net).attribute(x, show_progress=show_progress, **view_arguments(view))


@pytest.mark.parametrize(
    ("view", "wrong"),
    [*((view, {"target": 99}) for view in VIEWS), ("drop", {"perturbations_per_eval": 0})],
)
def test_after_bad_arguments(view: str, wrong: dict[str, Any]) -> None:
    net, x = prepared(), images()
    with unchanged(net, x), pytest.raises(ArgumentError):
        InfoMask(net).attribute(x, **{**view_arguments(view), **wrong})


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("mode", MODES)
def test_under_a_mode_of_the_users(mode: str, view: str) -> None:
    net, x = prepared(), images()
    outside = InfoMask(net).attribute(x, **view_arguments(view))
    with MODES[mode](), unchanged(net, x):
        inside = InfoMask(net).attribute(x, **view_arguments(view))
    tolerance = 0.5 if mode == "autocast" else 1e-5
    torch.testing.assert_close(inside.clone(), outside, atol=tolerance, rtol=0.1)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("view", VIEWS)
def test_the_model_can_be_trained_afterwards(view: str) -> None:
    """What the model cached meanwhile must be no inference tensor, which autograd refuses."""
    net, x = Restless().train(), images()
    InfoMask(net).attribute(x, **view_arguments(view))
    assert net.cache is not None
    assert not net.cache.is_inference()
    net.cache.requires_grad_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = take_down(net)
    net(x).logsumexp(1).sum().backward()
    optimizer.step()
    assert net.cache.grad is not None
    changed = differences(before, take_down(net))
    assert {"conv.weight value", "norm.weight value", "head.weight value"} <= set(changed)


def test_a_graph_that_is_waiting_for_its_backward_pass_survives() -> None:
    """Batch normalisation in evaluation keeps its buffers for the backward pass."""
    net, x = Net().eval(), images()
    loss = net(x).sum()
    InfoMask(net).attribute(x, target=1)
    loss.backward()
    assert net.conv.weight.grad is not None


@pytest.mark.filterwarnings("ignore:Of this network view=")
def test_dropout_draws_do_not_depend_on_what_is_attributed() -> None:
    net, x = Net().train(), images()
    torch.manual_seed(0)
    expected = torch.rand(5)
    torch.manual_seed(0)
    first = InfoMask(net).attribute(x, target=1)
    assert torch.equal(torch.rand(5), expected)
    torch.manual_seed(0)
    assert torch.equal(InfoMask(net).attribute(x, target=1), first)

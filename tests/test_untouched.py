# Nothing of the user's is touched, beside what tests/test_conformance_views.py asks of each view.
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from state import differences, take_down, unchanged
from tiny import VIEWS, WINDOWS, Net, images
from torch import Tensor, nn

from captum_infomask import Blur, Constant, InfoMask

pytestmark = pytest.mark.filterwarnings("ignore:The network's answers change")


class Restless(Net):
    """Moves and replaces buffers in training and in evaluation, and caches what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("latest", torch.zeros(5))
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        if self.cache is None:
            self.cache = torch.ones(5)
        out = super().forward(x) * self.cache
        self.latest = 0.9 * self.latest + out.detach().mean(0)
        return out


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


@pytest.mark.parametrize("view", VIEWS)
def test_under_autocast(view: str) -> None:
    net, x = prepared(), images()
    outside = InfoMask(net).attribute(x, **view_arguments(view))
    with torch.autocast("cpu", dtype=torch.bfloat16), unchanged(net, x):
        inside = InfoMask(net).attribute(x, **view_arguments(view))
    torch.testing.assert_close(inside.clone(), outside, atol=0.5, rtol=0.1)


def test_a_graph_that_is_waiting_for_its_backward_pass_survives() -> None:
    """Batch normalisation in evaluation keeps its buffers for the backward pass."""
    net, x = Net().eval(), images()
    loss = net(x).sum()
    InfoMask(net).attribute(x, target=1)
    loss.backward()
    assert net.conv.weight.grad is not None


@pytest.mark.filterwarnings("ignore:The default, view=")
def test_dropout_draws_do_not_depend_on_what_is_attributed() -> None:
    net, x = Net().train(), images()
    torch.manual_seed(0)
    expected = torch.rand(5)
    torch.manual_seed(0)
    first = InfoMask(net).attribute(x, target=1)
    assert torch.equal(torch.rand(5), expected)
    torch.manual_seed(0)
    assert torch.equal(InfoMask(net).attribute(x, target=1), first)

# compare() leaves the user's things as they are, whatever its methods do, and its memory is flat.
from __future__ import annotations

import gc
import random

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, GuidedBackprop, Saliency
from live_bytes import LiveBytes
from state import take_down, unchanged
from tiny import Net, images
from torch import Tensor, nn

from captum_infomask import Deletion, compare, default_methods
from captum_infomask.comparison.costs import Count, CountedModule

WINDOWS = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}

pytestmark = pytest.mark.filterwarnings("ignore:The network's answers change")


@pytest.fixture(params=[True, False], ids=["training", "eval"])
def network(request) -> nn.Module:
    net = Net().train(request.param)
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    net.head.bias.requires_grad_(False)
    net.register_forward_hook(lambda module, args, output: None)
    return net


def test_all_is_as_it_was(network):
    x = images(2).requires_grad_()
    x.grad = torch.ones_like(x)
    methods = {
        **default_methods(network, x.detach(), **WINDOWS),
        "Saliency": Saliency(network),
        "DeepLift": DeepLift(network),
        "GuidedBackprop": GuidedBackprop(network),
    }
    with unchanged(network, x):
        compare(network, x, 1, methods=methods)
    with unchanged(network, x), torch.no_grad():
        compare(network, x, 1, methods=["Grad-CAM", "InfoMask"], **WINDOWS)
    with torch.inference_mode(), unchanged(network, x):
        found = compare(network, x, 1, methods=["Grad-CAM", "InfoMask"], **WINDOWS)
    assert not any(outcome.failed for outcome in found.outcomes)


def wild(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    """Does all that a guest should not."""
    model.network.train(not model.network.training)
    model.network.conv.train()
    model.network.secret = 3
    model.network.conv.register_forward_hook(lambda module, args, output: output)
    model.network.conv.register_full_backward_hook(lambda module, gradients, outputs: None)
    for handle in list(model.network._forward_hooks):
        del model.network._forward_hooks[handle]
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model(inputs.requires_grad_()).sum().backward()
    torch.set_grad_enabled(False)
    random.random(), np.random.rand(), torch.rand(1)
    inputs.detach().zero_()
    return inputs.detach() + 1


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_whatever_a_method_does(error, network):
    def method(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
        found = wild(model, inputs, target)
        if error is not None:
            raise error("stop")
        return found

    def metric(sample):
        wild(CountedModule(sample.forward, Count()), sample.inputs.clone(), 0)
        return 1.0

    x = images(2)
    with unchanged(network, x):
        try:
            found = compare(network, x, 1, methods={"wild": method}, metrics={"wild": metric})
            assert found["wild"].errors == ("" if error is None else "RuntimeError: stop",) * 2
            assert found.troubles == ()
        except KeyboardInterrupt:
            assert error is KeyboardInterrupt
    assert not hasattr(network, "secret")


def test_a_search_for_a_layer_that_is_interrupted(network):
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    network.head.register_forward_hook(interrupt)
    with unchanged(network), pytest.raises(KeyboardInterrupt):
        default_methods(network, images(1))


def test_nothing_the_user_holds_is_written_to(network):
    x = images(2)
    before = take_down(network, (x,))["tensor 0 value"].clone()
    compare(network, x, 1, methods={"zero": lambda m, x, y: x.zero_()}, metrics=[])
    assert torch.equal(x, before)


@pytest.mark.slow
def test_memory_is_flat_over_pictures():
    network = Net().eval()
    parameters = list(network.parameters())

    def peak(n: int) -> tuple[int, int]:
        x = images(n, height=24, width=24)
        gc.collect()
        with LiveBytes(parameters) as memory:
            found = compare(
                network, x, 1, metrics=[Deletion(steps=4)],
                sliding_window_shapes=(3, 8, 8), strides=(3, 8, 8),
            )  # fmt: skip
            held = memory.now
        assert len(found.outcomes) == 6
        assert not any(outcome.failed for outcome in found.outcomes)
        return memory.peak, held

    few, _ = peak(4)
    many, held = peak(8)
    picture = 3 * 24 * 24 * 4
    assert few > 8 * picture  # a chunk of views, so the count is of the right things
    # Per picture and method only a map, a mask, curves and scores stay.
    assert many - few < 4 * 6 * (24 * 24 * 5 + 4000)
    assert held < 8 * 6 * (24 * 24 * 5 + 4000)

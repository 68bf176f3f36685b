# Grad-CAM on networks whose feature maps, weights or hooks are not what it expects.
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
from captum.attr import LayerActivation, LayerGradCam
from refused import refused
from state import unchanged
from tiny import Net, images
from torch import Tensor, nn
from torchvision import models

from captum_infomask import (
    InfoMask,
    compare,
    default_methods,
    fit_critic,
    fit_temperature,
    measure_bounds,
    randomisation_check,
    run_dataset,
)
from captum_infomask.comparison.gradcam_layers import layer_map
from captum_infomask.comparison.method_adapters import ForwardMethod
from captum_infomask.models.classifier import Classifier

SWIN = {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4}
CHANNELS_LAST = {
    "swin_tiny_patch4_window7_224": ({**SWIN, "img_size": 64}, "norm"),
    "swinv2_tiny_window8_256": ({**SWIN, "img_size": 64}, "norm"),
    "mambaout_femto": ({"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}, "stages"),
    "sequencer2d_s": (
        {
            "layers": (1, 1, 1, 1), "embed_dims": (16, 16, 16, 16), "hidden_sizes": (4, 4, 4, 4),
            "mlp_ratios": (1, 1, 1, 1), "img_size": 64,
        },
        "norm",
    ),
}  # fmt: skip


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    settings, _ = CHANNELS_LAST[name]
    network = timm.create_model(name, num_classes=4, **settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3).add_(torch.randn_like(parameter), alpha=0.1)
    return network


def picture(side: int = 64) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def right_map(network: nn.Module, layer: nn.Module, x: Tensor, target: int, places: Any) -> Tensor:
    """Selvaraju et al., Eq. 1 and 2, of a layer's output whose places are these two dimensions."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    output = network(x)
    hook.remove()
    (slope,) = torch.autograd.grad(output[0, target], kept[-1])
    (channels,) = {1, 2, 3} - set(places)
    coarse = (slope.mean(places, keepdim=True) * kept[-1]).sum(channels)[None].relu().detach()
    return nn.functional.interpolate(coarse, x.shape[2:], mode="bilinear")[0, 0]


def check_grad_cam(
    network: nn.Module, layer: nn.Module | None, target: int, expected: Tensor
) -> None:
    found = compare(network, picture(), target, methods=["Grad-CAM"], metrics=[], layer=layer)
    assert found["Grad-CAM"].error == ""
    plane = torch.tensor(found["Grad-CAM"].planes[0])
    torch.testing.assert_close(plane, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    assert float(expected.std()) > 0.05 * float(expected.max()) > 0


@pytest.mark.parametrize("name", CHANNELS_LAST)
def test_grad_cam_reads_channels_that_come_last(name: str) -> None:
    network = made(name)
    layer = network.get_submodule(CHANNELS_LAST[name][1])
    found = layer_map(network, picture())
    assert (found.module, found.channels_last) == (layer, True)
    maps = [right_map(network, layer, picture(), target, (1, 2)) for target in range(4)]
    target = max(range(4), key=lambda k: float(maps[k].std()))
    with unchanged(network):
        check_grad_cam(network, None, target, maps[target])
        check_grad_cam(network, layer, target, maps[target])


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # torchvision 0.19
@pytest.mark.parametrize(
    ("name", "layer", "channels_last"),
    [
        ("swin_t", "permute", False),
        ("swin_t", "norm", True),
        ("swin_t", "features.1.0", True),
        ("convnext_tiny", "features", False),
        ("convnext_tiny", "features.7.2.block.4", True),  # GELU between two linear layers
        ("resnet18", "layer3", False),
        ("maxvit_t", "blocks.3", False),
    ],
)
def test_layers_of_torchvision_keep_their_own_order(
    name: str, layer: str, channels_last: bool
) -> None:
    network = models.get_model(name).eval()
    x = picture(224 if name == "maxvit_t" else 64)
    found = layer_map(network, x, network.get_submodule(layer))
    assert found.channels_last == channels_last
    if layer in ("permute", "features", "blocks.3"):
        assert layer_map(network, x).module is network.get_submodule(layer)


def test_convnext_of_torchvision_has_the_map_it_had() -> None:
    network = models.convnext_tiny(num_classes=3).eval()
    maps = [right_map(network, network.features, picture(), k, (2, 3)) for k in range(3)]
    target = max(range(3), key=lambda k: float(maps[k].std()))
    check_grad_cam(network, None, target, maps[target])


class Untold(nn.Module):
    """Nothing says which dimension of its feature map holds channels."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.head = nn.Identity(), nn.Linear(192, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.map(3 * x.reshape(len(x), 8, 3, 8))).reshape(len(x), -1))


def test_a_map_whose_channels_nothing_tells_is_an_error_row() -> None:
    network, x = Untold().eval(), images(1)
    for layer in (None, "map", network.map):
        found = compare(network, x, 1, methods=["Occlusion", "Grad-CAM"], layer=layer, metrics=[])
        assert "nothing tells which dimension of the output (1, 8, 3, 8)" in found["Grad-CAM"].error
        assert found["Occlusion"].error == ""
    flat = compare(network, x, 1, methods=["Grad-CAM"], layer="head", metrics=[])["Grad-CAM"]
    assert "the layer that is named returns a tensor of shape (1, 3)" in flat.error


class NoHooks(nn.Sequential):
    """As scripted and other foreign modules do."""

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> Any:
        raise AttributeError("no hooks here")


class NoModes(nn.Sequential):
    def train(self, mode: bool = True) -> Any:
        raise RuntimeError("frozen")


@pytest.mark.parametrize(("kind", "words"), [(NoHooks, "no hooks here"), (NoModes, "frozen")])
def test_whatever_stops_the_search_for_a_layer_costs_that_row_alone(kind: Any, words: str) -> None:
    network = Net()
    inner = kind(network)
    whole = nn.Sequential(inner, nn.Softplus())
    for module in whole.modules():
        module.training = False
    found = compare(whole, images(1), 1, metrics=[])
    assert words in found["Grad-CAM"].error
    assert [one.name for one in found.outcomes if one.error] == ["Grad-CAM"]
    expected = compare(whole.forward, images(1), 1, metrics=[], methods=["InfoMask"])
    assert (found["InfoMask"].planes == expected["InfoMask"].planes).all()


def lazy(kind: str) -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if kind == "linear":
        return nn.Sequential(*layers, nn.LazyLinear(4)).eval()
    return nn.Sequential(layers[0], nn.LazyBatchNorm2d(), *layers[1:], nn.Linear(8, 4)).eval()


def test_a_lazy_network_is_refused_by_name_and_stays_usable(tmp_path: Any) -> None:
    loader = [(images(), torch.tensor([0, 1]))]
    for kind, words in (
        ("linear", ("layer '4'", "LazyLinear", "one forward pass first")),
        ("norm", ("layer '1'", "LazyBatchNorm2d", "one forward pass first")),
    ):
        network = lazy(kind)
        calls = [
            lambda n: InfoMask(n).attribute(images(), target=1),
            lambda n: InfoMask(n.forward).attribute(images(), target=1, view="drop"),
            lambda n: InfoMask(n).score_classes(images()),
            lambda n: compare(n, images(1), 1),
            lambda n: default_methods(n, images(1)),
            lambda n: randomisation_check(n, images(1), 1),
            lambda n: fit_critic(n, loader),
            lambda n: fit_temperature(n, loader),
            lambda n: measure_bounds(n, loader),
            lambda n: run_dataset(str(tmp_path), n, tmp_path / "out"),
            lambda n: run_dataset(str(tmp_path), Classifier("n", n, ("a",)), tmp_path / "out"),
        ]
        for call in calls:
            refused(words, lambda call=call, network=network: call(network))
        assert not (tmp_path / "out").exists()
        assert network(images()).shape == (2, 4)
        assert InfoMask(network).attribute(images(), target=1).isfinite().all()


@pytest.mark.parametrize("kind", ["metric", "method", "partial", "partial of Captum's"])
def test_a_layer_of_the_users_network_is_found_wherever_it_is_held(kind: str) -> None:
    net, x = Net(), images(1)
    want = LayerGradCam(net, net.conv).attribute(x, 1).detach()

    def answer(forward: Any, inputs: Tensor, target: int, show: bool) -> Tensor:
        return LayerGradCam(forward, net.conv).attribute(inputs, target)

    def activation(sample: Any) -> float:
        seen = LayerActivation(sample.forward, net.conv).attribute(sample.inputs)
        return seen.sum().item()

    mine: Any = {
        "metric": LayerGradCam(net, net.conv),
        "method": ForwardMethod("it", "a.u.", answer),
        "partial": ForwardMethod("it", "a.u.", partial(answer)),
        "partial of Captum's": LayerGradCam(partial(lambda x: 1 * net(x)), net.conv),
    }[kind]
    with unchanged(net, x):
        found = compare(net, x, 1, methods={"it": mine}, metrics={"seen": activation})
    assert (found["it"].error, found.troubles) == ("", ())
    np.testing.assert_allclose(found["it"].planes[0], want.mean(1)[0], rtol=1e-4, atol=1e-6)
    assert found["it"].metrics["seen"][0] == pytest.approx(net.conv(x).sum().item(), rel=1e-5)

# Captum's methods in compare(): whatever they are, their maps are theirs and their passes counted.
from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from captum.attr import (
    LRP,
    Attribution,
    Deconvolution,
    DeepLift,
    DeepLiftShap,
    FeatureAblation,
    GradientShap,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LayerActivation,
    LayerGradCam,
    LayerIntegratedGradients,
    Lime,
    NoiseTunnel,
    Occlusion,
    Saliency,
    ShapleyValueSampling,
)
from state import unchanged
from tiny import images, randomise
from torch import Tensor, nn

from captum_infomask import Comparison, InfoMask, compare
from captum_infomask.comparison.costs import Count, CountedModule, counted, measured
from captum_infomask.evaluation.model_as_it_was import as_it_was


class Plain(nn.Module):
    """Convolutions, ReLU modules used once, a pooling: all that Captum's methods ask for.

    It counts the pictures that it is given, whoever gives them.
    """

    pictures = 0

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1, stride=2)
        )
        self.relu, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(16, 3)
        randomise(self, scale=0.4)

    def forward(self, x: Tensor) -> Tensor:
        Plain.pictures += len(x)
        return self.head(self.pool(self.relu(self.features(x))).flatten(1))


@pytest.fixture
def network() -> nn.Module:
    return Plain().eval()


def of_all_kinds(net: nn.Module) -> dict[str, object]:
    squares = torch.arange(16).reshape(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
    last = net.features[2]
    zeros = torch.zeros(4, 3, 8, 8)
    return {
        "Saliency": Saliency(net),
        "InputXGradient": InputXGradient(net),
        "IntegratedGradients": (IntegratedGradients(net), {"n_steps": 7}),
        "GradientShap": (GradientShap(net), {"baselines": zeros, "n_samples": 3}),
        "DeepLift": DeepLift(net),
        "DeepLiftShap": (DeepLiftShap(net), {"baselines": zeros}),
        "GuidedBackprop": GuidedBackprop(net),
        "Deconvolution": Deconvolution(net),
        "LRP": LRP(net),
        "LayerGradCam": LayerGradCam(net, last),
        "LayerActivation": LayerActivation(net, last),
        "LayerIntegratedGradients": (LayerIntegratedGradients(net, last), {"n_steps": 5}),
        "GuidedGradCam": GuidedGradCam(net, last),
        "Occlusion": (Occlusion(net), windows),
        "FeatureAblation": (FeatureAblation(net), {"feature_mask": squares}),
        "ShapleyValueSampling": (
            ShapleyValueSampling(net),
            {"feature_mask": squares, "n_samples": 2},
        ),
        "KernelShap": (KernelShap(net), {"feature_mask": squares, "n_samples": 40}),
        "Lime": (Lime(net), {"feature_mask": squares, "n_samples": 40}),
        "NoiseTunnel": (NoiseTunnel(Saliency(net)), {"nt_samples": 6, "stdevs": 0.1}),
        "NoiseTunnel of InfoMask": (
            NoiseTunnel(InfoMask(net)),
            {"nt_samples": 2, "stdevs": 0.1, "view": "drop", **windows},
        ),
    }


def one(network: nn.Module, name: str, method: object, **more: object) -> Comparison:
    return compare(network, images(1), 1, methods={name: method}, metrics=[], seed=5, **more)


@pytest.mark.parametrize("name", list(of_all_kinds(Plain())))
def test_a_captum_methods_map_is_its_own_and_its_passes_are_counted(name, network):
    given = of_all_kinds(network)[name]
    method, options = given if isinstance(given, tuple) else (given, {})
    held = dict(vars(method))
    x = images(1)
    with unchanged(network, x):
        found = one(network, name, given)[name]
    assert found.errors == ("",)
    assert vars(method).keys() == held.keys()
    assert method.forward_func is held["forward_func"]
    target = {} if name == "LayerActivation" else {"target": 1}
    Plain.pictures = 0
    with as_it_was(network, seed=5):
        own = method.attribute(x.clone(), **target, **options).detach()
    seen = Plain.pictures
    if tuple(own.shape[2:]) != (8, 8):
        own = nn.functional.interpolate(own, (8, 8), mode="bilinear")
    np.testing.assert_allclose(found.planes[0], own.mean(1)[0].float().numpy(), rtol=1e-6)
    assert found.planes.std() > 1e-3
    assert seen > 0
    passes = found.forward_passes[0]
    if name == "NoiseTunnel of InfoMask":
        assert math.isnan(passes)  # its engines need the network itself
    else:
        assert passes == seen
    assert found.unit == "a.u."
    assert found.meaning.startswith("Captum's ")


@pytest.mark.parametrize("view", ["crop", "keep", "drop", "chain", "features"])
def test_infomask_keeps_its_map_and_counts_its_views(view, network):
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 3),
    )  # fmt: skip
    randomise(net)
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
    found = compare(
        net, images(1), 1, methods={"ours": (InfoMask(net, unit="nats"), {"view": view, **windows})}
    )["ours"]
    assert found.errors == ("",)
    assert found.unit == "nats"
    infomap = found.infomaps[0]
    np.testing.assert_array_equal(found.planes[0], infomap.attributions().mean(1)[0].numpy())
    want = {"crop": 10, "drop": 10, "keep": 11, "features": 1}
    if view in want:
        assert found.forward_passes[0] == infomap.views == want[view]
    # Where nothing but whole passes run, they are as many as the views.
    if view != "features":
        Plain.pictures = 0
        infomap = InfoMask(lambda x: network(x) * 1).score_regions(
            images(1), target=1, view=view, engine="batched", **windows
        )
        assert infomap.views == Plain.pictures > 9


def test_options_reach_the_method_and_each_picture_its_own(network):
    x, seen = images(3), []

    def mine(model, inputs, target, **options):
        seen.append((target, options))
        return inputs

    per_picture, shared = torch.arange(3.0), torch.zeros(2, 2)
    compare(
        network, x, [0, 1, 2], metrics=[],
        methods={"mine": (mine, {"weights": per_picture, "shared": shared, "k": 3})},
    )  # fmt: skip
    assert [target for target, _ in seen] == [0, 1, 2]
    assert [options["weights"].tolist() for _, options in seen] == [[0], [1], [2]]
    assert all(options["shared"] is shared and options["k"] == 3 for _, options in seen)


def test_a_function_gets_a_model_that_is_as_good_as_the_network(network):
    def mine(model, inputs, target):
        assert isinstance(model, nn.Module)
        assert model.features is network.features
        assert not model.training
        model.no_grad = True  # an attribute of the wrapper
        copied = copy.deepcopy(model)
        copied(inputs)
        with pytest.raises(AttributeError):
            _ = model.missing
        return LayerGradCam(model, model.features[2]).attribute(inputs, target)

    found = one(network, "mine", mine)["mine"]
    assert found.errors == ("",)
    own = LayerGradCam(network, network.features[2]).attribute(images(1), 1).detach()
    want = nn.functional.interpolate(own, (8, 8), mode="bilinear")
    np.testing.assert_allclose(found.planes[0], want[0, 0].numpy(), rtol=1e-6)
    assert found.forward_passes[0] == 2
    assert not hasattr(network, "no_grad")


def test_what_nobody_counted_is_unknown_and_not_zero(network):
    class Hidden(Attribution):
        def __init__(self) -> None:
            super().__init__(lambda x: x)
            self.secret = network

        def attribute(self, inputs, target):
            return self.secret(inputs)[:, target, None, None, None].expand_as(inputs)

    assert math.isnan(one(network, "h", Hidden())["h"].forward_passes[0])
    free = one(network, "free", lambda m, x, y: network(x)[:, :1, None, None] * x)["free"]
    assert math.isnan(free.forward_passes[0])
    control = compare(network, images(1), 0, methods="centred blob (control)", metrics=[])
    assert control.outcomes[0].forward_passes[0] == 0


def test_a_counted_function_counts_batches():
    count = Count()
    double = counted(lambda x, y=1: x * y, count)
    assert double(torch.ones(3, 2), y=2).sum() == 12
    assert count.pictures == 3
    wrapped = CountedModule(nn.Linear(2, 2), count)
    wrapped(torch.ones(4, 2))
    assert count.pictures == 7


def test_seconds_are_of_the_method_alone(network, monkeypatch):
    now = itertools.count(step=0.25)  # a clock that moves on whenever it is read
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))

    def slow(model, inputs, target):
        for _ in range(8):
            time.perf_counter()
        return inputs

    found = compare(
        network, images(1), 0, metrics=[],
        methods={"quick": lambda m, x, y: x, "slow": slow, "after": lambda m, x, y: x},
    )  # fmt: skip
    assert found["slow"].seconds[0] == 9 * 0.25
    assert found["quick"].seconds[0] == found["after"].seconds[0] == 0.25
    with pytest.raises(ZeroDivisionError), measured(torch.device("cpu")) as cost:
        _ = 1 / 0
    assert cost.seconds >= 0


MEMORY = """
import time, torch
from captum_infomask import compare

def large(model, inputs, target):
    held = torch.ones(256 << 18)  # 256 MiB
    time.sleep(0.2)  # for as long as a busy machine takes to look
    return inputs * held[0]

network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
methods = {"large": large, "after": lambda m, x, y: x}
found = compare(network, torch.rand(1, 3, 8, 8), 0, methods=methods, metrics=[])
print(*(found[name].peak_bytes[0] for name in methods))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no process's memory is told")
def test_memory_is_of_the_method_alone():
    """In a process of its own: what other tests let go meanwhile would be taken off."""
    told = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    large, after = map(float, told.stdout.split())
    assert large > 200e6
    assert after < 100e6

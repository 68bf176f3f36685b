# The comparison: which layer Grad-CAM looks at, what the four methods are, what they cost.
from __future__ import annotations

import math
import re

import pytest
import torch
from captum.attr import LayerGradCam, Occlusion
from PIL import Image
from state import unchanged
from tiny import Net, images, randomise
from torch import Tensor, nn
from torchvision import models

from captum_infomask._checks import ArgumentError
from captum_infomask.attribution import InfoMask
from captum_infomask.comparison.layers import last_feature_map, named_layer
from captum_infomask.comparison.measure import measure_methods
from captum_infomask.comparison.methods import Method, photo_methods, square_windows
from captum_infomask.comparison.photo import compare_on_photo
from captum_infomask.datasets import sample_photo
from captum_infomask.masks import MaxFraction, threshold_mask
from captum_infomask.models.classifier import Classifier
from captum_infomask.models.imagenet import efficientnet_lite0
from captum_infomask.models.pictures import Preprocess


class Tokens(nn.Module):
    """A small vision transformer: a convolution, then tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)
        randomise(self, scale=0.3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.mix(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(tokens.mean(1))


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        raise RuntimeError("no answer")


# --- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer4"), ("vgg11", "avgpool"), ("mobilenet_v3_small", "features")],
)
def test_the_last_feature_map_of_known_networks(name, layer):
    network = models.get_model(name).eval()
    assert last_feature_map(network, torch.rand(1, 3, 64, 64)) is network.get_submodule(layer)


def test_finding_the_layer_changes_nothing():
    network = Net().train()
    network.conv.eval()
    with unchanged(network):
        assert last_feature_map(network, images(1)) is network.norm
    failing = Failing().train()
    with unchanged(failing), pytest.raises(RuntimeError, match="no answer"):
        last_feature_map(failing, images(1))


def test_networks_without_a_last_feature_map_are_refused():
    with pytest.raises(ArgumentError, match=r"Tokens its last layers work on tokens.*--layer"):
        last_feature_map(Tokens(), images(1))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(ArgumentError, match="no layer's output is one"):
        last_feature_map(flat, images(1))


def test_a_layer_by_name():
    network = models.resnet18()
    assert named_layer(network, "layer4.1.conv2") is network.layer4[1].conv2
    with pytest.raises(ArgumentError, match=r"Nearest: layer4\.1\.conv2"):
        named_layer(network, "layer4.1.conv")


# --- windows -----------------------------------------------------------------------------------


def test_the_windows_of_a_photograph():
    inputs = torch.zeros(1, 3, 224, 300)
    assert square_windows(inputs).shapes == (3, 56, 56)
    assert square_windows(inputs).strides == (3, 14, 14)
    assert square_windows(inputs, 40).strides == (3, 10, 10)
    assert square_windows(torch.zeros(1, 1, 3, 3)).shapes == (1, 1, 1)


@pytest.mark.parametrize(
    ("side", "stride", "argument"),
    [(9, None, "window"), (0, None, "window"), (4, 5, "stride"), (4, 0, "stride")],
)
def test_windows_that_do_not_fit_are_refused(side, stride, argument):
    with pytest.raises(ArgumentError, match=f"`{argument}`"):
        square_windows(images(1), side, stride)


# --- methods -----------------------------------------------------------------------------------


def test_the_four_methods_are_what_their_names_say():
    network, inputs = randomise(Net(), scale=0.5), images(1)
    windows = square_windows(inputs, 4, 2)
    with unchanged(network, inputs):
        rows = measure_methods(photo_methods(network, inputs, windows), network, inputs, 2)
    crop, drop, grad_cam, occlusion = (torch.from_numpy(row.result.attribution) for row in rows)
    sliding = {"sliding_window_shapes": windows.shapes, "strides": windows.strides}
    ours = InfoMask(network)
    for ours_row, view in ((crop, "crop"), (drop, "drop")):
        expected = ours.attribute(inputs, target=2, view=view, **sliding)[0, 0]
        torch.testing.assert_close(ours_row, expected)
    # The identity that the table states: drop is Occlusion of log p, in bits instead of nats.
    torch.testing.assert_close(drop * math.log(2), occlusion, rtol=1e-4, atol=1e-5)
    nats = Occlusion(lambda x: network(x).log_softmax(1)).attribute(inputs, target=2, **sliding)
    torch.testing.assert_close(occlusion, nats[0, 0])
    assert min(crop.std(), drop.std(), grad_cam.max()) > 0.01
    coarse = LayerGradCam(network, network.norm).attribute(inputs, 2, relu_attributions=True)
    torch.testing.assert_close(grad_cam, coarse[0, 0].detach())  # a map of the input's own size


def test_grad_cam_of_efficientnet_lite0_is_that_of_its_features():
    # Its last layer is an activation: the feature map is what the batch norm before it gives.
    classifier = efficientnet_lite0()
    network, inputs = (
        classifier.network,
        classifier.preprocess(Image.fromarray(sample_photo("camera"))),
    )
    grad_cam = photo_methods(network, inputs, square_windows(inputs))[2]
    found = grad_cam.attribute(network, inputs, 872, False)
    kept = []
    with network._bn1.register_forward_hook(lambda module, args, output: kept.append(output)):
        network(inputs)
    features = kept[0].detach().requires_grad_(True)
    logit = network._fc(network._avg_pooling(nn.functional.relu6(features)).flatten(1))[0, 872]
    (gradient,) = torch.autograd.grad(logit, features)
    coarse = (gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu()
    fine = nn.functional.interpolate(coarse.detach(), (224, 224), mode="bilinear")
    assert float(fine.max()) > 0.1
    torch.testing.assert_close(found, fine, rtol=1e-4, atol=1e-5)


def test_forward_passes_are_counted_in_pictures():
    network, inputs = Net(), images(1)
    seen = 0

    def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += len(args[0])

    for method in photo_methods(network, inputs, square_windows(inputs, 4, 2)):
        seen = 0
        hook = network.register_forward_pre_hook(count)
        row = measure_methods([method], network, inputs, 0)[0]
        hook.remove()
        assert row.forward_passes == seen
        assert row.forward_passes == (1 if method.name == "Grad-CAM" else 10)  # 9 windows


def test_one_methods_failure_does_not_lose_the_others():
    network, inputs = Tokens(), images(1)
    methods = photo_methods(network, inputs, square_windows(inputs, 4, 4))
    rows = measure_methods(methods, network, inputs, 0)
    assert [row.result is None for row in rows] == [False, False, True, False]
    assert "Grad-CAM needs a convolutional feature map" in rows[2].error
    named = photo_methods(network, inputs, square_windows(inputs), layer="patches")
    assert measure_methods(named[2:3], network, inputs, 0)[0].result is not None


def test_interrupting_is_no_failure_of_a_method():
    def interrupt(forward: object, inputs: Tensor, target: int, bar: bool) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_methods([Method("slow", "s", interrupt)], Net(), images(1), 0)


def test_the_mask_is_the_fraction_of_the_maximum():
    values = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    method = Method("given", "bits", lambda forward, inputs, target, bar: values)
    result = measure_methods([method], Net(), images(1), 0, fraction=0.5)[0].result
    assert (result.mask == threshold_mask(values, MaxFraction(0.5))[0, 0].numpy()).all()
    assert result.largest == 1
    assert result.share == 16 / 64


# --- the photograph ----------------------------------------------------------------------------


@pytest.fixture
def tiny() -> Classifier:
    return Classifier("tiny", Net(), tuple("abcde"), Preprocess(16, 16))


def test_the_numbers_of_a_photograph(tiny):
    photo = Image.fromarray(sample_photo("coffee"))
    made = compare_on_photo(tiny, photo)
    inputs = tiny.preprocess(photo)
    log_p = tiny.network(inputs).detach().log_softmax(1)[0]
    assert made.predicted
    assert made.target == int(log_p.argmax())
    assert made.bits == pytest.approx(float(log_p.max()) / math.log(2) + math.log2(5), abs=1e-5)
    assert made.most_bits == math.log2(5)
    other = compare_on_photo(tiny, photo, "c")
    assert (other.target, other.category) == (2, "c")
    assert other.predicted == (made.target == 2)
    assert re.search(r"InfoMask drop +170 ", made.text())


def test_bad_arguments_come_before_any_pass(tiny, monkeypatch):
    def never(*args: object) -> Tensor:
        raise AssertionError("the network was run")

    monkeypatch.setattr(tiny.network, "forward", never)
    photo = Image.new("RGB", (20, 20))
    for wrong, words in [
        ({"target": "z"}, "`target`"),
        ({"target": 5}, "`target`"),
        ({"window": 17}, "`window`"),
        ({"window": 4, "stride": 5}, "`stride`"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            compare_on_photo(tiny, photo, **wrong)


def test_a_network_that_fails_every_method_is_an_error(tiny, monkeypatch):
    calls = 0
    forward = tiny.network.forward

    def fails_later(inputs: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 2:  # the prediction and the search for Grad-CAM's layer
            raise RuntimeError("out of memory")
        return forward(inputs)

    monkeypatch.setattr(tiny.network, "forward", fails_later)
    with pytest.raises(ArgumentError, match=r"No method succeeded.*out of memory"):
        compare_on_photo(tiny, Image.new("RGB", (20, 20)))

# Real architectures in single precision against plain forward passes in double precision.
#
# Their weights are random and their batch norms calibrated, so that what a window changes reaches
# the outputs: with statistics that do not fit, effects die out and any error looks small.
import copy

import pytest
import torch
from incremental_views import literal, passes_of, through
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.vgg import cfgs, make_layers

from captum_infomask import Incremental, from_boxes

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5  # of the largest output


def vgg11():
    """VGG-11's convolutions and a small head: its own has a hundred million weights."""
    layers = make_layers(cfgs["A"])
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(2048, 10))


def convnext_tiny():
    """Layer scales as large as trained ones are; they start at 1e-6."""
    net = models.convnext_tiny(num_classes=10)
    for name, parameter in net.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.constant_(parameter, 0.3)
    return net


NETWORKS = {
    "resnet18": (lambda: models.resnet18(num_classes=10), 96),
    "mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=10), 96),
    "densenet121": (lambda: models.densenet121(num_classes=10), 64),
    "vgg11": (vgg11, 64),
    "convnext_tiny": (convnext_tiny, 64),
    "efficientnet_b0": (lambda: models.efficientnet_b0(num_classes=10), 96),
    "googlenet": (
        lambda: models.googlenet(num_classes=10, aux_logits=False, init_weights=False),
        64,
    ),
}


def picture(side):
    """Structure at several scales."""
    scales = [F.interpolate(torch.randn(1, 3, n, n), (side, side), mode="bicubic") for n in (4, 16)]
    return sum(scales) + 0.3 * torch.randn(1, 3, side, side)


def calibrated(net, side):
    """The network with the statistics of a few pictures in its batch norms."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    with torch.no_grad():
        net.train()(torch.cat([picture(side) for _ in range(8)]))
    return net.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_errors_are_small_against_what_each_window_changes(name):
    make, side = NETWORKS[name]
    net = calibrated(make(), side)
    x = picture(side)
    size, last = side // 4, side - side // 4
    corners = [(0, 0), (last, 0), (0, last), (last, last), (size + 3, size - 1), (7, last - 9)]
    regions = from_boxes(x, [[left, top, left + size, top + size] for left, top in corners])
    passes = passes_of(net, x, Incremental(), view="drop", regions=regions)
    found = through(passes.engine, passes.plan)
    assert passes.engine.name == "incremental"

    exact = copy.deepcopy(net).double()
    wanted = literal(exact, passes_of(exact, x.double(), view="drop", regions=regions).plan)
    with torch.no_grad():
        effects = (wanted - exact(x.double())).abs().amax(1)
    errors = (found - wanted).abs().amax(1)
    scale = wanted.abs().max()
    # Random networks multiply the rounding of any pass: some plain ones are off by more than this.
    plain = (literal(net, passes.plan) - wanted).abs().max()
    assert plain < 3 * TOLERANCE * scale
    assert (effects > 1000 * TOLERANCE * scale).all()
    assert errors.max() <= max(TOLERANCE * scale, 2 * plain)
    assert (errors <= 1e-3 * effects).all()

# When the incremental engine stands aside, why, and that results are right either way.
import logging
import re

import pytest
import torch
from incremental_networks import (
    DTYPE,
    Layer,
    Network,
    opaque,
    scatter,
    sizes_are_traced,
)
from incremental_views import literal, passes_of, through
from torch import nn
from torch.nn import functional as F
from torchvision import models

from captum_infomask import Incremental, InfoMask, NormalNoise, from_boxes, grid, keep_dropout

CLOSE = 1e-9


def network(function, *parts, channels=4):
    """A convolution, a function of its map, and what is made of that."""
    layers = [nn.Conv2d(3, 4, 3, padding=1), Layer("", function, *parts)]
    head = Layer("head", lambda x, conv, last: 3 * last(conv(x).mean((2, 3))),
                 nn.Conv2d(channels, 4, 3, padding=1), nn.Linear(4, 5))  # fmt: skip
    return scatter(Network(layers, head).eval().to(DTYPE))


def both(net, view="drop", x=None, **arguments):
    """The incremental engine's result, checked against the batched one's."""
    x = torch.randn(2, 3, 20, 22, dtype=DTYPE) if x is None else x
    given = {"target": 1, "view": view, "regions": grid(x, 4, 4), **arguments}
    before = x.clone()
    wanted = InfoMask(net).score_regions(x, engine="batched", **given)
    found = InfoMask(net).score_regions(x, engine="incremental", **given)
    assert torch.equal(x, before)
    assert wanted.scores.abs().max() > 1000 * CLOSE
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=CLOSE)
    return found.engine


class WithMask(nn.Module):
    """An argument that nobody gives decides a branch."""

    def __init__(self):
        super().__init__()
        self.inner = network(torch.tanh)

    def forward(self, x, mask=None, twice=False):
        if mask is not None:
            x = x * mask
        return self.inner(x) if not twice else 2 * self.inner(x)


class Remembering(nn.Module):
    """Keeps a table that it makes at first."""

    def __init__(self):
        super().__init__()
        self.inner, self.table = network(torch.tanh), None

    def forward(self, x):
        if self.table is None:
            self.table = torch.ones_like(x[:1, :1])
        return self.inner(x + self.table)


RUNS = {
    "in place on the picture": lambda: nn.Sequential(
        nn.Hardtanh(inplace=True), network(torch.tanh)
    ),
    "sub_ on the picture": lambda: network(torch.tanh).apply(_subtracting),
    "F.relu(x, True)": lambda: network(lambda a: F.relu(a, True)),
    "F.leaky_relu(x, 0.1, True)": lambda: network(lambda a: F.leaky_relu(a, 0.1, True)),
    "clamp by a map": lambda: network(
        lambda a, lo: torch.clamp(a, min=lo.weight), nn.Linear(22, 20)
    ),
    "clamp by channels": lambda: network(
        lambda a, lo: torch.clamp(a, min=lo.weight[:, None, None]), nn.LayerNorm(4)
    ),
    "a map added": lambda: network(lambda a, b: a + b.weight, nn.Linear(22, 20)),
    "a pool of the whole map": lambda: network(lambda a: a * F.avg_pool2d(a, a.size()[2:])),
    "a pool of whole rows": lambda: network(lambda a: a + F.max_pool2d(a, (1, a.size(3)))),
    "a size of the map": lambda: network(lambda a: F.adaptive_avg_pool2d(a, (5, a.shape[3]))),
    "a norm of as many": lambda: network(
        lambda a: F.layer_norm(a.permute(0, 2, 3, 1), a.shape[1:2]).permute(0, 3, 1, 2)
    ),
    "a mean over rows": lambda: network(lambda a: a - a.mean(2, keepdim=True)),
    "a mean over all": lambda: network(lambda a: a - a.mean((2, 3), True)),
    "a mean in another layout": lambda: network(
        lambda a: a * a.permute(0, 2, 3, 1).tanh().mean((1, 2))[:, :, None, None]
    ),
    "views": lambda: network(lambda a: a.view(a.size(0), 2, 2, -1).flip(1).view_as(a)),
    "a divisor": lambda: network(lambda a: F.avg_pool2d(a, 1, 1, divisor_override=3)),
    "channels mixed by a product": lambda: network(lambda a: torch.einsum("bchw,bdhw->bchw", a, a)),
    "a list of maps": lambda: network(lambda a: torch.cat(a.split(2, 1)[::-1], 1)),
    "as many channels as needed": lambda: network(lambda a: a * a[:, :1]),
    "a gate for all channels": lambda: network(
        lambda a, gate: gate(a).sigmoid() * a.tanh(), nn.Conv2d(4, 1, 3, padding=1)
    ),
    "an argument with a default": WithMask,
    "a table made at first": Remembering,
    "numbers on the left": lambda: network(lambda a: 1 / (2 + abs(1 - a).exp())),
}


def _subtracting(module):
    if isinstance(module, Network):
        forward = module.layers[0]
        module.layers[0] = Layer("", lambda x, conv: conv(x.sub_(0.5)), forward)


@pytest.mark.parametrize("view", ["drop", "keep"])
@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name, view):
    found = both(RUNS[name]().eval().to(DTYPE), view)
    if name in ("a pool of the whole map", "a list of maps") and not sizes_are_traced():
        assert found.startswith("batched (torch.fx cannot trace it")
        return
    assert found == "incremental"


def _aliased(a):
    b = a
    a *= 2
    return b


def _part_written(a):
    a[:, :2].add_(1)
    return a


def _learns(a):
    return a * (2 if isinstance(a, torch.Tensor) else 1)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network(torch.tanh)

    def forward(self, x):
        return self.inner(x) + torch.rand(1, dtype=x.dtype)


def with_hook():
    net = network(torch.tanh)
    net.head.register_forward_hook(lambda module, inputs, output: output * 2)
    return net


STAND_ASIDE = {
    "the forward function is no": lambda: network(torch.tanh).forward,
    "Layer 'head' has hooks": with_hook,
    "it writes to a tensor that it reads under": lambda: network(_aliased),
    "it writes to a tensor .* another name": lambda: network(_part_written),
    "the traced network's outputs are off by .*, of .*, for image 0": lambda: network(_learns),
    "it calls .*leaky_relu_": lambda: network(lambda a: F.leaky_relu_(a, 0.1)),
    "it calls Tensor.zero_": lambda: network(lambda a: a + a.clone().zero_()),
    "it calls Tensor.requires_grad_": lambda: network(lambda a: a.requires_grad_(False) * 2),
    "the outputs are torch.bfloat16": lambda: nn.Sequential(
        network(torch.tanh), Layer("", lambda a: a.bfloat16())
    ),
    "torch.fx cannot trace it": lambda: network(lambda a: a if a.sum() > 0 else a.tanh()),
}


@pytest.mark.parametrize("view", ["drop", "keep"])
@pytest.mark.parametrize("reason", STAND_ASIDE)
def test_it_stands_aside_and_says_why(reason, view):
    net = STAND_ASIDE[reason]()
    if isinstance(net, nn.Module):
        net.eval()
    name = both(net, view)
    assert re.match(rf"batched \(.*{reason}", name)


def test_noise_is_found_out():
    net, x = Noisy().eval(), torch.randn(1, 3, 20, 22, dtype=DTYPE)
    found = InfoMask(net).score_regions(
        x, target=1, view="drop", regions=grid(x, 2, 2), engine="incremental"
    )
    if sizes_are_traced():
        assert found.engine == "batched (it draws random numbers)"
    else:
        assert found.engine.startswith("batched (torch.fx cannot trace it")


def test_a_wrong_trace_is_found_out_for_every_draw_and_on_black_pictures():
    """The pictures that views start from may hide what a wrong trace does: zeros stay zeros."""
    net = network(_learns)
    for module in net.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    assert both(net, "keep").startswith("batched (")
    name = both(net, "drop", imputer=NormalNoise(), n_samples=3)
    assert name.startswith("batched (the traced network's outputs are off by")


@pytest.mark.filterwarnings("ignore:The network's answers change")
def test_modes_of_the_network_and_the_call(caplog):
    net = nn.Sequential(network(torch.tanh), nn.Dropout(0.5)).eval()
    x = torch.randn(1, 3, 20, 22, dtype=DTYPE)

    def name(net, view="drop", **arguments):
        given = {"target": 1, "regions": grid(x, 2, 2), "engine": "incremental", **arguments}
        return InfoMask(net).score_regions(x, view=view, **given).engine

    assert name(net) == "incremental"
    with caplog.at_level(logging.DEBUG, "captum_infomask"):
        assert name(net, "crop") == "batched (view='crop' shows regions by themselves)"
    assert "stands aside: view='crop'" in caplog.text
    with keep_dropout(net):
        assert name(net, n_samples=2) == "batched (Dropout '1' is in training mode)"
    with torch.autocast("cpu"):
        assert name(Layer("", lambda a: a.mean((2, 3))).eval()) == "batched (autocast is on)"
    assert "is in training mode" in name(net.train())
    extra = Layer("", lambda a: a.mean((2, 3)))
    extra.forward = lambda a, scale: a.mean((2, 3)) * scale
    assert name(extra.eval(), additional_forward_args=2.0) == (
        "batched (there are additional_forward_args)"
    )


def test_parameters_may_change_between_calls():
    net, x = network(torch.tanh), torch.randn(1, 3, 20, 22, dtype=DTYPE)
    method = InfoMask(net)
    given = {"target": 1, "view": "drop", "regions": grid(x, 2, 2), "engine": "incremental"}
    before = method.score_regions(x, **given).scores
    with torch.no_grad():
        net.layers[0].weight.mul_(-1)
    after = method.score_regions(x, **given).scores
    wanted = InfoMask(net).score_regions(x, **{**given, "engine": "batched"}).scores
    assert (after - before).abs().max() > 1000 * CLOSE
    torch.testing.assert_close(after, wanted, rtol=0, atol=CLOSE)


def test_auto_takes_what_saves_enough():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 224, 224)
    corners = [0, 50, 101, 208]
    regions = from_boxes(x, [[j, i, j + 16, i + 16] for i in corners for j in (*corners, 150)])
    net = models.resnet18(num_classes=10).eval()
    found = InfoMask(net).score_regions(x, target=1, view="drop", regions=regions)
    wanted = InfoMask(net).score_regions(
        x, target=1, view="drop", regions=regions, engine="batched"
    )
    assert found.engine == "incremental"
    size = wanted.scores.abs().max()
    assert size > 1e-4
    assert (found.scores - wanted.scores).abs().max() < 0.01 * size


@pytest.mark.parametrize(("make", "size"), [(models.efficientnet_b0, 16), (models.resnet18, 200)])
def test_auto_leaves_what_saves_too_little(make, size):
    """Squeeze-excitations read whole maps; windows of most of a picture change most of them."""
    x = torch.randn(1, 3, 224, 224)
    boxes = [[at, at, at + size, at + size] for at in range(0, 24, 3)]
    net = make(num_classes=10).eval()
    for least, reason in ((1.3, "batched (its predicted gain is "), (0.0, "incremental")):
        engine = Incremental(least_gain=least)
        passes = passes_of(net, x, engine, view="drop", regions=from_boxes(x, boxes))
        with torch.no_grad():
            next(passes.engine.run(passes.plan))
        assert passes.engine.name.startswith(reason)


def test_the_output_may_be_a_map_and_inputs_odd():
    net = nn.Sequential(nn.Conv2d(1, 2, (2, 3), (2, 1)), nn.MaxPool2d(2, ceil_mode=True)).eval()
    net = scatter(net.double())
    x = torch.randn(3, 1, 17, 9, dtype=DTYPE).transpose(0, 0)[:, :, ::1]
    passes = passes_of(net, x, view="keep", regions=grid(x, 5, 3))
    wanted = literal(net, passes.plan)
    found = through(passes.engine, passes.plan)
    assert passes.engine.name == "incremental"
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@opaque
def shape_dependent(x):
    return x * x.shape[0] / x.shape[0]


def test_sizes_are_those_of_the_chunk():
    """A network that reads how many pictures there are is told how many views there are."""
    net = network(lambda a: shape_dependent(a.reshape(a.shape[0], 4, -1)).view(a.size()))
    assert both(net) == "incremental"

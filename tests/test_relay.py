"""The view `relay`, against multipliers taken literally, step by step, and known identities."""

import math

import numpy as np
import pytest
import reference
import torch
import torchvision.models as tv
from captum.attr import LayerDeepLift
from hypothesis import given, settings, strategies as st
from refused import refused
from state import unchanged
from test_evidence import ENDS, PRIOR, SCORES
from tiny import images, randomise
from tiny_vits import CLASS_TOKEN, POOLED, timm_network, torchvision_network
from torch import nn
from torch.nn import functional as F
from torchvision.models.vision_transformer import ConvStemConfig

from captum_infomask import (
    Blur,
    HalfCrops,
    InfoMap,
    InfoMask,
    NormalNoise,
    grid,
    keep_dropout,
    sliding_windows,
)
from captum_infomask._random import OwnGenerators
from captum_infomask.engines import relay_steps
from captum_infomask.engines.paths import over_roots
from captum_infomask.engines.recording import Recording
from captum_infomask.engines.replay import Replay
from captum_infomask.regions.box_regions import BoxRegions
from captum_infomask.regions.map_cells import MapCells, over_picture


class Steps(nn.Module):
    """A network that is a list of steps: what is read, what is made, by what."""

    def __init__(self, *steps, end=None) -> None:
        super().__init__()
        self.steps = [*steps, *([] if end is None else [(["out"], "end", end)])]
        self.layers = nn.ModuleList(one for _, _, one in steps if isinstance(one, nn.Module))
        randomise(self, 0.6).double()
        self.layers[-1].weight.data.mul_(0.3)  # no probability is near 0 or 1

    def forward(self, x):
        values = {"x": x}
        for reads, makes, function in self.steps:
            values[makes] = function(*[values[name] for name in reads])
        return values[makes]


def gated(end=None):
    """Gates, a residual sum, a value that is used twice by one step."""
    return Steps(
        (["x"], "a", nn.Conv2d(3, 6, 3, stride=3)),
        (["a"], "b", torch.tanh),
        (["b"], "c", nn.Conv2d(6, 6, 1)),
        (["c"], "d", torch.sigmoid),
        (["b", "d"], "e", torch.mul),
        (["e", "b"], "f", torch.add),
        (["f", "f"], "g", torch.mul),
        (["g"], "h", nn.Conv2d(6, 7, 3, padding=1)),
        (["h"], "i", F.softplus),
        (["i"], "j", lambda at: at.mean((2, 3))),
        (["j"], "out", nn.Linear(7, 5)),
        end=end,
    )


def attending(end=None):
    """A block of attention, its norm and its residual sum, over the cells of a map."""
    return Steps(
        (["x"], "a", nn.Conv2d(3, 6, 3, stride=3)),
        (["a"], "b", lambda at: at.flatten(2).transpose(1, 2)),
        (["b"], "c", nn.LayerNorm(6)),
        (["c"], "q", nn.Linear(6, 4)),
        (["c"], "k", nn.Linear(6, 4)),
        (["q", "k"], "s", lambda q, k: q @ k.transpose(1, 2)),
        (["s"], "w", lambda at: at.softmax(-1)),
        (["w", "c"], "v", torch.matmul),
        (["v", "b"], "r", torch.add),
        (["r"], "g", F.gelu),
        (["g"], "j", lambda at: at.mean(1)),
        (["j"], "out", nn.Linear(6, 5)),
        end=end,
    )


def growing(end=None):
    """Values that are put side by side, with a smooth maximum and a quotient of two values."""
    return Steps(
        (["x"], "a", nn.Conv2d(3, 4, 3, stride=3)),
        (["a"], "b", F.silu),
        (["b"], "c", nn.Conv2d(4, 4, 3, padding=1)),
        (["b", "c"], "d", lambda *parts: torch.cat(parts, 1)),
        (["d"], "e", nn.Conv2d(8, 8, 1)),
        (["e"], "n", lambda at: 1 + at.square().mean(1, keepdim=True)),
        (["d", "n"], "f", torch.div),
        (["f"], "j", lambda at: at.logsumexp((2, 3))),
        (["j"], "out", nn.Linear(8, 5)),
        end=end,
    )


MAKES = (gated, attending, growing)


def pictures(n=2, height=12, width=9):
    return images(n, 3, height, width).double()


def read(net, x, y, blank=None, **score):
    """i(y; x) less i(y; blank), from the network's outputs alone."""
    with torch.no_grad():
        ends, starts = (
            net(x.clone()),
            net((torch.zeros_like(x) if blank is None else blank).clone()),
        )
    if score.get("head") == "sigmoid":
        bits = F.logsigmoid(ends.double()) - F.logsigmoid(starts.double())
        return bits.reshape(len(x)) / math.log(2)
    return torch.stack(
        [
            reference.differentiable_information(end[None].double(), k, **score)[0]
            - reference.differentiable_information(start[None].double(), k, **score)[0]
            for end, start, k in zip(ends, starts, y, strict=True)
        ]
    )


def painted_sum(found):
    """What attributions sum to, of one channel."""
    return found.attributions()[:, 0].double().flatten(1).sum(1)


def complete(net, x, found, y, within, blank=None, least=0.05, **score):
    """The map sums to what was read from outputs alone, which is no trifle."""
    wanted = read(net, x, y, blank, **score)
    assert wanted.abs().min() > least, wanted
    torch.testing.assert_close(found.explained.double(), wanted, rtol=1e-5, atol=within)
    torch.testing.assert_close(painted_sum(found), wanted, rtol=0, atol=within)
    short = found.explained.double() - painted_sum(found)
    torch.testing.assert_close(found.residual.double(), short, rtol=0, atol=within / 10 + 1e-5)


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("make", MAKES, ids=lambda one: one.__name__)
def test_every_cell_has_its_share(make, score):
    """Taken literally, at 4,000 points of each step's path, in float64."""
    net, x = make(ENDS.get(score.get("head"))), pictures()
    given = {"view": "relay", "layer": "layers.0"}
    found = InfoMask(net, **score).score_regions(x, target=[1, 4], **given)
    for k, y in enumerate([1, 4]):
        own = x[k : k + 1]
        wanted = reference.relay(net.steps, own, torch.zeros_like(own), y, "a", **score)
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(found.scores[k], wanted.flatten(), rtol=0, atol=1e-6)
    assert found.residual.abs().max() < 1e-6


def test_by_default_two_maps_are_averaged():
    """The last one, and the last one of the most cells, as densities."""
    net, x = (
        Steps(
            (["x"], "a", nn.Conv2d(3, 5, 3, stride=2, padding=1)),
            (["a"], "b", torch.tanh),
            (["b"], "c", nn.Conv2d(5, 6, 3, stride=2, padding=1)),
            (["c"], "d", F.softplus),
            (["d"], "j", lambda at: at.mean((2, 3))),
            (["j"], "out", nn.Linear(6, 5)),
        ),
        pictures(1),
    )
    found = InfoMask(net).score_regions(x, target=2, view="relay")
    fine, last = (
        reference.relay(net.steps, x, torch.zeros_like(x), 2, mark)[0] for mark in ("b", "d")
    )
    assert (tuple(last.shape), tuple(fine.shape)) == ((3, 3), (6, 5))
    torch.testing.assert_close(
        found.scores[0], torch.cat([last.flatten(), fine.flatten()]), rtol=0, atol=1e-6
    )
    mean = (reference.density(fine, 12, 9) + reference.density(last, 12, 9)) / 2
    torch.testing.assert_close(found.attributions()[0, 1], mean, rtol=0, atol=1e-6)


def test_contrast_groups_and_classes():
    net, x = gated(), pictures(1)
    zero = torch.zeros_like(x)
    given = {"view": "relay", "layer": "layers.0"}

    def against(output, y, **score):
        both = (reference.differentiable_information(output, k, **score) for k in (y, 3))
        return next(both) - next(both)

    found = InfoMask(net, prior=PRIOR).score_regions(x, target=1, contrast=3, **given)
    wanted = reference.relay(net.steps, x, zero, 1, "a", value=against, prior=PRIOR)
    torch.testing.assert_close(found.scores[0], wanted.flatten(), rtol=0, atol=1e-6)

    def grouped(output, y, **score):
        both = (reference.differentiable_information(output, k, unit="nats") for k in (0, 1))
        return (next(both).exp() + next(both).exp()).div(2).log() / math.log(2)

    found = InfoMask(net, groups=[[2, 4], [1, 0]]).score_regions(x, target=1, **given)
    wanted = reference.relay(net.steps, x, zero, 0, "a", value=grouped)
    assert wanted.abs().max() > 0.05
    torch.testing.assert_close(found.scores[0], wanted.flatten(), rtol=0, atol=1e-6)

    infomask = InfoMask(net)
    maps = infomask.score_classes(x, **given)
    for y in range(5):
        alone = infomask.score_regions(x, target=y, **given)
        for name in ("scores", "total", "explained", "residual"):
            own = getattr(maps.of_class(y), name)
            torch.testing.assert_close(own, getattr(alone, name), rtol=0, atol=1e-9)


def calibrated(make, size=64):
    """A network with random biases and statistics, whose answers to pictures and blanks differ."""
    net = make()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                module.momentum = None
                module.train()
            elif isinstance(getattr(module, "bias", None), nn.Parameter):
                module.bias.normal_(0, 0.1)
        shown = torch.rand(6, 3, size, size)
        shown[:2] = 0
        for module in net.modules():
            module.training = isinstance(module, nn.BatchNorm2d)
        net(shown)
        last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
        nn.init.normal_(last.weight, 0, 0.1)
        spread = net.eval()(shown).std(0).mean()
        last.weight.mul_(1.5 / spread)
        last.bias.mul_(1.5 / spread)
    return net


def vgg11_bn():
    features = tv.vgg.make_layers(tv.vgg.cfgs["A"], batch_norm=True)
    pooled = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(2048, 32), nn.ReLU(True)
    return nn.Sequential(features, *pooled, nn.Dropout(), nn.Linear(32, 10))


def swin():
    """Windows of 4 × 4 tokens, shifted in every second block."""
    return tv.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=10)


def vision_transformer():
    return tv.VisionTransformer(64, 16, 3, 4, 64, 128, num_classes=10)


REAL = {
    "resnet18": lambda: tv.resnet18(num_classes=10),
    "mobilenet_v2": lambda: tv.mobilenet_v2(num_classes=10),
    "mobilenet_v3_small": lambda: tv.mobilenet_v3_small(num_classes=10),
    "densenet121": lambda: tv.densenet121(num_classes=10),
    "vgg11_bn": vgg11_bn,
    "convnext_tiny": lambda: tv.convnext_tiny(num_classes=10),
    "swin": swin,
    "vision_transformer": vision_transformer,
}


@pytest.mark.parametrize("name", REAL)
def test_real_networks_sum_to_what_their_outputs_say(name):
    net, x = calibrated(REAL[name]), torch.rand(1, 3, 64, 64)
    with unchanged(net, x):
        found = InfoMask(net).score_regions(x, target=[3], view="relay")
    complete(net, x, found, [3], 1e-3)
    assert found.scores.abs().max() > 1e-3


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(6, 14), st.integers(6, 14)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(0, 4),
)
def test_a_regions_value_is_the_integral_of_the_density(size, cut, y):
    """Regions that cut cells, and pixels that cells' borders cut; a partition sums to the total."""
    net, x = gated(), pictures(1, *size)
    given = {"target": y, "view": "relay", "layer": "layers.0"}
    infomask, regions = InfoMask(net), grid(x, *cut)
    found = infomask.score_regions(x, **given, regions=regions)
    cells = infomask.score_regions(x, **given)
    literal = reference.density(cells.scores[0].unflatten(0, cells.regions.grid), *size)
    wanted = [literal[a:b, c:d].sum() for a, c, b, d in regions.rectangles()[0].tolist()]
    torch.testing.assert_close(found.scores[0], torch.stack(wanted), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.scores.sum(1), read(net, x, [y]), rtol=0, atol=1e-6)


class Parts(nn.Module):
    """Two convolutions and a linear layer, which functions below use in many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 7, 3, padding=1, stride=2)
        self.last = nn.Linear(7, 5)
        randomise(self, 0.6).double()

    def tail(self, at):
        return self.last(F.softplus(self.second(at)).mean((2, 3)))

    def plain(self, x):
        return self.tail(torch.tanh(self.first(x)))


P = Parts()


def written(x):
    a = P.first(x)
    a.tanh_()
    return P.tail(a)


def contiguous(x):
    return P.plain(x.contiguous().to(x.dtype))


def dropped(x):
    return P.plain(F.dropout(x, 0.5, training=False))


def channels_last(x):
    return P.plain(x.contiguous(memory_format=torch.channels_last))


def places_last(x):
    a = F.conv2d(x, P.first.weight, P.first.bias, padding=1).permute(0, 2, 3, 1)
    return P.tail(torch.tanh(a).permute(0, 3, 1, 2))


def without_gradients(x):
    with torch.no_grad():
        return P.plain(x)


@pytest.mark.parametrize(
    "net", [written, contiguous, dropped, channels_last, places_last, without_gradients]
)
def test_the_same_network_written_in_other_ways(net):
    x = pictures()
    wanted = InfoMask(P.plain).score_regions(x, target=[1, 4], view="relay")
    before = x.clone()
    found = InfoMask(net).score_regions(x, target=[1, 4], view="relay")
    assert torch.equal(x, before)
    assert wanted.scores.abs().max() > 0.02
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-9)


def adds_in_place(x):
    a = torch.tanh(P.first(x))
    b = torch.relu(a * 2)
    b += a
    return P.tail(F.relu(b.add_(0.5, alpha=2), inplace=True).mul_(a))


def uses_twice(x):
    a = torch.tanh(P.first(x))
    b = a * a + a
    return P.tail(b / (1 + b * b) - b.abs().sqrt())


def fills_a_part(x):
    a = torch.tanh(P.first(x))
    a[:, :2] = 0.3
    a[:, 2:4, ::2] = a[:, 4:, ::2]
    return P.tail(a)


def fills_a_mask(x):
    a = torch.tanh(P.first(x))
    mask = a.new_zeros(a.shape[2:])
    mask[2:5] = -2.0
    mask[:, 3:] += 0.5
    return P.tail(a * mask.exp() + mask)


def grows_a_list(x):
    kept = [torch.tanh(P.first(x))]
    for _ in range(2):
        kept.append(torch.sigmoid(torch.cat(kept, 1).unflatten(1, (-1, 6)).mean(1)))
    return P.tail(torch.stack(kept).sum(0))


def pools(x):
    a = F.max_pool2d(P.first(x), 3, 2, 1, ceil_mode=True)
    return P.tail(F.adaptive_max_pool2d(a, (4, 3)))


def normalises_in_place(x):
    x.sub_(0.5).div_(0.25)
    return P.plain(x)


def divides_by_its_sum(x):
    total = (1 + x.sum((1, 2, 3))) / 20
    return P.plain(x / total.sqrt()[:, None, None, None])


def attends(x):
    a = torch.tanh(P.first(x)).flatten(2).transpose(1, 2)[:, None]
    a = a + F.scaled_dot_product_attention(a, a, 2 * a)
    return P.tail(a[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))


WAYS = (
    adds_in_place,
    uses_twice,
    fills_a_part,
    fills_a_mask,
    grows_a_list,
    pools,
    normalises_in_place,
    divides_by_its_sum,
    attends,
)


@pytest.mark.parametrize("net", WAYS, ids=lambda one: one.__name__)
def test_nothing_is_lost_on_the_way(net):
    """From the layer `first` on, however the network goes on; each picture as it is alone."""
    x, y = pictures(), [1, 4]
    infomask = InfoMask(lambda x: net(x) + 0 * P.last.bias)
    given = {"view": "relay", "layer": P.first}
    before = x.clone()
    blank = 0.4 * torch.rand_like(x)
    with unchanged(P, x, blank):
        found = infomask.score_regions(x, blank, y, **given)
    assert torch.equal(x, before)
    complete(net, x, found, y, 1e-6, blank, least=0.01)
    for k in range(2):
        alone = infomask.score_regions(x[k : k + 1], blank[k : k + 1], y[k], **given)
        torch.testing.assert_close(found.scores[k], alone.scores[0], rtol=0, atol=1e-9)


class Normed(nn.Module):
    """A layer norm of features that are all alike at the start, where its slope is steep."""

    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 2, stride=2, bias=False)
        self.norm = nn.LayerNorm(6, elementwise_affine=affine)
        self.last, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 5)
        randomise(self, 0.6).double()

    def forward(self, x):
        x = self.norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(torch.tanh(self.last(x)).mean((2, 3)))


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norms_lose_nothing_where_they_are_steep(affine):
    net, x, y = Normed(affine), pictures(height=8, width=8) - 0.5, [1, 4]
    found = InfoMask(net).score_regions(x, target=y, view="relay", layer=net.first)
    complete(net, x, found, y, 1e-12, least=1e-3)
    classes = InfoMask(net).score_classes(x, classes=[1, 4], view="relay", layer=net.first)
    assert torch.equal(classes.scores[0, :, 0], found.scores[0])
    assert torch.equal(classes.scores[1, :, 1], found.scores[1])


@given(
    turn=st.floats(-3, 4),
    rise=st.floats(-3, 5).map(lambda power: 10**power),
    least=st.floats(-6, 3).map(lambda power: 10**power),
)
@settings(max_examples=50, deadline=None)
def test_integralsover_roots(turn, rise, least):
    """Against Gauss–Legendre's rule on pieces that shrink towards where the root turns."""
    given = turn, rise, least
    turn, rise, least = (torch.tensor([each], dtype=torch.float64) for each in given)
    found = over_roots(least + rise * turn**2, rise, turn, least)
    width = math.sqrt(given[2] / given[1])
    cuts = [given[0] + sign * width * 2.0**k for sign in (-1, 1) for k in range(-2, 40)]
    ends = np.array([0.0, *sorted({cut for cut in cuts if 0 < cut < 1}), 1.0])
    points, weights = np.polynomial.legendre.leggauss(40)
    times = ends[:-1, None] + np.diff(ends)[:, None] * (points + 1) / 2
    shares = np.diff(ends)[:, None] * weights / 2
    q = given[2] + given[1] * (times - given[0]) ** 2
    for own, values in zip(
        found, (q**-0.5, q**-1.5, times * q**-1.5, times**2 * q**-1.5), strict=True
    ):
        assert float(own) == pytest.approx((shares * values).sum(), rel=1e-8)


@pytest.mark.parametrize("make", [torchvision_network, timm_network])
def test_attention_is_the_same_at_many_points_at_once(make, monkeypatch):
    net, x = make(), torch.randn(3, 3, 32, 32).double()

    def scores():
        return InfoMask(net).score_classes(x, classes=[0, 1], view="relay").scores

    together = scores()
    monkeypatch.setattr(relay_steps, "_MOST_NUMBERS", 1)
    torch.testing.assert_close(scores(), together, rtol=0, atol=1e-12)
    monkeypatch.setattr(relay_steps, "_PICTURES_OF", {})
    torch.testing.assert_close(scores(), together, rtol=0, atol=1e-12)
    assert together.abs().max() > 1e-3


def test_max_pooling_is_the_same_in_one_go_and_in_several(monkeypatch):
    found = []
    for most in (2**23, 12 * 9 * 6 * 2 * 5, 1):
        monkeypatch.setattr(relay_steps, "_MOST_NUMBERS", most)
        found.append(InfoMask(pools).score_regions(pictures(), target=1, view="relay").scores)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert found[0].abs().max() > 1e-3


def test_what_a_choice_by_value_leaves_is_told():
    """Where a step at the picture goes another way than at the reference, sums fall short."""

    def chooses(x):
        a = P.first(x)
        return P.tail(torch.where(a > 0, a, 0.1 * a))

    x = pictures()
    with pytest.warns(UserWarning, match=r"to no pixel: InfoMap.residual") as said:
        found = InfoMask(chooses).score_regions(x, target=[1, 4], view="relay", layer=P.first)
    assert len(said) == 1
    torch.testing.assert_close(found.explained, read(chooses, x, [1, 4]), rtol=0, atol=1e-6)
    torch.testing.assert_close(painted_sum(found), found.explained - found.residual)
    assert found.residual.abs().min() > 1e-2


def test_what_is_filled_passes_nothing_back():
    """As the same network by a product: what is written over had no say."""

    def multiplied(x):
        a = torch.tanh(P.first(x))
        keep = torch.ones(6).double()
        keep[:2] = 0
        keep = keep[:, None, None]
        return P.tail(a * keep + 0.3 * (1 - keep))

    def filled(x):
        a = torch.tanh(P.first(x))
        a[:, :2] = 0.3
        return P.tail(a)

    x = pictures()
    one, other = (
        InfoMask(net).score_regions(x, target=1, view="relay", layer=P.first)
        for net in (multiplied, filled)
    )
    torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-9)


def test_max_pooling_gives_to_the_largest_for_as_long_as_it_is():
    """Literally, at 4,000 points; windows overlap."""
    net = Steps(
        (["x"], "a", nn.Conv2d(3, 6, 3, padding=1)),
        (["a"], "b", lambda at: F.max_pool2d(at, 3, 2, 1)),
        (["b"], "c", nn.Conv2d(6, 7, 3)),
        (["c"], "d", torch.tanh),
        (["d"], "j", lambda at: at.mean((2, 3))),
        (["j"], "out", nn.Linear(7, 5)),
    )
    x, blank = pictures(1), torch.rand(1, 3, 12, 9).double()
    found = InfoMask(net).score_regions(x, blank, 2, view="relay", layer="layers.0")
    wanted = reference.relay(net.steps, x, blank, 2, "a")
    assert wanted.abs().max() > 0.05
    torch.testing.assert_close(found.scores[0], wanted.flatten(), rtol=0, atol=1e-3)
    assert found.residual.abs().max() < 1e-6


@pytest.mark.parametrize("places", [1, 3])
def test_signals_and_volumes(places):
    conv, pool = (getattr(nn, f"{name}{places}d") for name in ("Conv", "MaxPool"))
    mean = getattr(nn, f"AdaptiveAvgPool{places}d")(1)
    net = nn.Sequential(
        conv(2, 4, 3, padding=1), nn.ReLU(True), pool(2), conv(4, 4, 1), nn.SiLU(), mean,
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    net = randomise(net).double()
    x = torch.rand(2, 2, *(9, 7, 5)[:places]).double()
    found = InfoMask(net).score_regions(x, target=[1, 2], view="relay")
    sizes = [len(one.regions) for one in found.scales()]
    assert sizes == [math.prod((4, 3, 2)[:places]), math.prod((9, 7, 5)[:places])]
    complete(net, x, found, [1, 2], 1e-6)


def test_a_network_without_convolutions():
    """Patches by a linear layer."""

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.last = nn.Linear(27, 6), nn.Linear(6, 5)
            randomise(self, 0.6).double()

        def forward(self, x):
            cut = x.unfold(2, 3, 3).unfold(3, 3, 3).permute(0, 2, 3, 1, 4, 5).flatten(3)
            return self.last(F.gelu(self.body(cut)).mean((1, 2)))

    net, x = Patches(), pictures()
    found = InfoMask(net).score_regions(x, target=[0, 2], view="relay")
    assert found.regions.grid == (4, 3)
    complete(net, x, found, [0, 2], 1e-6)


class Bordered(nn.Module):
    """Normalises its pictures by itself, and puts a border around maps before it convolves."""

    def __init__(self):
        super().__init__()
        self.register_buffer("middle", torch.tensor([0.4, 0.5, 0.6])[:, None, None])
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 7, 3)
        self.last = nn.Linear(7, 5)
        randomise(self, 0.6).double()

    def forward(self, x):
        x = F.pad((x - self.middle) / 0.25, (2, 2, 2, 2), mode="reflect")
        x = torch.tanh(self.first(x))
        x = F.avg_pool2d(x, 2)
        x = torch.tanh(self.second(F.pad(x, (3, 3, 3, 3))))
        return self.last(x.mean((2, 3)))


def test_neither_normalised_pictures_nor_borders_are_maps():
    net, x = Bordered(), pictures()
    found = InfoMask(net).score_regions(x, target=[1, 2], view="relay")
    assert [one.regions.grid for one in found.scales()] == [(11, 9), (14, 11)]
    complete(net, x, found, [1, 2], 1e-6)


@pytest.mark.parametrize("shape", ["(n, 1)", "(n,)"])
@pytest.mark.parametrize("view", ["relay", "evidence"])
def test_networks_of_one_logit(shape, view):
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1),
        *([nn.Flatten(0)] if shape == "(n,)" else []),
    )  # fmt: skip
    randomise(net, 0.5).double()
    x = pictures()
    target = None if shape == "(n,)" else 0
    found = InfoMask(net, head="sigmoid").score_regions(x, target=target, view=view)
    assert found.scores.abs().max() > 1e-3
    if view == "relay":
        complete(net, x, found, [0, 0], 1e-6, head="sigmoid")


class Rectified(nn.Module):
    """ReLUs and affine layers alone, each used once; the first leaves pictures as they are."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 7, 3, stride=2), nn.ReLU(),
        )  # fmt: skip
        self.side = nn.Conv2d(3, 7, 5, stride=2, padding=1)
        self.end = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(140, 9), nn.ReLU())
        self.last = nn.Linear(9, 5)
        randomise(self, 0.6).double()

    def forward(self, x):
        x = self.first(x)
        return self.last(self.end(self.body(x) + self.side(x)))


@pytest.mark.filterwarnings("ignore:Some maps give more than")
@pytest.mark.parametrize("layer", ["first", "body.0", "body.3", "side"])
def test_where_captums_rescale_rule_says_the_same(layer):
    net, x = Rectified(), pictures()
    blank = 0.2 * torch.rand_like(x)
    module = dict(net.named_modules())[layer]
    wanted = LayerDeepLift(net, module).attribute(x, blank, target=[1, 4])
    found = InfoMask(net, head="raw", unit="nats").score_regions(
        x, blank, [1, 4], view="relay", layer=layer
    )
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found.scores, wanted.sum(1).flatten(1), rtol=0, atol=1e-5)


def test_where_the_picture_starts():
    """At zeros, at `baselines`, one for each picture, or at what an imputer makes."""
    net, x = gated(), pictures()
    given = {"view": "relay", "layer": "layers.0"}
    infomask = InfoMask(net)
    each = torch.stack([torch.full_like(x[0], 0.2), torch.rand_like(x[0])])
    starts = {"number": (0.5, torch.full_like(x, 0.5)), "each": (each, each)}
    for told, blank in starts.values():
        found = infomask.score_regions(x, told, [1, 4], **given)
        complete(net, x, found, [1, 4], 1e-6, blank, least=1e-3)
        for k, y in enumerate([1, 4]):
            own = x[k : k + 1], blank[k : k + 1]
            wanted = reference.relay(net.steps, *own, y, "a")
            torch.testing.assert_close(found.scores[k], wanted.flatten(), rtol=0, atol=1e-6)
    blurred = infomask.score_regions(x, target=[1, 4], imputer=Blur(), **given)
    assert not torch.allclose(blurred.scores, found.scores, atol=1e-3)
    assert blurred.residual.abs().max() < 1e-6


def test_pictures_in_chunks_and_alone():
    net, x = attending(), pictures(5)
    given = {"view": "relay", "layer": "layers.0"}
    blanks = 0.1 * torch.rand_like(x)
    y = [0, 1, 2, 3, 4]
    together = InfoMask(net).score_regions(x, blanks, y, **given)
    chunks = InfoMask(net).score_regions(x, blanks, y, **given, perturbations_per_eval=2)
    for k in range(5):
        alone = InfoMask(net).score_regions(x[k : k + 1], blanks[k : k + 1], k, **given)
        for one in (together, chunks):
            torch.testing.assert_close(one.scores[k], alone.scores[0], rtol=0, atol=1e-9)


def test_a_pictures_number_of_points_is_its_own():
    """In float32, where steps may miss bits: company changes nothing but roundings."""
    scales = torch.tensor([0.3, 0.1, 0.5])[:, None, None, None]
    net, x = growing().float(), scales * pictures(3).float()
    given = {"view": "relay", "layer": "layers.0", "target": 1}
    together = InfoMask(net).score_regions(x, **given)
    for k in range(3):
        alone = InfoMask(net).score_regions(x[k : k + 1], **given)
        torch.testing.assert_close(together.scores[k], alone.scores[0], rtol=0, atol=2e-6)


def test_layers_and_sizes():
    net, x = gated(), pictures()
    infomask = InfoMask(net)

    def ask(**options):
        return infomask.score_regions(x, target=3, view="relay", **options)

    with unchanged(net, x):
        first, later = ask(layer=net.layers[0]), ask(layer="layers.2")
        both = ask(layer=["layers.0", net.layers[2]])
    assert not torch.allclose(first.scores, later.scores, atol=1e-2)
    torch.testing.assert_close(both.scores, torch.cat([first.scores, later.scores], 1))
    mean = (first.attributions() + later.attributions()) / 2
    torch.testing.assert_close(both.attributions(), mean)
    sizes = [None, 24, (15, 18), HalfCrops(12)]
    alone = [ask(input_sizes=[size]) for size in sizes]
    together = ask(input_sizes=sizes)
    torch.testing.assert_close(
        together.attributions(), sum(one.attributions() for one in alone) / 4
    )
    torch.testing.assert_close(together.explained, sum(one.explained for one in alone) / 4)
    resized = F.interpolate(x, (24, 24), mode="bilinear", antialias=True)
    own = infomask.score_regions(resized, target=3, view="relay")
    torch.testing.assert_close(alone[1].scores, own.scores)


def test_masks_boxes_files_and_windows(tmp_path):
    net, x = gated(), images(2, 3, 16, 12).double()
    given = {"target": net(x).argmax(1), "view": "relay"}
    found = InfoMask(net).score_regions(x, **given, input_sizes=[None, HalfCrops(12)])
    assert (found.view, "relay" in found.engine) == ("relay", True)
    found.save(tmp_path / "map")
    again = InfoMap.load(tmp_path / "map")
    assert again.view == "relay"
    for name in ("scores", "explained", "residual", "total"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert torch.equal(again.attributions(), found.attributions())
    assert again.mask().shape == InfoMask(net).mask(x, **given).shape == x.shape
    assert len(again.boxes()) == 2
    density = InfoMask(net).attribute(x, **given)[:, 0]
    windows = sliding_windows(x, (3, 5, 4), (3, 3, 2))
    own = InfoMask(net).score_regions(x, **given, regions=windows)
    wanted = [density[:, a:b, c:d].sum((1, 2)) for a, c, b, d in windows.rectangles()[0].tolist()]
    torch.testing.assert_close(own.scores, torch.stack(wanted, 1))


@pytest.mark.filterwarnings("ignore:All outputs lie")  # as an untrained network's may
@pytest.mark.parametrize("name", [*CLASS_TOKEN, *POOLED])
def test_transformers_read_what_their_first_block_reads(name):
    net, x = {**CLASS_TOKEN, **POOLED}[name](), images(1, 3, 32, 32).double()
    with unchanged(net, x):
        found = InfoMask(net).score_regions(x, target=[3], view="relay")
    assert isinstance(found.regions, MapCells)
    assert found.regions.grid == ((4, 8) if "oblong" in name else (4, 4))
    assert found.scores.abs().max() > 1e-3
    torch.testing.assert_close(found.explained, read(net, x, [3]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.scores.sum(1), found.explained - found.residual)
    if name != "timm: largest":  # whose gradient jumps
        assert found.residual.abs().max() < 1e-5


def test_transformers_upon_convolutions_read_their_finest_map():
    stem = [ConvStemConfig(channels, 3, 2) for channels in (6, 8, 10)]
    net, x = torchvision_network(conv_stem_configs=stem), images(1, 3, 32, 32).double()
    found = InfoMask(net).score_regions(x, target=[3], view="relay")
    assert found.regions.grid == (16, 16)
    first = InfoMask(net).score_regions(
        x, target=[3], view="relay", layer="conv_proj.conv_bn_relu_0.0"
    )
    assert torch.equal(found.scores, first.scores)
    torch.testing.assert_close(found.explained, read(net, x, [3]), rtol=0, atol=1e-6)
    assert found.residual.abs().max() < 1e-5


@pytest.mark.parametrize("hidden", [16, 36])  # channels that would make a grid, and tokens of one
def test_tokens_before_an_attention_that_puts_them_first(hidden):
    net, x = torchvision_network(hidden_dim=hidden), images(1, 3, 32, 32).double()
    norm = "encoder.layers.encoder_layer_0.ln_1"
    found = InfoMask(net).score_regions(x, target=[3], view="evidence", layer=norm)
    assert found.regions.grid == (4, 4)


@pytest.mark.filterwarnings("ignore:Some maps give more than")
def test_tokens_without_a_place_are_missing_from_the_sum():
    """A layer behind the first block: the class token has gathered bits, and `residual` says so."""
    net, x = torchvision_network(), images(1, 3, 32, 32).double()
    found = InfoMask(net).score_regions(
        x, target=[3], view="relay", layer="encoder.layers.encoder_layer_1"
    )
    wanted = read(net, x, [3])
    torch.testing.assert_close(found.explained, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.scores.sum(1), wanted - found.residual)
    assert found.residual.abs().max() > 1e-2


def test_dropout_that_is_on_and_inference_mode():
    class Dropping(Parts):
        def forward(self, x):
            return F.dropout(self.plain(x), 0.5, self.training)

    net, x = Parts(), pictures()
    net.forward = net.plain
    wanted = InfoMask(net).attribute(x, target=1, view="relay")
    with torch.inference_mode():
        found = InfoMask(net).attribute(x, target=1, view="relay")
    assert torch.equal(found, wanted)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = randomise(net).double()
    with keep_dropout(net), unchanged(net, x), pytest.warns(UserWarning, match="dropout"):
        refused(
            ("draws random numbers", "eval()", "forward_func"),
            lambda: InfoMask(net).attribute(x, target=1, view="relay"),
        )


def test_a_reference_that_the_network_cannot_read():
    """Zeros have no logarithm; other pictures have."""

    def net(x):
        return P.plain(x.log())

    x = pictures()
    refused(
        ("forward_func", "reference", "baselines="),
        lambda: InfoMask(net).attribute(x, target=1, view="relay"),
    )
    blank = torch.full_like(x, 0.3)
    found = InfoMask(net).score_regions(x, blank, [1, 4], view="relay")
    complete(net, x, found, [1, 4], 1e-6, blank)


def writes_through_a_view(x):
    a = torch.tanh(P.first(x))
    a[:, :2].mul_(2)
    return P.tail(a)


def raises(x):
    raise KeyError("mine")


REFUSED = {
    "an engine": ({"engine": "batched"}, ("`engine`", "'auto'", "relay")),
    "samples": ({"n_samples": 4}, ("`n_samples`", "relay")),
    "a reference": ({"reference": "blank"}, ("`reference`", "relay")),
    "a mixture": ({"overlap": "mixture"}, ("`overlap`", "'mean'", "'mixture'")),
    "a name that is none": ({"layer": "bodi"}, ("`layer`", "'bodi'")),
    "a layer that is no map": ({"layer": "layers.3"}, ("(1, 5)", "no feature map")),
    "sizes that are none": ({"input_sizes": 224}, ("`input_sizes`", "list", "224")),
    "a random imputer": ({"imputer": NormalNoise()}, ("`imputer`", "fixed", "relay")),
    "a crop size": ({"crop_size": (4, 4)}, ("`crop_size`", "crop")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_relay_does_not_take_is_refused_by_name(name):
    options, words = REFUSED[name]
    net, x = gated(), pictures(1)
    with unchanged(net, x):
        refused(words, lambda: InfoMask(net).attribute(x, target=1, view="relay", **options))


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_networks_that_cannot_be_read_are_refused_by_name():
    x = pictures(1)

    def ask(net, shown=x):
        return lambda: InfoMask(net).attribute(shown, target=1, view="relay")

    flat = randomise(nn.Sequential(nn.Flatten(), nn.Linear(324, 5))).double()
    refused(("`inputs`", "(N, C, ...)", "relay", "view='drop'"), ask(flat, torch.rand(1, 9)))
    unseen = lambda x: flat(torch.from_numpy(x.detach().numpy().copy()))  # noqa: E731
    refused(("forward_func", "feature map", "layer=", "view='drop'"), ask(unseen))
    refused(("forward_func", "TorchScript"), ask(torch.jit.trace(gated(), x)))
    refused(("forward_func", "outputs are off"), ask(writes_through_a_view))
    with unchanged(P, x), pytest.raises(KeyError, match="mine"):
        ask(raises)()


@pytest.mark.parametrize("shape", [(3, 24, 16), (1, 7, 11), (2, 13), (1, 6, 5, 4)])
@pytest.mark.parametrize("cells", [1, 2, 3, 5, 9, 17])
def test_the_highest_of_the_cells_that_touch_an_element(shape, cells):
    """As boxes over the same elements are painted; whole pictures, and half crops."""
    cells = min(cells, 7) if len(shape) > 3 else cells
    sides = tuple(cells + (cells > 1) * dim for dim, _ in enumerate(shape[1:]))
    frames = over_picture(shape).frames
    if len(shape) == 3:
        height, width = ((side + 1) // 2 for side in shape[1:])
        corners = [(y, x) for y in (0, shape[1] - height) for x in (0, shape[2] - width)]
        halves = [[[y, y + height], [x, x + width]] for y, x in corners]
        frames = torch.cat([frames, torch.tensor(halves)])
    own = MapCells((shape,), sides, frames)
    masks = own.masks(torch.zeros(len(own)).long(), torch.arange(len(own)), torch.device("cpu"))[0]
    spans = []
    for mask in masks:
        places = mask[0].nonzero()
        low, high = places.amin(0), places.amax(0) + 1
        spans.append([[0, shape[0]], *torch.stack([low, high], 1).tolist()])
    boxes = BoxRegions((shape,), (torch.tensor(spans),))
    scores = torch.randn(2, len(own))
    scores[1] -= 5  # all below zero
    assert torch.equal(own.paint(scores, "max", 1.0)[0], boxes.paint(scores, "max", 1.0)[0])


@pytest.mark.parametrize(
    ("step", "may_draw"),
    [
        (lambda a: F.scaled_dot_product_attention(a, a, a), False),
        (lambda a: F.scaled_dot_product_attention(a, a, a, None, 0.1), True),
        (lambda a: F.scaled_dot_product_attention(a, a, a, dropout_p=0.1), True),
        (lambda a: nn.MultiheadAttention(4, 2, dropout=0.1).eval()(a, a, a)[0], False),
        (lambda a: nn.MultiheadAttention(4, 2).train()(a, a, a)[0], False),
        (lambda a: nn.MultiheadAttention(4, 2, dropout=0.1).train()(a, a, a)[0], True),
        (lambda a: F.dropout(a.mul(2), 0.1, training=False).mul(2), False),
        (lambda a: F.dropout(a, 0.1).mul(2), True),
    ],
)
def test_what_may_draw_is_known_by_its_rate(step, may_draw):
    x = torch.randn(3, 2, 4, requires_grad=True).clone()
    recording = Recording(OwnGenerators(0), "cpu")
    with recording:
        output = step(x)
    assert Replay(recording, x, 0, output).may_draw == may_draw


def test_places_put_in_one_row_with_channels_first_are_found():
    x = images(height=6, width=8)
    flat = lambda x: 9 * x.flatten(2).square().mean(2)  # noqa: E731
    for view in ("evidence", "relay"):
        found = InfoMask(flat).score_regions(x, target=1, view=view)
        assert found.engine == f"{view} (6 × 8 cells)"
        sums = found.attributions()[:, 0].sum((1, 2))
        torch.testing.assert_close(sums, found.explained, atol=1e-3, rtol=0)
        assert found.explained.abs().min() > 0.01


class Merging(nn.Module):
    """Tokens as maps (N, h, w, C), of which four become one, as in Hugging Face's Swin."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(32)

    def forward(self, x):
        maps = self.conv(x).flatten(2).transpose(1, 2).view(len(x), 4, 6, 8)
        parts = [maps[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        merged = torch.cat(parts, -1).view(len(x), 6, 32)
        return self.norm(merged).tanh().mean(1)


@pytest.mark.parametrize(("view", "cells"), [("evidence", "2 × 3"), ("relay", "4 × 6")])
def test_places_put_in_one_row_with_channels_last_are_found(view, cells):
    net, x = randomise(Merging().double(), 0.5), images(height=16, width=24).double()
    found = InfoMask(net).score_regions(x, target=1, view=view)
    assert found.engine == f"{view} ({cells} cells)"
    torch.testing.assert_close(found.scores.sum(1), found.explained, atol=1e-3, rtol=0)
    assert found.explained.abs().min() > 0.01


@pytest.mark.parametrize(
    ("head", "end"), [("probs", nn.Softmax(1)), ("log_probs", lambda x: x.log_softmax(-1))]
)
@pytest.mark.parametrize("layer", [None, "layers.0"])
def test_a_network_that_ends_in_a_softmax_has_the_map_of_its_logits(head, end, layer):
    net, x = gated(), pictures()
    wanted = InfoMask(net).score_regions(x, target=[1, 4], view="relay", layer=layer)

    class Ending(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return end(self.net(x))

    layer = None if layer is None else f"net.{layer}"
    found = InfoMask(Ending(), head=head).score_regions(x, target=[1, 4], view="relay", layer=layer)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-6)
    assert wanted.scores.abs().max() > 1e-2
    assert found.residual.abs().max() < 1e-5


SHIFT = torch.linspace(0.5, 1.5, 6).double().reshape(6, 1, 1)


@pytest.mark.parametrize(
    ("converted", "plain"),
    [
        (lambda at: at * SHIFT.to(at), lambda at: at * SHIFT),
        (lambda at: (at + SHIFT) * SHIFT.type_as(at), lambda at: (at + SHIFT) * SHIFT),
        (lambda at: at.tanh().to(at.sigmoid()).square(), lambda at: at.tanh().square()),
        (lambda at: at * SHIFT.to(tensor=at), lambda at: at * SHIFT),
    ],
)
def test_conversions_to_the_type_they_have_change_nothing(converted, plain):
    x, given = pictures(), {"target": 1, "view": "relay", "layer": "layers.0"}

    def asked(function):
        net = Steps(
            (["x"], "a", nn.Conv2d(3, 6, 3, stride=3)),
            (["a"], "b", function),
            (["b"], "j", lambda at: at.mean((2, 3))),
            (["j"], "out", nn.Linear(6, 5)),
        )
        return InfoMask(net).score_regions(x, **given).scores

    wanted = asked(plain)
    torch.testing.assert_close(asked(converted), wanted, rtol=0, atol=1e-9)
    assert wanted.abs().max() > 1e-3


def test_writing_to_a_constant_is_refused():
    def written(at):
        made = torch.ones(at.shape, dtype=at.dtype)
        made *= at
        return made

    net = Steps(
        (["x"], "a", nn.Conv2d(3, 6, 3, stride=3)),
        (["a"], "b", written),
        (["b"], "j", lambda at: at.mean((2, 3))),
        (["j"], "out", nn.Linear(6, 5)),
    )
    refused(
        ("`forward_func`", "it writes to what mul has read", "view='drop'"),
        lambda: InfoMask(net).score_regions(pictures(), target=1, view="relay"),
    )

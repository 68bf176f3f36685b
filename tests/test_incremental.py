# The incremental engine from end to end: views, imputers, batches, chunks; and what it computes.
import pytest
import torch
from incremental_networks import DTYPE, Layer, Network, scatter
from incremental_views import literal, passes_of, through
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from captum_infomask import (
    Blur,
    ConditionalPatches,
    Constant,
    InfoMask,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    UniformNoise,
    from_boxes,
    from_feature_mask,
    grid,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")

CLOSE = 1e-9
DONORS = torch.randn(9, 3, 11, 9, dtype=DTYPE)


def assert_equal_infomaps(found, wanted):
    assert found.engine == "incremental"
    assert wanted.engine == "batched"
    size = wanted.scores.abs().nan_to_num().max()
    assert size > 1000 * CLOSE
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=CLOSE, equal_nan=True)


@pytest.mark.parametrize("view", ["drop", "keep", "chain"])
@pytest.mark.parametrize(
    "imputer",
    [
        Constant(0.3),
        Constant(torch.linspace(-1, 1, 297, dtype=DTYPE).reshape(1, 3, 11, 9)),
        Blur(1.0),
        LocalMean(),
        NormalNoise(),
        UniformNoise(),
        MarginalPatches(DONORS),
        Inpaint(),
        NoisyLinear(),
        ConditionalPatches(DONORS),
    ],
    ids=lambda imputer: type(imputer).__name__,
)
def test_imputers(net, images, view, imputer):
    arguments = {"target": [1, 3], "view": view, "regions": grid(images, 3, 2)}
    if view == "chain":
        fixed = imputer.draw(0, 0) if hasattr(imputer, "draw") else imputer
        arguments.update(imputer=fixed, n_samples=2)
    else:
        arguments.update(imputer=imputer, n_samples=2 if hasattr(imputer, "draw") else None)
    wanted = InfoMask(net).score_regions(images, engine="batched", **arguments)
    found = InfoMask(net).score_regions(images, engine="incremental", **arguments)
    if found.engine != "incremental":
        assert view != "drop"
        assert found.engine == "batched (what the imputer puts in depends on what is hidden)"
        assert not isinstance(imputer, Constant | Blur | MarginalPatches)
        assert torch.equal(found.scores, wanted.scores)
        return
    assert_equal_infomaps(found, wanted)


@pytest.mark.parametrize("view", ["drop", "keep", "chain"])
def test_a_batch_gives_what_its_images_give_alone_and_chunks_change_nothing(net, images, view):
    labels = torch.randint(0, 4, (2, 1, 11, 9))
    labels[1] = labels[1].clamp(max=2)  # so that the second image lacks a region

    def scores(rows, chunk):
        made = InfoMask(net).score_regions(
            images[rows], target=[1, 3][rows], view=view, n_samples=2 if view == "chain" else None,
            regions=from_feature_mask(images[rows], labels[rows]), engine="incremental",
            perturbations_per_eval=chunk,
        )  # fmt: skip
        assert made.engine == "incremental"
        return made.scores

    both = scores(slice(0, 2), None)
    assert both[1, 3].isnan()
    assert both[:, :3].abs().min() > 1000 * CLOSE
    for chunk in (1, 2, 3):
        torch.testing.assert_close(
            scores(slice(0, 2), chunk), both, rtol=0, atol=1e-12, equal_nan=True
        )
    torch.testing.assert_close(scores(slice(0, 1), None), both[:1], rtol=0, atol=1e-12)
    if view != "chain":  # whose orders differ from image to image
        torch.testing.assert_close(scores(slice(1, 2), None), both[1:, :3], rtol=0, atol=1e-12)


def test_classes(net, images):
    arguments = {"view": "keep", "regions": grid(images, 3, 2)}
    wanted = InfoMask(net).score_classes(images, engine="batched", **arguments)
    found = InfoMask(net).score_classes(images, engine="incremental", **arguments)
    assert wanted.scores.abs().max() > 0.1
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=CLOSE)


class Made(TorchDispatchMode):
    """The elements of all tensors that were made inside."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.elements += sum(t.numel() for t in tree_leaves(result) if torch.is_tensor(t))
        return result


def _parallel(x, a, b):
    return torch.cat([a(x), F.relu(b(x)), x], 1)


def _residual(x, a, norm, b):
    return F.relu(x + b(F.relu(norm(a(x)), inplace=True)), inplace=True)


def _conv_next(x, conv, norm, up, down):
    return x + down(F.gelu(up(norm(conv(x).permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)


def _read_again(x, a, b):
    """Nothing may be written over that is read once more."""
    y, z = a(x), b(x)
    both = y + z
    return F.relu(both) - 0.3 * both + z * y + F.silu(y) - y / 2 + z


def _written(x):
    x = x.clamp_(min=-1)
    x += 1
    return torch.relu_(x.mul_(0.5)) - 0.3 * x.tanh()


def _scaled(x, norm):
    return 1 - x * norm.weight[:, None, None] / 2


KINDS = {
    "convolution": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "depthwise, dilated": lambda: nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
    "even kernel, stride": lambda: nn.Conv2d(4, 4, (2, 4), stride=(2, 1), padding=1),
    "point, stride": lambda: nn.Conv2d(4, 4, 1, stride=2),
    "batch norm": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)),
    "MaxPool2d": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max_pool2d": lambda: Layer("pool", lambda x: F.max_pool2d(x, 2)),
    "AvgPool2d": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "avg_pool2d": lambda: Layer("pool", lambda x: F.avg_pool2d(x, (2, 3), divisor_override=2)),
    "adaptive, divisible": lambda: nn.AdaptiveAvgPool2d((None, 2)),
    "adaptive, identity": lambda: nn.AdaptiveAvgPool2d((None, None)),
    "activations": lambda: nn.Sequential(nn.ReLU6(True), nn.Hardswish(), nn.GELU(), nn.Sigmoid()),
    "functions": lambda: Layer("f", lambda x: F.silu(x.tanh() + 1, inplace=True).abs().neg()),
    "written": lambda: Layer("written", _written),
    "scaled": lambda: Layer("scaled", _scaled, nn.LayerNorm(4)),
    "dropout": lambda: nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.Identity()),
    "residual": lambda: Layer(
        "residual", _residual, nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, 1, 1)
    ),
    "read again": lambda: Layer(
        "read again", _read_again, nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
    ),
    "parallel": lambda: Layer("parallel", _parallel, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 5, 1, 2)),
    "ConvNeXt": lambda: Layer(
        "ConvNeXt", _conv_next, nn.Conv2d(4, 4, 7, 1, 3, groups=4), nn.LayerNorm(4),
        nn.Linear(4, 16), nn.Linear(16, 4),
    ),
    "shared": lambda: nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1)] * 2),
}  # fmt: skip


UNKNOWN = {
    "even kernel, same": lambda: nn.Conv2d(4, 4, (2, 4), padding="same"),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
}


def network(layer):
    """A layer between two convolutions, and a global mean."""
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), layer]
    channels = nn.Sequential(*body)(torch.rand(1, 3, 40, 44)).shape[1]
    head = Layer("head", lambda x, last: last(x.mean((2, 3))), nn.Linear(channels, 5))
    return scatter(Network([*body, nn.Conv2d(channels, channels, 2)], head).eval().to(DTYPE))


WINDOWS = [[x, y, x + 4, y + 4] for y in (0, 5, 17, 36) for x in (0, 4, 13, 21, 33, 40)]


def share_computed(net, view):
    """Elements made per view, as a share of those of a plain pass; and the views' outputs."""
    x = torch.randn(1, 3, 40, 44, dtype=DTYPE)
    elements = []
    for count in (8, 24):  # the difference is free of what is made once for all views
        boxes = from_boxes(x, torch.tensor(WINDOWS[:count]))
        passes = passes_of(net, x, view=view, regions=boxes)
        with Made() as made:
            found = through(passes.engine, passes.plan)
        assert passes.engine.name == "incremental"
        elements.append(made.elements)
    with Made() as plain:
        wanted = literal(net, passes.plan)
    base = literal(net, passes.whole if view == "drop" else passes.blank.plan)
    scale = wanted.abs().max()
    assert (wanted - base).abs().amax(1).min() > 1000 * CLOSE * scale
    assert (found - wanted).abs().max() < CLOSE * scale
    return (elements[1] - elements[0]) / 16 / (plain.elements / 24)


@pytest.mark.parametrize("view", ["drop", "keep"])
@pytest.mark.parametrize("kind", KINDS)
def test_less_is_computed_and_it_is_the_same(kind, view):
    assert share_computed(network(KINDS[kind]()), view) < 0.3


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_it_does_not_know_it_runs_whole(kind):
    assert share_computed(network(UNKNOWN[kind]()), "drop") > 0.5


@pytest.mark.parametrize("view", ["drop", "keep"])
@pytest.mark.parametrize("kind", [*KINDS, *UNKNOWN])
def test_regions_of_nearly_the_whole_picture(kind, view):
    x = torch.randn(2, 3, 15, 14, dtype=DTYPE)
    net = network({**KINDS, **UNKNOWN}[kind]())
    large = [[0, 0, 14, 15], [1, 0, 14, 14], [0, 4, 14, 15], [3, 0, 9, 15]]
    passes = passes_of(net, x, view=view, regions=from_boxes(x, large))
    found, wanted = through(passes.engine, passes.plan), literal(net, passes.plan)
    assert passes.engine.name == "incremental"
    scale = wanted.abs().max()
    assert wanted.std(0).max() > 1000 * CLOSE * scale
    assert (found - wanted).abs().max() < CLOSE * scale

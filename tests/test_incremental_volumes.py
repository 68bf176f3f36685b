# The incremental engine on signals and volumes: what it computes, when it is chosen, real networks.
import warnings

import pytest
import torch
from incremental_layers import BATCH_NORMS, CONVOLUTIONS, to_first, to_last
from incremental_networks import DTYPE, Layer, Network, scatter
from incremental_views import literal, passes_of, through
from test_incremental import CLOSE, Made
from torch import nn
from torch.nn import functional as F

from captum_infomask import InfoMask, from_feature_mask, sliding_windows
from captum_infomask.regions.box_regions import BoxRegions


def some_windows(x, size, count):
    """So many windows of a side, drawn from those at every place."""
    shape = (x.shape[1], *[size] * (x.dim() - 2))
    every = sliding_windows(x, shape, (x.shape[1], *[1] * (x.dim() - 2)))
    rows = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:count]
    return BoxRegions(every.shapes, (every.boxes[0][rows],))


def _residual(x, a, norm, b):
    return F.relu(x + b(F.relu(norm(a(x)), inplace=True)), inplace=True)


def _over_channels(dims):
    def forward(x, norm, up, down):
        return x + to_first(down(F.gelu(up(norm(to_last(x, dims))))), dims)

    return forward


def _transposed(x, norm, last):
    return last(norm(x.transpose(1, 2))).transpose(1, 2)


C = 12  # channels: enough that maps are most of what is made

KINDS = {
    "convolution": lambda conv, dims: conv(C, C, 3, padding=1),
    "depthwise, dilated": lambda conv, dims: conv(C, C, 3, padding="same", dilation=2, groups=C),
    "stride": lambda conv, dims: conv(C, C, (2, 4, 3)[:dims], stride=(2, 1, 2)[:dims], padding=1),
    "point, stride": lambda conv, dims: conv(C, C, 1, stride=2),
    "batch norm": lambda conv, dims: nn.Sequential(nn.ReLU(), BATCH_NORMS[dims](C)),
    "residual": lambda conv, dims: Layer(
        "residual", _residual, conv(C, C, 3, 1, 1), BATCH_NORMS[dims](C), conv(C, C, 3, 1, 1)
    ),
    "concatenation": lambda conv, dims: Layer(
        "concatenation", lambda x, a, b: torch.cat([a(x), b(x)], 1), conv(C, C, 1), conv(C, C, 1)
    ),
    "over channels": lambda conv, dims: Layer(
        "", _over_channels(dims), nn.LayerNorm(C), nn.Linear(C, 8), nn.Linear(8, C)
    ),
}
OF_SIGNALS = {
    "MaxPool1d": lambda: nn.MaxPool1d(3, 2, 1, ceil_mode=True),
    "AvgPool1d": lambda: nn.AvgPool1d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "AdaptiveAvgPool1d": lambda: nn.AdaptiveAvgPool1d(100),
    "transposed": lambda: Layer("", _transposed, nn.LayerNorm(C), nn.Linear(C, C)),
}
OF_VOLUMES = {
    "MaxPool3d": lambda: nn.MaxPool3d((3, 2, 3), 2, (1, 0, 1), ceil_mode=True),
    "AvgPool3d": lambda: nn.AvgPool3d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "avg_pool3d": lambda: Layer("", lambda x: F.avg_pool3d(x, 2, divisor_override=3)),
    "AdaptiveAvgPool3d": lambda: nn.AdaptiveAvgPool3d((None, 9, 10)),
}
CASES = [
    *((dims, name) for dims in (1, 3) for name in KINDS),
    *((1, name) for name in OF_SIGNALS),
    *((3, name) for name in OF_VOLUMES),
]
SHAPES = {1: (1, 3, 400), 3: (1, 2, 19, 18, 20)}
MOST = {1: 0.06, 3: 0.3}  # the share of a view's elements that are computed


@pytest.mark.parametrize("view", ["drop", "keep"])
@pytest.mark.parametrize(("dims", "kind"), CASES)
def test_less_is_computed_and_it_is_the_same(dims, kind, view):
    conv, shape = CONVOLUTIONS[dims], SHAPES[dims]
    layer = KINDS[kind](conv, dims) if kind in KINDS else (OF_SIGNALS | OF_VOLUMES)[kind]()
    body = [conv(shape[1], C, 3, padding=1), nn.ReLU(inplace=True), layer]
    channels = nn.Sequential(*body)(torch.rand(shape)).shape[1]
    over = tuple(range(2, dims + 2))
    head = Layer("head", lambda x, last: last(x.mean(over)), nn.Linear(channels, 5))
    net = scatter(Network([*body, conv(channels, channels, 2)], head).eval().to(DTYPE))
    x = torch.randn(shape, dtype=DTYPE)
    elements = []
    for count in (4, 20):  # the difference is free of what is made once for all views
        regions = some_windows(x, 2, count)
        passes = passes_of(net, x, view=view, regions=regions)
        with Made() as made:
            found = through(passes.engine, passes.plan)
        assert passes.engine.name == "incremental"
        elements.append(made.elements)
    with Made() as plain:
        wanted = literal(net, passes.plan)
    scale = wanted.abs().max()
    assert wanted.std(0).min() > 1000 * CLOSE * scale
    assert (found - wanted).abs().max() < CLOSE * scale
    assert (elements[1] - elements[0]) / 16 < MOST[dims] * plain.elements / 20


@pytest.mark.parametrize("dims", [1, 3])
def test_regions_of_any_shape(dims):
    shape = SHAPES[dims]
    x = torch.randn(2, *shape[1:], dtype=DTYPE)
    labels = torch.randint(0, 4, (2, 1, *shape[2:]))
    labels[:, :, : shape[2] // 2] = 0
    conv, over = CONVOLUTIONS[dims], tuple(range(2, dims + 2))
    head = Layer("head", lambda x, last: last(x.tanh().mean(over)), nn.Linear(4, 5))
    net = scatter(Network([conv(shape[1], 4, 3)], head).eval().to(DTYPE))
    given = {"target": 1, "view": "drop", "regions": from_feature_mask(x, labels)}
    found = InfoMask(net).score_regions(x, engine="incremental", **given)
    wanted = InfoMask(net).score_regions(x, engine="batched", **given)
    assert found.engine == "incremental"
    assert wanted.scores.abs().min() > 1000 * CLOSE
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=CLOSE)


class Of2d(nn.Module):
    """A signal's places and channels pooled together, as those of a picture without channels."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv1d(3, 4, 3), nn.Linear(2, 5)

    def forward(self, x):
        return self.last(F.max_pool2d(self.first(x), 2).mean(2))


def test_functions_of_other_dimensions_are_no_windows_over_places():
    """PyTorch's ``max_pool2d`` takes (N, C, T) for one picture of N channels."""
    net, x = scatter(Of2d().eval().to(DTYPE)), torch.randn(2, 3, 200, dtype=DTYPE)
    passes = passes_of(net, x, view="drop", regions=some_windows(x, 3, 6))
    found, wanted = through(passes.engine, passes.plan), literal(net, passes.plan)
    assert passes.engine.name == "incremental"
    assert wanted.std(0).min() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dims", "size", "chosen"), [(1, 30, True), (3, 4, True), (3, 23, False)])
def test_auto_takes_what_saves_enough(dims, size, chosen):
    shape = {1: (1, 2, 60000), 3: (1, 1, 24, 24, 24)}[dims]
    conv, x = CONVOLUTIONS[dims], torch.randn(shape)
    over = tuple(range(2, dims + 2))
    layers = [conv(shape[1], 8, 3, padding=1), nn.ReLU(), *[conv(8, 8, 3, padding=1)] * 3]
    net = Network(layers, Layer("head", lambda x, last: last(x.mean(over)), nn.Linear(8, 5)))
    regions = some_windows(x, size, 100) if size < 23 else some_windows(x, size, 8)
    views = 1 + 8 * 3 * 224 * 224 // (x.numel() * len(regions))
    rows = torch.cat([regions.boxes[0]] * views)
    result = InfoMask(net.eval()).score_regions(
        x, target=1, view="drop", regions=BoxRegions(regions.shapes, (rows,))
    )
    assert result.engine.startswith("incremental" if chosen else "batched (its predicted gain is")


def monai_densenet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import DenseNet121
    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=5), (32, 32, 32), 1


def monai_resnet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import resnet18
    return resnet18(spatial_dims=3, n_input_channels=1, num_classes=5), (24, 24, 24), 1


def video_resnet():
    from torchvision.models.video import r3d_18

    return r3d_18(num_classes=5), (8, 32, 32), 3


@pytest.mark.slow
@pytest.mark.parametrize("make", [monai_densenet, monai_resnet, video_resnet])
def test_real_networks_of_volumes(make):
    """In float64: batch norms over the few places of these maps enlarge what float32 rounds."""
    torch.manual_seed(0)
    net, sides, channels = make()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None
            module.reset_running_stats()
    net, x = net.to(DTYPE), torch.randn(1, channels, *sides, dtype=DTYPE)
    with torch.no_grad():
        net.train()(torch.randn(4, channels, *sides, dtype=DTYPE))
    passes = passes_of(net.eval(), x, view="drop", regions=some_windows(x, 6, 5))
    found, wanted = through(passes.engine, passes.plan), literal(net, passes.plan)
    assert passes.engine.name == "incremental"
    with torch.no_grad():
        effects = (wanted - net(x)).abs().amax(1)
    scale = wanted.abs().max()
    assert effects.min() > 1e-3 * scale
    assert (found - wanted).abs().max() < 1e-10 * scale

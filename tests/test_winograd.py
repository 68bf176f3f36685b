# Winograd's 3 × 3 convolution against the plain one, and where it is chosen.
import pytest
import torch
from incremental_networks import Layer, Network
from incremental_views import literal, passes_of, through
from torch import nn
from torch.nn import functional as F

from captum_infomask import Incremental, from_boxes
from captum_infomask.engines.incremental.boxes import Shape, padded
from captum_infomask.engines.incremental.windowed_operations import (
    Convolution,
    Winograd,
    suits,
    wins,
)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 7, 8, 13])
@pytest.mark.parametrize("width", [1, 3, 4, 6, 9])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_convolution(height, width, bias):
    maps = torch.randn(3, 5, height + 2, width + 2, dtype=torch.float64)
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64)
    shift = 10 * torch.randn(7, dtype=torch.float64) if bias else None
    before = maps.clone(), weight.clone()
    wanted = F.conv2d(maps, weight, shift)
    found = Winograd.of(weight, shift)(maps)
    assert found.shape == wanted.shape == (3, 7, height, width)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max()
    assert torch.equal(maps, before[0])
    assert torch.equal(weight, before[1])


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 4, 4), (5, 8, 3), (4, 9, 13), (40, 5, 6)])
def test_it_is_the_convolution_of_volumes(slices, size):
    depth, height, width = size
    maps = torch.randn(4, 5, depth + slices - 1, height + 2, width + 2, dtype=torch.float64)
    weight = torch.randn(7, 5, slices, 3, 3, dtype=torch.float64)
    shift = 10 * torch.randn(7, dtype=torch.float64)
    before = maps.clone()
    wanted = F.conv3d(maps, weight, shift)
    last = torch.channels_last_3d
    for given in (maps, maps.contiguous(memory_format=last)):
        found = Winograd.of(weight, shift)(given)
        assert found.shape == wanted.shape == (4, 7, *size)
        assert found.is_contiguous(memory_format=last)
        assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max()
    assert torch.equal(maps, before)


def test_memory_formats_do_not_matter():
    maps = torch.randn(2, 6, 11, 10, dtype=torch.float64)
    weight = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    wanted = F.conv2d(maps, weight)
    last = torch.channels_last
    for these in (maps, maps.contiguous(memory_format=last), maps.flip(3).flip(3)):
        for those in (weight, weight.contiguous(memory_format=last)):
            found = Winograd.of(those, None)(these)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [128, 512])
def test_the_error_in_single_precision(channels):
    """Measured: 8e-6 of the largest value, where plain convolutions err by 1e-6 to 2.5e-6."""
    maps = torch.randn(4, channels, 14, 15)
    weight = torch.randn(64, channels, 3, 3) / channels**0.5
    wanted = F.conv2d(maps.double(), weight.double())
    found = Winograd.of(weight, None)(maps)
    assert found.dtype == torch.float32
    off = (found - wanted).abs().max() / wanted.abs().max()
    assert 1e-8 < off < 2e-5  # not exact, or it would be a plain convolution


def test_what_it_suits():
    assert suits(torch.empty(128, 128, 3, 3))
    assert not suits(torch.empty(127, 128, 3, 3))
    assert not suits(torch.empty(128, 127, 3, 3))
    assert not suits(torch.empty(128, 128, 3, 3, dtype=torch.float64))
    assert not suits(torch.empty(128, 128, 3, 3, dtype=torch.bfloat16))


def test_where_it_wins():
    assert wins(32, 4, 4)
    assert not wins(31, 4, 4)  # too few tiles
    assert wins(1, 24, 24)
    assert not wins(1, 20, 20)
    assert not wins(32, 5, 5)  # four tiles for little more than one
    assert not wins(1000, 1, 1)
    assert not wins(0, 4, 4)


WIDE = torch.ones(128, 128, 3, 3)


@pytest.mark.parametrize(
    ("weight", "shape", "groups", "made"),
    [
        (WIDE, Shape.of(2, 3, 1, 1), 1, True),
        (WIDE, Shape.of(2, 3, 1, (0, 2)), 1, True),
        (WIDE, Shape.of(2, 3, (2, 1), 1), 1, False),
        (WIDE, Shape.of(2, 3, 1, 1, 2), 1, False),
        (WIDE[:, :64], Shape.of(2, 3, 1, 1), 2, False),
        (torch.ones(128, 128, 3, 1), Shape.of(2, (3, 1), 1, (1, 0)), 1, False),
        (WIDE[:, :, None].expand(-1, -1, 3, -1, -1), Shape.of(3, 3, 1, 1), 1, True),
        (WIDE[:, :, None], Shape.of(3, (1, 3, 3), 1, (0, 1, 1)), 1, True),
        (WIDE[:, :, None].expand(-1, -1, 3, -1, -1), Shape.of(3, 3, (2, 1, 1), 1), 1, False),
        (WIDE[:, :, None].expand(-1, -1, 3, -1, -1), Shape.of(3, 3, 1, 1, (2, 1, 1)), 1, False),
        (WIDE[..., None], Shape.of(3, (3, 3, 1), 1, 1), 1, False),
        (WIDE[..., 0], Shape.of(1, 3, 1, 1), 1, False),
        (torch.ones(128, 128, 5, 5), Shape.of(2, 5, 1, 2), 1, False),
    ],
)
def test_which_convolutions_have_it(weight, shape, groups, made):
    both = [Convolution.of(weight, None, shape, groups, winograd=on) for on in (True, False)]
    assert (both[0].winograd is not None) == made
    assert both[1].winograd is None


@pytest.mark.parametrize(
    ("sides", "padding"),
    [*(((12, 13), p) for p in (0, 1, 2, (0, 2))), *(((3, 8, 9), p) for p in (1, (0, 1, 2)))],
)
def test_whole_maps_and_windows_of_them(sides, padding):
    dims = len(sides)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims](128, 128, 3, padding=padding)
    maps, shape = torch.randn(4, 128, *sides), Shape.of(dims, 3, 1, padding)
    made = Convolution.of(conv.weight.data, conv.bias.data, shape, 1, winograd=True)
    calls = []
    object.__setattr__(made, "winograd", _counting(made.winograd, calls))
    with torch.no_grad():
        wanted = conv(maps)
        scale = wanted.abs().max()
        assert (made.whole(maps) - wanted).abs().max() < 2e-5 * scale
        around = padded(maps, shape.padding, shape.padding, 0.0)
        assert (made.apply(around, (1,) * dims) - wanted).abs().max() < 2e-5 * scale
    assert len(calls) == 2


def _counting(function, calls):
    def count(maps):
        calls.append(tuple(maps.shape))
        return function(maps)

    return count


def test_the_engine_with_it_and_without(monkeypatch):
    torch.manual_seed(3)
    body = [
        nn.Conv2d(3, 128, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
        nn.ReLU(),
    ]
    net = Network(body, Layer("head", lambda x, last: last(x.mean((2, 3))), nn.Linear(128, 5)))
    x, corners = torch.randn(1, 3, 30, 31), [0, 9, 18]
    regions = from_boxes(x, [[j, i, j + 12, i + 12] for i in corners for j in (*corners, 19)])
    used = []
    plain = Winograd.__call__
    monkeypatch.setattr(Winograd, "__call__", lambda w, maps: used.append(1) or plain(w, maps))
    found = {}
    for on in (True, False):
        passes = passes_of(net.eval(), x, Incremental(winograd=on), view="drop", regions=regions)
        found[on] = through(passes.engine, passes.plan)
        assert bool(used) == on
        assert passes.engine.name == "incremental"
        used.clear()
    wanted = literal(net.double(), passes_of(net, x.double(), view="drop", regions=regions).plan)
    scale = wanted.abs().max()
    effect = (wanted - net(x.double())).abs().amax(1).min()
    assert effect > 1000 * 1e-6 * scale
    assert not torch.equal(found[True], found[False])
    for each in found.values():
        assert (each - wanted).abs().max() < 1e-6 * scale


def test_small_maps_are_convolved_plainly():
    weight = torch.randn(128, 128, 3, 3)
    made = Convolution.of(weight, None, Shape.of(2, 3, 1), 1, winograd=True)
    assert made.weight is weight
    small = torch.randn(1, 128, 5, 5)
    assert torch.equal(made.apply(small, (1, 1)), F.conv2d(small, weight))

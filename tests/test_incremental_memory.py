# The incremental engine's memory: a base's activations and a chunk, however many windows there are.
import pytest
import torch
from test_engine_memory import LiveBytes
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_infomask import Incremental, InfoMask


class Activations(TorchDispatchMode):
    """The bytes of all values that a network makes of its input."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = result[0] if isinstance(result, tuple) else result  # a pool gives indices too
        if not func.is_view:
            self.bytes += made.numel() * made.element_size()
        return result


def vgg_like():
    layers, channels = [], 3
    for width in (16, 16, 0, 32, 32, 0, 64, 64, 0):
        if not width:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 64, 5)).eval()


@pytest.mark.slow
@pytest.mark.parametrize("view", ["drop", "keep"])
@pytest.mark.parametrize("chunk", [1, 8, None])
def test_memory_is_the_base_and_a_chunk(view, chunk):
    net, x = vgg_like(), torch.randn(1, 3, 64, 64)
    with torch.no_grad(), Activations() as base:
        net(x)
    with torch.no_grad(), LiveBytes() as one:
        net(x)

    def peak(stride):
        with LiveBytes() as memory:
            infomap = InfoMask(net).score_regions(
                x, target=0, view=view, sliding_window_shapes=(3, 8, 8),
                strides=(3, stride, stride), perturbations_per_eval=chunk,
                engine=Incremental(winograd=False),
            )  # fmt: skip
        assert infomap.engine == "incremental"
        return memory.peak, infomap.scores.shape[1]

    few, count = peak(8)
    many, larger = peak(6)
    assert (count, larger) == (64, 121)
    assert few > 0.5 * base.bytes  # so the count is of the right things
    views = {1: 0, 8: 4, None: 32}[chunk]  # none where the base's own pass takes more than a chunk
    assert many < 1.5 * base.bytes + views * one.peak / 4  # boxes, far from whole maps
    if chunk is not None:
        # Some numbers per window, never a map each. Boxes of several views have other sizes.
        boxes = one.peak / 2 if chunk > 1 else 0
        assert many - few < 500 * (larger - count) + boxes

# Networks that end in a global average pooling, written in many ways, and what they must give.
from __future__ import annotations

from typing import Any

import torch
from tiny import randomise
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode


class Pooling(nn.Module):
    """Features, a pooling that subclasses write in their own way, a linear layer; five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 7, 3, padding=1),
            nn.Tanh(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(7, 5)
        randomise(self).double()

    def features(self, x: Tensor) -> Tensor:
        """The last feature map."""
        return self.body(x)

    def tail(self, v: Tensor) -> Tensor:
        """What follows the pooling, of vectors (V, C)."""
        return self.last(v)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.pool(self.features(x)).flatten(1)))


class Pointwise(Pooling):
    """No mixing of places: what a region gives does not depend on what lies around it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Tanh(), nn.Conv2d(6, 7, 1), nn.Tanh())
        randomise(self).double()


class Viewed(Pooling):
    """As the demo's network: the batch size is read from the input."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        return self.last(self.pool(self.body(x)).view(n, -1))


class Unpacked(Pooling):
    """The batch size and the channels are read from the map."""

    def forward(self, x: Tensor) -> Tensor:
        f = self.body(x)
        n, channels, _, _ = f.shape
        return self.last(f.mean((2, 3)).view(n, channels))


class ByFunction(Pooling):
    """As DenseNet and MobileNetV2."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.flatten(F.adaptive_avg_pool2d(self.body(x), (1, 1)), 1))


class KeptDimensions(Pooling):
    """A mean that keeps its dimensions, counted from the end."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.mean(self.body(x), dim=[-2, -1], keepdim=True).flatten(1))


class Deep(Pooling):
    """An end that is not linear: norm, activation in place, a part with a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(7)
        self.wide = nn.Sequential(nn.Conv2d(7, 7, 1), nn.Tanh())
        randomise(self).double()

    def tail(self, v: Tensor) -> Tensor:
        return self.last(self.norm(F.relu(self.wide(v[:, :, None, None]))[:, :, 0, 0]))

    def forward(self, x: Tensor) -> Tensor:
        v = self.wide(self.pool(self.body(x)))
        v.relu_()
        return self.last(self.norm(v.squeeze(-1).squeeze(-1)))


class Squeezed(Pooling):
    """A squeeze-and-excitation block pools on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(7, 7, 1)
        randomise(self).double()

    def features(self, x: Tensor) -> Tensor:
        f = self.body(x)
        return f * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(f, 1)))


class Inside(Pooling):
    """As SqueezeNet: the pooling is in a part that has convolutions; no linear layer follows."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(7, 5, 1), nn.Tanh(), nn.AdaptiveAvgPool2d((1, 1))
        )
        randomise(self).double()

    def features(self, x: Tensor) -> Tensor:
        return self.classifier[:3](self.body(x))

    def tail(self, v: Tensor) -> Tensor:
        return v

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.body(x)), 1)


class Wrapped(Pooling):
    """As a fitted critic: a network in a network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Pooling()

    def features(self, x: Tensor) -> Tensor:
        return self.network.features(x)

    def tail(self, v: Tensor) -> Tensor:
        return self.network.tail(v) / 2.5

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) / 2.5


class Restless(Pooling):
    """Counts in a buffer, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.seen: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.seen = x
        return super().forward(x)


NETWORKS = (
    Pooling,
    Pointwise,
    Viewed,
    Unpacked,
    ByFunction,
    KeptDimensions,
    Deep,
    Squeezed,
    Inside,
    Wrapped,
    Restless,
)


def region_features(f: Tensor, region: Tensor) -> Tensor:
    """The mean of a map (C, h, w) over a region (H, W), both cut into H·h × W·w like pieces."""
    (height, width), (h, w) = region.shape, f.shape[1:]
    inside = region.repeat_interleave(h, 0).repeat_interleave(w, 1)
    pieces = f.repeat_interleave(height, 1).repeat_interleave(width, 2)
    return pieces[:, inside].mean(1)


class Convolutions(TorchDispatchMode):
    """Counts the pictures that go through convolutions with three channels: forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.convolution and args[1].shape[1] == 3:
            self.pictures.append(len(args[0]))
        return func(*args, **(kwargs or {}))

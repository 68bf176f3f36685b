# Networks small enough to run hundreds of times, pictures to show them, and a stub that counts.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

VIEWS = ("crop", "keep", "drop", "chain")
WINDOWS: dict[str, Any] = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}


def images(n: int = 2, channels: int = 3, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width, generator=generator) + 0.1


def randomise(model: nn.Module, scale: float = 1.0, seed: int = 0) -> nn.Module:
    """Give every parameter a random value, so that the model's classes answer differently."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


class Net(nn.Module):
    """Five classes, pictures of any size, batch normalisation, dropout: all that can move."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(24, 5)
        randomise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        return self.head(self.dropout(x))


def two_inputs(x: Tensor, y: Tensor) -> Tensor:
    """Three classes of two inputs with two elements each."""
    weight = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, -1.0], [0.0, 0.2, 0.4], [1.0, 1.0, -1.0]])
    return 3 * torch.tanh(torch.cat([x.flatten(1), y.flatten(1)], dim=1)) @ weight


class Counting:
    """A forward function that counts how often it is called."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.forward(*args)

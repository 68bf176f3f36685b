# A small network with batch norms, whose layers are called in another order than registered.
from __future__ import annotations

import torch
from torch import nn


class Deep(nn.Module):
    """Logits (N, 3) of pictures (N, 3, H, W)."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.never = nn.Linear(1, 1)
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 4.0]))

    def forward(self, x):
        return self.scale * self.head(self.second(self.first(x)).mean((2, 3)))


def deep_network():
    """The network in eval mode, with statistics of noise."""
    model = Deep()
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 16, 16))
    return model.eval()

# Networks to copy, and networks that cannot be; what the batched engine makes of them.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tiny import WINDOWS
from torch import Tensor, nn

from captum_infomask import Constant, InfoMask, grid
from captum_infomask.views.view_plan import Scene, ViewPlan, region_pairs


class Block(nn.Module):
    """What there is to fold and to write in place: norms, an activation, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(6)])
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 5)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
            for layer in (self.first, self.second, self.head):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
            self.second.weight.mul_(0.2)
        self.eval()

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        x = self.relu(self.norms[0](self.first(x)))
        out = self.norms[1](self.second(x))
        out += x
        return self.head(self.relu(out).mean((2, 3)))


class Scaled(Block):
    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return super().forward(x) * scale


class Remembers(Block):
    """Keeps what passes through it, and makes a table when it first runs."""

    table: Tensor | None = None
    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = self.head.bias.detach() * 2
        self.last = super().forward(x) + self.table
        return self.last


class Noisy(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-9 * torch.rand_like(x[:, :1, 0, 0])


class Learns(Block):
    """Says something else while it is traced: what a control flow that tracing misses would do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 if isinstance(x, Tensor) else 1.001)


class Branches(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > -1e9 else x


class Nan(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / (x[:, :1, 0, 0] * 0)


def bits(net: Callable[..., Any], x: Tensor, view: str = "drop", **changed: Any) -> Tensor:
    given = {"target": 1, "view": view, "perturbations_per_eval": 1, **WINDOWS, **changed}
    return InfoMask(net).score_regions(x, **given).scores


def plan_of(x: Tensor, rows: int = 4) -> ViewPlan:
    scene = Scene((x,), grid(x, rows, 4), Constant(0.0).prepare((x,)))
    return ViewPlan(scene, "region", *region_pairs(scene))

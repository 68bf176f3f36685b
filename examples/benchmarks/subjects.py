# A network, a picture, and the windows to score: all of a grid, or a part of them.
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from captum_infomask import sliding_windows
from captum_infomask.regions.box_regions import BoxRegions

TARGET = 1


@dataclass(frozen=True, eq=False)
class Subject:
    """What contenders are timed on.

    Attributes:
        name: The network's name.
        network: The network.
        picture: The picture, (1, 3, H, H).
        window: The windows' side in pixels.
        stride: Pixels from one window to the next.
        count: How many of the windows, drawn at random; all of them if None.
    """

    name: str
    network: nn.Module
    picture: Tensor
    window: int
    stride: int
    count: int | None = None

    @cached_property
    def windows(self) -> BoxRegions:
        """The windows to score."""
        channels = self.picture.shape[1]
        shape = (channels, self.window, self.window)
        every = sliding_windows(self.picture, shape, (channels, self.stride, self.stride))
        return every if self.count is None else drawn(every, self.count)

    def part(self, count: int) -> Subject:
        """The same with some of the windows, drawn at random."""
        return self if count == len(self.windows) else replace(self, count=count)

    def tiled(self, count: int) -> Subject:
        """The same with so many windows, a square number, side by side."""
        side = math.ceil(self.picture.shape[2] / math.isqrt(count))
        return replace(self, window=side, stride=side, count=None)


def drawn(windows: BoxRegions, count: int) -> BoxRegions:
    """Some windows at random, the same ones every time, in their order."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(windows), generator=generator)[:count].sort().values
    return BoxRegions(windows.shapes, (windows.boxes[0][rows],))

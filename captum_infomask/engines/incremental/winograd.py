# 3 × 3 convolutions with 4 multiplications in place of 16: Winograd's F(4 × 4, 3 × 3).
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# The algorithm of the points 0, ±1, ±2 and ∞ (Lavin & Gray, arXiv 1509.09308).
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
_TILE, _READ, _POINTS = 4, 6, 36

# Where it wins, measured with one CPU thread (docs/results/speed.md): many channels, enough tiles
# to fill a matrix product, and few elements that are computed in tiles but lie outside the map.
_LEAST_CHANNELS, _LEAST_TILES, _LEAST_SAVING = 128, 32, 1.6


@dataclass(frozen=True, eq=False)
class Winograd:
    """A 3 × 3 convolution of stride 1, by tiles of 4 × 4.

    Attributes:
        weight: Transformed weights, (36, C_in, C_out).
        bias: (C_out,), or None.
    """

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Winograd:
        """Transform weights (C_out, C_in, 3, 3), in double precision."""
        both = _pairs(_WEIGHT, weight)
        columns = weight.detach().double().permute(2, 3, 1, 0).reshape(9, -1)
        made = (both @ columns).view(_POINTS, weight.shape[1], weight.shape[0])
        return cls(made.to(weight.dtype).contiguous(), bias)

    def __call__(self, padded: Tensor) -> Tensor:
        """Convolve maps (V, C, h + 2, w + 2), padded already: (V, C_out, h, w), channels last."""
        height, width = padded.shape[2] - 2, padded.shape[3] - 2
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        more = (0, 0, 0, columns * _TILE - width, 0, rows * _TILE - height)
        maps = F.pad(padded.permute(0, 2, 3, 1), more).contiguous()
        views, _, _, channels = maps.shape
        s = maps.stride()
        tiles = maps.as_strided(
            (_READ, _READ, views, rows, columns, channels),
            (s[1], s[2], s[0], _TILE * s[1], _TILE * s[2], s[3]),
        ).reshape(_POINTS, -1)
        read = (_pairs(_INPUT, maps).to(maps.dtype) @ tiles).view(_POINTS, -1, channels)
        products = torch.bmm(read, self.weight).view(_POINTS, -1)
        written = _pairs(_OUTPUT, maps).to(maps.dtype) @ products
        out = written.view(_TILE, _TILE, views, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        out = out.reshape(views, rows * _TILE, columns * _TILE, -1)[:, :height, :width]
        if self.bias is not None:
            out = out + self.bias
        return out.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def suits(weight: Tensor) -> bool:
    """Whether a convolution has the channels and the precision for it."""
    return weight.dtype == torch.float32 and min(weight.shape[:2]) >= _LEAST_CHANNELS


def wins(views: int, height: int, width: int) -> bool:
    """Whether it takes less time than a plain convolution of maps that give this size."""
    tiles = -(-height // _TILE) * -(-width // _TILE)
    saving = 9 * height * width / (_POINTS * tiles)
    return views * tiles >= _LEAST_TILES and saving >= _LEAST_SAVING


def _pairs(matrix: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """A transform of rows and columns at once, as one matrix in double precision."""
    one = torch.tensor(matrix, dtype=torch.float64, device=like.device)
    return torch.kron(one, one)

# Windows moved over maps in which only boxes change: convolutions (also Winograd's) and pools.
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask.engines.incremental.boxes import (
    Box,
    BoxTable,
    Frame,
    Shape,
    Size,
    Spans,
    frame,
    ones,
    padded,
    through_window,
)
from captum_infomask.engines.incremental.operations import Base, Border, Place


@dataclass(frozen=True, eq=False)
class Window:
    """A convolution or a pool.

    Attributes:
        shape: The moves of the window.
        around: The value around the map.
        apply: A function of maps, with all that windows read, and of a stride.
        whole: A function of whole maps.
        cost: The number of multiplications per element.
        factors: A factor for each position, as a map of one channel; None for no factor.
    """

    shape: Shape
    around: float
    apply: Callable[[Tensor, Size], Tensor]
    whole: Callable[[Tensor], Tensor]
    cost: float
    factors: BoxTable | None = None

    def border(self, place: Place) -> Border | None:
        """Return a border as wide as the last windows reach."""
        if self._is_point:
            return None
        beyond = self.shape.beyond(place.before, place.after)
        return Border(self.shape.padding, beyond, self.around)

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """Return every window that reads a change."""
        return through_window(spans[0], self.shape, place.after)

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """Return the results of the windows that read a change."""
        (box,) = boxes
        if box.frame is None:
            return Box(self.whole(box.values), None)
        if self._is_point:
            return Box(self.apply(box.values, self.shape.stride), box.frame)
        chosen = frame(spans, place.after)
        if chosen is None:
            return Box(self.whole(base.whole(place.inputs[0], box)), None)
        return Box(self._boxes(box, base, place, chosen), chosen)

    @property
    def _is_point(self) -> bool:
        """Whether boxes are all that is read."""
        return self.shape.is_point and self.factors is None

    def _boxes(self, box: Box, base: Base, place: Place, chosen: Frame) -> Tensor:
        """Cut the windows of each view's frame."""
        stride, reach, every = self.shape.stride, self.shape.reach, ones(chosen.size)
        step = every
        size = tuple((n - 1) * s + r for n, s, r in zip(chosen.size, stride, reach, strict=True))
        if reach == every:
            size, stride, step = chosen.size, every, stride
        origin = chosen.origin * np.array(self.shape.stride) - np.array(self.shape.padding)
        read = Frame(origin, size)
        values = self.apply(base.window(place.inputs[0], box, self.around, read, step), stride)
        if self.factors is None:
            return values
        factors = self.factors.window(None, chosen.origin, chosen.size, every)
        return values.mul_(factors.movedim(-1, 1))


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
_AT_ONCE = 1 << 16  # kernels that are transformed together, in double precision

# It is faster with many channels, with enough tiles to fill a matrix product, and with few elements
# that are computed in tiles but lie outside the map: measured with one CPU thread
# (docs/results/speed.md).
_LEAST_CHANNELS, _LEAST_TILES, _LEAST_SAVING = 128, 32, 1.6
# So many rows of a matrix product make up for reading its weights; what more views make would not
# stay in the cache.
_ROWS = 128


@dataclass(frozen=True, eq=False)
class Winograd:
    """A convolution of stride 1, 3 × 3 in the last two dimensions of places, by tiles of 4 × 4.

    A kernel of volumes has several slices of 3 × 3. The results of the slices are summed.

    Attributes:
        weight: Transformed weights of each slice of the kernel, (slices, 36, C_in, C_out).
        bias: (C_out,), or None.
    """

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Winograd:
        """Transform weights (C_out, C_in, 3, 3) or (C_out, C_in, k, 3, 3), in double precision."""
        slices = [weight] if weight.dim() == 4 else weight.unbind(2)
        both = _pairs(_WEIGHT, weight)
        made = weight.new_empty(len(slices), _POINTS, weight.shape[1], weight.shape[0])
        for own, each in zip(made.view(len(slices), _POINTS, -1), slices, strict=True):
            columns = each.detach().permute(2, 3, 1, 0).reshape(9, -1).split(_AT_ONCE, 1)
            for some, part in zip(own.split(_AT_ONCE, 1), columns, strict=True):
                some.copy_(both @ part.double())
        return cls(made, bias)

    def __call__(self, maps: Tensor) -> Tensor:
        """Convolve maps (V, C, ...) that are padded already: (V, C_out, ...), channels last."""
        volumes = (maps if maps.dim() == 5 else maps.unsqueeze(2)).permute(0, 2, 3, 4, 1)
        views, depth, height, width, _ = volumes.shape
        size = depth - len(self.weight) + 1, height - 2, width - 2
        out = volumes.new_empty(views, *size, self.weight.shape[-1])
        at_once = -(-_ROWS // (size[0] * _tiles(*size[1:])))
        for some, made in zip(volumes.split(at_once), out.split(at_once), strict=True):
            made.copy_(self._convolved(some, size))
        if self.bias is not None:
            out += self.bias
        out = out.permute(0, 4, 1, 2, 3)
        return out if maps.dim() == 5 else out.squeeze(2)

    def _convolved(self, volumes: Tensor, size: Size) -> Tensor:
        """Convolve a few volumes (V, depth, h + 2, w + 2, C) of one size."""
        depth, height, width = size
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        more = (0, 0, 0, columns * _TILE - width, 0, rows * _TILE - height)
        maps = F.pad(volumes, more).contiguous()
        views, slices, _, _, channels = maps.shape
        s = maps.stride()
        tiles = maps.as_strided(
            (_READ, _READ, slices, views, rows, columns, channels),
            (s[2], s[3], s[1], s[0], _TILE * s[2], _TILE * s[3], s[4]),
        ).reshape(_POINTS, -1)
        read = (_pairs(_INPUT, maps).to(maps.dtype) @ tiles).view(_POINTS, slices, -1, channels)
        first, *others = self.weight
        products = torch.bmm(read[:, :depth].flatten(1, 2), first)
        for number, weight in enumerate(others, start=1):
            products.baddbmm_(read[:, number : number + depth].flatten(1, 2), weight)
        written = _pairs(_OUTPUT, maps).to(maps.dtype) @ products.view(_POINTS, -1)
        out = written.view(_TILE, _TILE, depth, views, rows, columns, -1)
        out = out.permute(3, 2, 4, 0, 5, 1, 6).reshape(
            views, depth, rows * _TILE, columns * _TILE, -1
        )
        return out[:, :, :height, :width]


def suits(weight: Tensor) -> bool:
    """Whether a convolution has the channels and the precision for Winograd's form."""
    return weight.dtype == torch.float32 and min(weight.shape[:2]) >= _LEAST_CHANNELS


def wins(squares: int, height: int, width: int) -> bool:
    """Whether it is faster than a plain convolution of as many squares, with results of this size.

    A square is one view of a picture, or one slice of a volume that meets one slice of a kernel.
    """
    tiles = _tiles(height, width)
    saving = 9 * height * width / (_POINTS * tiles)
    return squares * tiles >= _LEAST_TILES and saving >= _LEAST_SAVING


def _tiles(height: int, width: int) -> int:
    return -(-height // _TILE) * -(-width // _TILE)


def _pairs(matrix: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """Return a transform of rows and columns at once, as one matrix in double precision."""
    one = torch.tensor(matrix, dtype=torch.float64, device=like.device)
    return torch.kron(one, one)


@dataclass(frozen=True, eq=False)
class Convolution:
    """Fixed weights, and Winograd's form of them if that is faster.

    Attributes:
        weight: (C_out, C_in / groups, ...), with a kernel of 1, 2 or 3 dimensions.
        bias: (C_out,), or None.
        shape: The moves of its window.
        groups: The number of groups of channels.
        may_winograd: Whether it has the shape for Winograd's form and is allowed to take it.
    """

    weight: Tensor
    bias: Tensor | None
    shape: Shape
    groups: int
    may_winograd: bool

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, shape: Shape, groups: int, *, winograd: bool
    ) -> Convolution:
        """Hold weights; ``winograd`` allows Winograd's form if that can be faster."""
        fits = (
            len(shape.kernel) > 1
            and shape.kernel[-2:] == (3, 3)
            and shape.kernel == shape.reach
            and max(*shape.stride, groups) == 1
        )
        return cls(weight, bias, shape, groups, winograd and fits and suits(weight))

    @cached_property
    def winograd(self) -> Winograd | None:
        """Winograd's form, made when it is first needed."""
        return Winograd.of(self.weight, self.bias) if self.may_winograd else None

    @property
    def cost(self) -> float:
        """The number of multiplications per element that it makes."""
        return float(self.weight[0].numel())

    def apply(self, maps: Tensor, stride: Size) -> Tensor:
        """Convolve maps that are padded already."""
        fast = self._winograd_for(maps, (0,) * len(stride))
        return self._plain(maps, stride, 0) if fast is None else fast(maps)

    def whole(self, maps: Tensor) -> Tensor:
        """Convolve whole maps."""
        padding = self.shape.padding
        fast = self._winograd_for(maps, padding)
        if fast is not None:
            return fast(padded(maps, padding, padding, 0.0))
        return self._plain(maps, self.shape.stride, padding)

    def _plain(self, maps: Tensor, stride: Size, padding: Size | int) -> Tensor:
        convolve = _CONVOLVE[maps.dim() - 2]
        weight, dilation = self.weight, self.shape.dilation
        return convolve(maps, weight, self.bias, stride, padding, dilation, self.groups)

    def _winograd_for(self, maps: Tensor, padding: Size) -> Winograd | None:
        if not self.may_winograd:
            return None
        *depth, height, width = (
            n + 2 * p - k + 1
            for n, p, k in zip(maps.shape[2:], padding, self.shape.kernel, strict=True)
        )
        squares = len(maps) * math.prod(depth) * math.prod(self.shape.kernel[:-2])
        return self.winograd if wins(squares, height, width) else None


_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def max_pool(shape: Shape, *, ceil_mode: bool) -> Window:
    """Return the largest element of each window; elements around the map are never the largest."""
    pool = _MAX_POOL[len(shape.kernel)]

    def apply(maps: Tensor, stride: Size) -> Tensor:
        return pool(maps, shape.kernel, stride, 0, shape.dilation)

    def whole(maps: Tensor) -> Tensor:
        return pool(maps, shape.kernel, shape.stride, shape.padding, shape.dilation, ceil_mode)

    return Window(shape, float("-inf"), apply, whole, shape.area)


def average_pool(shape: Shape, settings: tuple[Any, ...], like: Tensor) -> Window:
    """Return the mean of each window, for any divisor.

    Zeros around the map and the full window's divisor make the mean wrong at the border, by a
    factor that depends only on the position. The pool of a whole map of ones gives the factor.

    Args:
        shape: The moves of the window.
        settings: PyTorch's further arguments of the pool: ``ceil_mode``, ``count_include_pad`` and
            perhaps ``divisor_override``.
        like: A map (1, C, ...) of the kind that it takes.
    """
    pool = _AVERAGE_POOL[len(shape.kernel)]

    def apply(maps: Tensor, stride: Size) -> Tensor:
        return pool(maps, shape.kernel, stride)

    def whole(maps: Tensor) -> Tensor:
        return pool(maps, shape.kernel, shape.stride, shape.padding, *settings)

    ones_like = torch.ones_like(like[:1, :1])
    wanted = whole(ones_like)
    after = tuple(wanted.shape[2:])
    beyond = shape.beyond(tuple(like.shape[2:]), after)
    plain = apply(padded(ones_like, shape.padding, beyond, 0.0), shape.stride)
    used = (slice(None), slice(None), *map(slice, after))
    factors = (wanted / plain[used]).movedim(1, -1)
    table = BoxTable(factors.contiguous(), (0,) * len(after), after)
    is_plain = bool((factors == 1).all())
    return Window(shape, 0.0, apply, whole, shape.area, None if is_plain else table)

# Windows moved over maps of which only boxes change: convolutions and pools.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from captum_infomask.engines.incremental.base import Base, Border
from captum_infomask.engines.incremental.boxes import Box, Table
from captum_infomask.engines.incremental.operations import Place
from captum_infomask.engines.incremental.spans import (
    Frame,
    Pair,
    Shape,
    Spans,
    frame,
    through_window,
)


@dataclass(frozen=True, eq=False)
class Window:
    """A convolution or a pool.

    Attributes:
        shape: How the window moves.
        around: What is around the map.
        apply: From maps with all that windows read, and a stride.
        whole: From whole maps.
        cost: Multiplications per element.
        factors: What each position is multiplied by, as a map of one channel; None for nothing.
    """

    shape: Shape
    around: float
    apply: Callable[[Tensor, Pair], Tensor]
    whole: Callable[[Tensor], Tensor]
    cost: float
    factors: Table | None = None

    def border(self, place: Place) -> Border | None:
        """As far as the last windows reach."""
        shape = self.shape
        if self._is_point:
            return None
        top, left = shape.padding
        bottom, right = shape.beyond(place.before, place.after)
        return Border(top, bottom, left, right, self.around)

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """Every window that reads what changes."""
        return through_window(spans[0], self.shape, place.after)

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """What the windows that read a change give."""
        (box,) = boxes
        if box.frame is None:
            return Box(self.whole(box.values), None)
        if self._is_point:
            return Box(self.apply(box.values, (1, 1)), box.frame)
        chosen = frame(spans, place.after)
        if chosen is None:
            return Box(self.whole(base.whole(place.inputs[0], box)), None)
        return Box(self._boxes(box, base, place, chosen), chosen)

    @property
    def _is_point(self) -> bool:
        """Whether boxes are all that is read."""
        return self.shape.is_point and self.factors is None

    def _boxes(self, box: Box, base: Base, place: Place, chosen: Frame) -> Tensor:
        """The windows of each view's frame."""
        stride, reach = self.shape.stride, self.shape.reach
        step = (1, 1)
        size = tuple((n - 1) * s + r for n, s, r in zip(chosen.size, stride, reach, strict=True))
        if reach == (1, 1):
            size, stride, step = chosen.size, (1, 1), stride
        origin = chosen.origin * np.array(self.shape.stride) - np.array(self.shape.padding)
        read = Frame(origin, (size[0], size[1]))
        values = self.apply(base.window(place.inputs[0], box, self.around, read, step), stride)
        if self.factors is None:
            return values
        factors = self.factors.window(None, chosen.origin, chosen.size, (1, 1))
        return values.mul_(factors.permute(0, 3, 1, 2))

# What operations of a network do to maps of which only boxes change.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from captum_infomask.engines.incremental.base import Base, Border
from captum_infomask.engines.incremental.boxes import Box
from captum_infomask.engines.incremental.spans import Frame, Pair, Spans, frame, union
from captum_infomask.engines.traced_network import Node


@dataclass(frozen=True, eq=False)
class Place:
    """Where an operation stands in its network.

    Attributes:
        inputs: The nodes whose maps it takes.
        alone: Per input, whether nothing else reads it, so that it may be written over.
        before: Height and width of the maps it takes.
        after: Height and width of the map it makes.
    """

    inputs: tuple[Node, ...]
    alone: tuple[bool, ...]
    before: Pair
    after: Pair


class Operation(Protocol):
    """An operation that makes a map of which only boxes change."""

    @property
    def cost(self) -> float:
        """Multiplications per element that it makes."""
        ...

    def border(self, place: Place) -> Border | None:
        """What it reads of its inputs' base; None if nothing."""
        ...

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """What changes in the map that it makes."""
        ...

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """What the views show of the map that it makes; ``spans`` is where it changes."""
        ...


@dataclass(frozen=True, eq=False)
class Pointwise:
    """Each position by itself: activations, normalisation by fixed statistics, scaling.

    Attributes:
        apply: From (V, C, h, w) to the same, perhaps with other channels.
        over: The same, written over its input; None where there is no such function.
        cost: Multiplications per element.
    """

    apply: Callable[[Tensor], Tensor]
    over: Callable[[Tensor], Tensor] | None = None
    cost: float = 0.0

    def border(self, place: Place) -> Border | None:
        """Nothing but the boxes is read."""
        return None

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """Nothing spreads."""
        return spans[0]

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """The same boxes, in place where nobody else needs them."""
        (box,) = boxes
        owned = box.owned and place.alone[0]
        if owned and self.over is not None:
            return Box(self.over(box.values), box.frame)
        values = self.apply(box.values)
        return Box(values, box.frame, owned or values.data_ptr() != box.values.data_ptr())


@dataclass(frozen=True, eq=False)
class Join:
    """Maps of one size taken together, position by position: sums, products, concatenation.

    Attributes:
        combine: From the maps' values, (V, C, h, w) each.
        over: Where there are two and they commute, the same written over the first; else None.
        cost: Multiplications per element.
    """

    combine: Callable[..., Tensor]
    over: Callable[[Tensor, Tensor], Tensor] | None = None
    cost: float = 0.0

    def border(self, place: Place) -> Border | None:
        """Boxes are filled up to the frame that holds all of them."""
        return Border()

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """What changes in any of the maps."""
        return union(list(spans))

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """Boxes that hold what changes in any of the maps."""
        chosen = _frame(boxes, place, spans)
        values, owned = [], []
        for node, box, alone in zip(place.inputs, boxes, place.alone, strict=True):
            as_it_is = box.frame is chosen or _same(box.frame, chosen)
            owned.append(not as_it_is or (box.owned and alone))
            if as_it_is:
                values.append(box.values)
            elif chosen is None:
                values.append(base.whole(node, box))
            else:
                values.append(base.window(node, box, None, chosen))
        if self.over is not None and any(owned) and values[0] is not values[1]:
            first = owned.index(True)
            return Box(self.over(values[first], values[1 - first]), chosen)
        return Box(self.combine(*values), chosen)


def _frame(boxes: Sequence[Box], place: Place, spans: Spans) -> Frame | None:
    """The boxes' own frame where one holds all that changes, else a new one."""
    frames = [box.frame for box in boxes]
    if any(each is None for each in frames):
        return None
    biggest = max((each for each in frames if each is not None), key=lambda each: each.area)
    return biggest if biggest.covers(spans) else frame(spans, place.after)


def _same(one: Frame | None, other: Frame | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.size == other.size and bool(np.array_equal(one.origin, other.origin))


@dataclass(frozen=True, eq=False)
class GlobalMean:
    """The mean over all positions, from the base's mean and what changes: no longer a map.

    Attributes:
        apply: From whole maps (V, C, H, W), to whatever shape.
    """

    apply: Callable[[Tensor], Tensor]
    cost = 1.0

    def border(self, place: Place) -> Border | None:
        """The base's own values where boxes lie."""
        return Border()

    def run(self, box: Box, base: Base, place: Place) -> Tensor:
        """Means of what the views show."""
        (node,) = place.inputs
        if box.frame is None or base.bases is not None:
            return self.apply(base.whole(node, box))
        height, width = place.before
        changed = box.values - base.within(node, box.frame)
        before = self.apply(base.map(node))
        means = changed.sum((2, 3)).div_(height * width)
        return before + means.view(-1, *before.shape[1:])

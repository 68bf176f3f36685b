# Operations on maps in which only boxes change, and the base picture around the boxes.
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from captum_infomask.engines.incremental.boxes import (
    Box,
    BoxTable,
    Frame,
    Points,
    Size,
    Spans,
    frame,
    ones,
    padded,
    union,
    window_of,
)
from captum_infomask.engines.traced_network import Node


@dataclass(frozen=True)
class Border:
    """The border that an operation reads around a map.

    Attributes:
        before: The elements before the map, in each dimension of places; () for none.
        beyond: The elements behind the map, in each dimension of places; () for none.
        value: The value there; None if there is no border.
    """

    before: Size = ()
    beyond: Size = ()
    value: float | None = None


@dataclass(frozen=True, eq=False)
class Base:
    """The maps of one base picture, or of several.

    Attributes:
        tables: For each node that is read, the map by the value around it (None if there is none).
        bases: The base of each view of a chunk, (V,); None if all have the first.
    """

    tables: dict[Node, dict[float | None, BoxTable]]
    bases: Points | None = None

    def table(self, node: Node, value: float | None = None) -> BoxTable:
        """Return a node's map, surrounded by ``value`` if any."""
        found = self.tables[node]
        return next(iter(found.values())) if value is None else found[value]

    def window(self, node: Node, box: Box, value: float | None, frame: Frame, step: Size) -> Tensor:
        """Return windows of a node's map as the views show it, (V, C, ...)."""
        table = self.table(node, value)
        return window_of(box, table, self.bases, frame.origin, frame.size, step)

    def map(self, node: Node) -> Tensor:
        """Return the base's own map of a node, (B, C, ...)."""
        return self.table(node).map

    def within(self, node: Node, frame: Frame) -> Tensor:
        """Return the base's own values in each view's frame, (V, C, ...)."""
        window = self.table(node).window(self.bases, frame.origin, frame.size, ones(frame.size))
        return window.movedim(-1, 1)

    def whole(self, node: Node, box: Box) -> Tensor:
        """Return whole maps as the views show them, (V, C, ...)."""
        if box.frame is None:
            return box.values
        table, origin = self.table(node), np.zeros_like(box.frame.origin)
        return window_of(box, table, self.bases, origin, table.size, ones(table.size))

    def repeated(self, count: int) -> Base:
        """Repeat the same base several times; each copy can change by itself."""
        tables = {
            node: {
                value: replace(table, values=torch.cat([table.values] * count))
                for value, table in found.items()
            }
            for node, found in self.tables.items()
        }
        return Base(tables, np.arange(count))

    def write(self, node: Node, box: Box) -> None:
        """If each view has its own base, write the view's box of a node into that base."""
        if self.bases is not None:
            for table in self.tables.get(node, {}).values():
                table.write(self.bases, box)


def tables_of(values: Tensor, borders: Iterable[Border]) -> dict[float | None, BoxTable]:
    """Return tables of maps (B, C, ...) that serve every border that is read."""
    size = tuple(values.shape[2:])
    channels_last = values.movedim(1, -1)
    by_value: dict[float | None, list[Border]] = {}
    for border in borders:
        by_value.setdefault(border.value, []).append(border)
    if len(by_value) > 1:
        by_value.pop(None, None)
    tables = {}
    for value, same in by_value.items():
        made, before = channels_last, (0,) * len(size)
        if value is not None:
            before = _largest(border.before for border in same)
            beyond = _largest(border.beyond for border in same)
            made = padded(channels_last, (*before, 0), (*beyond, 0), value)
        tables[value] = BoxTable(made.contiguous(), before, size)
    return tables


def _largest(sizes: Iterable[Size]) -> Size:
    return tuple(map(max, zip(*sizes, strict=True)))


@dataclass(frozen=True, eq=False)
class Place:
    """The place of an operation in its network.

    Attributes:
        inputs: The nodes whose maps it takes.
        alone: For each input, whether nothing else reads it, so it may be overwritten.
        before: The lengths of the maps it takes.
        after: The lengths of the map it makes; () if it makes none.
    """

    inputs: tuple[Node, ...]
    alone: tuple[bool, ...]
    before: Size
    after: Size


class Operation(Protocol):
    """An operation that makes a map in which only boxes change."""

    @property
    def cost(self) -> float:
        """The number of multiplications per element that it makes."""
        ...

    def border(self, place: Place) -> Border | None:
        """Return the border that it reads around its inputs' base; None if it reads none."""
        ...

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """Return the changes in the map that it makes."""
        ...

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """Return the views' boxes in the map that it makes; ``spans`` is the part that changes."""
        ...


@dataclass(frozen=True, eq=False)
class Pointwise:
    """Operations on each position by itself: activations, fixed normalisation, scaling.

    Attributes:
        apply: A function from (V, C, ...) to the same shape, perhaps with other channels.
        over: The same function, which overwrites its input; None if there is no such function.
        cost: The number of multiplications per element.
    """

    apply: Callable[[Tensor], Tensor]
    over: Callable[[Tensor], Tensor] | None = None
    cost: float = 0.0

    def border(self, place: Place) -> Border | None:
        """Return None: only the boxes are read."""
        return None

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """Return the spans of the input: nothing spreads."""
        return spans[0]

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """Return the same boxes, in place if nothing else needs them."""
        (box,) = boxes
        owned = box.owned and place.alone[0]
        if owned and self.over is not None:
            return Box(self.over(box.values), box.frame)
        values = self.apply(box.values)
        return Box(values, box.frame, owned or values.data_ptr() != box.values.data_ptr())


@dataclass(frozen=True, eq=False)
class Join:
    """Join maps of one size, position by position: sums, products, concatenation.

    Attributes:
        combine: A function of the maps' values, (V, C, ...) each.
        over: If there are two maps and they commute, the same function, which overwrites the first;
            else None.
        cost: The number of multiplications per element.
    """

    combine: Callable[..., Tensor]
    over: Callable[[Tensor, Tensor], Tensor] | None = None
    cost: float = 0.0

    def border(self, place: Place) -> Border | None:
        """Fill boxes up to the frame that holds all of them."""
        return Border()

    def spread(self, spans: Sequence[Spans], place: Place) -> Spans:
        """Return the changes in any of the maps."""
        return union(list(spans))

    def run(self, boxes: Sequence[Box], base: Base, place: Place, spans: Spans) -> Box:
        """Return boxes that hold the changes in any of the maps."""
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
                values.append(base.window(node, box, None, chosen, ones(chosen.size)))
        if self.over is not None and any(owned) and values[0] is not values[1]:
            first = owned.index(True)
            return Box(self.over(values[first], values[1 - first]), chosen)
        return Box(self.combine(*values), chosen)


def _frame(boxes: Sequence[Box], place: Place, spans: Spans) -> Frame | None:
    """Return the boxes' own frame if one holds all changes, else a new one."""
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
    """The mean over all positions, from the base's mean and the changes. It is no longer a map.

    Attributes:
        apply: A function from whole maps (V, C, ...) to any shape.
    """

    apply: Callable[[Tensor], Tensor]
    cost = 1.0

    def border(self, place: Place) -> Border | None:
        """Read the base's own values under the boxes."""
        return Border()

    def run(self, box: Box, base: Base, place: Place) -> Tensor:
        """Return the means of the views' maps."""
        (node,) = place.inputs
        if box.frame is None or base.bases is not None:
            return self.apply(base.whole(node, box))
        changed = box.values - base.within(node, box.frame)
        before = self.apply(base.map(node))
        means = changed.sum(tuple(range(2, changed.dim()))).div_(math.prod(place.before))
        return before + means.view(-1, *before.shape[1:])

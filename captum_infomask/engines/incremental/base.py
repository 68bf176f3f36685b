# The base picture's activations, from which views are filled up.
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from captum_infomask.engines.incremental.boxes import Box, Table, window_of
from captum_infomask.engines.incremental.spans import Frame, Pair, Points
from captum_infomask.engines.traced_network import Node


@dataclass(frozen=True)
class Border:
    """What an operation reads around a map: rows, columns and the value that stands there."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    value: float | None = None


@dataclass(frozen=True, eq=False)
class Base:
    """The maps of one base picture, or of several.

    Attributes:
        tables: Per node that is read, the map by the value around it (None where nothing is).
        bases: The base of each view of a chunk, (V,); None where all have the first.
    """

    tables: dict[Node, dict[float | None, Table]]
    bases: Points | None = None

    def table(self, node: Node, value: float | None = None) -> Table:
        """A node's map, surrounded by ``value`` if any."""
        found = self.tables[node]
        return next(iter(found.values())) if value is None else found[value]

    def window(
        self, node: Node, box: Box, value: float | None, frame: Frame, step: Pair = (1, 1)
    ) -> Tensor:
        """Windows of a node's map as the views show it, (V, C, h, w)."""
        table = self.table(node, value)
        return window_of(box, table, self.bases, frame.origin, frame.size, step)

    def map(self, node: Node) -> Tensor:
        """The base's own map of a node, (B, C, H, W)."""
        return self.table(node).map

    def within(self, node: Node, frame: Frame) -> Tensor:
        """The base's own values in each view's frame, (V, C, h, w)."""
        window = self.table(node).window(self.bases, frame.origin, frame.size, (1, 1))
        return window.permute(0, 3, 1, 2)

    def whole(self, node: Node, box: Box) -> Tensor:
        """Whole maps as the views show them, (V, C, H, W)."""
        if box.frame is None:
            return box.values
        table = self.table(node)
        return window_of(box, table, self.bases, np.zeros_like(box.frame.origin), table.size)

    def repeated(self, count: int) -> Base:
        """The same base several times, each to be changed by itself."""
        tables = {
            node: {
                value: replace(table, values=table.values.repeat(count, 1, 1, 1))
                for value, table in found.items()
            }
            for node, found in self.tables.items()
        }
        return Base(tables, np.arange(count))

    def write(self, node: Node, box: Box) -> None:
        """Where each view has its own base, make what it shows of a node part of that."""
        if self.bases is not None:
            for table in self.tables.get(node, {}).values():
                table.write(self.bases, box)


def tables_of(values: Tensor, borders: Iterable[Border]) -> dict[float | None, Table]:
    """Tables of maps (B, C, H, W) that serve every border that is read."""
    size = (values.shape[2], values.shape[3])
    channels_last = values.permute(0, 2, 3, 1)
    by_value: dict[float | None, list[Border]] = {}
    for border in borders:
        by_value.setdefault(border.value, []).append(border)
    if len(by_value) > 1:
        by_value.pop(None, None)
    tables = {}
    for value, same in by_value.items():
        top, bottom = max(b.top for b in same), max(b.bottom for b in same)
        left, right = max(b.left for b in same), max(b.right for b in same)
        made = channels_last
        if value is not None:
            made = F.pad(channels_last, (0, 0, left, right, top, bottom), value=value)
        tables[value] = Table(made.contiguous(), (top, left), size)
    return tables

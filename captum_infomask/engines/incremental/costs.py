# What views cost, counted in multiplications before any of them is run.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from captum_infomask.engines.incremental.network import BoxNetwork
from captum_infomask.engines.incremental.spans import NEARLY_ALL, Spans
from captum_infomask.engines.traced_network import Node

Lengths = NDArray[np.int64]  # (..., S, 2): height and width of what changes at each of S steps

# The time of writing and reading an element, of reading a weight and of calling an operation, in
# multiplications: measured with one CPU thread (docs/results/speed.md).
_ELEMENT, _WEIGHT, _CALL = 24.0, 50.0, 4e6


@dataclass(frozen=True, eq=False)
class CostModel:
    """What a network's steps cost.

    Attributes:
        nodes: The nodes whose maps change in boxes, S of them.
        sizes: Height and width of their maps, (S, 2).
        channels: Channels of their maps, (S,).
        per_position: Cost of each position of their maps, (S,).
        rest: Cost of a view's other steps.
        fixed: Cost of a chunk, however many views it has.
    """

    nodes: tuple[Node, ...]
    sizes: NDArray[np.int64]
    channels: NDArray[np.int64]
    per_position: NDArray[np.float64]
    rest: float
    fixed: float

    @classmethod
    def of(cls, network: BoxNetwork) -> CostModel:
        """Count a network's operations."""
        known = network.known
        nodes, per_position = [network.input], [0.0]
        rest = fixed = 0.0
        for step in network.steps:
            weights = _weights(step.node, known.modules)
            fixed += _CALL + _WEIGHT * weights
            if step.node in known.maps and step.found is not None:
                nodes.append(step.node)
                cost = step.found[0].operation.cost + _ELEMENT
                per_position.append(cost * known.channels(step.node))
            elif step.node in known.samples:
                shape = known.samples[step.node].shape
                rest += weights * shape[2:].numel() + _ELEMENT * shape.numel()
        sizes = np.array([known.size(node) for node in nodes])
        channels = np.array([known.channels(node) for node in nodes])
        return cls(tuple(nodes), sizes, channels, np.array(per_position), rest, fixed)

    @property
    def whole(self) -> float:
        """A view of which everything is computed."""
        return float((self.per_position * self.sizes.prod(1)).sum()) + self.rest

    def lengths(self, spans: Mapping[Node, Spans]) -> Lengths:
        """Height and width of what changes in every view at every step, (V, S, 2)."""
        lengths: Lengths = np.stack(
            [spans[node][:, 2:] - spans[node][:, :2] for node in self.nodes], axis=1
        )
        return lengths

    def per_view(self, lengths: Lengths) -> NDArray[np.float64]:
        """A view in a chunk whose boxes have these sizes: (..., S, 2) → (...)."""
        costs: NDArray[np.float64] = (self._areas(lengths) * self.per_position).sum(-1)
        return costs + self.rest

    def chunk(self, lengths: Lengths) -> float:
        """Views (V, S, 2) that run together, in boxes that suit all of them."""
        return self.fixed + len(lengths) * float(self.per_view(lengths.max(axis=0)))

    def elements(self, lengths: Lengths) -> int:
        """The elements of the largest map that any view makes."""
        return int((self._areas(lengths.max(axis=0)) * self.channels).max())

    def _areas(self, lengths: Lengths) -> NDArray[np.int64]:
        """Positions that are computed: those of boxes, or of whole maps where boxes nearly are."""
        areas, positions = lengths.prod(-1), self.sizes.prod(1)
        computed: NDArray[np.int64] = np.where(areas >= NEARLY_ALL * positions, positions, areas)
        return computed


def _weights(node: Node, modules: Mapping[str, nn.Module]) -> int:
    if node.op != "call_module":
        return 0
    return sum(weight.numel() for weight in modules[str(node.target)].parameters())

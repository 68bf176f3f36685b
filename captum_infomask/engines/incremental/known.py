# What is known of a traced network before its nodes are recognised, and what recognising gives.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from captum_infomask.engines.incremental.operations import GlobalMean, Operation, Pointwise
from captum_infomask.engines.incremental.spans import Pair
from captum_infomask.engines.traced_network import Node

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)

# The time of an exponential or an error function, in multiplications: measured with one CPU thread.
EXPONENTIAL = 50.0


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a network before its nodes are recognised.

    Attributes:
        modules: By name.
        constants: Values that do not depend on the picture, by node.
        samples: Per node a tensor of the shape, device and precision that one picture gives.
        maps: Per node that is a map, whether channels are its last dimension.
        winograd: Whether convolutions may take Winograd's form.
    """

    modules: Mapping[str, nn.Module]
    constants: Mapping[Node, Any]
    samples: Mapping[Node, Tensor]
    maps: Mapping[Node, bool]
    winograd: bool

    def is_map(self, value: object) -> bool:
        """Whether a value is a map's node."""
        return isinstance(value, Node) and value in self.maps

    def alike(self, values: Sequence[object]) -> tuple[Node, ...] | None:
        """The values, if they are maps of one size and layout."""
        nodes = tuple(v for v in values if isinstance(v, Node) and self.is_map(v))
        kinds = {(self.maps[node], self.size(node)) for node in nodes}
        return nodes if len(nodes) == len(values) and len(kinds) == 1 else None

    def size(self, node: Node) -> Pair:
        """Height and width of a map."""
        shape = self.samples[node].shape
        return (shape[1], shape[2]) if self.maps[node] else (shape[2], shape[3])

    def channels(self, node: Node) -> int:
        """Channels of a map."""
        return self.samples[node].shape[3 if self.maps[node] else 1]

    def in_layout(self, node: Node, function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        """A function of a map in the network's layout, as one of (V, C, h, w)."""
        if not self.maps[node]:
            return function
        return lambda values: function(values.permute(TO_LAST)).permute(TO_FIRST)


@dataclass(frozen=True, eq=False)
class Found:
    """A recognised node.

    Attributes:
        operation: What it does.
        inputs: The maps that it takes.
        channels_last: Whether channels are the last dimension of the map that it makes.
    """

    operation: Operation | GlobalMean
    inputs: tuple[Node, ...]
    channels_last: bool


def pointwise(
    known: Known,
    x: Node,
    apply: Callable[[Tensor], Tensor],
    over: Callable[[Tensor], Tensor] | None = None,
    cost: float = 0.0,
) -> Found:
    """A node that treats each position by itself, in its input's layout."""
    in_place = None if over is None else known.in_layout(x, over)
    return Found(Pointwise(known.in_layout(x, apply), in_place, cost), (x,), known.maps[x])

# A traced network's nodes, evaluated one by one.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_infomask.engines.traced import StandsAside, check_writes
from captum_infomask.engines.traced_network import Node, TracedNetwork


class Graph:
    """A traced network whose nodes can be evaluated one by one.

    Attributes:
        modules: By name.
        readers: How many nodes read each node's value.
        input: The node of the picture.
        output: The node of what the network returns.
        constants: The values of nodes that do not depend on the picture.
        changing: The other nodes, in order, without the picture's own.
    """

    def __init__(self, network: TracedNetwork) -> None:
        self._network = network
        self.modules, self.readers = network.modules, network.readers
        self.input, self.output = _ends(network)
        self.constants: dict[Node, Any] = {}
        self.changing: list[Node] = []
        for node in network.nodes:
            if node.op in ("placeholder", "output"):
                continue
            if all(each in self.constants for each in node.inputs):
                self.constants[node] = self.call(node, self.constants.__getitem__)
            else:
                self.changing.append(node)

    def call(self, node: Node, value: Callable[[Node], Any]) -> Any:
        """Evaluate a node, given the values of those that it reads."""
        return self._network.call(node, value)

    def values(self, picture: Tensor) -> dict[Node, Any]:
        """Every value that depends on the picture, (1, C, H, W)."""
        values: dict[Node, Any] = {
            self.input: picture.contiguous(memory_format=torch.channels_last)
        }
        for node in self.changing:
            values[node] = self.call(
                node,
                lambda each: self.constants[each] if each in self.constants else values[each],
            )
            check_writes(self._network, node, values)
        return values


def asks_for_shape(node: Node) -> bool:
    """Whether a node reads a tensor's shape alone."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and node.args[1] in ("shape", "ndim")


def _ends(network: TracedNetwork) -> tuple[Node, Node]:
    """The nodes of the picture and of the output."""
    placeholders = [node for node in network.nodes if node.op == "placeholder"]
    output = network.nodes[-1].args[0]
    if len(placeholders) != 1:
        raise StandsAside("the network takes more than one input")
    if not isinstance(output, Node):
        raise StandsAside("the network returns more than a tensor")
    return placeholders[0], output

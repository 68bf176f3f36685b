# A traced network's nodes, evaluated one by one.
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from captum_infomask.engines.traced import StandsAside


class Graph:
    """A traced network whose nodes can be evaluated one by one.

    Attributes:
        modules: By name.
        input: The node of the picture.
        output: The node of what the network returns.
        constants: The values of nodes that do not depend on the picture.
        changing: The other nodes, in order, without the picture's own.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        self._network = network
        self.modules = dict(network.named_modules())
        self.input, self.output = _ends(network)
        self.constants: dict[fx.Node, Any] = {}
        self.changing: list[fx.Node] = []
        for node in network.graph.nodes:
            if node.op == "placeholder" and node is not self.input:
                self.constants[node] = node.args[0]
            elif node.op in ("placeholder", "output"):
                continue
            elif all(each in self.constants for each in node.all_input_nodes):
                self.constants[node] = self.call(node, self.constants.__getitem__)
            else:
                self.changing.append(node)

    def call(self, node: fx.Node, value: Callable[[fx.Node], Any]) -> Any:
        """Evaluate a node, given the values of those that it reads."""
        args, options = fx.node.map_arg(node.args, value), fx.node.map_arg(node.kwargs, value)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **options)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **options)
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self._network)
        assert callable(node.target), "a function's call"
        return node.target(*args, **options)

    def values(self, picture: Tensor) -> dict[fx.Node, Any]:
        """Every value that depends on the picture, (1, C, H, W)."""
        values: dict[fx.Node, Any] = {
            self.input: picture.contiguous(memory_format=torch.channels_last)
        }
        for node in self.changing:
            values[node] = self.call(
                node,
                lambda each: self.constants[each] if each in self.constants else values[each],
            )
        return values


def asks_for_shape(node: fx.Node) -> bool:
    """Whether a node reads a tensor's shape alone."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and node.args[1] in ("shape", "ndim")


def _ends(network: fx.GraphModule) -> tuple[fx.Node, fx.Node]:
    """The nodes of the picture and of the output."""
    nodes = list(network.graph.nodes)
    placeholders = [node for node in nodes if node.op == "placeholder"]
    output = next(node for node in nodes if node.op == "output").args[0]
    if not placeholders or any(not node.args for node in placeholders[1:]):
        raise StandsAside("the network takes more than one input")
    if not isinstance(output, fx.Node):
        raise StandsAside("the network returns more than a tensor")
    return placeholders[0], output

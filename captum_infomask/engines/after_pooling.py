# What a network makes of its pooled features: the operations after its last global pooling.
from __future__ import annotations

import copy
from collections.abc import Callable

from torch import fx, nn

from captum_infomask.engines.pooling import is_pooling
from captum_infomask.engines.traced import StandsAside, plain_module, traced


def after_pooling(forward_func: Callable[..., object]) -> fx.GraphModule:
    """The graph from pooled features, (V, C) or (V, C, 1, 1), to the output of V examples.

    Parts with convolutions come before the pooling as a rule, and are looked into only where it is
    not found outside of them: most of a network is then not traced at all.

    Raises:
        StandsAside: The function cannot be traced, or makes its output of more than its pooled
            features.
    """
    network = plain_module(forward_func)
    closed: set[str] = set()
    try:
        return _cut(traced(_outline(network, closed)), closed)
    except StandsAside:
        return _cut(traced(network), set())


def _outline(module: nn.Module, closed: set[str], prefix: str = "") -> nn.Module:
    """The network with its parts that have convolutions closed; their names are added."""
    outline = copy.copy(module)
    outline._modules = {
        name: _part(child, closed, f"{prefix}{name}") for name, child in module._modules.items()
    }
    return outline


def _part(child: nn.Module | None, closed: set[str], name: str) -> nn.Module | None:
    if isinstance(child, nn.ModuleList | nn.ModuleDict):
        return _outline(child, closed, f"{name}.")
    if child is None or fx.Tracer().is_leaf_module(child, name):
        return child
    if not any(isinstance(part, nn.Conv2d) for part in child.modules()):
        return _outline(child, closed, f"{name}.")
    closed.add(name)
    return nn.Identity().eval()


def _cut(network: fx.GraphModule, closed: set[str]) -> fx.GraphModule:
    """What can be made of the pooled features, parameters and sizes; the output must be."""
    nodes = list(network.graph.nodes)
    poolings = [node for node in nodes if is_pooling(node, network)]
    if not poolings:
        raise StandsAside("it has no global average pooling")
    graph = fx.Graph()
    pooled = graph.placeholder("pooled")
    made = {poolings[-1]: pooled}
    for node in nodes:
        known = all(part in made for part in node.all_input_nodes)
        is_closed = node.op == "call_module" and node.target in closed
        if node in made or node.op == "placeholder" or is_closed:
            continue
        if node.op == "output" and known:
            graph.output(fx.map_arg(node.args[0], made.__getitem__))
        elif known:
            made[node] = graph.node_copy(node, made.__getitem__)
        elif _reads_size(node):
            # Views share pictures: how many examples there are, the pooled features know.
            made[node] = graph.node_copy(node, lambda _: pooled)
    if not any(node.op == "output" for node in graph.nodes):
        raise StandsAside("its output is not made of its pooled features alone")
    tail = fx.GraphModule(network, graph)
    tail.graph.eliminate_dead_code()
    tail.recompile()
    return tail


def _reads_size(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target == "size"
    return node.target is getattr and node.args[1:] == ("shape",)

# What a network makes of its pooled features: the operations after its last global pooling.
from __future__ import annotations

from collections.abc import Callable

from torch import nn

from captum_infomask.engines.pooling import is_pooling
from captum_infomask.engines.traced import StandsAside, traced
from captum_infomask.engines.traced_network import Node, TracedNetwork


def after_pooling(forward_func: Callable[..., object]) -> TracedNetwork:
    """The operations from pooled features, (V, C) or (V, C, 1, 1), to the output of V examples.

    Parts with convolutions come before the pooling as a rule, and are looked into only where it is
    not found outside of them: most of a network is then not traced at all.

    Raises:
        StandsAside: The function cannot be traced, or makes its output of more than its pooled
            features.
    """
    try:
        return _cut(traced(forward_func, closed=_has_convolutions))
    except StandsAside:
        return _cut(traced(forward_func))


def _has_convolutions(module: nn.Module) -> bool:
    """Whether a part is passed over; lists of parts are no parts."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return False
    return any(isinstance(part, nn.Conv2d) for part in module.modules())


def _cut(network: TracedNetwork) -> TracedNetwork:
    """What can be made of the pooled features, parameters and sizes; the output must be."""
    poolings = [node for node in network.nodes if is_pooling(node, network.modules)]
    if not poolings:
        raise StandsAside("it has no global average pooling")
    pooled = Node("placeholder", 0)
    made = {poolings[-1]: pooled}
    for node in network.nodes:
        if node in made or node.op == "placeholder":
            continue
        if all(part in made for part in node.inputs):
            made[node] = node.on(made.__getitem__)
        elif _reads_size(node):
            # Views share pictures: how many examples there are, the pooled features know.
            made[node] = node.on(lambda _: pooled)
    nodes = tuple(made.values())
    if nodes[-1].op != "output":
        raise StandsAside("its output is not made of its pooled features alone")
    return TracedNetwork(nodes, network.modules, network.attributes)


def _reads_size(node: Node) -> bool:
    if node.op == "call_method":
        return bool(node.target == "size")
    return node.target is getattr and node.args[1:] == ("shape",)

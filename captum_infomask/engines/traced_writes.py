# Writes in place of a traced network: told from other steps, and taken out.
from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask.engines.traced_network import Node, StandsAside, TracedNetwork

# Augmented assignments, which write to tensors, and the operations that make new ones.
AUGMENTED = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}


def check_writes(network: TracedNetwork, node: Node, values: Mapping[Node, Any]) -> None:
    """Refuse a write that reaches a value which is read later, such as what it is a part of.

    Args:
        network: The network that the node is of.
        node: A node that has run.
        values: What it read, and all values that are read later.

    Raises:
        StandsAside: The node stands for such a write.
    """
    for other in network.read_after.get(node, ()):
        if _share(values.get(node.args[0]), values.get(other)):
            raise StandsAside("it writes to a tensor that it reads under another name")


def _share(one: Any, other: Any) -> bool:
    """Whether two tensors lie in the same memory."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def without_writes(
    nodes: list[Node], modules: Mapping[str, nn.Module]
) -> tuple[tuple[Node, ...], dict[str, nn.Module]]:
    """Give every value one name: what an in-place operation wrote is what later readers get.

    An augmented assignment, which writes to tensors and makes new numbers, gives its own alone.
    """
    plain = dict(modules)
    now: dict[Node, Node] = {}
    made: list[Node] = []
    for node in nodes:
        new = node.on(now.__getitem__)
        if isinstance(node.kwargs.get("out"), Node):
            raise StandsAside("it calls a function with out=")
        if node.op == "call_function" and node.target in AUGMENTED:
            new = replace(new, target=AUGMENTED[node.target], writes=True)
        elif _writes(node, modules):
            written, new = now[node.args[0]], replace(_plain(new, plain), writes=True)
            if written.op == "get_attr":
                raise StandsAside("it writes to a tensor of its own")
            now |= {old: new for old, current in now.items() if current is written}
        now[node] = new
        made.append(new)
    return tuple(made), plain


def _writes(node: Node, modules: Mapping[str, nn.Module]) -> bool:
    if not node.args or not isinstance(node.args[0], Node):
        return False
    if node.op == "call_module":
        return bool(getattr(modules[node.target], "inplace", False))
    if node.op == "call_function":
        return bool(node.kwargs.get("inplace")) or _by_name(node)
    target = str(node.target)
    is_write = _is_name_of_write(target) or target in {f"__{o.__name__}__" for o in AUGMENTED}
    return node.op == "call_method" and is_write


def _by_name(node: Node) -> bool:
    """Whether a function is called as those are that write: torch.sigmoid_, not operator.and_."""
    called: Any = node.target
    return _is_name_of_write(called.__name__) and called.__module__ != "_operator"


def _is_name_of_write(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _plain(node: Node, modules: dict[str, nn.Module]) -> Node:
    """The operation that writes nothing; a module that it takes is added."""
    target: Any = node.target
    if node.op == "call_module":
        made: Any = copy.copy(modules[target])
        made.inplace = False
        target = f"{target}.plain"
        modules[target] = made
    elif node.op == "call_method":
        target = target[:-1]
        if not callable(getattr(torch.Tensor, target, None)):
            raise StandsAside(f"it calls Tensor.{target}_")
    elif target is torch.relu_:
        target = torch.relu
    elif "inplace" in node.kwargs:
        return replace(node, kwargs={**node.kwargs, "inplace": False})
    else:
        raise StandsAside(f"it calls {target}")
    return replace(node, target=target)

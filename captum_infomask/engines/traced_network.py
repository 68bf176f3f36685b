# A traced network: its operations run one by one, and writes in place are separate.
from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of a network, on the values of other nodes.

    Attributes:
        op: ``placeholder``, ``get_attr``, ``call_module``, ``call_method``, ``call_function`` or
            ``output``, as in ``torch.fx``.
        target: The target of the call: a module's or method's name, or a function. For a
            ``placeholder``, the index of its input.
        args: The arguments; nodes stand for their values.
        kwargs: The arguments by name.
        writes: Whether the network writes to the first argument at this place; the node does not.
    """

    op: str
    target: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    writes: bool = False

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes that it reads, each once, in order."""
        return tuple(dict.fromkeys(nodes_in((self.args, self.kwargs))))

    def on(self, made: Callable[[Node], Any], target: Any = None) -> Node:
        """Return the same operation, or that of another target, on other nodes."""
        target = self.target if target is None else target
        args, kwargs = with_nodes((self.args, self.kwargs), made)
        return Node(self.op, target, args, kwargs, self.writes)


def with_nodes(value: Any, change: Callable[[Any], Any], kind: type = Node) -> Any:
    """Return an argument in which the results of ``change`` replace the nodes."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple):
        parts = [with_nodes(part, change, kind) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [with_nodes(part, change, kind) for part in value]
    if isinstance(value, Mapping):
        return {key: with_nodes(part, change, kind) for key, part in value.items()}
    if isinstance(value, slice):
        return slice(*(with_nodes(part, change, kind) for part in _ends(value)))
    return value


def nodes_in(value: Any) -> Iterator[Node]:
    """The nodes of an argument, in order."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from nodes_in(part)
    elif isinstance(value, Mapping):
        yield from nodes_in(list(value.values()))
    elif isinstance(value, slice):
        yield from nodes_in(_ends(value))


def _ends(value: slice) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


class TracedNetwork:
    """A network as nodes. No node refers to a later one, so no memory waits for a collector.

    Args:
        nodes: The nodes in the order in which they run, the ``output`` last.
        modules: The modules that nodes call, by name.
        attributes: The tensors that nodes get, by name.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        modules: Mapping[str, nn.Module],
        attributes: Mapping[str, Any],
    ) -> None:
        self.nodes = _needed(nodes)
        called = {node.target for node in self.nodes if node.op == "call_module"}
        got = {node.target for node in self.nodes if node.op == "get_attr"}
        self.modules = {name: modules[name] for name in modules if name in called}
        self.attributes = {name: attributes[name] for name in attributes if name in got}

    @cached_property
    def readers(self) -> Counter[Node]:
        """The number of nodes that read each node's value."""
        return Counter(each for node in self.nodes for each in node.inputs)

    @cached_property
    def read_after(self) -> dict[Node, tuple[Node, ...]]:
        """For each node that stands for a write, the earlier values that something reads later."""
        last = {each: place for place, node in enumerate(self.nodes) for each in node.inputs}
        return {
            node: tuple(each for each in self.nodes[:place] if last.get(each, 0) > place)
            for place, node in enumerate(self.nodes)
            if node.writes
        }

    @cached_property
    def _steps(self) -> tuple[tuple[Node, tuple[Node, ...]], ...]:
        """Each node, with the nodes whose values nothing reads after it."""
        last_use = {each: node for node in self.nodes for each in node.inputs}
        return tuple(
            (node, tuple(each for each in node.inputs if last_use[each] is node))
            for node in self.nodes
        )

    def __call__(
        self, *inputs: Any, seen: Callable[[Node, Mapping[Node, Any]], None] | None = None
    ) -> Any:
        """Run the network.

        Args:
            *inputs: The arguments of its forward function.
            seen: A function that is called after each node, with the node and all values that are
                alive.
        """
        values: dict[Node, Any] = {}
        for node, ended in self._steps:
            if node.op == "placeholder":
                values[node] = inputs[node.target]
            elif node.op == "output":
                return with_nodes(node.args[0], values.__getitem__)
            else:
                values[node] = self.call(node, values.__getitem__)
            if seen is not None:
                seen(node, values)
            for each in ended:
                del values[each]
        raise AssertionError("the output comes last")

    def call(self, node: Node, value: Callable[[Node], Any]) -> Any:
        """Evaluate a node that calls or gets something, given its inputs' values."""
        if node.op == "get_attr":
            return self.attributes[node.target]
        args, options = with_nodes(node.args, value), with_nodes(node.kwargs, value)
        if node.op == "call_module":
            return self.modules[node.target](*args, **options)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **options)
        return node.target(*args, **options)


def _needed(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the nodes that the output depends on, all inputs, and writes that may reach them."""
    needed: set[Node] = set()
    for node in reversed(nodes):
        is_end = node.op in ("output", "placeholder")
        if node in needed or is_end or node.writes or node.target is torch._assert:
            needed.update((node, *node.inputs))
    return tuple(node for node in nodes if node in needed)


class StandsAside(Exception):  # noqa: N818 - no error: another engine takes over
    """The reason why an engine cannot run a call. Another engine runs it instead."""


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
    """Refuse a write that changes a value that is read later, for example its base.

    Args:
        network: The network that has the node.
        node: A node that has run.
        values: Its input values, and all values that are read later.

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
    """Give every value one name: later readers get the result of an in-place operation.

    An augmented assignment writes to tensors and makes new numbers, so only its own readers get its
    result.
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
    """Whether a function has the name of one that writes: torch.sigmoid_, not operator.and_."""
    called: Any = node.target
    return _is_name_of_write(called.__name__) and called.__module__ != "_operator"


def _is_name_of_write(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _plain(node: Node, modules: dict[str, nn.Module]) -> Node:
    """Return the operation without writes; if it takes a module, that is added."""
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

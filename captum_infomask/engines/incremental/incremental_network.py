# A traced network that runs on boxes.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_infomask.engines.incremental.boxes import Box, Spans
from captum_infomask.engines.incremental.node_calls import FoundOperation, Known
from captum_infomask.engines.incremental.operations import (
    Base,
    Border,
    GlobalMean,
    Place,
    tables_of,
)
from captum_infomask.engines.incremental.recognise import recognise
from captum_infomask.engines.traced import channels_last
from captum_infomask.engines.traced_network import Node, StandsAside, TracedNetwork, check_writes


class Graph:
    """A traced network whose nodes can be evaluated one by one.

    Attributes:
        modules: The modules by name.
        readers: The number of nodes that read each node's value.
        input: The node of the picture.
        output: The node of the network's output.
        constants: The values of nodes that do not depend on the picture.
        changing: The other nodes, in order, without the picture's own.
        last_uses: For each of these, the nodes whose values nothing reads afterwards.
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
        last_use = {each: node for node in self.changing for each in node.inputs}
        last_use.pop(self.output, None)
        self.last_uses: dict[Node, tuple[Node, ...]] = {
            node: tuple(
                each
                for each in node.inputs
                if last_use.get(each) is node and each not in self.constants
            )
            for node in self.changing
        }

    def call(self, node: Node, value: Callable[[Node], Any]) -> Any:
        """Evaluate a node, given its inputs' values."""
        return self._network.call(node, value)

    def run(self, picture: Tensor) -> Iterator[tuple[Node, Any]]:
        """Yield every node that depends on the picture, (1, C, ...), and its value.

        A value is kept until the last node that reads it has run.
        """
        values: dict[Node, Any] = {self.input: channels_last(picture)}
        yield self.input, values[self.input]
        for node in self.changing:
            values[node] = self.call(
                node,
                lambda each: self.constants[each] if each in self.constants else values[each],
            )
            check_writes(self._network, node, values)
            yield node, values[node]
            for each in self.last_uses[node]:
                del values[each]


def asks_for_shape(node: Node) -> bool:
    """Whether a node reads only a tensor's shape."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and node.args[1] in ("shape", "ndim")


def _ends(network: TracedNetwork) -> tuple[Node, Node]:
    """Return the nodes of the picture and of the output."""
    placeholders = [node for node in network.nodes if node.op == "placeholder"]
    output = network.nodes[-1].args[0]
    if len(placeholders) != 1:
        raise StandsAside("the network takes more than one input")
    if not isinstance(output, Node):
        raise StandsAside("the network returns more than a tensor")
    return placeholders[0], output


Values = dict[Node, Any]  # boxes of maps, whole tensors, and values made from shapes


@dataclass(frozen=True, eq=False)
class NetworkStep:
    """A node whose value depends on the picture.

    Attributes:
        node: The node.
        found: Its operation on maps, and the operation's place; None if it must read whole values.
        last_uses: The nodes whose values nothing reads afterwards.
    """

    node: Node
    found: tuple[FoundOperation, Place] | None
    last_uses: tuple[Node, ...]


class BoxNetwork:
    """A traced network, in which each node has a rule for boxes.

    Attributes:
        known: The known facts about its nodes.
        steps: The steps of every chunk of views, in order.
        borders: The borders that are read around each map's base.
    """

    def __init__(self, network: TracedNetwork, picture: Tensor, *, winograd: bool) -> None:
        self._graph = Graph(network)
        samples = {
            node: value.new_zeros(()).expand(value.shape)
            for node, value in self._graph.run(picture)
            if isinstance(value, Tensor)
        }
        self._maps = {self._graph.input: False}
        self.known = Known(
            picture.dim() - 2,
            self._graph.modules,
            self._graph.constants,
            samples,
            self._maps,
            winograd,
        )
        self.steps = tuple(self._steps())
        self.borders = self._borders()

    @property
    def input(self) -> Node:
        """The node of the picture."""
        return self._graph.input

    @property
    def base_bytes(self) -> int:
        """About the number of bytes that a base takes."""
        samples = [self.known.samples[node] for node in self.borders]
        return sum(sample.numel() * sample.element_size() for sample in samples)

    def base(self, picture: Tensor) -> Base:
        """Return the base that views read of a picture, (1, C, ...)."""
        tables = {}
        for node, value in self._graph.run(picture):
            if node in self.borders:
                maps = value.movedim(-1, 1) if self._maps[node] else value
                tables[node] = tables_of(maps, self.borders[node])
        return Base(tables)

    def spans(self, changed: Spans) -> dict[Node, Spans]:
        """Return the changes in every map if boxes (V, 2 n) of the picture change."""
        spans = {self.input: changed}
        for step in self.steps:
            if step.found is not None:
                found, place = step.found
                if not isinstance(found.operation, GlobalMean):
                    inputs = [spans[node] for node in place.inputs]
                    spans[step.node] = found.operation.spread(inputs, place)
        return spans

    def run(self, base: Base, box: Box, spans: Mapping[Node, Spans]) -> Tensor:
        """Return the outputs for views that differ from their base in boxes, (V, ...).

        Args:
            base: The base. If it has one for each view, it becomes that of the views.
            box: The box of the picture that the views show.
            spans: The changes in each map.
        """
        values: Values = {self.input: box}
        base.write(self.input, box)
        for step in self.steps:
            value = self._run(step, values, base, spans)
            values[step.node] = value
            if isinstance(value, Box):
                base.write(step.node, value)
            for node in step.last_uses:
                del values[node]
        outputs: Tensor = self._whole(self._graph.output, values, base)
        return outputs

    def _run(
        self, step: NetworkStep, values: Values, base: Base, spans: Mapping[Node, Spans]
    ) -> Any:
        if step.found is None:
            return self._graph.call(
                step.node, lambda node: self._argument(step.node, node, values, base)
            )
        found, place = step.found
        boxes = [values[node] for node in place.inputs]
        if isinstance(found.operation, GlobalMean):
            return found.operation.run(boxes[0], base, place)
        return found.operation.run(boxes, base, place, spans[step.node])

    def _argument(self, reader: Node, node: Node, values: Values, base: Base) -> Any:
        """Return a value in the form for a node that works on whole values."""
        if node in self._graph.constants:
            return self._graph.constants[node]
        value = values[node]
        if isinstance(value, Box) and asks_for_shape(reader):
            shape = (len(value.values), *self.known.samples[node].shape[1:])
            return torch.empty(shape, device="meta", dtype=value.values.dtype)
        return self._whole(node, values, base)

    def _whole(self, node: Node, values: Values, base: Base) -> Any:
        value = values[node]
        if not isinstance(value, Box):
            return value
        maps = base.whole(node, value)
        return maps.movedim(1, -1) if self._maps[node] else maps

    def _steps(self) -> Iterator[NetworkStep]:
        for node in self._graph.changing:
            found = recognise(node, self.known)
            if found is not None and not isinstance(found.operation, GlobalMean):
                self._maps[node] = found.channels_last
            where = None if found is None else (found, self._place(node, found))
            yield NetworkStep(node, where, self._graph.last_uses[node])

    def _place(self, node: Node, found: FoundOperation) -> Place:
        before = self.known.size(found.inputs[0])
        after = self.known.size(node) if node in self._maps else ()
        alone = tuple(self._graph.readers[each] == 1 for each in found.inputs)
        return Place(found.inputs, alone, before, after)

    def _borders(self) -> dict[Node, list[Border]]:
        borders: dict[Node, list[Border]] = {}
        for step in self.steps:
            if step.found is not None:
                found, place = step.found
                read, border = place.inputs, found.operation.border(place)
            else:
                read = tuple(node for node in step.node.inputs if node in self._maps)
                border = None if asks_for_shape(step.node) else Border()
            if border is not None:
                for node in read:
                    borders.setdefault(node, []).append(border)
        if self._graph.output in self._maps:
            borders.setdefault(self._graph.output, []).append(Border())
        return borders

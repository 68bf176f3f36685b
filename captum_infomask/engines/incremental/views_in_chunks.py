# Run the views of a plan on a network in chunks, and predict their costs.
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_infomask.engines.incremental.boxes import NEARLY_ALL, Spans, starts_and_stops
from captum_infomask.engines.incremental.incremental_network import BoxNetwork
from captum_infomask.engines.incremental.operations import Base
from captum_infomask.engines.incremental.view_boxes import Contents
from captum_infomask.engines.traced_network import Node
from captum_infomask.views.view_plan import Orders

Rows = NDArray[np.int64]
Lengths = NDArray[np.int64]  # (..., S, n): the lengths of the changes at each of S steps

# The time to write and read an element, to read a weight and to call an operation, in
# multiplications, measured with one CPU thread (docs/results/speed.md).
_ELEMENT, _WEIGHT, _CALL = 24.0, 50.0, 4e6


@dataclass(frozen=True, eq=False)
class CostModel:
    """The costs of a network's steps.

    Attributes:
        nodes: The S nodes whose maps change in boxes.
        sizes: The lengths of their maps, (S, n).
        channels: The number of channels of their maps, (S,).
        per_position: The cost of each position of their maps, (S,).
        rest: The cost of a view's other steps.
        fixed: The cost of a chunk with any number of views.
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
        """The cost of a view of which everything is computed."""
        return float((self.per_position * self.sizes.prod(1)).sum()) + self.rest

    def lengths(self, spans: Mapping[Node, Spans]) -> Lengths:
        """Return the lengths of the changes in every view at every step, (V, S, n)."""
        ends = [starts_and_stops(spans[node]) for node in self.nodes]
        lengths: Lengths = np.stack([stops - starts for starts, stops in ends], axis=1)
        return lengths

    def per_view(self, lengths: Lengths) -> NDArray[np.float64]:
        """Return a view's cost in a chunk whose boxes have these sizes: (..., S, n) → (...)."""
        costs: NDArray[np.float64] = (self._areas(lengths) * self.per_position).sum(-1)
        return costs + self.rest

    def chunks(self, lengths: Lengths, starts: Rows) -> float:
        """Return the cost of views (V, S, n) in chunks, in boxes that suit all of a chunk's views.

        Args:
            lengths: The lengths of the changes, chunk after chunk.
            starts: The first view of each chunk.
        """
        counts = np.diff(starts, append=len(lengths))
        largest = np.maximum.reduceat(lengths, starts, axis=0)
        return len(starts) * self.fixed + float((counts * self.per_view(largest)).sum())

    def elements(self, lengths: Lengths) -> int:
        """Return the number of elements of the largest map that any view makes."""
        return int((self._areas(lengths.max(axis=0)) * self.channels).max())

    def _areas(self, lengths: Lengths) -> NDArray[np.int64]:
        """Return the computed positions: of boxes, or of whole maps if boxes nearly fill them."""
        areas, positions = lengths.prod(-1), self.sizes.prod(1)
        computed: NDArray[np.int64] = np.where(areas >= NEARLY_ALL * positions, positions, areas)
        return computed


def _weights(node: Node, modules: Mapping[str, nn.Module]) -> int:
    if node.op != "call_module":
        return 0
    return sum(weight.numel() for weight in modules[str(node.target)].parameters())


_MOST_CLASSES = 12


def chunks_of(model: CostModel, lengths: Lengths, most: int) -> list[Rows]:
    """Cut the views into chunks of small cost.

    In a chunk all boxes of a map have one size, the largest that any of its views needs. Therefore
    views are put into classes by the lengths of their changes, in each dimension of places. A chunk
    has one class of each. The cost decides the number of classes: few chunks or tight boxes.

    Args:
        model: The costs of the network's steps.
        lengths: The lengths of the changes in every view at every step, (V, S, n).
        most: The most views in a chunk.
    """
    dims = range(lengths.shape[2])
    by_dim = [list(_classes(model, lengths[:, :, dim])) for dim in dims]
    best: tuple[float, list[Rows]] = (np.inf, [])
    for numbers in itertools.product(*(range(len(classes)) for classes in by_dim)):
        if max(numbers) - min(numbers) > 1:
            continue
        of_views = [classes[number] for classes, number in zip(by_dim, numbers, strict=True)]
        order, starts = _cells(of_views, most)
        cost = model.chunks(lengths[order], starts)
        if cost < best[0]:
            best = cost, np.split(order, starts[1:])
    return best[1]


def _cells(of_views: list[Rows], most: int) -> tuple[Rows, Rows]:
    """Put views with the same class in every dimension into chunks of about one size.

    Returns:
        The views, chunk after chunk, and the first place of each chunk among them.
    """
    shape = [int(classes.max()) + 1 for classes in of_views]
    cells = np.ravel_multi_index(of_views, shape)
    order = cells.argsort(kind="stable")
    _, firsts, counts = np.unique(cells[order], return_index=True, return_counts=True)
    starts = [
        first + np.cumsum([0, *map(len, np.array_split(np.arange(count), -(-count // most)))])[:-1]
        for first, count in zip(firsts.tolist(), counts.tolist(), strict=True)
    ]
    return order, np.concatenate(starts)


def _classes(model: CostModel, lengths: Rows) -> Iterator[Rows]:
    r"""Yield views (V, S) in 1, 2, … classes of least cost in one dimension of places.

    The distinct views are sorted by their cost, and cut by dynamic programming:

    .. math::

        C_{k, j} = \min_{i < j} \; C_{k - 1, i} + n_{ij}\, c(\max_{i \le v < j} s_v),

    with :math:`n_{ij}` the views from i to j and c the cost of boxes as long as s.
    """
    dims = model.sizes.shape[1]
    weights = model.per_position * model.sizes.prod(1) ** (1 - 1 / dims)
    distinct, which, counts = np.unique(lengths, axis=0, return_inverse=True, return_counts=True)
    order = (distinct @ weights).argsort(kind="stable")
    distinct, counts = distinct[order], counts[order]
    size = len(distinct)
    cost = np.full((size + 1, size + 1), np.inf)
    for i in range(size):
        largest = np.maximum.accumulate(distinct[i:], axis=0)
        cost[i, i + 1 :] = counts[i:].cumsum() * (largest @ weights)
    least, cuts = cost[0], [np.zeros(size + 1, dtype=np.int64)]
    place = np.empty(size, dtype=np.int64)
    place[order] = np.arange(size)
    for count in range(1, min(size, _MOST_CLASSES) + 1):
        if count > 1:
            options = least[:, None] + cost
            cuts.append(options.argmin(axis=0))
            least = options.min(axis=0)
        labels, stop = np.empty(size, dtype=np.int64), size
        for number in reversed(range(count)):
            start = int(cuts[number][stop])
            labels[start:stop] = number
            stop = start
        yield labels[place[which.reshape(-1)]]


# The most views of a chunk, and the most bytes of each of its maps. They were measured with one CPU
# thread (docs/results/speed.md), and are a guess elsewhere. Views of `chain` change their bases,
# one for each order: these bases together have no more bytes than that.
_ON_CPU, _ON_ACCELERATOR = (32, 32 * 2**20), (256, 256 * 2**20)
_BASES_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Group:
    """Views of one base picture.

    Attributes:
        picture: The number of the base picture.
        chunks: The views that run together, chunk after chunk.
        orders: For views that build on each other, the order that each view of a chunk is a step
            of; None if every view starts from the base.
    """

    picture: int
    chunks: list[Rows]
    orders: list[Rows] | None = None


@dataclass(frozen=True, eq=False)
class Work:
    """The views of a plan as changes of base pictures.

    Attributes:
        network: The network on boxes.
        contents: The views' changes.
        most: The most views in a chunk; None takes as many as suit the memory.
    """

    network: BoxNetwork
    contents: Contents
    most: int | None

    @property
    def gain(self) -> float:
        """Return the factor by which operations are fewer than for whole views."""
        model = self._model
        cost = sum(model.whole + self._cost_of(group.chunks) for group in self.groups)
        return len(self.contents.plan) * model.whole / cost

    def run(self, check: Callable[[int, Base], None]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs.

        Args:
            check: A function that is called with each image, and the base of its views, before they
                run.
        """
        images = self.contents.plan.images.numpy()
        checked = set[int]()
        for group in self.groups:
            base = self.network.base(self.contents.bases[group.picture : group.picture + 1])
            for image in np.unique(images[np.concatenate(group.chunks)]).tolist():
                if image not in checked:
                    check(image, base)
                    checked.add(image)
            if group.orders is not None:
                base = base.repeated(1 + max(int(orders.max()) for orders in group.orders))
            for number, rows in enumerate(group.chunks):
                changed = base
                if group.orders is not None:
                    changed = replace(base, bases=group.orders[number])
                box = self.contents.box(rows)
                yield torch.from_numpy(rows), self.network.run(changed, box, self._spans_of(rows))

    def answer(self, rows: Tensor, base: Base) -> Tensor:
        """Return the outputs for some views of a base, each by itself."""
        box, spans = self.contents.differences(rows)
        return self.network.run(base, box, self.network.spans(spans))

    def _cost_of(self, chunks: list[Rows]) -> float:
        starts = np.cumsum([0, *map(len, chunks[:-1])])
        return self._model.chunks(self._lengths[np.concatenate(chunks)], starts)

    @cached_property
    def groups(self) -> list[Group]:
        """Return the views of every base picture."""
        plan = self.contents.plan
        images = plan.images.numpy()
        if plan.orders is not None:
            steps = (self._steps(int(image), plan.orders) for image in np.unique(images))
            return [group for groups in steps for group in groups]
        pictures = images if len(self.contents.bases) > 1 else np.zeros_like(images)
        return [
            Group(int(picture), self._chunks((pictures == picture).nonzero()[0]))
            for picture in np.unique(pictures)
        ]

    def _chunks(self, rows: Rows) -> list[Rows]:
        return [rows[chunk] for chunk in chunks_of(self._model, self._lengths[rows], self._views)]

    def _steps(self, image: int, orders: Orders) -> Iterator[Group]:
        """Yield steps of some orders at a time: their first steps together, then their second."""
        plan = self.contents.plan
        assert plan.regions is not None, "as planned"
        rows = (plan.images == image).nonzero()[:, 0]
        of_rows = orders.of_views[rows]
        steps = orders.ranks[image, of_rows, plan.regions[rows]].numpy()
        numbers = of_rows.numpy()
        picture = image if len(self.contents.bases) > 1 else 0
        at_once = min(self._views, max(1, _BASES_BYTES // self.network.base_bytes))
        for first in range(0, int(numbers.max()) + 1, at_once):
            own = (numbers >= first) & (numbers < first + at_once)
            chunks = [(own & (steps == step)).nonzero()[0] for step in np.unique(steps[own])]
            yield Group(
                picture,
                [rows.numpy()[chunk] for chunk in chunks],
                [numbers[chunk] - first for chunk in chunks],
            )

    @cached_property
    def _model(self) -> CostModel:
        return CostModel.of(self.network)

    @cached_property
    def _places(self) -> tuple[dict[Node, Spans], Rows]:
        """Return the changes in each map for the distinct regions, and the region of each view."""
        distinct, which = np.unique(self.contents.spans, axis=0, return_inverse=True)
        return self.network.spans(distinct), which.reshape(-1)

    @cached_property
    def _lengths(self) -> Lengths:
        spans, which = self._places
        return self._model.lengths(spans)[which]

    def _spans_of(self, rows: Rows) -> dict[Node, Spans]:
        spans, which = self._places
        return {node: each[which[rows]] for node, each in spans.items()}

    @cached_property
    def _views(self) -> int:
        """Return the most views in a chunk."""
        if self.most is not None:
            return self.most
        bases = self.contents.bases
        views, map_bytes = _ON_CPU if bases.device.type == "cpu" else _ON_ACCELERATOR
        biggest = self._model.elements(self._lengths) * bases.element_size()
        return int(min(views, max(1, map_bytes // biggest)))

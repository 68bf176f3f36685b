# The views of a plan on a network, in chunks: what they will cost, and what comes of them.
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from captum_infomask.engines.incremental.base import Base
from captum_infomask.engines.incremental.chunks import Rows, chunks_of
from captum_infomask.engines.incremental.contents import Contents
from captum_infomask.engines.incremental.costs import CostModel, Lengths
from captum_infomask.engines.incremental.network import BoxNetwork
from captum_infomask.engines.incremental.spans import Spans
from captum_infomask.engines.traced_network import Node
from captum_infomask.views.view_plan import Orders

# A chunk has at most this many views, and in no map more bytes than these: measured with one CPU
# thread (docs/results/speed.md), a guess elsewhere. Bases that views change, one for each order of
# `chain`, have no more bytes than these together.
_ON_CPU, _ON_ACCELERATOR = (32, 32 * 2**20), (256, 256 * 2**20)
_BASES_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Group:
    """Views of one base picture.

    Attributes:
        picture: The number of the base picture.
        chunks: The views that run together, chunk after chunk.
        orders: For views that build on each other, the order that each view of a chunk is a step
            of; None where every view starts from the base.
    """

    picture: int
    chunks: list[Rows]
    orders: list[Rows] | None = None


@dataclass(frozen=True, eq=False)
class Work:
    """The views of a plan as changes of base pictures.

    Attributes:
        network: What runs on boxes.
        contents: What the views show.
        most: At most this many views in a chunk; as many as suit the memory if None.
    """

    network: BoxNetwork
    contents: Contents
    most: int | None

    @property
    def gain(self) -> float:
        """How many times fewer operations it takes than whole views do."""
        model = self._model
        cost = sum(
            model.whole + sum(model.chunk(self._lengths[rows]) for rows in group.chunks)
            for group in self.groups
        )
        return len(self.contents.plan) * model.whole / cost

    def run(self, check: Callable[[int, Base], None]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs.

        Args:
            check: Called with each image, and the base of its views, before any of them is run.
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
        """The outputs for some views of a base by themselves, whatever they build on."""
        box, spans = self.contents.differences(rows)
        return self.network.run(base, box, self.network.spans(spans))

    @cached_property
    def groups(self) -> list[Group]:
        """The views of every base picture."""
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
        """The steps of some orders at a time: their first steps together, then their second."""
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
        """What changes in each map for the distinct regions, and which of them each view has."""
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
        """The most views in a chunk."""
        if self.most is not None:
            return self.most
        bases = self.contents.bases
        views, map_bytes = _ON_CPU if bases.device.type == "cpu" else _ON_ACCELERATOR
        biggest = self._model.elements(self._lengths) * bases.element_size()
        return int(min(views, max(1, map_bytes // biggest)))

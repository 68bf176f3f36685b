# The engine of the view `evidence`: one recorded pass at each size, and the path of its features.
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_infomask._process import full_precision
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.feature_maps import (
    FeatureMap,
    about_a_place,
    coarse_map,
    default_map,
    early_map,
    hides_scale,
    relay_maps,
)
from captum_infomask.engines.memory import elements_shown, free_cached, is_out_of_memory, no_memory
from captum_infomask.engines.paths import Shares, Value, shares_along
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.relay import relayed
from captum_infomask.engines.replay import Replay
from captum_infomask.engines.traced_network import StandsAside
from captum_infomask.engines.watched import Pass, UnfitError, Watched, to_run
from captum_infomask.regions.map_cells import MapCells
from captum_infomask.scores.readings import Reader
from captum_infomask.scores.score_settings import NATS_PER_UNIT
from captum_infomask.views.evidence import Evidence, Shown
from captum_infomask.views.view_plan import Scene, ViewPlan

# Bits that may be missing from a map's sum, as long as the path may take more points.
_MISSING = {torch.float64: 1e-7}
_MISSING_ELSE = 1e-3
_MOST_NUMBERS = 2**25  # numbers of the shares of several classes, at a time


@dataclass(frozen=True, eq=False)
class MapPart:
    """The map of one size and layer.

    Attributes:
        cells: The map's cells.
        scores: The information that each cell adds, (n, R, K).
        missing: The information that is missing from their sum, the mean over frames, (n, K).
    """

    cells: MapCells
    scores: Tensor
    missing: Tensor


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some views' features, and the steps from these to the output.

    Attributes:
        rows: The views, long (B,).
        output: The network's output for them.
        maps: Their features at each layer.
        replays: The steps that follow each layer, or the pictures.
        starts: The start of each of these paths.
        ends: The end of each path.
    """

    rows: Tensor
    output: Tensor
    maps: Sequence[FeatureMap]
    replays: Sequence[Replay]
    starts: Sequence[Tensor]
    ends: Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class CellShares:
    """The information that the cells of some views add.

    Attributes:
        rows: The views, long (B,).
        grid: The number of cells along each dimension after the channels.
        scores: The information that each cell adds, (B, R, K).
        missing: The information that is missing from their sum, (B, K).
    """

    rows: Tensor
    grid: tuple[int, ...]
    scores: Tensor
    missing: Tensor

    @classmethod
    def of(cls, rows: Tensor, features: FeatureMap, shares: Shares) -> CellShares:
        """Return the shares of a map's cells."""
        of_cells = [features.of_places(own).flatten(1) for own in shares.shares]
        scores = torch.stack(of_cells, dim=2)
        return cls(rows, features.grid, scores, shares.explained - scores.sum(1))

    @classmethod
    def joined(cls, parts: Sequence[CellShares]) -> CellShares:
        """Join the shares of several classes."""
        scores = torch.cat([part.scores for part in parts], dim=2)
        missing = torch.cat([part.missing for part in parts], dim=1)
        return replace(parts[0], scores=scores, missing=missing)


class RunningEvidence:
    """The evidence engine at work on one call.

    Args:
        call: The call to run.
        view: The settings: layers, sizes and reference.
        scene: The pictures.

    Attributes:
        shown: The number of pictures that the network was shown.
    """

    def __init__(self, call: Call, view: Evidence, scene: Scene) -> None:
        self._view, self._scene = view, scene
        self._call = call
        self._watched = Watched(call, *to_run(call.forward_func, view.layers, scene.inputs[0]))
        self._own = Batched(folded=False).start(replace(call, forward_func=self._watched))
        self._maps = (default_map, relay_maps)
        if about_a_place(call.forward_func):
            self._maps = (coarse_map, early_map)
        self._words = dict[str, None]()
        self.shown = 0

    @property
    def name(self) -> str:
        """The name of the engine, and the maps that it read."""
        return f"{self._view.name} ({', '.join(self._words)} cells)"

    def record(self, shown: Shown, some: Tensor | None = None) -> Iterator[Chunk]:
        """Show pictures to the network, and keep their features and the steps that follow these.

        Args:
            shown: The pictures that the network is shown.
            some: Which of these views, long (B,); all of them if None.
        """
        plan = shown.plan if some is None else shown.plan.part(some)
        for rows, output in self._own.run(plan):
            self.shown += len(rows)
            own = rows if some is None else some[rows]
            yield self._kept(shown.plan, own, output)

    def share_out(
        self, shown: Shown, chunks: Iterable[Chunk], reader: Reader, table: Tensor | None, bar: Any
    ) -> Iterator[list[CellShares]]:
        """Yield the information that every cell adds about each target or class.

        Args:
            shown: The pictures that the network was shown.
            chunks: The chunks that :meth:`record` gave. They are released one by one. If memory is
                short, they are recorded again in smaller ones.
            reader: How outputs are read.
            table: Each picture's target or classes, (n, k), or None.
            bar: A progress bar, updated by the views of each chunk.

        Yields:
            For each chunk, the shares of each layer's cells.
        """
        for chunk in chunks:
            rows, found = chunk.rows, self._attempt(shown, chunk, reader, table)
            del chunk
            if found is not None:
                bar.update(len(rows))
                yield found
                continue
            free_cached()
            self._own.at_most(len(rows) // 2)
            yield from self.share_out(shown, self.record(shown, rows), reader, table, bar)

    def part(self, shown: Shown, chunks: Sequence[CellShares]) -> MapPart:
        """Join one layer's maps of all pictures."""
        grids = {one.grid for one in chunks}
        if len(grids) > 1:
            raise UnfitError(f"its features have other sizes for other pictures, {sorted(grids)}")
        (grid,) = grids
        n, frames = len(self._scene.images), len(shown.frames)
        cells = MapCells((tuple(self._scene.inputs[0].shape[1:]),), grid, shown.frames)
        order = torch.cat([one.rows for one in chunks]).argsort()
        scores = torch.cat([one.scores for one in chunks])[order].reshape(n, len(cells), -1)
        missing = torch.cat([one.missing for one in chunks])[order].unflatten(0, (n, frames))
        return MapPart(cells, scores, missing.mean(1))

    def _kept(self, plan: ViewPlan, rows: Tensor, output: Tensor) -> Chunk:
        try:
            chunk = self._chunk(self._watched.last(len(rows)), plan, rows, output)
        except StandsAside as reason:
            raise self._unfit(reason) from None
        self._words.update((one.words, None) for one in chunk.maps)
        return chunk

    def _attempt(
        self, shown: Shown, chunk: Chunk, reader: Reader, table: Tensor | None
    ) -> list[CellShares] | None:
        """Return a chunk's shares; None if memory was too small for it.

        Autocast may be on around the call. The steps that run again did not run under it.
        """
        try:
            with full_precision(chunk.output.device.type):
                return self._shares(shown, chunk, reader, table)
        except StandsAside as reason:
            raise self._unfit(reason) from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(chunk.rows) == 1:
                elements = elements_shown(shown.plan, int(chunk.rows))
                raise no_memory(error, self._scene.inputs, elements) from error
            return None

    def _shares(
        self, shown: Shown, chunk: Chunk, reader: Reader, table: Tensor | None
    ) -> list[CellShares]:
        """Return a chunk's shares, some classes at a time: each class has as many as features."""
        targets = None if table is None else table[shown.plan.images[chunk.rows]]
        value = _value(reader, targets, len(chunk.rows))
        most = max(1, _MOST_NUMBERS // max(end.numel() for end in chunk.ends))
        starts = range(0, value(chunk.output).shape[1], most)
        groups = [slice(start, start + most) for start in starts]
        found = [self._of_classes(chunk, value, classes, reader.unit) for classes in groups]
        return [CellShares.joined(of_layer) for of_layer in zip(*found, strict=True)]

    def _of_classes(
        self, chunk: Chunk, value: Value, classes: slice, unit: str
    ) -> list[CellShares]:
        bits = NATS_PER_UNIT["bits"] / NATS_PER_UNIT[unit]
        tolerance = _MISSING.get(chunk.output.dtype, _MISSING_ELSE) * bits

        def some(output: Tensor) -> Tensor:
            return value(output)[:, classes]

        found: list[Shares] = []
        for replay, start, end in zip(chunk.replays, chunk.starts, chunk.ends, strict=True):
            given = replay, start, end, chunk.output, some, tolerance
            with self._call.generators if replay.may_draw else nullcontext():
                found += relayed(*given) if replay.marks else [shares_along(*given)]
        return [
            CellShares.of(chunk.rows, one, shares)
            for one, shares in zip(chunk.maps, found, strict=True)
        ]

    def _chunk(self, current: Pass, plan: ViewPlan, rows: Tensor, output: Tensor) -> Chunk:
        """Return the parts of one pass that are kept."""
        maps = current.maps(self._maps[self._view.is_relayed])
        if self._view.is_relayed:
            marks = [(one.value, one.after) for one in maps]
            replay = Replay(current.recording, current.inputs, 0, current.output, marks)
            blank = replace(plan, hidden="everything").part(rows)
            (start,) = draw(blank, torch.arange(len(rows)))
            self.shown += len(rows)
            maps = [replace(one, value=one.value.detach()) for one in maps]
            return Chunk(rows, output, maps, [replay], [start.to(current.shown)], [current.shown])
        replays = [Replay(current.recording, m.value, m.after, current.output) for m in maps]
        maps = [replace(one, value=one.value.detach()) for one in maps]
        starts = self._starts(maps, replays, plan, rows)
        return Chunk(rows, output, maps, replays, starts, [one.value for one in maps])

    def _starts(
        self, maps: Sequence[FeatureMap], replays: Sequence[Replay], plan: ViewPlan, rows: Tensor
    ) -> list[Tensor]:
        """Return each map's start: zero, or the features of the all-imputed pictures."""
        from_blank = [
            self._view.from_blank or one.prefix > 0 or not one.after or hides_scale(replay.steps)
            for one, replay in zip(maps, replays, strict=True)
        ]
        blank = self._of_blank(maps, plan, rows) if any(from_blank) else []
        return [
            one.between(blank[place], one.value) if asked else torch.zeros_like(one.value)
            for place, (one, asked) in enumerate(zip(maps, from_blank, strict=True))
        ]

    def _of_blank(self, maps: Sequence[FeatureMap], plan: ViewPlan, rows: Tensor) -> list[Tensor]:
        """Return the same features of the all-imputed pictures; of one picture if all are alike."""
        blank = replace(plan, hidden="everything").part(rows)
        (pictures,) = draw(blank, torch.arange(len(rows)))
        if bool((pictures == pictures[:1]).all()) and not any(self._call.per_example):
            blank = blank.part(torch.arange(1))
        chunks = []
        for shown, _ in self._own.run(blank):
            current = self._watched.last(len(shown))
            chunks.append([current.at(one).detach() for one in maps])
        self.shown += len(blank)
        return [torch.cat(parts) for parts in zip(*chunks, strict=True)]

    def _unfit(self, reason: object) -> UnfitError:
        if self._call.generators.drew or self._call.libraries.found:
            reason = "it draws random numbers, which model.eval() turns off in most networks"
        return UnfitError(reason)


def _value(reader: Reader, table: Tensor | None, n: int) -> Callable[[Tensor], Tensor]:
    """Return a reader of n pictures' outputs at points of their paths, as (n, K)."""

    def value(output: Tensor) -> Tensor:
        targets = None if table is None else table.repeat(len(output) // n, 1)
        values = reader(output, targets)
        return values[:, None] if values.dim() == 1 else values

    return value

# The engine of the view `evidence`: one recorded pass at each size, and the path of its features.
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._checks import ArgumentError, describe
from captum_infomask._random import OwnGenerators
from captum_infomask.engines.base import Call
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.feature_maps import (
    FeatureMap,
    default_map,
    feature_map,
    hides_scale,
    relay_maps,
)
from captum_infomask.engines.isolation import Isolation, alias, compiled_network
from captum_infomask.engines.outputs import explained
from captum_infomask.engines.passes import Looks, running
from captum_infomask.engines.paths import Shares, shares_along
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.reached import modules_reached, named_layer
from captum_infomask.engines.reading import check_finite
from captum_infomask.engines.recording import Recording, Replay
from captum_infomask.engines.relay import relayed
from captum_infomask.engines.traced import StandsAside
from captum_infomask.regions.base import Regions
from captum_infomask.regions.map_cells import MapCells, sums
from captum_infomask.regions.scales import Scales
from captum_infomask.results.info_map import InfoMap
from captum_infomask.scores.accounts import Reader, SinglePass
from captum_infomask.scores.information import NATS_PER_UNIT, Score
from captum_infomask.scores.readings import Reading
from captum_infomask.views.evidence import Evidence, Shown, shown_at
from captum_infomask.views.plan import Scene, ViewPlan

# Bits that a map's sum may fall short of, as long as the path may take more points.
_MISSING = {torch.float64: 1e-7}
_MISSING_ELSE = 1e-3


class UnfitError(ArgumentError):
    """A network's features cannot be had."""


@dataclass(frozen=True, eq=False)
class MapPart:
    """What was found at one size and layer.

    Attributes:
        cells: The map's cells.
        scores: What each adds, (n, R, K).
        missing: What their sum falls short of, the mean over frames, (n, K).
    """

    cells: MapCells
    scores: Tensor
    missing: Tensor


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some views' features, and what the network makes of them.

    Attributes:
        rows: The views, long (B,).
        output: The network's output for them.
        maps: Their features at each layer.
        replays: What follows each layer, or the pictures.
        starts: Where each of these paths starts.
        ends: Where it ends.
    """

    rows: Tensor
    output: Tensor
    maps: Sequence[FeatureMap]
    replays: Sequence[Replay]
    starts: Sequence[Tensor]
    ends: Sequence[Tensor]


class RunningEvidence:
    """The evidence engine at work on one call.

    Args:
        call: What is asked for.
        view: Layers, sizes and reference.
        scene: The pictures.

    Attributes:
        shown: Pictures that the network was shown.
    """

    def __init__(self, call: Call, view: Evidence, scene: Scene) -> None:
        self._view, self._scene = view, scene
        self._call = call
        self._watched = _Watched(call, *_to_run(call.forward_func, view.layers))
        self._own = Batched(folded=False).start(replace(call, forward_func=self._watched))
        self._words = dict[str, None]()
        self.shown = 0

    @property
    def name(self) -> str:
        """The engine, and the maps that it read."""
        return f"{self._view.name} ({', '.join(self._words)} cells)"

    def record(self, shown: Shown) -> Iterator[_Chunk]:
        """Show pictures to the network, and keep their features and what follows them."""
        for rows, output in self._own.run(shown.plan):
            self.shown += len(rows)
            current = self._watched.last(len(rows))
            try:
                chunk = self._chunk(current, shown.plan, rows, output)
            except StandsAside as reason:
                raise self._unfit(reason) from None
            self._words.update((one.words, None) for one in chunk.maps)
            yield chunk

    def share_out(
        self, shown: Shown, chunks: Iterable[_Chunk], reader: Reader, table: Tensor | None, bar: Any
    ) -> list[MapPart]:
        """What every cell adds to the information about each target or class.

        Args:
            shown: What the network was shown.
            chunks: What :meth:`record` kept of it.
            reader: How outputs are read.
            table: Each picture's target or classes, (n, k), or None.
            bar: A progress bar, updated by the views of each chunk.

        Returns:
            A part for each layer.
        """
        bits = NATS_PER_UNIT["bits"] / NATS_PER_UNIT[reader.unit]
        found: list[list[tuple[Tensor, FeatureMap, Shares]]] = []
        for chunk in chunks:
            targets = None if table is None else table[shown.plan.images[chunk.rows]]
            value = _value(reader, targets, len(chunk.rows))
            tolerance = _MISSING.get(chunk.output.dtype, _MISSING_ELSE) * bits
            shares: list[Shares] = []
            for replay, start, end in zip(chunk.replays, chunk.starts, chunk.ends, strict=True):
                given = replay, start, end, chunk.output, value, tolerance
                try:
                    with self._call.generators if replay.may_draw else nullcontext():
                        shares += relayed(*given) if replay.marks else [shares_along(*given)]
                except StandsAside as reason:
                    raise self._unfit(reason) from None
            rows = [chunk.rows] * len(shares)
            found.append(list(zip(rows, chunk.maps, shares, strict=True)))
            bar.update(len(chunk.rows))
        return [self._part(shown, layer) for layer in zip(*found, strict=True)]

    def _chunk(self, current: _Pass, plan: ViewPlan, rows: Tensor, output: Tensor) -> _Chunk:
        """What is kept of one pass."""
        if self._view.is_relayed:
            maps = current.maps(relay_maps)
            marks = [(one.value, one.after) for one in maps]
            replay = Replay(current.recording, current.inputs, 0, current.output, marks)
            blank = replace(plan, hidden="everything").part(rows)
            (start,) = draw(blank, torch.arange(len(rows)))
            self.shown += len(rows)
            maps = [replace(one, value=one.value.detach()) for one in maps]
            return _Chunk(rows, output, maps, [replay], [start], [current.shown])
        maps = current.maps(default_map)
        replays = [Replay(current.recording, m.value, m.after, current.output) for m in maps]
        maps = [replace(one, value=one.value.detach()) for one in maps]
        starts = self._starts(maps, replays, plan, rows)
        return _Chunk(rows, output, maps, replays, starts, [one.value for one in maps])

    def _starts(
        self, maps: Sequence[FeatureMap], replays: Sequence[Replay], plan: ViewPlan, rows: Tensor
    ) -> list[Tensor]:
        """Where each map's path starts: at zero, or at the features of the all-imputed pictures."""
        from_blank = [
            self._view.from_blank or one.prefix > 0 or hides_scale(replay.steps)
            for one, replay in zip(maps, replays, strict=True)
        ]
        blank = self._of_blank(maps, plan, rows) if any(from_blank) else []
        return [
            one.between(blank[place], one.value) if asked else torch.zeros_like(one.value)
            for place, (one, asked) in enumerate(zip(maps, from_blank, strict=True))
        ]

    def _of_blank(self, maps: Sequence[FeatureMap], plan: ViewPlan, rows: Tensor) -> list[Tensor]:
        """The same features of the all-imputed pictures: of one, where these are all alike."""
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

    def _part(self, shown: Shown, chunks: Sequence[tuple[Tensor, FeatureMap, Shares]]) -> MapPart:
        """One layer's maps of all pictures."""
        grids = {one.grid for _, one, _ in chunks}
        if len(grids) > 1:
            raise _unfit(f"its features have other sizes for other pictures, {sorted(grids)}")
        (grid,) = grids
        n, frames = len(self._scene.images), len(shown.frames)
        cells = MapCells((tuple(self._scene.inputs[0].shape[1:]),), grid, shown.frames)
        like = chunks[0][2].explained
        scores = like.new_empty(n * frames, math.prod(grid), like.shape[1])
        missing = like.new_empty(n * frames, like.shape[1])
        for rows, one, shares in chunks:
            of_cells = [one.of_places(of_class).flatten(1) for of_class in shares.shares]
            scores[rows] = torch.stack(of_cells, dim=2)
            missing[rows] = shares.explained - scores[rows].sum(1)
        scores = scores.reshape(n, len(cells), -1)
        return MapPart(cells, scores, missing.unflatten(0, (n, frames)).mean(1))

    def _unfit(self, reason: object) -> UnfitError:
        if self._call.generators.drew or self._call.libraries.found:
            reason = "it draws random numbers, which model.eval() turns off in most networks"
        return _unfit(reason)


class _Watched:
    """A network whose passes are recorded, as a function.

    Args:
        call: What is asked for.
        function: What is run.
        layers: Its layers whose outputs are noted.
    """

    def __init__(
        self, call: Call, function: Callable[..., Any], layers: Sequence[nn.Module]
    ) -> None:
        self._call, self._function, self._layers = call, function, layers
        self._passes: list[_Pass] = []

    def __call__(self, *inputs: Any) -> Any:
        """Run the network."""
        self._passes.append(_Pass(self._layers, self._call.generators))
        with explained(self._call.forward_func, inputs[:1]), self._call.generators.paused():
            return self._passes[-1].run(self._function, inputs)

    def last(self, count: int) -> _Pass:
        """The last pass of so many pictures: others may have tried the network on one of them."""
        found = next(one for one in reversed(self._passes) if len(one.shown) == count)
        self._passes.clear()
        return found


class _Pass:
    """One pass of a network, recorded.

    Args:
        layers: Whose outputs are noted; the last feature map is looked for if there are none.
        generators: What the network draws from.

    Attributes:
        recording: What the network did.
        output: What it returned.
    """

    def __init__(self, layers: Sequence[nn.Module], generators: OwnGenerators) -> None:
        self._layers, self._generators = layers, generators
        self._noted: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def run(self, function: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        """Run the network with gradients: without, it may take other ways, which have none.

        Some networks cannot; they are run without.
        """
        try:
            self._run(function, inputs, with_gradients=True)
        except RuntimeError:
            self._run(function, inputs, with_gradients=False)
        return self.output.detach() if isinstance(self.output, Tensor) else self.output

    def _run(
        self, function: Callable[..., Any], inputs: tuple[Any, ...], *, with_gradients: bool
    ) -> None:
        self.recording = Recording(self._generators)
        self._noted = {one: [] for one in self._layers}
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(with_gradients))
            for layer in self._layers:
                stack.callback(layer.register_forward_hook(self._note).remove)
            self.shown = inputs[0].detach().clone()  # an inference tensor has no gradients
            self.inputs = self.shown.clone().requires_grad_(with_gradients).clone()
            with self.recording:
                self.output = function(self.inputs, *inputs[1:])

    def maps(
        self, by_default: Callable[[Recording, Tensor, Tensor], list[FeatureMap]]
    ) -> list[FeatureMap]:
        """The feature maps that are asked for, or those by default."""
        if not self._layers:
            return by_default(self.recording, self.inputs, self.output)
        return [
            feature_map(self.recording, value, after, self.inputs)
            for value, after in map(self._of_layer, self._layers)
        ]

    def at(self, place: FeatureMap) -> Tensor:
        """The value where another pass had a feature map."""
        for value, after in map(self._of_layer, self._layers):
            if after == place.after:
                return value
        steps = self.recording.steps
        made = steps[place.after - 1].made if 0 < place.after <= len(steps) else ()
        if not made or made[0].shape[1:] != place.value.shape[1:]:
            raise StandsAside("it does other things with the all-imputed picture")
        return made[0]

    def _of_layer(self, layer: nn.Module) -> tuple[Tensor, int]:
        """A layer's output, and the place of the step that copies it."""
        noted = self._noted[layer]
        if len(noted) != 1:
            raise StandsAside(f"the {type(layer).__name__} that is named ran {len(noted)} times")
        ((value, handed_on),) = noted
        return value, self.recording.made(handed_on)[0]

    def _note(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Note a layer's output, and hand on a copy, since it may be written to."""
        if not isinstance(output, Tensor):
            raise _unfit(f"the layer that is named returns {describe(output)}")
        handed_on = output.clone()
        self._noted[module].append((output, handed_on))
        return handed_on


class EvidencePasses:
    """The passes of one call for evidence, in the place of :class:`Passes`.

    Args:
        call: What is asked for.
        view: Layers, sizes and reference.
        scene: The pictures; its regions are those that are asked for, or the whole picture.
        superpixels: What attributions are averaged over, if they are.
        has_regions: Whether regions are asked for; else the maps' cells are the regions.
    """

    def __init__(
        self,
        call: Call,
        view: Evidence,
        scene: Scene,
        superpixels: Tensor | None,
        *,
        has_regions: bool,
    ) -> None:
        self._superpixels = superpixels
        self.call, self.view, self._scene = call, view, scene
        self._engine = RunningEvidence(call, view, scene)
        self._asked = scene.regions if has_regions else None
        self._looks = Looks(call)
        self._kept: list[_Chunk] = []
        self._cells: Regions = scene.regions
        self._explained: Tensor | None = None
        self._residual: Tensor | None = None

    @contextmanager
    def running(self, name: str, show_progress: bool) -> Iterator[Any]:
        """A progress bar, under which the user's model is kept as it is."""
        shown = [shown_at(self._scene, size) for size in self.view.sizes]
        count = len(self._scene.images) + sum(len(one.plan) for one in shown)
        with running(self.call, name, count, show_progress) as bar:
            yield bar
        self._looks.say()

    def read_whole(self, reader: Reader, table: Tensor | None, bar: Any) -> Reading:
        """i(y; x) of the whole images, (n, ...); their features are kept."""
        shown = shown_at(self._scene, None)
        account = SinglePass(reader, len(shown.plan))
        self._kept = []
        for chunk in self._engine.record(shown):
            self._looks.see(chunk.output, reader.head)
            targets = None if table is None else table[shown.plan.images[chunk.rows]]
            if not self._kept:
                reader.check(chunk.output, table)
            account.add(chunk.rows.to(chunk.output.device), chunk.output, targets)
            self._kept.append(chunk)
            bar.update(len(chunk.rows))
        reading = account.reading()
        check_finite(reading.information, [shown.plan])
        return reading

    def read_blank(self, reader: Reader, table: Tensor | None, bar: Any) -> None:
        """Evidence is a difference, and needs no reference besides."""

    def read_regions(
        self, reader: Reader, table: Tensor | None, bar: Any, total: Reading, blank: Reading | None
    ) -> Reading:
        """Evidence of every region, (n, R, ...)."""
        parts: list[MapPart] = []
        for size in self.view.sizes:
            shown = shown_at(self._scene, size)
            chunks = self._kept if size is None else self._engine.record(shown)
            parts += self._engine.share_out(shown, chunks, reader, table, bar)
        cells = [part.cells for part in parts]
        self._cells = cells[0] if len(cells) == 1 else Scales(tuple(cells))
        scores = torch.cat([part.scores for part in parts], dim=1)
        missing = torch.stack([part.missing for part in parts]).mean(0)
        # A class at a time: maps of a thousand would take a picture's size a thousand times.
        read = [self._integrals(of_class) for of_class in scores.unbind(2)]
        summed = torch.stack([whole for whole, _ in read], dim=1) + missing
        information = total.information
        self._residual = missing.reshape(information.shape).to(information.dtype)
        self._explained = summed.reshape(information.shape).to(information.dtype)
        scores = torch.stack([regions for _, regions in read], dim=2).to(information.dtype)
        return Reading(scores if information.dim() > 1 else scores[:, :, 0])

    def doubt_lone_parts(
        self, score: Score, classes: Tensor, total: Reading, found: Reading
    ) -> None:
        """Whole pictures are shown, or halves of them; a cell's value does not rest on it alone."""

    def _integrals(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """One class's density over the whole pictures, (n,), and over each region, (n, R)."""
        density = self._cells.paint(scores, "mean", 1.0)[0][:, 0]
        own = scores if self._asked is None else sums(self._asked, density)
        return density.flatten(1).sum(1), own

    def info_map(
        self,
        found: Reading,
        total: Reading,
        blank: Reading | None,
        *,
        unit: str,
        overlap: str,
        is_tuple: bool,
        contrast: Tensor | None = None,
    ) -> InfoMap:
        """What was read, with the settings that it was read by."""
        return InfoMap(
            regions=self._cells if self._asked is None else self._asked,
            scores=found.information,
            total=total.information,
            blank=None,
            explained=self._explained,
            residual=self._residual,
            unit=unit,
            view=self.view.name,
            overlap=overlap,
            engine=self._engine.name,
            is_tuple=is_tuple,
            contrast=contrast,
            superpixels=self._superpixels,
            views=self._engine.shown,
        )


def _value(reader: Reader, table: Tensor | None, n: int) -> Callable[[Tensor], Tensor]:
    """Reads outputs of n pictures, at one or several points of their paths, as (n, K)."""

    def value(output: Tensor) -> Tensor:
        targets = None if table is None else table.repeat(len(output) // n, 1)
        values = reader(output, targets)
        return values[:, None] if values.dim() == 1 else values

    return value


def _to_run(
    forward_func: Callable[..., Any], layers: Sequence[nn.Module | str]
) -> tuple[Callable[..., Any], list[nn.Module]]:
    """What is run, and its layers: a copy, whose hooks nobody else meets, where there are any.

    What is compiled is run as it was before, and inference tensors, which have no gradients, are
    copied.
    """
    named = [_named(forward_func, one) if isinstance(one, str) else one for one in layers]
    if isinstance(forward_func, nn.Module):
        networks = list(forward_func.modules())
    else:
        networks = modules_reached(forward_func)
    if any(isinstance(module, torch.jit.ScriptModule) for module in networks):
        raise _unfit("it is TorchScript, whose steps cannot be seen")
    for one in named:
        if not any(one is module for module in networks):
            raise ArgumentError(
                f"Expected `layer` to be a part of `forward_func`; got {type(one).__name__}, which "
                f"it cannot be seen to use."
            )
    if not named and not any(map(_is_odd, networks)):
        return forward_func, []
    isolation = Isolation(alias)
    own = isolation.copy(forward_func)
    copies = [isolation.copy(one) for one in named]
    reached = {id(module) for module in modules_reached(own)}
    if isolation.is_whole and all(id(one) in reached for one in copies):
        return own, copies
    return forward_func, named


def _is_odd(module: nn.Module) -> bool:
    """Whether a module is compiled, or has inference tensors."""
    if compiled_network(module) is not None or getattr(module, "_compiled_call_impl", None):
        return True
    own = (*module._parameters.values(), *module._buffers.values())
    return any(each is not None and each.is_inference() for each in own)


def _named(forward_func: object, name: str) -> nn.Module:
    if not isinstance(forward_func, nn.Module):
        raise ArgumentError(
            f"Expected `layer` to be a module, or `forward_func` one that has names; got {name!r}."
        )
    return named_layer(forward_func, name)


def _unfit(reason: object) -> UnfitError:
    """The error for a network whose features cannot be had."""
    return UnfitError(
        f"Expected `forward_func` to have a feature map for view='evidence' and 'relay'; {reason}. "
        f"Pass layer= to name one, or view='drop'."
    )

# All passes of one call of evidence: the network sees the pictures at each size.
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_infomask._messages import warn
from captum_infomask.engines.engine_protocol import Call, ReadBy
from captum_infomask.engines.evidence_engine import CellShares, Chunk, MapPart, RunningEvidence
from captum_infomask.engines.passes import Looks, check_finite, running
from captum_infomask.regions.map_cells import sums
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.regions.scales import Scales
from captum_infomask.results.info_map import InfoMap
from captum_infomask.scores.readings import Reader, Reading, SinglePass
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import NATS_PER_UNIT
from captum_infomask.views.evidence import Evidence, shown_at
from captum_infomask.views.view_plan import Scene

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PAINTED = 8  # pictures at a time
_SLIGHT_BITS, _SLIGHT_SHARE = 0.1, 0.01  # amounts that may be missing without a warning
SHORT = "Some maps give more than 0.1 bits and 1% of the whole to no pixel"


class EvidencePasses:
    """The passes of one call for evidence, instead of :class:`RegionPasses`.

    Args:
        call: The call to run.
        view: The settings: layers, sizes and reference.
        scenes: The pictures, once, because no imputer draws. If no regions are asked for, the maps'
            cells are the regions.
        superpixels: The superpixels that attributions are averaged over, if they are.
    """

    def __init__(
        self,
        call: Call,
        view: Evidence,
        scenes: tuple[Scene, ...],
        superpixels: Tensor | None,
    ) -> None:
        (scene,) = scenes
        self._superpixels = superpixels
        self.call, self.view, self._scene = call, view, scene
        self._engine = RunningEvidence(call, view, scene)
        self._asked = scene.regions if scene.has_regions else None
        self._looks = Looks(call)
        self._whole = shown_at(scene, None)
        self._kept: list[Chunk] = []
        self._left = torch.arange(0)
        self._found: list[list[CellShares]] = []
        self._cells: Regions = scene.regions
        self._explained: Tensor | None = None
        self._residual: Tensor | None = None

    @property
    def outputs(self) -> int:
        """M, the number of classes in the outputs; known when the whole images are read."""
        return self._looks.classes

    @contextmanager
    def running(self, name: str, show_progress: bool) -> Iterator[Any]:
        """Show a progress bar, and keep the user's model as it is."""
        shown = [shown_at(self._scene, size) for size in self.view.sizes]
        count = len(self._scene.images) + sum(len(one.plan) for one in shown)
        with running(self.call, name, count, show_progress) as bar:
            yield bar
        self._looks.say()

    def read_whole(
        self, reader: Reader, table: Tensor | None, bar: Any, *, as_regions: bool = False
    ) -> Reading:
        """Return i(y; x) of the whole images, (n, ...).

        If regions will be read in the same way, the shares of the features are read at once, chunk
        by chunk. If not, the classes may depend on all outputs. Then a single chunk is kept, and
        several chunks are recorded again.
        """
        shown = self._whole
        account = SinglePass(reader, len(shown.plan))
        self._kept, self._found, self._left = [], [], torch.arange(len(shown.plan))
        is_asked, is_kept = as_regions, None in self.view.sizes
        is_first = True
        for chunk in self._engine.record(shown):
            self._looks.see(chunk.output, reader.head)
            targets = None if table is None else table[shown.plan.images[chunk.rows]]
            if is_first:
                reader.check(chunk.output, table)
            is_first = False
            account.add(chunk.rows.to(chunk.output.device), chunk.output, targets)
            is_asked = is_asked and bool(reader(chunk.output, targets).isfinite().all())
            if is_kept and (is_asked or len(chunk.rows) == len(shown.plan)):
                self._kept.append(chunk)
                self._left = self._left[~torch.isin(self._left, chunk.rows)]
            bar.update(len(chunk.rows))
            del chunk
            if self._kept and is_asked:
                own = _taken(self._kept)
                self._found += self._engine.share_out(shown, own, reader, table, bar)
        reading = account.reading()
        check_finite(reading.information, [shown.plan])
        return reading

    def read_blank(self, reader: Reader, table: Tensor | None, bar: Any) -> None:
        """Return None: evidence is a difference, and needs no other reference."""

    def read_regions(
        self, reader: Reader, table: Tensor | None, bar: Any, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return the evidence of every region, (n, R, ...)."""
        parts: list[MapPart] = []
        for size in self.view.sizes:
            shown, found = self._whole, self._found
            if size is None:
                rest = self._engine.record(shown, self._left) if len(self._left) else ()
                chunks: Iterable[Chunk] = chain(_taken(self._kept), rest)
            else:
                shown, found = shown_at(self._scene, size), []
                chunks = self._engine.record(shown)
            found += self._engine.share_out(shown, chunks, reader, table, bar)
            parts += [self._engine.part(shown, layer) for layer in zip(*found, strict=True)]
            found.clear()
        cells = [part.cells for part in parts]
        self._cells = cells[0] if len(cells) == 1 else Scales(tuple(cells))
        scores = torch.cat([part.scores for part in parts], dim=1)
        missing = torch.stack([part.missing for part in parts]).mean(0)
        # One class at a time: maps of a thousand classes would take a picture's size a thousand
        # times.
        present = self._scene.regions.present(len(scores))
        read = [self._integrals(of_class, present) for of_class in scores.unbind(2)]
        summed = torch.stack([whole for whole, _ in read], dim=1) + missing
        information = total.information
        self._residual = missing.reshape(information.shape).to(information.dtype)
        self._explained = summed.reshape(information.shape).to(information.dtype)
        _warn_of_residual(self._residual.flatten(), self._explained.flatten(), reader.unit)
        scores = torch.stack([regions for _, regions in read], dim=2).to(information.dtype)
        return Reading(scores if information.dim() > 1 else scores[:, :, 0])

    def doubt_lone_parts(
        self, score: Score, classes: Tensor, total: Reading, found: Reading
    ) -> None:
        """Do nothing: pictures are shown whole or in halves, and no cell is shown alone."""

    def _integrals(self, scores: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return one class's density over whole pictures, (n,), and over each region, (n, R)."""
        wholes, found = [], []
        for images in torch.arange(len(scores)).split(_PAINTED):
            own = scores[images.to(scores.device)]
            density = self._cells.paint(own, "mean", 1.0)[0][:, 0]
            wholes.append(density.flatten(1).sum(1))
            found.append(
                own if self._asked is None else sums(self._asked, images, density, present)
            )
        return torch.cat(wholes), torch.cat(found)

    def info_map(
        self, found: Reading, total: Reading, blank: Reading | None, **read_by: Unpack[ReadBy]
    ) -> InfoMap:
        """Return the readings, with the settings that produced them."""
        return InfoMap(
            regions=self._cells if self._asked is None else self._asked,
            scores=found.information,
            total=total.information,
            blank=None,
            explained=self._explained,
            residual=self._residual,
            view=self.view.name,
            engine=self._engine.name,
            superpixels=self._superpixels,
            views=self._engine.shown,
            **read_by,
        )


def _warn_of_residual(missing: Tensor, whole: Tensor, unit: str) -> None:
    bits = NATS_PER_UNIT["bits"] / NATS_PER_UNIT[unit]
    if bool((missing.abs() > _SLIGHT_BITS * bits + _SLIGHT_SHARE * whole.abs()).any()):
        warn(
            f"{SHORT}: InfoMap.residual says how many. They pass through steps without a gradient, "
            f"such as comparisons, rounding or detach(), or around the layer that is named. "
            f"view='drop' needs no gradients."
        )


def _taken(chunks: list[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks, which nothing else keeps."""
    while chunks:
        yield chunks.pop()

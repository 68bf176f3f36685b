# All that one call shows to the network: the whole images, the all-imputed ones, the views.
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from captum_infomask._progress import progress_bar
from captum_infomask.engines.base import Call, Running
from captum_infomask.engines.dropout import warn_of_mode
from captum_infomask.engines.outputs import changed_classes
from captum_infomask.engines.reading import read_views
from captum_infomask.engines.untouched import buffers_kept
from captum_infomask.results.info_map import InfoMap
from captum_infomask.scores.accounts import Account, Draws, Reader, Samples, SinglePass
from captum_infomask.scores.heads import Doubt
from captum_infomask.scores.readings import Reading
from captum_infomask.views.base import View
from captum_infomask.views.plan import Blank, Scene, ViewPlan, whole_images


@dataclass(frozen=True, eq=False)
class Passes:
    """The forward passes of one call, and how their outputs become information of regions.

    Attributes:
        engine: Runs the views.
        view: What is shown of each region.
        scenes: What all views share, one per draw of a random imputer; one where none is drawn.
        call: What is asked of the engine.
        superpixels: Over which attributions are averaged, (n or 1, S, H, W), if they are.
    """

    engine: Running
    view: View
    scenes: tuple[Scene, ...]
    call: Call
    superpixels: Tensor | None = None
    _shapes: set[tuple[int, ...]] = field(default_factory=set)
    _doubts: dict[str, Doubt] = field(default_factory=dict)

    @cached_property
    def whole(self) -> ViewPlan:
        """Every image as it is."""
        return whole_images(self.scenes[0])

    @cached_property
    def blank(self) -> Blank | None:
        """The all-imputed images, where information is counted from them."""
        return self.view.blank(self.scenes[0])

    @cached_property
    def plan(self) -> ViewPlan:
        """A view of every region."""
        return self.view.plan(self.scenes[0])

    @contextmanager
    def running(self, name: str, show_progress: bool) -> Iterator[Any]:
        """A progress bar, under which the user's model is kept as it is."""
        warn_of_mode(self.call.forward_func, is_sampled=self._is_sampled)
        with (
            buffers_kept(self.call.forward_func),
            progress_bar(
                total=self.count, desc=f"{name} attribution", unit="view", show=show_progress
            ) as bar,
        ):
            yield bar
        for doubt in self._doubts.values():
            doubt.say()

    @property
    def count(self) -> int:
        """Views in all, for a progress bar."""
        hidden = len(self.plan) + (0 if self.blank is None else len(self.blank.plan))
        return hidden * len(self._repeated(self.plan)) + len(self.whole) * self._whole_passes

    @property
    def shown(self) -> int:
        """Pictures that the network is shown, whole or in part: of pooled features, the whole."""
        return len(self.whole) if self.plan.hidden == "features" else self.count

    def read_whole(self, reader: Reader, table: Tensor | None, bar: Any) -> Reading:
        """i(y; x) of the whole images, (n, ...)."""
        account: Account = SinglePass(reader, len(self.whole))
        if self._is_sampled:
            account = Samples(reader, len(self.whole))
        passes = [self.whole] * self._whole_passes
        return read_views(self.engine, passes, reader, account, table, bar, self._look)

    def read_blank(self, reader: Reader, table: Tensor | None, bar: Any) -> Reading | None:
        """i(y; all-imputed view) that each region is counted from, (n, R, ...), if it is."""
        if self.blank is None:
            return None
        index = self.blank.index
        read = self._read(self.blank.plan, reader, table, bar)
        return read.map(lambda part: part[index.to(part.device)])

    def read_regions(
        self, reader: Reader, table: Tensor | None, bar: Any, total: Reading, blank: Reading | None
    ) -> Reading:
        """Information of every region, (n, R, ...); NaN where an image does not have it."""
        shown = self._read(self.plan, reader, table, bar)
        return self.view.information(self.plan, shown, total, blank)

    def info_map(
        self,
        found: Reading,
        total: Reading,
        blank: Reading | None,
        *,
        unit: str,
        overlap: str,
        is_tuple: bool,
    ) -> InfoMap:
        """What was read, with the settings that it was read by."""
        return InfoMap(
            regions=self.scenes[0].regions,
            scores=found.information,
            total=total.information,
            blank=None if blank is None else blank.information,
            lower=found.lower,
            upper=found.upper,
            spread=found.spread,
            standard_errors=found.standard_errors,
            unit=unit,
            view=self.view.name,
            overlap=overlap,
            engine=self.engine.name,
            is_tuple=is_tuple,
            n_samples=self.view.n_samples if len(self.scenes) == 1 else len(self.scenes),
            views=self.shown,
            superpixels=self.superpixels,
        )

    def _read(self, plan: ViewPlan, reader: Reader, table: Tensor | None, bar: Any) -> Reading:
        account: Account = SinglePass(reader, len(plan))
        if len(self.scenes) > 1:
            account = Draws(reader, len(plan))
        elif self._is_sampled:
            account = Samples(reader, len(plan))
        passes = self._repeated(plan)
        return read_views(self.engine, passes, reader, account, table, bar, self._look)

    def _look(self, output: Tensor, head: str) -> None:
        """Refuse other classes than those of the outputs before; doubt that they are logits."""
        shape = tuple(output.shape[1:])
        for before in self._shapes - {shape}:
            raise changed_classes(before, shape, self.call)
        self._shapes.add(shape)
        self._doubts.setdefault(head, Doubt(head)).see(output)

    def _repeated(self, plan: ViewPlan) -> list[ViewPlan]:
        """The plan once for each pass."""
        if len(self.scenes) > 1:
            return [replace(plan, scene=scene) for scene in self.scenes]
        return [plan] * self._whole_passes

    @property
    def _is_sampled(self) -> bool:
        """Whether the network is sampled, rather than an imputer's draws or random orders."""
        sampled = self.view.n_samples is not None and not self.view.over_orders
        return sampled and len(self.scenes) == 1

    @property
    def _whole_passes(self) -> int:
        return self.view.n_samples or 1 if self._is_sampled else 1

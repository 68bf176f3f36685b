# All passes of one call that show regions to the network, and the reading of their outputs.
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._messages import progress_bar, warn
from captum_infomask.engines.dropout import warn_of_mode
from captum_infomask.engines.engine_protocol import Call, Engine, ReadBy, Running
from captum_infomask.engines.outputs import changed_classes
from captum_infomask.engines.pixels import draw
from captum_infomask.engines.untouched import buffers_kept
from captum_infomask.results.info_map import InfoMap
from captum_infomask.scores.heads import AnyHead, Doubt
from captum_infomask.scores.readings import Account, Draws, Reader, Reading, Samples, SinglePass
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import NATS_PER_UNIT
from captum_infomask.views.view_plan import Blank, RegionView, Scene, ViewPlan, whole_images

if TYPE_CHECKING:
    from typing_extensions import Unpack


def read_views(
    engine: Running,
    passes: Sequence[ViewPlan],
    reader: Reader,
    account: Account,
    table: Tensor | None,
    bar: Any,
    seen: Callable[[Tensor, AnyHead], None],
) -> Reading:
    """Return i(y; v) of every view of a plan, (V, ...).

    Args:
        engine: The engine that runs the views.
        passes: The views, at least one, once for every pass. They differ in the imputer's values.
        reader: How outputs are read.
        account: The store of the readings.
        table: Each image's target or classes, (n, k), or None.
        bar: A progress bar, updated by the views of each chunk.
        seen: A function that checks the outputs of each chunk, given the head.

    Raises:
        ArgumentError: The outputs do not fit the reader or the targets, or are not finite.
    """
    checked = False
    for plan in passes:
        for rows, output in engine.run(plan):
            seen(output, reader.head)
            if not checked:
                reader.check(output, table)
                checked = True
            targets = None if table is None else table[plan.images[rows]]
            account.add(rows.to(output.device), output, targets)
            bar.update(len(rows))
    reading = account.reading()
    check_finite(reading.information, passes)
    return reading


def check_finite(values: Tensor, passes: Sequence[ViewPlan]) -> None:
    """Name the view that is not finite, and say whether the imputer caused it."""
    wrong = ~values.flatten(1).isfinite().all(1) if values.dim() > 1 else ~values.isfinite()
    rows = wrong.nonzero()[:, 0]
    if not len(rows):
        return
    view, plan = int(rows[0]), passes[0]
    count = f"({len(rows)} of {len(plan)} views)"
    named = plan.describe(view)
    for each in passes:
        if _imputed_badly(each, view):
            raise ArgumentError(
                f"Expected `imputer` to give finite values; it gave NaN or infinity for the view "
                f"of {named}, and `forward_func` an answer that is not finite {count}."
            )
    image = int(plan.images[view])
    for number, x in enumerate(plan.scene.inputs):
        if not bool(x[image].isfinite().all()):
            which = (
                f"input {number}, image {image}" if len(plan.scene.inputs) > 1 else f"image {image}"
            )
            raise ArgumentError(
                f"Expected `inputs` to be finite, or `forward_func` to know what to do where they "
                f"are not; {which} holds NaN or infinity, and the answer for the view of {named} "
                f"is not finite {count}."
            )
    value = values[view].flatten()
    first = float(value[~value.isfinite()][0])
    raise ArgumentError(
        f"Expected `forward_func` to return finite numbers; got information of {first} for the "
        f"view of {named} {count}."
    )


def _imputed_badly(plan: ViewPlan, view: int) -> bool:
    """Whether a view is not finite although its inputs are."""
    if not plan.scene.has_pixels:
        return False
    shown = draw(plan, torch.tensor([view]))
    image = int(plan.images[view])
    return any(
        bool(x[image].isfinite().all()) and not bool(picture.isfinite().all())
        for x, picture in zip(plan.scene.inputs, shown, strict=True)
    )


class Looks:
    """Check all outputs of a call: the classes stay the same, and logits look like logits.

    Args:
        call: The call that the engine runs.

    Attributes:
        wholes: How often the whole pictures were read.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.wholes = 0
        self._shapes: set[tuple[int, ...]] = set()
        self._doubts: dict[AnyHead, Doubt] = {}

    def see(self, output: Tensor, head: AnyHead) -> None:
        """Refuse other classes than those of earlier outputs; doubt that outputs are logits."""
        shape = tuple(output.shape[1:])
        for before in self._shapes - {shape}:
            raise changed_classes(before, shape, self._call)
        self._shapes.add(shape)
        self._doubts.setdefault(head, Doubt(head)).see(output)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example's output."""
        return next(iter(self._shapes))

    @property
    def classes(self) -> int:
        """The number of classes in an example's output."""
        return self.shape[0] if self.shape else 1

    def say(self) -> None:
        """Warn if outputs are not logits."""
        for doubt in self._doubts.values():
            doubt.say()


@contextmanager
def running(
    call: Call, name: str, count: int, show_progress: bool, *, is_sampled: bool = False
) -> Iterator[Any]:
    """Show a progress bar for so many views, and keep the user's model as it is."""
    warn_of_mode(call.forward_func, is_sampled=is_sampled)
    with (
        buffers_kept(call.forward_func),
        progress_bar(
            total=count, desc=f"{name} attribution", unit="view", show=show_progress
        ) as bar,
    ):
        yield bar


@dataclass(frozen=True, eq=False)
class RegionPasses:
    """The passes of a view of regions, and how their outputs become information of the regions.

    Attributes:
        engine: The engine that runs the views.
        view: The view of each region.
        scenes: The data that all views share, one per random draw; one if nothing is drawn.
        call: The call that the engine runs.
        superpixels: The superpixels that attributions are averaged over, (n or 1, S, H, W), if they
            are.
    """

    engine: Running
    view: RegionView
    scenes: tuple[Scene, ...]
    call: Call
    superpixels: Tensor | None = None
    _looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_looks", Looks(self.call))

    @classmethod
    def by(
        cls,
        engine: Engine,
        call: Call,
        view: RegionView,
        scenes: tuple[Scene, ...],
        superpixels: Tensor | None,
    ) -> RegionPasses:
        """Make the passes of an engine, which first checks whether it can run them."""
        passes = cls(engine.start(call), view, scenes, call, superpixels)
        passes.engine.check(passes.plan, passes.blank)
        return passes

    @cached_property
    def whole(self) -> ViewPlan:
        """Every image as it is."""
        return whole_images(self.scenes[0])

    @cached_property
    def blank(self) -> Blank | None:
        """The all-imputed images, if information is counted from them."""
        return self.view.blank(self.scenes[0])

    @cached_property
    def plan(self) -> ViewPlan:
        """A view of every region."""
        return self.view.plan(self.scenes[0])

    @property
    def outputs(self) -> int:
        """M, the number of classes in the outputs; known when the whole images are read."""
        return self._looks.classes

    @contextmanager
    def running(self, name: str, show_progress: bool) -> Iterator[Any]:
        """Show a progress bar, and keep the user's model as it is."""
        is_sampled = self._is_sampled
        with running(self.call, name, self.count, show_progress, is_sampled=is_sampled) as bar:
            yield bar
        self._looks.say()

    @property
    def count(self) -> int:
        """The number of views in all, for a progress bar."""
        hidden = len(self.plan) + (0 if self.blank is None else len(self.blank.plan))
        passes = len(self.scenes) if self._is_drawn else self._whole_passes
        return hidden * passes + len(self.whole) * self._whole_passes

    @property
    def shown(self) -> int:
        """The number of pictures shown, whole or in part; pooled features count whole ones."""
        again = (self._looks.wholes - 1) * len(self.whole)
        if self.plan.hidden == "features":
            return again + len(self.whole)
        return again * self._whole_passes + self.count

    def read_whole(
        self, reader: Reader, table: Tensor | None, bar: Any, *, as_regions: bool = False
    ) -> Reading:
        """Return i(y; x) of the whole images, (n, ...).

        With ``as_regions``, the same reader and table will read the regions.
        """
        kind: type[Account] = Samples if self._is_sampled else SinglePass
        self._looks.wholes += 1
        account, passes = kind(reader, len(self.whole)), [self.whole] * self._whole_passes
        return read_views(self.engine, passes, reader, account, table, bar, self._looks.see)

    def read_blank(self, reader: Reader, table: Tensor | None, bar: Any) -> Reading | None:
        """Return i(y; all-imputed view) that each region is counted from, (n, R, ...), if it is."""
        if self.blank is None:
            return None
        index = self.blank.index
        plans = [replace(self.blank.plan, scene=scene) for scene in self.scenes]
        read = self._read(plans, reader, table, bar)
        return read.map(lambda part: part[index.to(part.device)])

    def read_regions(
        self, reader: Reader, table: Tensor | None, bar: Any, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return the information of every region, (n, R, ...); NaN if an image does not have it."""
        plans = [self.plan, *map(self.view.plan, self.scenes[1:])]
        shown = self._read(plans, reader, table, bar)
        return self.view.information(self.plan, shown, total, blank)

    def doubt_lone_parts(
        self, score: Score, classes: Tensor, total: Reading, found: Reading
    ) -> None:
        r"""Warn if parts shown alone contradict the class that their own picture surely shows.

        For a network that reads parts rightly, :math:`E[2^{-i(y; v)} \mid y] = 1`. By Markov's
        inequality, at most half of the parts of a picture of y then say −1 bit or less about y. The
        warning comes if more than half of them do, among pictures with p(y | x) ≥ 1/2.

        Args:
            score: How outputs were read.
            classes: Each image's classes, long (n, K). If there are several, the one that the image
                surely shows counts.
            total: i(y; x), (n, K), or (n,) for one class.
            found: Each region's reading, (n, R, K), or (n, R).
        """
        if not self.view.needs.lone_parts or not score.has_probabilities or score.groups:
            return
        shape = self._looks.shape
        nats = NATS_PER_UNIT[score.unit]
        values = total.information.double().reshape(classes.shape)
        regions = found.information.reshape(*found.information.shape[:2], classes.shape[1])
        log_prior = torch.as_tensor(score.log_prior(values.new_empty(1, *shape[:1]))).to(values)
        own = log_prior.flatten().expand(math.prod(shape[:1]))[classes.to(values.device)]
        log_p, column = (values * nats + own).max(1)
        said = regions[torch.arange(len(column)), :, column][log_p >= math.log(0.5)]
        said = said[~said.isnan()] * nats
        if len(said) and float((said <= -math.log(2)).double().mean()) > 0.5:
            warn(
                f"More than half of the regions say −1 bit or less about a class that their whole "
                f"pictures surely show (view={self.view.name!r}). Most likely the network was "
                f"never shown parts alone, or the pictures show other things too. view='drop', "
                f"'chain', 'features', 'evidence' and 'relay' do not rest on parts alone."
            )

    def info_map(
        self, found: Reading, total: Reading, blank: Reading | None, **read_by: Unpack[ReadBy]
    ) -> InfoMap:
        """Return the readings, with the settings that produced them."""
        return InfoMap(
            regions=self.scenes[0].regions,
            scores=found.information,
            total=total.information,
            blank=None if blank is None else blank.information,
            lower=found.lower,
            upper=found.upper,
            spread=found.spread,
            standard_errors=found.standard_errors,
            view=self.view.name,
            engine=self.engine.name,
            n_samples=len(self.scenes) if self._is_drawn else self.view.n_samples,
            views=self.shown,
            superpixels=self.superpixels,
            **read_by,
        )

    def _read(
        self, plans: list[ViewPlan], reader: Reader, table: Tensor | None, bar: Any
    ) -> Reading:
        """Return the reading of the same views in every draw; without draws there is one plan."""
        account, passes = self.account(reader, len(plans[0])), plans * self._whole_passes
        return read_views(self.engine, passes, reader, account, table, bar, self._looks.see)

    def account(self, reader: Reader, views: int) -> Account:
        """Return an account of so many views, which are shown with every draw and sample."""
        several: type[Account] = Samples if self._is_sampled else SinglePass
        return (Draws if self._is_drawn else several)(reader, views)

    @property
    def _is_drawn(self) -> bool:
        """Whether an imputer or the view draws at random."""
        return self.scenes[0].draw is not None

    @property
    def _is_sampled(self) -> bool:
        """Whether the network is sampled, rather than random draws or orders of views."""
        sampled = self.view.n_samples is not None and not self.view.over_orders
        return sampled and not self._is_drawn

    @property
    def _whole_passes(self) -> int:
        return self.view.n_samples or 1 if self._is_sampled else 1

# The questions of an attribute call: what each region tells about a target, or about classes.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor

from captum_infomask._categories import check_count
from captum_infomask._checks import check_inputs
from captum_infomask._types import (
    AdditionalForwardArgs,
    Baselines,
    Target,
    TensorOrTensors,
    Tensors,
)
from captum_infomask.attribution.call import check_place, prepare
from captum_infomask.attribution.default_view import CHEAPEST, FINEST, asked_view, of_view
from captum_infomask.attribution.options import Options
from captum_infomask.engines.engine_protocol import Passes
from captum_infomask.engines.heard import HeardPasses
from captum_infomask.engines.passes import RegionPasses
from captum_infomask.results import ClassMaps, InfoMap
from captum_infomask.scores.class_scores import (
    ClassScore,
    all_log_priors,
    checked_classes,
    choose_classes,
)
from captum_infomask.scores.contrast import Against, checked_contrast
from captum_infomask.scores.likely_classes import LikelyClasses
from captum_infomask.scores.readings import Reader, Reading
from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import NATS_PER_UNIT
from captum_infomask.scores.targets import target_table
from captum_infomask.scores.values import check_no_value
from captum_infomask.views.choose_view import ViewName

_Answer_co = TypeVar("_Answer_co", covariant=True)


@dataclass(frozen=True, eq=False)
class Begun:
    """The state of a call after the whole pictures are read.

    Attributes:
        reader: How the outputs for regions are read.
        table: The reader's target or classes of each image.
        total: The information of the whole images, (n,) or (n, K).
        classes: The classes that regions tell about, long (n, K); K = 1 for a target.
        contrast: The targets and the classes that they are compared with, if there is a contrast.
        log_priors: Log π of the classes, if they are all the classes that there are.
    """

    reader: Reader
    table: Tensor | None
    total: Reading
    classes: Tensor
    contrast: Tensor | None = None
    log_priors: Tensor | None = None


class Names(NamedTuple):
    """The number of the network's classes, and the names of what targets count; maybe empty."""

    outputs: int
    categories: tuple[str, ...]


class RegionQuestion(Protocol[_Answer_co]):
    """A question about all regions of a call."""

    @property
    def score(self) -> Score:
        """How outputs are read."""
        ...

    @property
    def best_view(self) -> ViewName:
        """The view that answers the question best, for calls that name none."""
        ...

    def begin(self, passes: Passes, bar: Any) -> Begun:
        """Read the whole pictures."""
        ...

    def answer(self, begun: Begun, infomap: InfoMap, names: Names) -> _Answer_co:
        """Make the user's result of all that was read."""
        ...


@dataclass(frozen=True, eq=False)
class AboutTarget:
    """What does each region tell about its image's target?

    Attributes:
        score: How outputs are read.
        table: Each image's target, or None.
        against: The class that the target is compared with, if any.
    """

    score: Score
    table: Tensor | None
    against: Against | None
    best_view = FINEST

    @classmethod
    def checked(cls, score: Score, target: Target, options: Options, n: int) -> AboutTarget:
        """Check the target of each of n images; raise ``ArgumentError`` if it is wrong."""
        check_no_value(options.value, score)
        table = target_table(target, n)
        score.check_target(table)
        check_place(table, options.view)
        targets = None if table is None else table[:, :1]
        against = checked_contrast(options.contrast, targets, n, score, options.overlap)
        return cls(score, table, against)

    def begin(self, passes: Passes, bar: Any) -> Begun:
        """Read what the whole pictures tell about their targets."""
        if self.against is None:
            total = passes.read_whole(self.score, self.table, bar, as_regions=True)
            none = torch.zeros(len(total.information), 1, dtype=torch.long, device="cpu")
            classes = none if self.table is None else self.table[:, :1]
            return Begun(self.score, self.table, total, classes)
        assert self.table is not None, "as checked"
        classes, place = self.table[:, :1], self.table[:, 1:]
        every = passes.read_whole(ClassScore(self.score, at_place=True), self.table, bar)
        told = self.against.told(self.score, every, classes, place)
        total = told.total.map(lambda part: part[:, 0])
        return Begun(told.reader, told.table, total, classes, told.classes[..., 0])

    def answer(self, begun: Begun, infomap: InfoMap, names: Names) -> InfoMap:
        """The map of the target."""
        if self.table is None:
            return infomap
        targets = begun.classes[:, 0]
        found = infomap.about(targets, names.categories)
        if begun.contrast is not None or not self.score.has_probabilities:
            return found
        nats = found.total.double() * NATS_PER_UNIT[found.unit]
        log_p = nats + self.score.log_priors(targets, names.outputs).to(nats)
        return replace(found, probability=log_p.exp().clamp(max=1).to(found.total.dtype))


@dataclass(frozen=True, eq=False)
class AboutClasses:
    """What does each region tell about each of several classes?

    Attributes:
        score: How outputs are read.
        asked: Each image's classes, (n, K), the number of its likeliest ones, or None for all.
        against: The class that the classes are compared with, if any.
    """

    score: Score
    asked: Tensor | int | None
    against: Against | None
    best_view = CHEAPEST

    @classmethod
    def checked(
        cls, score: Score, classes: object, top_k: object, options: Options, n: int
    ) -> AboutClasses:
        """Check the classes of n images; raise ``ArgumentError`` if they are wrong."""
        check_no_value(options.value, score.with_classes("score_classes asks about classes"))
        asked = checked_classes(classes, top_k, n)
        if isinstance(asked, Tensor):
            for column in asked.T:
                score.check_target(column[:, None])
        known = (
            asked
            if isinstance(asked, Tensor)
            else torch.empty(n, 0, dtype=torch.long, device="cpu")
        )
        against = checked_contrast(options.contrast, known, n, score, options.overlap)
        return cls(score, asked, against)

    def begin(self, passes: Passes, bar: Any) -> Begun:
        """Read what the whole pictures tell about every class, and choose classes by that."""
        reader = ClassScore(self.score)
        every = passes.read_whole(reader, None, bar)
        chosen = choose_classes(self.asked, every.information, self.score)
        if self.against is None:
            total = every.map(lambda part: part.gather(1, chosen.to(part.device)))
            log_priors = all_log_priors(chosen, every.information, self.score)
            return Begun(reader, chosen, total, chosen, log_priors=log_priors)
        chosen = self.against.others(chosen) if self.asked is None else chosen
        told = self.against.told(reader, every, chosen, chosen[:, :0])
        return Begun(told.reader, told.table, told.total, chosen, told.classes)

    def answer(self, begun: Begun, infomap: InfoMap, names: Names) -> ClassMaps:
        """The maps of all classes."""
        return ClassMaps(begun.classes, infomap, begun.log_priors, names.categories)


@dataclass(frozen=True, eq=False)
class Asking:
    """The parts that all questions of a call share: the network, the pictures and the options.

    Attributes:
        forward_func: The user's function.
        inputs: The inputs as they are given.
        tensors: The same as a tuple, checked.
        given: Baselines, further arguments and feature mask.
        options: The options, with the view that they ask for; None leaves it open.
        categories: The names of what targets count, classes or groups; empty if not known.
    """

    forward_func: Callable[..., Any]
    inputs: TensorOrTensors
    tensors: Tensors
    given: tuple[Baselines, AdditionalForwardArgs, TensorOrTensors | None]
    options: Options
    categories: tuple[str, ...]

    @classmethod
    def checked(
        cls,
        forward_func: Callable[..., Any],
        inputs: TensorOrTensors,
        given: tuple[Baselines, AdditionalForwardArgs, TensorOrTensors | None],
        options: Mapping[str, Any],
        categories: tuple[str, ...],
    ) -> Asking:
        """Check the inputs, and find the view that the options ask for."""
        tensors, asked = check_inputs(inputs), Options(**options)
        asked = replace(asked, view=asked_view(asked, tensors))
        return cls(forward_func, inputs, tensors, given, asked, categories)

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.tensors[0])

    def ask(self, question: RegionQuestion[_Answer_co], name: str) -> _Answer_co:
        """Answer by the view that is asked for, or by the best one.

        Args:
            question: The question.
            name: The name of the method, for the progress bar.
        """
        prepared = partial(prepare, self.forward_func, self.tensors, *self.given)
        read = partial(self._answer, question, name)
        return of_view(self.options, question.best_view, prepared, read)

    def ask_with_likely(
        self, question: RegionQuestion[_Answer_co], name: str
    ) -> tuple[_Answer_co, LikelyClasses]:
        """Answer, and say which classes each region's view makes likeliest, from the same passes.

        Args:
            question: The question; the view is one whose scores are bets.
            name: The name of the method, for the progress bar.
        """
        prepared = partial(prepare, self.forward_func, self.tensors, *self.given)

        def read(passes: Passes) -> tuple[_Answer_co, LikelyClasses]:
            # Views whose scores are bets show regions, so they have such passes.
            heard = HeardPasses.of(cast(RegionPasses, passes), ClassScore(question.score))
            found = self._answer(question, name, heard.passes)
            about_all, outputs = heard.reading().information, heard.passes.outputs
            return found, LikelyClasses.of(about_all, question.score, outputs)

        return of_view(self.options, question.best_view, prepared, read)

    def _answer(
        self, question: RegionQuestion[_Answer_co], name: str, passes: Passes
    ) -> _Answer_co:
        """Run the passes, and read every region."""
        with passes.running(name, self.options.show_progress) as bar:
            begun = question.begin(passes, bar)
            groups = question.score.groups
            check_count(self.categories, passes.outputs if groups is None else len(groups))
            blank = passes.read_blank(begun.reader, begun.table, bar)
            found = passes.read_regions(begun.reader, begun.table, bar, begun.total, blank)
        if begun.contrast is None:
            passes.doubt_lone_parts(question.score, begun.classes, begun.total, found)
        infomap = passes.info_map(
            found,
            begun.total,
            blank,
            unit=question.score.unit,
            score=question.score,
            overlap=self.options.overlap,
            is_tuple=isinstance(self.inputs, tuple),
            contrast=begun.contrast,
        )
        return question.answer(begun, infomap, Names(passes.outputs, self.categories))

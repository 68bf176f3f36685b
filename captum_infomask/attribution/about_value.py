# The question that a regression network is asked: what each region tells about a value.
from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import progress_bar, warn
from captum_infomask._types import Target
from captum_infomask.attribution.call import check_place
from captum_infomask.attribution.default_view import FINEST
from captum_infomask.attribution.options import Options
from captum_infomask.attribution.questions import Begun, Names
from captum_infomask.engines.engine_protocol import Passes
from captum_infomask.results import InfoMap
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import target_table
from captum_infomask.scores.values import Prediction, ValueScore, checked_values, value_table


@dataclass(frozen=True, eq=False)
class AboutValue:
    """What does each region tell about its image's value?

    Attributes:
        score: How outputs are read; its head is one of values.
        places: The place of each image's target in the output, (n, k), or None for one output.
        values: Each image's value, (n,); not known yet if they are predictions.
        are_predictions: Whether the values are what the network predicts for the whole images.
    """

    score: Score
    places: Tensor | None
    values: Tensor
    are_predictions: bool
    best_view = FINEST

    @classmethod
    def checked(cls, score: Score, target: Target, options: Options, n: int) -> AboutValue:
        """Check target and value of each of n images; raise ``ArgumentError`` if one is wrong."""
        _check_not_a_value(target, score)
        places = target_table(target, n)
        check_place(places, options.view)
        if options.contrast is not None:
            raise ArgumentError(
                f"Expected no `contrast` for head={score.head!r}, where it would be a class; got "
                f"{describe(options.contrast)}. Two values are told apart by two calls: their "
                f"scores differ by log p(y | v)/p(y' | v) less log p(y)/p(y')."
            )
        values = checked_values(options.value, n)
        ValueScore(score).check_places(places)
        _doubt_scale(score, places)
        known = torch.full((n,), torch.nan, device="cpu") if values is None else values
        return cls(score, places, known, are_predictions=values is None)

    def begin(self, passes: Passes, bar: Any) -> Begun:
        """Read what the whole pictures tell about their values, after the predictions if asked."""
        values = self.values
        if self.are_predictions:
            given = value_table(self.places, values)
            with progress_bar(total=0, show=False) as unseen:
                values = passes.read_whole(Prediction(self.score), given, unseen).information
        table = value_table(self.places, values)
        reader = ValueScore(self.score)
        total = passes.read_whole(reader, table, bar, as_regions=True)
        columns = table.new_zeros(len(table), 1) if self.places is None else self.places[:, :1]
        return Begun(reader, table, total, columns.long())

    def answer(self, begun: Begun, infomap: InfoMap, names: Names) -> InfoMap:
        """The map of the value."""
        assert begun.table is not None, "it holds the values"
        found = replace(infomap, value=begun.table[:, -1], is_prediction=self.are_predictions)
        if self.places is None:
            return found
        return found.about(begun.classes[:, 0], names.categories)


def _doubt_scale(score: Score, places: Tensor | None) -> None:
    """Warn if the network's errors are larger than the spread of the values."""
    best = float(ValueScore(score).at_mode(places).min())
    if best < 0:
        warn(
            f"{score.head!r} is wider than the prior, {score.prior}: even a prediction without "
            f"error of the prior's mean has {best:.2f} {score.unit}. The scale of the head is the "
            f"network's typical error, in the unit of the output. It is no variance."
        )


def _check_not_a_value(target: object, score: Score) -> None:
    """Refuse a value as the target, which is a column of the output."""
    first = target[0] if isinstance(target, list | tuple) and target else target
    is_number = isinstance(first, Tensor | np.ndarray | np.generic) and "float" in str(first.dtype)
    if is_number or (isinstance(first, numbers.Real) and not isinstance(first, numbers.Integral)):
        raise ArgumentError(
            f"Expected `target` to be a column of the output, an int, or None if there is one; got "
            f"{short_repr(target)}. The value that bits are about is `value`; None takes what the "
            f"network predicts for the whole input."
        )

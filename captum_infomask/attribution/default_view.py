# Choose the view if none is named: the one that the arguments ask for, or the best that suits.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar, get_args

from captum_infomask._checks import folded, named_like, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import said_once, warn
from captum_infomask._types import Tensors
from captum_infomask.attribution.options import Options
from captum_infomask.engines.engine_protocol import Passes
from captum_infomask.engines.watched import UnfitError
from captum_infomask.masks import FalseDiscoveries, Rule
from captum_infomask.results.e_values import check_bets
from captum_infomask.scores.score import Score
from captum_infomask.views.choose_view import ViewName

Prepare = partial[Passes]
_Found = TypeVar("_Found")

FINEST: ViewName = "relay"
CHEAPEST: ViewName = "evidence"

# The options that only some views have, by view.
_OF_CROP = ("crop_size", "crop_margin", "crop_jitter", "reference")
_OF_DROP = ("imputer", "engine", "n_samples", "overlap")
_OF_FEATURES = ("layer", "input_sizes")

# The names of other methods, and the advice on what to write here.
_BESIDE = " compare(model, inputs, methods=['InfoMask', {!r}]) runs both."
_HABITS = {
    "occlusion": " view='drop' hides each region, as Occlusion does.",
    "ablation": " view='drop' hides each region, as FeatureAblation does.",
    "shapley": " view='chain' adds regions in random orders, as Shapley values do.",
    "shap": " view='chain' adds regions in random orders, as Shapley values do.",
    "gradcam": f" view='evidence' reads feature maps.{_BESIDE.format('Grad-CAM')}",
    "cam": f" view='evidence' reads feature maps.{_BESIDE.format('Grad-CAM')}",
    "integratedgradients": _BESIDE.format("Integrated gradients"),
    "ig": _BESIDE.format("Integrated gradients"),
}


def asked_view(options: Options, tensors: Tensors) -> ViewName | None:
    """Return the view that is named, or that options and inputs ask for; None leaves it open."""
    if options.view is not None:
        return _named_view(options.view)
    if options.says(*_OF_FEATURES):
        return None
    if options.says(*_OF_CROP):
        return "crop"
    has_places = len(tensors) == 1 and tensors[0].dim() >= 3
    return "drop" if options.says(*_OF_DROP) or not has_places else None


def check_rule(rule: Rule | None, options: Options, tensors: Tensors, score: Score) -> None:
    """Refuse a rule that needs e-values if the scores of the options have none."""
    if isinstance(rule, FalseDiscoveries):
        bet_on = True if score.has_classes else options.value
        check_bets(asked_view(options, tensors) or FINEST, score, options.contrast, bet_on)


def _named_view(view: object) -> ViewName:
    """Return the view of a name; for the name of another method, the error says what to write."""
    if isinstance(view, str) and folded(view) in _HABITS:
        raise ArgumentError(
            f"Expected `view` to be a view of InfoMask; got {short_repr(view)}."
            f"{_HABITS[folded(view)]}"
        )
    names: tuple[ViewName, ...] = get_args(ViewName)
    named = named_like("view", view, names)
    return next(name for name in names if name == named)


def of_view(
    options: Options,
    best: ViewName,
    prepared: Prepare,
    read: Callable[[Passes], _Found],
) -> _Found:
    """Run and read the view; if it is open, the best one, or ``drop`` if that does not suit.

    Args:
        options: The options, with the view that is asked for, or None.
        best: The view of features to try if the view is open.
        prepared: A function that makes the passes of a view.
        read: A function that runs the passes and reads them.
    """
    if options.view is not None:
        return read(prepared(options))
    with said_once():
        try:
            return read(prepared(replace(options, view=best), is_default=True))
        except UnfitError as error:
            if options.says(*_OF_FEATURES):
                raise
            warn(
                f"The default, view={best!r}, does not work with this network: {error.reason}. "
                f"view='drop' is used instead: it tells what is lost if a region is hidden. Pass "
                f"view= to choose."
            )
        return read(prepared(replace(options, view="drop")))

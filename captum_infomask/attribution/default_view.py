# Choose the view if none is named: the one that the arguments ask for, or the best that suits.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from captum_infomask._messages import said_once, warn
from captum_infomask._types import Tensors
from captum_infomask.attribution.options import Options
from captum_infomask.engines.engine_protocol import Passes
from captum_infomask.engines.watched import UnfitError
from captum_infomask.views.choose_view import ViewName

Prepare = partial[Passes]
_Found = TypeVar("_Found")

FINEST: ViewName = "relay"
CHEAPEST: ViewName = "evidence"

# The options that only some views have, by view.
_OF_CROP = ("crop_size", "crop_margin", "reference")
_OF_DROP = ("imputer", "engine", "n_samples", "overlap")
_OF_FEATURES = ("layer", "input_sizes")


def asked_view(options: Options, tensors: Tensors) -> ViewName | None:
    """Return the view that is named, or that options and inputs ask for; None leaves it open."""
    if options.view is not None or options.says(*_OF_FEATURES):
        return options.view
    if options.says(*_OF_CROP):
        return "crop"
    has_places = len(tensors) == 1 and tensors[0].dim() >= 3
    return "drop" if options.says(*_OF_DROP) or not has_places else None


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

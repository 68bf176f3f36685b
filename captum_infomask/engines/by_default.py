# Which view is taken where none is named: what the arguments ask for, or the best that suits.
from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from captum_infomask._types import Tensors
from captum_infomask._warn import said_once, warn
from captum_infomask.engines.evidence_passes import EvidencePasses
from captum_infomask.engines.passes import Passes
from captum_infomask.engines.watched import UnfitError
from captum_infomask.views.choose_view import ViewName

Prepare = partial[Passes | EvidencePasses]
_Found = TypeVar("_Found")

FINEST: ViewName = "relay"
CHEAPEST: ViewName = "evidence"

# Options by the views that have them, and what each is where it is not given.
_OF_CROP: dict[str, Any] = {"crop_size": None, "crop_margin": 0.0, "reference": None}
_OF_DROP: dict[str, Any] = {
    "imputer": None, "engine": "auto", "n_samples": None, "overlap": "mean"
}  # fmt: skip
_OF_FEATURES: dict[str, Any] = {"layer": None, "input_sizes": None}


def asked_view(
    view: ViewName | None, tensors: Tensors, options: Mapping[str, Any]
) -> ViewName | None:
    """The view that is named, or that the arguments and inputs ask for; None leaves it open.

    Args:
        view: The view, or None.
        tensors: The inputs.
        options: The other arguments.
    """
    if view is not None or _is_given(options, _OF_FEATURES):
        return view
    if _is_given(options, _OF_CROP):
        return "crop"
    has_places = len(tensors) == 1 and tensors[0].dim() >= 3
    return "drop" if _is_given(options, _OF_DROP) or not has_places else None


def of_view(
    view: ViewName | None,
    best: ViewName,
    prepared: Prepare,
    read: Callable[[Passes | EvidencePasses], _Found],
) -> _Found:
    """What is read of a view; where it is open, of the best, or of ``drop`` without features.

    Args:
        view: The view, or None.
        best: The view of features.
        prepared: Makes the passes of a view.
        read: Runs passes, and reads them.
    """
    if view is not None:
        return read(prepared(view=view))
    with said_once():
        try:
            return read(prepared(view=best, is_default=True))
        except UnfitError as error:
            if _is_given(prepared.keywords, _OF_FEATURES):
                raise
            warn(
                f"Of this network view={best!r}, the default, cannot be had: {error.reason}. "
                f"view='drop' is taken, which tells what is lost where a region is hidden. Pass "
                f"view= to choose."
            )
        return read(prepared(view="drop"))


def _is_given(options: Mapping[str, Any], absent: Mapping[str, Any]) -> bool:
    return any(
        name in options and not _is_same(options[name], value) for name, value in absent.items()
    )


def _is_same(given: Any, absent: Any) -> bool:
    return given is absent or (isinstance(given, str | float) and given == absent)

# Which view is taken where none is named: the best one that the inputs and the network suit.
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from captum_infomask._types import Tensors
from captum_infomask.engines.evidence import EvidencePasses, UnfitError
from captum_infomask.engines.passes import Passes
from captum_infomask.views.choose import ViewName

Prepare = partial[Passes | EvidencePasses]
_OF_FEATURES = ("layer", "input_sizes")
_Found = TypeVar("_Found")

FINEST: Sequence[ViewName] = ("relay", "drop")
CHEAPEST: Sequence[ViewName] = ("evidence", "drop")


def of_view(
    view: ViewName | None,
    tensors: Tensors,
    names: Sequence[ViewName],
    prepared: Prepare,
    read: Callable[[Passes | EvidencePasses], _Found],
) -> _Found:
    """What is read of a view, or of the first by default that suits.

    Args:
        view: The view; None takes one of those by default.
        tensors: The inputs: views of features need one, with places.
        names: The views by default; the last one suits all.
        prepared: Makes the passes of a view.
        read: Runs passes, and reads them.
    """
    if view is not None:
        return read(prepared(view=view))
    has_places = len(tensors) == 1 and tensors[0].dim() >= 3
    for name in names[:-1] if has_places else ():
        try:
            return read(prepared(view=name, is_default=True))
        except UnfitError:
            if any(prepared.keywords.get(option) is not None for option in _OF_FEATURES):
                raise
    return read(prepared(view=names[-1], is_default=True))

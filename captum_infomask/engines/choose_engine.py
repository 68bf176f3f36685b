# Choose the engine that an attribute call means, and make the passes of a view.
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Call, Engine, Passes
from captum_infomask.engines.evidence_passes import EvidencePasses
from captum_infomask.engines.incremental.incremental_engine import Incremental
from captum_infomask.engines.passes import RegionPasses
from captum_infomask.engines.pooled_features import PooledFeatures
from captum_infomask.engines.tokens.tokens_engine import Tokens
from captum_infomask.imputers.remove_tokens import RemoveTokens
from captum_infomask.views.view_plan import OwnEngine, Scene, View

EngineName = Literal["auto", "batched", "incremental", "tokens"]

# With a lower gain in operations, the incremental engine's other work takes as much as it saves.
_LEAST_GAIN = 1.3

_ENGINES: dict[str, Engine] = {
    "auto": Incremental(least_gain=_LEAST_GAIN),
    "batched": Batched(),
    "incremental": Incremental(),
    "tokens": Tokens(),
}

# The engines of some views, by the names that the views need.
_OF_VIEWS: dict[OwnEngine, Callable[..., Passes]] = {
    "features": partial(RegionPasses.by, PooledFeatures()),
    "evidence": EvidencePasses,
}


def passes_of(
    view: View,
    engine: Engine,
    call: Call,
    scenes: tuple[Scene, ...],
    superpixels: Tensor | None,
) -> Passes:
    """Return the passes that show a view, by the view's own engine or else by the chosen one.

    Args:
        view: The view.
        engine: The chosen engine, for views that any engine can show.
        call: The call that the engine runs.
        scenes: The data that all views share, one for each draw of a random imputer.
        superpixels: The superpixels that attributions are averaged over, if they are.

    Raises:
        ArgumentError: The engine cannot show the view for this network or these regions.
    """
    own = view.needs.engine
    started = partial(RegionPasses.by, engine) if own is None else _OF_VIEWS[own]
    return started(call, view, scenes, superpixels)


def choose_engine(engine: object, imputer: object) -> Engine:
    """Return the engine that a name or an engine's settings mean; only one can remove tokens."""
    if not isinstance(imputer, RemoveTokens):
        return _named(engine)
    chosen = Tokens() if engine == "auto" else _named(engine)
    if not isinstance(chosen, Tokens):
        raise ArgumentError(
            f"Expected `engine` to be 'auto' or 'tokens' for the imputer RemoveTokens(), which "
            f"puts no pixels in the place of others; got {describe(engine)}."
        )
    return chosen


def _named(engine: object) -> Engine:
    if isinstance(engine, str) and engine in _ENGINES:
        return _ENGINES[engine]
    if isinstance(engine, Engine) and not isinstance(engine, type):
        return engine
    names = ", ".join(map(repr, get_args(EngineName)))
    raise ArgumentError(
        f"Expected `engine` to be {names} or an engine's settings such as Batched(); got "
        f"{describe(engine)}."
    )

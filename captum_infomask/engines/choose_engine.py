# Which engine an attribute call means.
from __future__ import annotations

from typing import Literal, get_args

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.engines.batched import Batched
from captum_infomask.engines.engine_protocol import Engine
from captum_infomask.engines.incremental.incremental_engine import Incremental
from captum_infomask.engines.tokens.tokens_engine import Tokens
from captum_infomask.imputers.remove_tokens import RemoveTokens

EngineName = Literal["auto", "batched", "incremental", "tokens"]

# Below this gain in operations, what the incremental engine does besides takes what it saves.
_LEAST_GAIN = 1.3

_ENGINES: dict[str, Engine] = {
    "auto": Incremental(least_gain=_LEAST_GAIN),
    "batched": Batched(),
    "incremental": Incremental(),
    "tokens": Tokens(),
}


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

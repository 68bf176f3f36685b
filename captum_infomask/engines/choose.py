# Which engine an attribute call means.
from __future__ import annotations

from typing import Literal, get_args

from captum_infomask._checks import ArgumentError, describe
from captum_infomask.engines.base import Engine
from captum_infomask.engines.batched import Batched

EngineName = Literal["auto", "batched"]

_ENGINES: dict[str, Engine] = {"auto": Batched(), "batched": Batched()}


def choose_engine(engine: object) -> Engine:
    """Return the engine that a name or an engine's settings mean."""
    if isinstance(engine, str) and engine in _ENGINES:
        return _ENGINES[engine]
    if isinstance(engine, Engine) and not isinstance(engine, type):
        return engine
    names = ", ".join(map(repr, get_args(EngineName)))
    raise ArgumentError(
        f"Expected `engine` to be {names} or an engine's settings such as Batched(); got "
        f"{describe(engine)}."
    )

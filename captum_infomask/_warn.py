# Warnings that point at the user's own line, and come once where a call runs others inside.
from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ROOMS = ("captum_infomask", "captum", "torch", "contextlib")

_said: ContextVar[set[str] | None] = ContextVar("_said", default=None)
_unsaid: ContextVar[tuple[str, ...]] = ContextVar("_unsaid", default=())


@contextmanager
def said_once() -> Iterator[None]:
    """Inside, the same words are said once, however many calls would say them."""
    token = _said.set(set()) if _said.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _said.reset(token)


@contextmanager
def unsaid(*beginnings: str) -> Iterator[None]:
    """Inside, words that begin so are not said: they are of no picture of the user's."""
    token = _unsaid.set((*_unsaid.get(), *beginnings))
    try:
        yield
    finally:
        _unsaid.reset(token)


def warn(words: str) -> None:
    """Warn at the line outside of this package and the libraries around it that led here."""
    if words.startswith(_unsaid.get()):
        return
    said = _said.get()
    if said is not None:
        if words in said:
            return
        said.add(words)
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and _room(frame.f_globals) in _ROOMS:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(words, UserWarning, stacklevel=depth + 1)


def _room(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).split(".")[0]

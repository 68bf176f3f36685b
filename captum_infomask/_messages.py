# Messages to users: warnings at the user's line, progress bars, and text that is safe to print.
from __future__ import annotations

import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

_ROOMS = ("captum_infomask", "captum", "torch", "contextlib")

_said: ContextVar[set[str] | None] = ContextVar("_said", default=None)
_unsaid: ContextVar[tuple[str, ...]] = ContextVar("_unsaid", default=())


@contextmanager
def said_once() -> Iterator[None]:
    """Inside the block, the same message is shown once, even if many calls give it."""
    token = _said.set(set()) if _said.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _said.reset(token)


@contextmanager
def unsaid(*beginnings: str) -> Iterator[None]:
    """Hide messages that begin so inside the block: they are not about the user's pictures."""
    token = _unsaid.set((*_unsaid.get(), *beginnings))
    try:
        yield
    finally:
        _unsaid.reset(token)


def warn(words: str) -> None:
    """Warn at the line of the user's code that led here."""
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


def progress_bar(shown: Iterable[Any] | None = None, *, show: bool, **options: Any) -> Any:
    """Show a progress bar on a terminal or in a notebook; a file gets none.

    Args:
        shown: The items to iterate over, if any.
        show: Whether the user asked for a bar.
        **options: tqdm's own.
    """
    return tqdm(shown, disable=not (show and _moves()), **options)


def _moves() -> bool:
    """Whether stderr can overwrite a line."""
    stream = sys.stderr
    if type(stream).__module__.startswith("ipykernel."):
        return True
    return stream is not None and not stream.closed and stream.isatty()


# Characters that change the direction of text: with these, a name can look like another name.
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line ends


def printable(words: str, *, keep: str = "") -> str:
    r"""Escape characters that a terminal obeys instead of showing: ``\x1b``, ``\u202e``.

    Args:
        words: A name, a path, or a whole text.
        keep: Characters that are not escaped, such as a text's own line ends.

    Returns:
        The same text in one line (except for ``keep``), for any terminal that has its characters.

    Example:
        >>> from captum_infomask._messages import printable
        >>> printable("cat\x1b[2J")
        'cat\\x1b[2J'
    """
    if words.isprintable():  # then nothing needs an escape
        return words
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if character not in keep
        and (character in _TURNS or unicodedata.category(character) in _ESCAPED)
        else character
        for character in words
    )


def utf8(words: str) -> bytes:
    r"""Encode a text for a file; characters that UTF-8 cannot hold are escaped, like ``\udc80``."""
    return words.encode("utf-8", "backslashreplace")

# Unknown arguments: the error says what was probably meant, or which call takes them.
from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_FEW = 16  # so many names fit in a message
_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that a function takes by name."""
    found = inspect.signature(function).parameters.values()
    return tuple(one.name for one in found if one.kind in _KEYWORDS and one.name != "self")


def told(
    hints: Mapping[str, str] | None = None,
    options_of: Callable[..., Any] | None = None,
    without: Collection[str] = (),
    *,
    passes_on: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: Python's ``TypeError`` for unknown arguments says what to write instead.

    Args:
        hints: Messages for names that other packages use.
        options_of: A function whose keyword-only arguments this one takes too, as ``**options``;
            its own signature shows them.
        without: Those of them that it does not take.
        passes_on: Whether it hands arguments that are not among these to another, which checks
            them.

    Example:
        >>> from captum_infomask._keywords import told
        >>> @told()
        ... def paint(*, colour="red"):
        ...     return colour
        >>> paint(color="blue")
        Traceback (most recent call last):
        TypeError: paint() got an unexpected keyword argument 'color'. Did you mean 'colour'?
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        if options_of is not None:
            signature = _with_options(
                signature, inspect.signature(options_of), without, is_open=passes_on
            )
        parameters = signature.parameters.values()
        known = {one.name for one in parameters if one.kind in _KEYWORDS and one.name != "self"}
        places = [one.name for one in parameters if one.kind is _KEYWORDS[0]]
        most = None if any(one.kind is one.VAR_POSITIONAL for one in parameters) else len(places)
        called = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in known and not passes_on:
                    owner = type(args[0]) if places[:1] == ["self"] and args else None
                    hint = (hints or {}).get(name) or _meant(name, known, owner)
                    raise TypeError(
                        f"{called}() got an unexpected keyword argument {name!r}.{hint}"
                    )
            twice = [name for name, _ in zip(places, args, strict=False) if name in kwargs]
            if twice:
                first = [name for name in places if name != "self"]
                raise TypeError(
                    f"{called}() got {twice[0]!r} by place and by name. By place it takes "
                    f"{', '.join(first)}."
                )
            if most is not None and len(args) > most:
                first = [name for name in places if name != "self"]
                raise TypeError(
                    f"{called}() takes {', '.join(first)} by place, and all else by name; got "
                    f"{len(args) - most + len(first)} arguments by place."
                )
            return function(*args, **kwargs)

        vars(checked)["__signature__"] = signature
        return checked

    return decorated


def unknown_name(owner: object, name: str, hints: Mapping[str, str]) -> AttributeError:
    """Return the error for an attribute that an object does not have.

    Args:
        owner: The object.
        name: The attribute.
        hints: Sentences for names that other packages use.
    """
    hint = f". {hints[name]}" if name in hints else ""
    words = f"{type(owner).__name__!r} object has no attribute {name!r}{hint}"
    return AttributeError(words, name=name, obj=owner)


def _with_options(
    own: inspect.Signature,
    other: inspect.Signature,
    without: Collection[str],
    *,
    is_open: bool,
) -> inspect.Signature:
    """A signature with another's keyword-only arguments in the place of, or before, ``**``."""
    kept = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    rest = [one for one in own.parameters.values() if one.kind is one.VAR_KEYWORD and is_open]
    names = {*own.parameters, *without}
    options = [
        one
        for one in other.parameters.values()
        if one.kind is one.KEYWORD_ONLY and one.name not in names
    ]
    return own.replace(parameters=[*kept, *options, *rest])


def _meant(name: str, known: Collection[str], owner: type | None) -> str:
    """The call of the same class that takes a name, or the nearest name, or all if they are few."""
    for other, method in vars(owner).items() if owner is not None else ():
        is_public = other == "__init__" or not other.startswith("_")
        if is_public and inspect.isfunction(method) and name in keywords(method):
            where = owner.__name__ if other == "__init__" and owner is not None else f"{other}"
            return f" {where}() takes it."
    near = difflib.get_close_matches(name, sorted(known), n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" It takes {', '.join(sorted(known))}." if len(known) <= _FEW else ""

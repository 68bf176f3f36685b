# Words of others (names, paths, messages) made safe to print and to write.
from __future__ import annotations

import unicodedata

# What turns the direction of the text around it, so that a name can pass for another one.
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line ends


def printable(words: str, *, keep: str = "") -> str:
    r"""Write what a terminal would obey instead of showing with a backslash: ``\x1b``, ``\u202e``.

    Args:
        words: A name, a path, or a whole text.
        keep: Characters to leave as they are, such as a text's own new lines.

    Returns:
        The same in one line (but for ``keep``), for any terminal that has its characters.

    Example:
        >>> from captum_infomask._words import printable
        >>> printable("cat\x1b[2J")
        'cat\\x1b[2J'
    """
    if words.isprintable():  # which none of the escaped ones is
        return words
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if character not in keep
        and (character in _TURNS or unicodedata.category(character) in _ESCAPED)
        else character
        for character in words
    )


def utf8(words: str) -> bytes:
    r"""Encode a text for a file; what UTF-8 cannot hold, as of some file names, is ``\udc80``."""
    return words.encode("utf-8", "backslashreplace")

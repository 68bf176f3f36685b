# Progress bars: tqdm on stderr, where somebody can see them move.
from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(shown: Iterable[Any] | None = None, *, show: bool, **options: Any) -> Any:
    """A bar that is asked for moves on a terminal or in a notebook; a file gets none.

    Args:
        shown: What is gone through, if it is iterated over.
        show: Whether the user asked for a bar.
        **options: tqdm's own.
    """
    return tqdm(shown, disable=not (show and _moves()), **options)


def _moves() -> bool:
    """Whether stderr can draw over a line again."""
    stream = sys.stderr
    if type(stream).__module__.startswith("ipykernel."):
        return True
    return stream is not None and not stream.closed and stream.isatty()

# What belongs to the whole process, and not to one thread: changed by one of our calls at a time,
# and put back.
from __future__ import annotations

import os
import pickle
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")
_lock = threading.RLock()


def after_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Have a function run in every process that is forked from this one.

    A fork copies locks as they are held, but not the threads that would give them back.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


@after_fork
def _renew() -> None:
    global _lock  # noqa: PLW0603 - the lock is the process's
    _lock = threading.RLock()


@contextmanager
def quiet(*beginnings: str) -> Iterator[None]:
    """Inside, warnings whose messages begin so are not shown, and filters set hold inside only.

    Python keeps one list of filters for all threads: without the lock, calls in two threads could
    each put back what the other had set.
    """
    with _lock, warnings.catch_warnings():
        for beginning in beginnings:
            warnings.filterwarnings("ignore", beginning)
        yield


@contextmanager
def numbers_of_libraries(seed: int) -> Iterator[None]:
    """Inside, Python's and NumPy's global generators draw by a seed; afterwards as before.

    Another thread that draws from them meanwhile gets numbers of the seed: there is one generator
    for all. So this is for code that is known to draw from them only.
    """
    with _lock:
        before = libraries_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            _set_libraries(before)


def libraries_state() -> bytes:
    """Where Python's and NumPy's global generators stand."""
    return pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))


def _set_libraries(state: bytes) -> None:
    python, numpy = pickle.loads(state)
    random.setstate(python)
    np.random.set_state(numpy)


class LibraryDraws:
    """What a network draws from Python's and NumPy's global generators: by a seed, and put back.

    Made before anything of the network runs. The generators are let be unless its first pass is
    seen to move them, and moves them in the same way twice from the seed on: what moves them
    otherwise is another thread.

    Args:
        seed: Of the numbers.

    Attributes:
        found: Whether the network draws so; None as long as nothing ran.
    """

    def __init__(self, seed: int) -> None:
        self.found: bool | None = None
        self._seed = seed
        self._before = libraries_state()
        self._next: bytes | None = None

    def run(self, function: Callable[[], _T]) -> _T:
        """Run a pass of the network that can be run again with the same outcome."""
        if self.found:
            output, _, self._next = self._by_seed(function)
            return output
        output = function()
        if self.found is None and libraries_state() != self._before:
            _, start, end = self._by_seed(function)
            again, _, after = self._by_seed(function)
            if start != end == after:
                _set_libraries(self._before)
                self.found, self._next = True, end
                return again
        self.found = False
        return output

    def _by_seed(self, function: Callable[[], _T]) -> tuple[_T, bytes, bytes]:
        """What a function gives with the numbers that follow, and where these begin and end."""
        with numbers_of_libraries(self._seed):
            if self._next is not None:
                _set_libraries(self._next)
            start = libraries_state()
            return function(), start, libraries_state()

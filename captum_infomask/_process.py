# What belongs to the whole process, and not to one thread: changed by one of our calls at a time,
# and put back.
from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_lock = threading.RLock()


def _renew() -> None:
    """In a process that was forked, no other thread is there to give the lock back."""
    global _lock  # noqa: PLW0603 - the lock is the process's
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


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
        python, numpy = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

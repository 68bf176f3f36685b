# State of the process, or of a thread, that our calls change and restore.
from __future__ import annotations

import itertools
import os
import pickle
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from captum_infomask._messages import warn

PATIENCE = 10.0  # seconds
_NUMBERS = "the generators of Python and NumPy"

_filtering, _turn = threading.RLock(), threading.Condition()
_turns: list[tuple[int, set[Any]]] = []  # of running blocks: the thread, and its exclusive keys
_states: list[list[Any]] = []  # of Python's and NumPy's generators before each running block
_numbers = itertools.count()
_Kind = TypeVar("_Kind", bound=type)


def after_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Run a function in every process that is forked from this one.

    A fork copies locks that are held, but not the threads that would release them.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


@after_fork
def _renew() -> None:
    global _filtering, _turn
    _filtering, _turn = threading.RLock(), threading.Condition()
    own = threading.get_ident()
    _turns[:] = [each for each in _turns if each[0] == own]
    _states[:] = [state for state in _states if state[-1] == own]


def set_profile(function: Any) -> None:
    """Set this thread's profile function.

    Python up to 3.11 refuses this while another thread sets its own function. If an audit hook is
    written in Python (PyTorch loads filelock, which has one), threads can change in the middle of
    the call.
    """
    while True:
        try:
            sys.setprofile(function)
        except RuntimeError as error:
            if "another profile function" not in str(error):
                raise
            time.sleep(0)
        else:
            return


@contextmanager
def quiet(*beginnings: str) -> Iterator[None]:
    """Inside the block, warnings whose messages begin so are not shown.

    Python keeps one list of filters for all threads. The block removes only the filters that it
    added. So other threads may add and remove filters at the same time, and no thread waits.
    """
    with _filtered("ignore", beginnings, Warning):
        yield


@contextmanager
def refused(category: type[Warning]) -> Iterator[None]:
    """Inside the block, a kind of warning is an error, even if other threads ignore it.

    The user's code must not run inside, because other threads that change filters wait for the end.
    """
    with _filtering, _filtered("error", [""], category):
        yield


@contextmanager
def _filtered(action: Any, beginnings: Iterable[str], category: type[Warning]) -> Iterator[None]:
    lists: list[Any] = []  # catch_warnings works on a copy, and restores the list from before
    # No two filters are equal. Otherwise Python would take another thread's filter for this one.
    patterns = [f"(?#{next(_numbers)}){beginning}" for beginning in beginnings]

    def take_out() -> None:
        with _filtering:
            for filters in [*lists, warnings.filters]:
                for rule in list(filters):
                    if rule[1] is not None and rule[1].pattern in patterns:
                        filters.remove(rule)

    try:
        with _filtering:
            lists.append(warnings.filters)
            for pattern in patterns:
                warnings.filterwarnings(action, pattern, category)
        yield
    finally:
        try:
            take_out()
        except BaseException:  # an interrupt
            take_out()
            raise


@contextmanager
def in_turn(keys: Iterable[Any], patience: float) -> Iterator[bool]:
    """Wait until no other thread runs such a block with one of these keys.

    Args:
        keys: Names of the things that the block needs for itself.
        patience: Seconds to wait while no block ends. Another thread may itself wait for this one.

    Yields:
        Whether no other block runs with these keys.
    """
    mine = (threading.get_ident(), set(keys))

    def is_alone() -> bool:
        return all(thread == mine[0] or not held & mine[1] for thread, held in _turns)

    def leave() -> None:
        with _turn:
            _turns[:] = [each for each in _turns if each is not mine]
            _turn.notify_all()

    try:
        with _turn:
            while not is_alone() and _turn.wait(patience):
                pass
            alone = is_alone()
            _turns.append(mine)
        yield alone
    finally:
        try:
            leave()
        except BaseException:  # an interrupt
            leave()
            raise


@contextmanager
def numbers_of_libraries(seed: int, *, alone: bool = True) -> Iterator[None]:
    """Inside the block, Python's and NumPy's global generators use a seed; then they are restored.

    All threads share these generators. So another thread that draws during the block gets numbers
    of the seed.

    Args:
        seed: The seed of the numbers.
        alone: Whether such blocks of several threads run one after another, if none of them takes
            longer than ``PATIENCE``.
    """
    state: list[Any] = []

    def put_back() -> None:
        with _turn:
            place = next((k for k, each in enumerate(_states) if each is state), None)
            if place is None:
                return
            if place + 1 < len(_states):  # the block that began after this one restores it
                _states[place + 1][0] = state[0]
            else:
                set_libraries(state[0])
            del _states[place]

    with in_turn([_NUMBERS], PATIENCE) if alone else nullcontext(True) as is_alone:
        if not is_alone:
            warn(
                f"A function in another thread has run for more than {PATIENCE:.0f} s, and this "
                "one now runs beside it: what they draw from NumPy or random may differ from what "
                "they draw one after another."
            )
        try:
            with _turn:
                state[:] = [libraries_state(), threading.get_ident()]
                _states.append(state)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            try:
                put_back()
            except BaseException:  # an interrupt
                put_back()
                raise


def libraries_state() -> bytes:
    """The state of Python's and NumPy's global generators."""
    return pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))


def set_libraries(state: bytes) -> None:
    """Set the state of Python's and NumPy's global generators."""
    python, numpy = pickle.loads(state)
    random.setstate(python)
    np.random.set_state(numpy)


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Inside, this thread's autocast leaves our own sums of products at their precision.

    Args:
        device: The type of the device that computes, such as ``cpu``.
    """
    import torch

    if not torch.is_autocast_enabled(device):  # some devices have no autocast to turn off
        yield
        return
    with torch.autocast(device, enabled=False):
        yield


_users_device: ContextVar[Any] = ContextVar("the user's default device", default=None)


@contextmanager
def default_on_cpu() -> Iterator[None]:
    """Inside, tensors are made on the CPU if no device is named, as our own code expects.

    Users may have set another default device. The user's network runs in :func:`users_default`.
    """
    import torch

    given = torch.get_default_device()
    if given.type == "cpu":
        yield
        return
    token = _users_device.set(given)
    try:
        with torch.device("cpu"):
            yield
    finally:
        _users_device.reset(token)


def methods_on_cpu(kind: _Kind) -> _Kind:
    """Let the methods of a class, other than private ones, run inside :func:`default_on_cpu`."""
    for name, method in list(vars(kind).items()):
        if isinstance(method, FunctionType) and (name == "__getitem__" or name[0] != "_"):
            setattr(kind, name, default_on_cpu()(method))
    return kind


@contextmanager
def users_default() -> Iterator[None]:
    """Inside a block of :func:`default_on_cpu`, the user's default device holds again."""
    given = _users_device.get()
    with nullcontext() if given is None else given:
        yield

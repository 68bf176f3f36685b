# The promise that a user's model is as it was, whatever happens.
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._process import after_fork
from captum_infomask._random import OwnGenerators


@contextmanager
def untouched(forward_func: Callable[..., Any], seed: int = 0) -> Iterator[None]:
    """As :func:`buffers_kept`; inside, this thread draws random numbers by ``seed``."""
    with buffers_kept(forward_func), OwnGenerators(seed):
        yield


@contextmanager
def buffers_kept(forward_func: Callable[..., Any]) -> Iterator[None]:
    """Put the buffers back afterwards that forward passes move or replace.

    Forward passes run under ``no_grad`` rather than ``inference_mode``: a model may cache tensors
    of its own (positional tables, say), and inference tensors could not be used in training
    afterwards. The buffers of a model that is hidden in a plain function cannot be seen from here.
    """
    owner = forward_func if isinstance(forward_func, nn.Module) else _owner(forward_func)
    with ExitStack() as stack:
        for module in [] if owner is None else owner.modules():
            stack.callback(_put_back, _find(module))
        with torch.no_grad():
            yield


def _owner(forward_func: object) -> nn.Module | None:
    """The model of a model's method."""
    owner = getattr(forward_func, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


@dataclass(eq=False)
class _Found:
    """A module's buffers as a call found them.

    Attributes:
        module: The module.
        buffers: By name; None where none is set.
        values: Those of buffers that are tensors.
        thread: Whose call it is.
    """

    module: nn.Module
    buffers: dict[str, Tensor | None]
    values: dict[str, Tensor]
    thread: int = field(default_factory=threading.get_ident)


# What calls that are at work will put back, by the module's id, oldest first.
_at_work: dict[int, list[_Found]] = {}
_lock = threading.Lock()


@after_fork
def _forget() -> None:
    """No other thread's call is at work."""
    global _lock  # noqa: PLW0603 - the lock is the process's
    _lock = threading.Lock()
    _at_work.clear()


def _find(module: nn.Module) -> _Found:
    """Note a module's buffers; where another thread's call moves them, as it found them."""
    thread = threading.get_ident()
    with _lock:
        others = (call for call in _at_work.get(id(module), ()) if call.thread != thread)
        first = next(others, None)
        if first is None:
            buffers = dict(module._buffers.items())
            values = {name: b.detach().clone() for name, b in buffers.items() if b is not None}
            found = _Found(module, buffers, values)
        else:
            found = _Found(module, first.buffers, first.values)
        _at_work.setdefault(id(module), []).append(found)
        return found


@torch.no_grad()
def _put_back(found: _Found) -> None:
    module = found.module
    with _lock:
        calls = _at_work[id(module)]
        calls.remove(found)
        if not calls:
            del _at_work[id(module)]
        if not isinstance(module, torch.jit.ScriptModule):  # of which none is replaced
            now = module._buffers
            for name in now.keys() - found.buffers.keys():
                del now[name]
            for name, buffer in found.buffers.items():
                if name not in now or now[name] is not buffer:
                    now[name] = buffer
        for name, values in found.values.items():
            buffer = found.buffers[name]
            # Writing to a buffer would spoil a graph of the user's that has saved it.
            if buffer is not None and not _same(buffer, values):
                buffer.copy_(values)


def _same(buffer: Tensor, values: Tensor) -> bool:
    """Whether a buffer holds these values; NaN is NaN."""
    if buffer.is_meta:
        return True
    if buffer.layout is not torch.strided:
        buffer, values = buffer.to_dense(), values.to_dense()
    if torch.equal(buffer, values) or not buffer.is_floating_point():
        return torch.equal(buffer, values)
    return bool(((buffer == values) | (buffer.isnan() & values.isnan())).all())

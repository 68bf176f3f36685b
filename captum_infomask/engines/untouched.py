# The promise that a user's model is as it was, whatever happens.
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

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
    modules = [] if owner is None else [m for m in owner.modules() if m._buffers]
    found = [_find(module) for module in modules]
    try:
        with torch.no_grad():
            yield
    finally:
        for each in found:
            _put_back(each)


def _owner(forward_func: object) -> nn.Module | None:
    """The model of a model's method."""
    owner = getattr(forward_func, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


@dataclass(eq=False)
class _Found:
    """A module's buffers as a call found them: name, tensor, values."""

    module: nn.Module
    buffers: list[tuple[str, Tensor, Tensor]]
    thread: int = field(default_factory=threading.get_ident)


# What calls that are at work will put back, by the module's id, oldest first.
_at_work: dict[int, list[_Found]] = {}
_lock = threading.Lock()


def _find(module: nn.Module) -> _Found:
    """Note a module's buffers; where another thread's call moves them, as it found them."""
    thread = threading.get_ident()
    with _lock:
        calls = _at_work.setdefault(id(module), [])
        buffers = next((call.buffers for call in calls if call.thread != thread), None)
        if buffers is None:
            named = module._buffers.items()
            buffers = [(name, b, b.detach().clone()) for name, b in named if b is not None]
        calls.append(_Found(module, buffers))
        return calls[-1]


@torch.no_grad()
def _put_back(found: _Found) -> None:
    with _lock:
        calls = _at_work[id(found.module)]
        calls.remove(found)
        if not calls:
            del _at_work[id(found.module)]
        is_script = isinstance(found.module, torch.jit.ScriptModule)  # of which none is replaced
        for name, buffer, values in found.buffers:
            if not is_script and found.module._buffers.get(name) is not buffer:
                found.module._buffers[name] = buffer
            # Writing to a buffer would spoil a graph of the user's that has saved it.
            if not torch.equal(buffer, values):
                buffer.copy_(values)

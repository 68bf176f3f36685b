# The promise that a user's model is as it was, whatever happens.
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._random import OwnGenerators

# A module's buffers: name, tensor, values.
_Buffers = list[tuple[str, Tensor, Tensor]]


@contextmanager
def untouched(
    forward_func: Callable[..., Any], device: torch.device, seed: int = 0
) -> Iterator[None]:
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
    before = [(module, _begin(module)) for module in modules]
    try:
        with torch.no_grad():
            yield
    finally:
        for module, buffers in before:
            _end(module, buffers)


def _owner(forward_func: object) -> nn.Module | None:
    """The model of a model's method."""
    owner = getattr(forward_func, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


# What calls that are at work will put back, by the module: (thread, buffers), oldest first.
_at_work: dict[int, list[tuple[int, _Buffers]]] = {}
_lock = threading.Lock()


def _begin(module: nn.Module) -> _Buffers:
    """Note a module's buffers; where another thread's call moves them, as it found them."""
    thread = threading.get_ident()
    with _lock:
        calls = _at_work.setdefault(id(module), [])
        buffers = next((found for other, found in calls if other != thread), None)
        if buffers is None:
            named = module._buffers.items()
            buffers = [(name, b, b.detach().clone()) for name, b in named if b is not None]
        calls.append((thread, buffers))
    return buffers


@torch.no_grad()
def _end(module: nn.Module, buffers: _Buffers) -> None:
    with _lock:
        calls = _at_work[id(module)]
        thread = threading.get_ident()
        del calls[max(k for k, (other, _) in enumerate(calls) if other == thread)]
        if not calls:
            del _at_work[id(module)]
        for name, buffer, values in buffers:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            # Writing to a buffer would spoil a graph of the user's that has saved it.
            if not torch.equal(buffer, values):
                buffer.copy_(values)

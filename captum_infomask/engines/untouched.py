# The promise that a user's model is as it was, whatever happens.
from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _pop_mode

from captum_infomask._messages import warn
from captum_infomask._process import after_fork, set_profile
from captum_infomask._random import OwnGenerators
from captum_infomask.engines.reached import modules_reached


@contextmanager
def untouched(forward_func: object, seed: int = 0) -> Iterator[None]:
    """As :func:`buffers_kept`; inside, this thread draws random numbers by ``seed``."""
    with buffers_kept(forward_func), OwnGenerators(seed):
        yield


@contextmanager
def buffers_kept(forward_func: object) -> Iterator[None]:
    """Put the buffers back afterwards that forward passes move or replace.

    Forward passes run under ``no_grad`` rather than ``inference_mode``: a model may cache tensors
    of its own (positional tables, say), and inference tensors could not be used in training
    afterwards. Of a function, or a tuple of some, the networks count that :func:`modules_reached`
    finds.

    Warns where another thread's call moves the same buffers meanwhile: what a network answers may
    hang on them.
    """
    call = _Call(modules_reached(forward_func))
    with modes_kept():
        try:
            call.begin()
            with torch.no_grad():
                yield
        finally:
            try:
                call.end()
            except BaseException:  # an interrupt, which must not lose what is still to be put back
                call.end()
                raise
    if call.shared:
        warn(
            f"The network's buffers ({', '.join(sorted(call.shared))}) are moved by its forward "
            "passes, and another thread's call moved them at the same time: if answers hang on "
            "them, numbers may differ from those of one call after another. Make such calls one "
            "after another, or give each thread a copy.deepcopy of the network."
        )


@contextmanager
def modes_kept() -> Iterator[None]:
    """Put back this thread's modes, which an interrupt leaves as they are if it comes too early.

    ``with`` has called a mode's end by then, and does not call it again.
    """
    depth, grad = torch._C._len_torch_dispatch_stack(), torch.is_grad_enabled()
    profile = sys.getprofile()

    def put_back() -> None:
        while torch._C._len_torch_dispatch_stack() > depth:
            _pop_mode()
        torch._C._set_grad_enabled(grad)
        if sys.getprofile() is not profile:
            set_profile(profile)

    try:
        yield
    finally:
        try:
            put_back()
        except BaseException:  # an interrupt
            put_back()
            raise


class _Found:
    """A module's buffers as a call found them.

    Attributes:
        module: The module.
        buffers: By name; None where none is set.
        values: Those of buffers that are tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.buffers: dict[str, Tensor | None] = dict(module._buffers.items())
        buffers = self.buffers.items()
        self.values = {name: b.detach().clone() for name, b in buffers if b is not None}

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each buffer that is a tensor, and the values it had."""
        for name, values in self.values.items():
            buffer = self.buffers[name]
            if buffer is not None:
                yield buffer, values

    def put_back(self, *, are_same: bool) -> set[str]:
        """Put them back; the names of those that had moved.

        Args:
            are_same: Whether all are known to hold the values that they had.
        """
        moved = set()
        if not isinstance(self.module, torch.jit.ScriptModule):  # of which none is replaced
            now = self.module._buffers
            for name in now.keys() - self.buffers.keys():
                del now[name]
            for name, buffer in self.buffers.items():
                if name not in now or now[name] is not buffer:
                    now[name] = buffer
                    moved.add(name)
        for name, values in () if are_same else self.values.items():
            buffer = self.buffers[name]
            # Writing to a buffer would spoil a graph of the user's that has saved it.
            if buffer is not None and not same_values(buffer, values):
                buffer.copy_(values)
                moved.add(name)
        return moved


class _Call:
    """A call that is at work.

    Attributes:
        thread: That it runs in.
        found: By the module's id. Where another thread's call moves a module's buffers, as that one
            found them.
        shared: Names of the buffers that were moved while two threads' calls ran.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules, self.thread = modules, threading.get_ident()
        self.found: dict[int, _Found] = {}
        self.shared: set[str] = set()
        self._beside: list[_Call] = []

    def begin(self) -> None:
        """Note the buffers."""
        with _lock:
            others = [call for call in _at_work if call.thread != self.thread]
            _at_work.append(self)
            for module in self.modules:
                beside = [call for call in others if id(module) in call.found]
                self.found[id(module)] = beside[0].found[id(module)] if beside else _Found(module)
                self._meet(beside)

    def _meet(self, others: list[_Call]) -> None:
        for other in others:
            if other not in self._beside:
                self._beside.append(other)
                other._beside.append(self)

    @torch.no_grad()
    def end(self) -> None:
        """Put the buffers back; once more where that was interrupted."""
        with _lock:
            if self not in _at_work:
                return
            are_same = _all_same(pair for found in self.found.values() for pair in found.pairs())
            for found in self.found.values():
                moved = found.put_back(are_same=are_same)
                if moved:
                    with_it = [c for c in self._beside if id(found.module) in c.found]
                    for call in [self, *with_it] if with_it else []:
                        call.shared |= moved
            self._beside.clear()  # a circle would keep the network until the collector comes
            _at_work.remove(self)


# Oldest first.
_at_work: list[_Call] = []
_lock = threading.RLock()  # the collector may end a call that was interrupted, at any moment


@after_fork
def _forget() -> None:
    """No other thread's call is at work."""
    global _lock  # noqa: PLW0603 - the lock is the process's
    _lock = threading.RLock()
    _at_work.clear()


def _all_same(pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
    """Whether tensors are seen to hold these values, those of a kind being looked at together."""
    seen: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
    for buffer, values in pairs:
        is_plain = type(buffer) is Tensor and buffer.layout is torch.strided
        if not is_plain or buffer.is_quantized or buffer.is_meta or buffer.shape != values.shape:
            return False
        kind = buffer.device, buffer.dtype
        seen.setdefault(kind, []).append((buffer.flatten(), values.flatten()))
    return all(torch.equal(*map(torch.cat, zip(*found, strict=True))) for found in seen.values())


def same_values(buffer: Tensor, values: Tensor) -> bool:
    """Whether a tensor holds these values; NaN is NaN."""
    if buffer.is_meta:
        return True
    if buffer.layout is not torch.strided:
        buffer, values = buffer.to_dense(), values.to_dense()
    if torch.equal(buffer, values):
        return True
    if not buffer.is_floating_point():
        return False
    return bool(((buffer == values) | (buffer.isnan() & values.isnan())).all())

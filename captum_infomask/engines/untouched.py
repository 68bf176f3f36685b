# Keep the user's model as it was, whatever happens.
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
    """Do the same as :func:`buffers_kept`; inside, this thread draws random numbers by ``seed``."""
    with buffers_kept(forward_func), OwnGenerators(seed):
        yield


@contextmanager
def buffers_kept(forward_func: object) -> Iterator[None]:
    """Restore afterwards the buffers that forward passes change or replace.

    Forward passes run under ``no_grad`` rather than ``inference_mode``. A model may cache tensors
    of its own (positional tables, say), and inference tensors could not be used in training
    afterwards. For a function, or a tuple of functions, the networks are those that
    :func:`modules_reached` finds.

    It warns if another thread's call changes the same buffers meanwhile: the network's output may
    depend on them.
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
            except BaseException:  # an interrupt must not prevent the rest of the restore
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
    """Restore this thread's modes, also after an interrupt that comes too early to do so.

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
    """A module's buffers at the start of a call.

    Attributes:
        module: The module.
        buffers: The buffers by name; None if none is set.
        values: The values of buffers that are tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.buffers: dict[str, Tensor | None] = dict(module._buffers.items())
        buffers = self.buffers.items()
        self.values = {name: b.detach().clone() for name, b in buffers if b is not None}

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each buffer that is a tensor, and the values that it had."""
        for name, values in self.values.items():
            buffer = self.buffers[name]
            if buffer is not None:
                yield buffer, values

    def put_back(self, *, are_same: bool) -> set[str]:
        """Restore the buffers, and return the names of those that had changed.

        Args:
            are_same: Whether all buffers are known to have the values that they had.
        """
        moved = set()
        if not isinstance(self.module, torch.jit.ScriptModule):  # none of its buffers is replaced
            now = self.module._buffers
            for name in now.keys() - self.buffers.keys():
                del now[name]
            for name, buffer in self.buffers.items():
                if name not in now or now[name] is not buffer:
                    now[name] = buffer
                    moved.add(name)
        for name, values in () if are_same else self.values.items():
            buffer = self.buffers[name]
            # A write to a buffer would spoil a graph of the user's that has saved it.
            if buffer is not None and not same_values(buffer, values):
                buffer.copy_(values)
                moved.add(name)
        return moved


class _Call:
    """A call that is running.

    Attributes:
        thread: The thread of the call.
        found: The buffers by their module's id. If another thread's call changes a module's
            buffers, they are those that the other call found.
        shared: Names of the buffers that changed while calls of two threads ran.
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
        """Restore the buffers; do it once more if that was interrupted."""
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
            self._beside.clear()  # a circle would keep the network alive until the collector runs
            _at_work.remove(self)


# The oldest call is first.
_at_work: list[_Call] = []
_lock = threading.RLock()  # the collector may end an interrupted call at any moment


@after_fork
def _forget() -> None:
    """Forget all other threads' calls: after a fork none of them is running."""
    global _lock  # noqa: PLW0603 - the lock is the process's
    _lock = threading.RLock()
    _at_work.clear()


def _all_same(pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
    """Whether tensors have these values; tensors of one kind are compared together."""
    seen: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
    for buffer, values in pairs:
        is_plain = type(buffer) is Tensor and buffer.layout is torch.strided
        if not is_plain or buffer.is_quantized or buffer.is_meta or buffer.shape != values.shape:
            return False
        kind = buffer.device, buffer.dtype
        seen.setdefault(kind, []).append((buffer.flatten(), values.flatten()))
    return all(torch.equal(*map(torch.cat, zip(*found, strict=True))) for found in seen.values())


def same_values(buffer: Tensor, values: Tensor) -> bool:
    """Whether a tensor has these values; NaN equals NaN."""
    if buffer.is_meta:
        return True
    if buffer.layout is not torch.strided:
        buffer, values = buffer.to_dense(), values.to_dense()
    if torch.equal(buffer, values):
        return True
    if not buffer.is_floating_point():
        return False
    return bool(((buffer == values) | (buffer.isnan() & values.isnan())).all())

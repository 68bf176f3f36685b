# Random numbers of a call's own: PyTorch's global generators belong to the user's process.
from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _pop_mode,
    _push_mode,
)

# Where the variant of an operation that takes a generator has a name of its own.
_WITH_GENERATOR = {
    "default": "generator",
    "low": "low_generator",
    "names": "generator_with_names",
}
_exchange = threading.Lock()


def _renew() -> None:
    """In a process that was forked, no other thread is there to give the lock back."""
    global _exchange  # noqa: PLW0603 - the lock is the process's
    _exchange = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class OwnGenerators(TorchDispatchMode):
    """In a ``with`` block, and in this thread alone, PyTorch draws by generators of this object.

    The global generators are not moved, whatever other threads draw meanwhile. A generator that a
    network passes by itself is left to it; seeds that it sets are not followed. An operation that
    takes no generator (CUDA's fused dropout, forms with ``out=``) borrows the global one for its
    own duration. The block may be entered again, and goes on with the numbers that follow.

    Args:
        seed: Of the numbers; None goes on from where the global generators stand.

    Attributes:
        drew: Whether anything was drawn.
    """

    def __init__(self, seed: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drew = False
        self._seed = seed
        self._process = os.getpid()
        self._generators: dict[torch.device, torch.Generator] = {}

    # What TorchDispatchMode does besides, for torch.compile, it does to all threads.
    def __enter__(self) -> OwnGenerators:
        """Draw by these generators."""
        _push_mode(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Draw by those from before."""
        if _get_current_dispatch_mode() is self:  # an interrupt may have taken it out before
            _pop_mode()

    def seed(self, seed: int) -> None:
        """Begin again with the numbers of another seed."""
        self._seed = seed
        self._generators.clear()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's operations."""
        given = dict(kwargs or {})
        # A process that is forked meanwhile, such as a DataLoader's, draws as it was seeded.
        if torch.Tag.nondeterministic_seeded not in func.tags or os.getpid() != self._process:
            return func(*args, **given)
        return self._draw(func, args, given)

    def _draw(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = [argument.name for argument in func._schema.arguments]
        if "generator" in names:
            place = names.index("generator")
            own = kwargs.get("generator", args[place] if place < len(args) else None)
            if own is None:
                kwargs["generator"] = self._generator(_device(args, kwargs))
                args = args[:place]
            return func(*args, **kwargs)
        packet = func.overloadpacket
        variant = _WITH_GENERATOR.get(func._overloadname, "")
        if variant in packet.overloads():
            generator = self._generator(_device(args, kwargs))
            return getattr(packet, variant)(*args, generator=generator, **kwargs)
        with self:  # made of operations that take one, perhaps
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
        with self._borrowed(_device(args, kwargs)):
            return func(*args, **kwargs)

    def _generator(self, device: torch.device) -> torch.Generator | None:
        """The generator of a device; None of one on which nothing is computed."""
        if device.type == "meta":
            return None
        self.drew = True
        if device not in self._generators:
            made = torch.Generator(device)
            if self._seed is None:
                made.set_state(_global(device).get_state())
            else:
                made.manual_seed(self._seed)
            self._generators[device] = made
        return self._generators[device]

    @contextmanager
    def _borrowed(self, device: torch.device) -> Iterator[None]:
        """Inside, the global generator of a device goes on from where this object's stands."""
        drew = self.drew
        own, shared = self._generator(device), _global(device)
        if own is None:
            yield
            return
        with _exchange:
            before, start = shared.get_state(), own.get_state()
            shared.set_state(start)
            try:
                yield
            finally:
                own.set_state(shared.get_state())
                shared.set_state(before)
        self.drew = drew or not torch.equal(start, own.get_state())


def _global(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator


def _device(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device:
    """Where an operation computes."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))

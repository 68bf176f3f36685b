# Random numbers of a call's own: PyTorch's global generators belong to the user's process.
from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch._C import _dispatch_has_kernel_for_dispatch_key as has_kernel
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _pop_mode,
    _push_mode,
)

from captum_infomask._process import (
    after_fork,
    libraries_state,
    numbers_of_libraries,
    set_libraries,
    set_profile,
)

_T = TypeVar("_T")
_TRIALS = 3
_exchange = threading.Lock()
_borrowing = threading.local()  # whether this thread has borrowed a global generator


@after_fork
def _renew() -> None:
    """No other thread is there to give the lock back, and a worker's calls are its own."""
    global _exchange  # noqa: PLW0603 - the lock is the process's
    _exchange = threading.Lock()
    _borrowing.now = False
    if _gives_way(sys.getprofile()):
        set_profile(None)


class OwnGenerators(TorchDispatchMode):
    """In a ``with`` block, and in this thread alone, PyTorch draws by generators of this object.

    The global generators are not moved, whatever other threads draw meanwhile: what Python code
    calls on one of them inside (``torch.manual_seed``, ``fork_rng``, the states that checkpointing
    keeps) is done to this object's, and so numbers are what they would be by themselves. A
    generator that a network passes by itself is left to it. For such a call, and for an operation
    that takes no generator (CUDA's fused dropout), the global one is borrowed for its own duration.
    Calls are seen by a profile function; where the thread has one already, they are not. The block
    may be entered again, and goes on with the numbers that follow.

    Args:
        seed: The seed of the numbers; None goes on from where the global generators stand.

    Attributes:
        drew: Whether anything was drawn, or seeded.
    """

    def __init__(self, seed: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drew = False
        self._seed = seed
        self._process = os.getpid()
        self._generators: dict[torch.device, torch.Generator] = {}
        self._profiles: list[Any] = []
        self._loan = ExitStack()

    # What TorchDispatchMode does besides, for torch.compile, it does to all threads.
    def __enter__(self) -> OwnGenerators:
        """Draw by these generators."""
        before = sys.getprofile()
        if _gives_way(before):
            set_profile(self._look)  # an audit hook may raise
        self._profiles.append(before)
        _push_mode(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Draw by those from before."""
        before = self._profiles.pop()
        if _gives_way(before) and _gives_way(sys.getprofile()):
            set_profile(before)
        if _get_current_dispatch_mode() is self:  # an interrupt may have taken it out before
            _pop_mode()
        self._loan.close()  # after an interruption in the middle of one

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the block that this object was entered for looks at no operation."""
        _pop_mode()
        try:
            yield
        finally:
            _push_mode(self)

    def seed(self, seed: int) -> None:
        """Begin again with the numbers of another seed."""
        self._seed = seed
        self._generators.clear()

    def states(self) -> dict[torch.device, Tensor]:
        """Where the generators stand; those of other devices have drawn nothing."""
        return {device: own.get_state() for device, own in self._generators.items()}

    def go_on_from(self, states: Mapping[torch.device, Tensor]) -> None:
        """Draw again what was drawn from these states on."""
        for device in self._generators.keys() - states.keys():
            del self._generators[device]
        for device, state in states.items():
            self._generators[device].set_state(state)

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
        device = _device(args, kwargs)
        if "generator" in names:
            place = names.index("generator")
            own = kwargs.get("generator", args[place] if place < len(args) else None)
            self.drew = True
            if own is None or _is_global(own):
                kwargs["generator"] = self._generator(device)
                args = args[:place]
            return func(*args, **kwargs)
        kernel = _made_of_others(func, args)
        if kernel is not None:
            _push_mode(self)
            try:
                return func._op_dk(kernel, *args, **kwargs)
            finally:
                _pop_mode()
        with self._borrowed(device):
            return func(*args, **kwargs)

    def _look(self, frame: FrameType, event: str, called: Any) -> None:
        """Lend this object's generator to a call on the global one, as in torch.manual_seed."""
        if event[1] != "_":  # of a function in C
            return
        generator = getattr(called, "__self__", None)
        if type(generator) is not torch.Generator or frame.f_globals is globals():
            return
        if _is_global(generator):
            self._loan.close()
            if event == "c_call":
                self._loan.enter_context(self._borrowed(generator.device))

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
        """Inside, the global generator of a device goes on from where this object's stands.

        Where a block inside of this one has borrowed it for the same operation it goes on from
        there.
        """
        if getattr(_borrowing, "now", False) and _exchange.locked():
            start = _global(device).get_state()
            yield
            self.drew = self.drew or not torch.equal(start, _global(device).get_state())
            return
        drew = self.drew
        own, shared = self._generator(device), _global(device)
        if own is None:
            yield
            return
        with _exchange:
            before, start = shared.get_state(), own.get_state()
            try:
                _borrowing.now = True
                shared.set_state(start)
                yield
            finally:
                _borrowing.now = False
                own.set_state(shared.get_state())
                shared.set_state(before)
        self.drew = drew or not torch.equal(start, own.get_state())


class LibraryDraws:
    """What a network draws from Python's and NumPy's global generators: by a seed, and put back.

    Made before anything of the network runs. The generators are let be unless its first pass is
    seen to move them, and moves them in the same way twice from the seed on: what moves them
    otherwise is another thread.

    Args:
        seed: The seed of the numbers.
        generators: What the network draws PyTorch's numbers from. They go on as after one pass,
            however often it had to be run.

    Attributes:
        found: Whether the network draws so; None as long as that is not known.
    """

    def __init__(self, seed: int, generators: OwnGenerators) -> None:
        self.found: bool | None = None
        self._seed = seed
        self.generators = generators
        self._before = libraries_state()
        self._next: bytes | None = None
        self._trials = _TRIALS

    def run(self, function: Callable[[], _T]) -> _T:
        """Run a pass of the network that can be run again with the same outcome."""
        if self.found:
            own = self._by_seed(function)
            self._next = own.end
            return own.given()
        if self.found is False or not self._trials:
            return function()
        start = self.generators.states()
        outcome = _Outcome(function)
        if outcome.end == self._before:
            self.found = None if outcome.error else False
            return outcome.given()
        while self.found is None and self._trials:
            self._trials -= 1
            outcome = self._tried(function, start)
        return outcome.given()

    def _tried(
        self, function: Callable[[], _T], start: Mapping[torch.device, Tensor]
    ) -> _Outcome[_T]:
        """The outcome by the seed, which tells whether the network draws if no one else does."""
        self.generators.go_on_from(start)
        outcome = self._by_seed(function)
        if outcome.start == outcome.end:
            self.found = None if outcome.error else False
            return outcome
        self.generators.go_on_from(start)
        again = self._by_seed(function)
        if again.end == outcome.end:
            set_libraries(self._before)
            self.found, self._next = True, again.end
        return again

    def _by_seed(self, function: Callable[[], _T]) -> _Outcome[_T]:
        """What a function gives with the numbers that follow."""
        with numbers_of_libraries(self._seed):
            if self._next is not None:
                set_libraries(self._next)
            return _Outcome(function)


class _Outcome(Generic[_T]):
    """What a function gives or raises, and where the libraries' generators stand around it."""

    def __init__(self, function: Callable[[], _T]) -> None:
        self.start = libraries_state()
        self.error: Exception | None = None
        try:
            self._value = function()
        except Exception as error:  # whatever the user's code raises
            self.error = error
        self.end = libraries_state()

    def given(self) -> _T:
        """The value; the error is raised."""
        if self.error is None:
            return self._value
        error, self.error = self.error, None  # its traceback knows this object
        try:
            raise error
        finally:
            del error


def _gives_way(profile: object) -> bool:
    """Whether a thread's profile function is none of the user's."""
    return profile is None or isinstance(getattr(profile, "__self__", None), OwnGenerators)


def _made_of_others(func: Any, args: tuple[Any, ...]) -> str | None:
    """The kernel by which an operation runs others, of which some take a generator."""
    kernels = ["CompositeImplicitAutograd", "CompositeExplicitAutograd"]
    tensors = [value for value in args if isinstance(value, Tensor)]
    if any(tensor.is_nested for tensor in tensors):
        kernels = ["CompositeImplicitAutogradNestedTensor", "NestedTensorCPU", *kernels]
    elif func is torch.ops.aten.native_dropout.default and tensors[0].device.type == "cpu":
        kernels = ["CPU"]
    found = next((kernel for kernel in kernels if has_kernel(func.name(), kernel)), None)
    return None if found is None else getattr(torch._C.DispatchKey, found)


def _global(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator


def _is_global(generator: Any) -> bool:
    """Whether it is a global generator, which may have several objects in Python."""
    shared: Any = _global(generator.device)
    return bool(generator._cdata == shared._cdata)


def _device(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device:
    """Where an operation computes."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))

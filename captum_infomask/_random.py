# Random generators that belong to one call. PyTorch's global generators belong to the user.
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
    """Make a new lock after a fork: no other thread of this process could release the old one."""
    global _exchange  # noqa: PLW0603 - the lock is the process's
    _exchange = threading.Lock()
    _borrowing.now = False
    if _gives_way(sys.getprofile()):
        set_profile(None)


class OwnGenerators(TorchDispatchMode):
    """In a ``with`` block, in this thread only, PyTorch draws from generators of this object.

    The global generators do not move, even if other threads draw at the same time. If Python code
    in the block calls a global generator (``torch.manual_seed``, ``fork_rng``, the states that
    checkpointing keeps), the call goes to this object's generator. So the numbers are the same as
    without the block. A generator that a network passes itself is not replaced. For such a call,
    and for an operation that takes no generator (CUDA's fused dropout), the global generator is
    borrowed for the duration of the call. A profile function sees these calls; if the thread
    already has a profile function, they are not seen. The block may be entered again, and then
    continues with the next numbers.

    Args:
        seed: The seed of the numbers; None continues from the state of the global generators.

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

    # The rest of TorchDispatchMode's own methods is for torch.compile and changes all threads.
    def __enter__(self) -> OwnGenerators:
        """Draw from these generators."""
        before = sys.getprofile()
        if _gives_way(before):
            set_profile(self._look)  # an audit hook may raise
        self._profiles.append(before)
        _push_mode(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Draw from the generators from before."""
        before = self._profiles.pop()
        if _gives_way(before) and _gives_way(sys.getprofile()):
            set_profile(before)
        if _get_current_dispatch_mode() is self:  # an interrupt may have removed it already
            _pop_mode()
        self._loan.close()  # if an interrupt came in the middle of a loan

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside this block, operations of the outer block are not intercepted."""
        _pop_mode()
        try:
            yield
        finally:
            _push_mode(self)

    def seed(self, seed: int) -> None:
        """Start again from another seed."""
        self._seed = seed
        self._generators.clear()

    def states(self) -> dict[torch.device, Tensor]:
        """The states of the generators; generators of other devices have drawn nothing."""
        return {device: own.get_state() for device, own in self._generators.items()}

    def go_on_from(self, states: Mapping[torch.device, Tensor]) -> None:
        """Continue from these states, and so draw the same numbers again."""
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
        # A process that is forked in the block, such as a DataLoader's, draws from its own seed.
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
        """Use this object's generator for a call on the global one, such as torch.manual_seed."""
        if event[1] != "_":  # events of functions in C
            return
        generator = getattr(called, "__self__", None)
        if type(generator) is not torch.Generator or frame.f_globals is globals():
            return
        if _is_global(generator):
            self._loan.close()
            if event == "c_call":
                self._loan.enter_context(self._borrowed(generator.device))

    def _generator(self, device: torch.device) -> torch.Generator | None:
        """The generator of a device; None for a device that computes nothing."""
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
        """Inside the block, a device's global generator continues from this object's state.

        If an inner block has borrowed it for the same operation, it continues from there.
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
    """A network's draws from Python's and NumPy's global generators: seeded, and restored.

    Make this object before the network runs. The generators are seeded only if the network's first
    pass moves them, and two more passes from the seed move them in the same way. Otherwise another
    thread moved them, and they are left alone.

    Args:
        seed: The seed of the numbers.
        generators: The source of the network's PyTorch numbers. They continue as after one pass,
            even if the pass ran several times.

    Attributes:
        found: Whether the network draws from them; None while this is not known.
    """

    def __init__(self, seed: int, generators: OwnGenerators) -> None:
        self.found: bool | None = None
        self._seed = seed
        self.generators = generators
        self._before = libraries_state()
        self._next: bytes | None = None
        self._trials = _TRIALS

    def run(self, function: Callable[[], _T]) -> _T:
        """Run a pass of the network that may run several times with the same outcome."""
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
        """The outcome with the seed; it shows whether the network itself draws."""
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
        """The outcome of a function with the next numbers of the seed."""
        with numbers_of_libraries(self._seed):
            if self._next is not None:
                set_libraries(self._next)
            return _Outcome(function)


class _Outcome(Generic[_T]):
    """A function's result or error, and the libraries' generator states before and after it."""

    def __init__(self, function: Callable[[], _T]) -> None:
        self.start = libraries_state()
        self.error: Exception | None = None
        try:
            self._value = function()
        except Exception as error:  # whatever the user's code raises
            self.error = error
        self.end = libraries_state()

    def given(self) -> _T:
        """Return the value, or raise the error."""
        if self.error is None:
            return self._value
        error, self.error = self.error, None  # its traceback refers to this object
        try:
            raise error
        finally:
            del error


def _gives_way(profile: object) -> bool:
    """Whether a thread has no profile function of the user's."""
    return profile is None or isinstance(getattr(profile, "__self__", None), OwnGenerators)


def _made_of_others(func: Any, args: tuple[Any, ...]) -> str | None:
    """The kernel that runs an operation as several others, some of which take a generator."""
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
    """Whether it is a global generator; this may have several Python objects."""
    shared: Any = _global(generator.device)
    return bool(generator._cdata == shared._cdata)


def _device(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device:
    """The device on which an operation computes."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))

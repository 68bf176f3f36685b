# Record the steps of a network on its inputs.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_infomask._random import OwnGenerators

HALF = (torch.bfloat16, torch.float16)

# Names of functions that draw no random number. It is not known whether others do.
PLAIN = frozenset(
    {
        "conv1d",
        "conv2d",
        "conv3d",
        "linear",
        "batch_norm",
        "layer_norm",
        "group_norm",
        "relu",
        "relu_",
        "hardtanh",
        "hardtanh_",
        "relu6",
        "silu",
        "silu_",
        "gelu",
        "hardswish",
        "hardswish_",
        "hardsigmoid",
        "sigmoid",
        "sigmoid_",
        "tanh",
        "leaky_relu",
        "softmax",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "avg_pool2d",
        "max_pool2d",
        "mean",
        "sum",
        "pad",
        "add",
        "add_",
        "sub",
        "mul",
        "mul_",
        "div",
        "__get__",
        "__getitem__",
        "view",
        "reshape",
        "flatten",
        "permute",
        "transpose",
        "squeeze",
        "unsqueeze",
        "expand",
        "cat",
        "chunk",
        "split",
        "contiguous",
        "size",
        "dim",
        "numel",
        "clone",
        "matmul",
        "bmm",
        "einsum",
        "stack",
        "swapaxes",
        "unbind",
    }
)

# Methods that take only the dtype and device of a second tensor, and may return the first as it is.
_CONVERSIONS = ("to", "type_as")


def name_of(function: Callable[..., Any]) -> str:
    """Return a function's name; exported programs call ATen's, such as ``conv2d.default``."""
    name: str = getattr(function, "__name__", "")
    return name.partition(".")[0]


@dataclass(frozen=True, eq=False)
class Step:
    """One function of PyTorch that a network called.

    Attributes:
        function: The function that was called.
        args: Its arguments.
        kwargs: Its arguments by name.
        given: The tensors among the arguments.
        made: The tensors in its result.
        is_cast: Whether it ran in half precision because of ``torch.autocast``.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    given: tuple[Tensor, ...]
    made: tuple[Tensor, ...]
    is_cast: bool

    @property
    def name(self) -> str:
        """The function's name, without underscores around it."""
        return name_of(self.function).strip("_")

    @property
    def written(self) -> Tensor | None:
        """The tensor that it wrote to, if any: its first argument, or ``out``."""
        out = self.kwargs.get("out")
        if isinstance(out, Tensor):
            return out
        name = name_of(self.function)
        if name in _CONVERSIONS:
            return None
        is_written = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        returns_it = self.given[:1] and self.made[:1] and self.given[0] is self.made[0]
        return self.given[0] if self.given and (is_written or returns_it) else None


class Watching(TorchFunctionMode):
    """Pass each call in a ``with`` block, in this thread, to a function; change nothing.

    Args:
        see: A function that gets each of PyTorch's functions, its arguments by place and by name,
            and its result.
    """

    def __init__(self, see: Callable[[Callable[..., Any], Any, Any, Any], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's functions."""
        result = func(*args, **(kwargs or {}))
        self._see(func, args, kwargs or {}, result)
        return result


class Recording(TorchFunctionMode):
    """Record the calls in a ``with`` block, in this thread; change nothing.

    Args:
        generators: The generators of functions that may draw random numbers.
        device: The type of the device that computes, such as ``cpu``.
    """

    def __init__(self, generators: OwnGenerators, device: str) -> None:
        super().__init__()
        self._generators, self._device = generators, device
        self._calls: list[tuple[Any, ...]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's functions."""
        kwargs = kwargs or {}
        if name_of(func) in PLAIN:
            result = func(*args, **kwargs)
        else:
            with self._generators:
                result = func(*args, **kwargs)
        if list in map(type, args):
            args = tuple(list(each) if type(each) is list else each for each in args)
        is_on = torch.is_autocast_enabled(self._device)
        self._calls.append((func, args, kwargs, result, is_on))  # looked at later: for speed
        return result

    @cached_property
    def steps(self) -> list[Step]:
        """The calls that made or changed tensors, in order; read it once the pass is done."""
        steps = [_step(*call) for call in self._calls]
        return [step for step in steps if step.made or step.written is not None]

    def made(self, value: Tensor) -> list[int]:
        """Return the places of the steps that made a value, or wrote to it."""
        return [
            place
            for place, step in enumerate(self.steps)
            if step.written is value or any(each is value for each in step.made)
        ]

    def following(self, value: Tensor, after: int = 0) -> list[int]:
        """Return the places of the steps, from a place on, whose results depend on a value."""
        reached, places = {id(value)}, []
        for place, step in enumerate(self.steps[after:], after):
            if any(id(each) in reached for each in step.given):
                places.append(place)
                reached.update(map(id, step.made))
                if step.written is not None:
                    reached.add(id(step.written))
        return places


def _step(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: Any,
    is_on: bool,
) -> Step:
    if name_of(function) in _CONVERSIONS:  # else the result would seem to depend on the second
        args = (*args[:1], *map(_without_values, args[1:]))
        kwargs = {name: _without_values(value) for name, value in kwargs.items()}
    made = tensors_in(result)
    is_cast = is_on and any(each.dtype in HALF for each in made)
    return Step(function, args, kwargs, tensors_in((args, kwargs)), made, is_cast)


def _without_values(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty(0, dtype=value.dtype, device=value.device)


def tensors_in(value: Any) -> tuple[Tensor, ...]:
    """All tensors of nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(chain.from_iterable(map(tensors_in, value)))
    if isinstance(value, dict):
        return tuple(chain.from_iterable(map(tensors_in, value.values())))
    return ()

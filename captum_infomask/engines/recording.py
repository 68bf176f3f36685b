# What a network did to its inputs, step by step, so that what follows any of its values can be run
# again on others.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from captum_infomask.engines.traced import StandsAside


@dataclass(frozen=True, eq=False)
class Step:
    """One function of PyTorch that a network called.

    Attributes:
        function: What was called.
        args: What it was called with.
        kwargs: The same, by name.
        given: The tensors among these.
        versions: How often each of them had been written to by then.
        made: The tensors among what it returned.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    given: tuple[Tensor, ...]
    versions: tuple[int, ...]
    made: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """The function's name, without underscores around it."""
        return getattr(self.function, "__name__", "").strip("_")

    @property
    def writes(self) -> bool:
        """Whether it may write to its first argument, or to ``out``."""
        name = getattr(self.function, "__name__", "")
        is_augmented = name.startswith("__i") and name not in ("__index__", "__int__", "__invert__")
        is_written = name.endswith("_") and not name.endswith("__")
        return name == "__setitem__" or is_augmented or is_written or "out" in self.kwargs


class Recording(TorchFunctionMode):
    """Notes what runs in a ``with`` block, in this thread, and changes nothing.

    Attributes:
        steps: What was called, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's functions."""
        kwargs = kwargs or {}
        given = tuple(_tensors((args, kwargs)))
        versions = tuple(map(_version, given))
        result = func(*args, **kwargs)
        step = Step(func, args, kwargs, given, versions, tuple(_tensors(result)))
        if step.made or step.writes:
            self.steps.append(step)
        return result

    def following(self, value: Tensor, after: int = 0) -> list[int]:
        """The places of the steps whose results hang on a value, from a place on."""
        reached, places = {id(value)}, []
        for place, step in enumerate(self.steps[after:], after):
            if any(id(each) in reached for each in step.given):
                places.append(place)
                reached.update(map(id, step.made))
                if step.writes:
                    reached.update(map(id, step.given[:1]))
        return places


@dataclass(frozen=True)
class _Slot:
    """Stands for a tensor that hangs on the value which is replaced."""

    number: int


@dataclass(frozen=True, eq=False)
class Again:
    """A step to be run again; what it reads besides is kept, without its history.

    Attributes:
        name: The function's name.
        function: What is called.
        args: What it is called with, slots in the place of tensors that change.
        kwargs: The same, by name.
        reads: The slots among these.
        makes: The slots of what it returns.
        shapes: The shapes of the first tensor that it read, and of the first that it made.
        ends: Slots that no step reads later.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    ends: tuple[int, ...] = ()


class Replay:
    """What a network makes of one of its values: the steps that follow it.

    All else that they read stays what it was. Nothing of the recording is kept alive besides.

    Args:
        recording: What the network did.
        value: The value.
        after: The place of the first step that may read it.
        output: What is made of it in the end.

    Attributes:
        steps: The steps.
        is_careful: Whether what steps write to is copied first: gradients may need it as it was.

    Raises:
        StandsAside: The output is not made of the value, or by steps that cannot be run again.
    """

    def __init__(self, recording: Recording, value: Tensor, after: int, output: Tensor) -> None:
        following = [recording.steps[place] for place in recording.following(value, after)]
        made = [each for step in following for each in step.made]
        self._slots = {id(each): number for number, each in enumerate([value, *made])}
        if id(output) not in self._slots or not following:
            raise StandsAside("its output is not made of these features by functions of PyTorch")
        self._output = self._slots[id(output)]
        seen = {id(each) for step in recording.steps for each in step.made}
        for step in following:
            for each, version in zip(step.given, step.versions, strict=True):
                if each is value and step is following[0] and _version(each) != version:
                    raise StandsAside("it writes to its features")
                if id(each) not in self._slots:
                    _check_constant(step, each, version, seen)
        self.steps = self._with_ends([self._again(step) for step in following])
        self._first = self._slots[id(value)]
        self.is_careful = False
        del self._slots  # ids, which say nothing once the recording is gone

    def __call__(self, value: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """What the steps from one place to another, which follow each other, make of a value."""
        first = self.steps[start - 1].makes[0] if start else self._first
        values, made = {first: value}, value
        for step in self.steps[start:stop]:
            args, kwargs = tree_map(
                lambda each: values[each.number] if isinstance(each, _Slot) else each,
                (step.args, step.kwargs),
            )
            if self.is_careful and step.reads[:1] == step.makes[:1]:
                args = (args[0].clone(), *args[1:])
            results = _tensors(step.function(*args, **kwargs))
            values.update(zip(step.makes, results, strict=True))
            made = results[0] if results else made
            for each in step.ends:
                values.pop(each, None)
        return made if stop is not None else values.get(self._output, made)

    def is_chain(self, place: int) -> bool:
        """Whether all that follows a step hangs on its first result alone, of what was made."""
        made = self.steps[place].makes
        later = {each for step in self.steps[place + 1 :] for each in step.reads}
        before = {self._first, *(each for step in self.steps[:place] for each in step.makes)}
        return len(made) == 1 and not (before - {made[0]}) & later

    def _again(self, step: Step) -> Again:
        def kept(each: Any) -> Any:
            if not isinstance(each, Tensor):
                return each
            if id(each) in self._slots:
                return _Slot(self._slots[id(each)])
            return each.clone() if each.is_inference() else each.detach()

        args, kwargs = tree_map(kept, (step.args, step.kwargs))
        reads = tuple(self._slots[id(each)] for each in step.given if id(each) in self._slots)
        makes = tuple(self._slots[id(each)] for each in step.made)
        shapes = _shape(step.given), _shape(step.made)
        return Again(step.name, step.function, args, kwargs, reads, makes, shapes)

    def _with_ends(self, steps: list[Again]) -> list[Again]:
        last: dict[int, int] = {}
        for place, step in enumerate(steps):
            last.update((each, place) for each in (*step.reads, *step.makes))
        last.pop(self._output)
        ends: dict[int, list[int]] = {}
        for each, place in last.items():
            ends.setdefault(place, []).append(each)
        return [replace(step, ends=tuple(ends.get(place, ()))) for place, step in enumerate(steps)]


def _check_constant(step: Step, each: Tensor, version: int, seen: set[int]) -> None:
    """Refuse a constant that is none, or was another one when it was read."""
    if _version(each) != version:
        raise StandsAside(f"it writes to what {step.name} has read")
    if each.grad_fn is not None and id(each) not in seen:
        raise StandsAside(f"what {step.name} reads was made by no function of PyTorch")
    if step.writes and step.given and each is step.given[0]:
        raise StandsAside(f"{step.name} writes its features into what was there before")


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _shape(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(tensors[0].shape) if tensors else ()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version

# Run the steps that follow a value of a network again, for other values.
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from captum_infomask.engines.recording import PLAIN, Recording, Step, name_of, tensors_in
from captum_infomask.engines.traced_network import StandsAside

# The place of the dropout's rate among the arguments of attention, and of ``training``, if any.
_ATTENTION = {"scaled_dot_product_attention": (4, None), "multi_head_attention_forward": (10, 13)}
# The place of ``training`` among the arguments of functions that depend on it.
WHILE_TRAINING = {
    "dropout": 2,
    "dropout1d": 2,
    "dropout2d": 2,
    "dropout3d": 2,
    "alpha_dropout": 2,
    "feature_alpha_dropout": 2,
    "batch_norm": 5,
}


@dataclass(frozen=True)
class _Slot:
    """A stand-in for a tensor that depends on the value that is replaced."""

    number: int


@dataclass(frozen=True, eq=False)
class Again:
    """A step that can run again. Its other inputs are kept, without their history.

    Attributes:
        name: The function's name.
        function: The function that is called.
        args: Its arguments, with slots in the place of tensors that change.
        kwargs: Its arguments by name.
        reads: The slots among the arguments.
        makes: The slots of its results.
        shapes: The shapes of the first tensor that it read, and of the first that it made.
        ends: Slots that no later step reads.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    ends: tuple[int, ...] = ()

    @property
    def is_at_rest(self) -> bool:
        """Whether it depends on training mode, and ran outside of it."""
        place = WHILE_TRAINING.get(self.name)
        if place is None:
            return False
        return self._argument("training", place, True) is False

    @property
    def draws_nothing(self) -> bool:
        """Whether it is known to draw no random number."""
        if self.name not in _ATTENTION:
            return self.is_at_rest or name_of(self.function) in PLAIN
        rate, training = _ATTENTION[self.name]
        if training is not None and self._argument("training", training, True) is False:
            return True
        return bool(self._argument("dropout_p", rate, 0.0) == 0)

    def _argument(self, name: str, place: int, default: Any) -> Any:
        return self.kwargs.get(name, self.args[place] if len(self.args) > place else default)

    @property
    def writes(self) -> bool:
        """Whether it writes to its first input."""
        return self.reads[:1] != () and self.reads[:1] == self.makes[:1]

    def run(self, values: Mapping[int, Tensor], *, is_careful: bool = False) -> tuple[Tensor, ...]:
        """Return its results for the values of its slots.

        Args:
            values: The values.
            is_careful: Whether a tensor that it writes to is copied first.
        """

        def filled(each: Any) -> Any:
            return values[each.number] if type(each) is _Slot else each

        args, kwargs = _mapped(filled, self.args), _mapped(filled, self.kwargs)
        if is_careful and self.writes:
            args = (args[0].clone(), *args[1:])
        return tensors_in(self.function(*args, **kwargs))


class Replay:
    """The steps from one of a network's values to its output.

    All their other inputs stay as they were. Nothing else of the recording is kept alive.

    Args:
        recording: The steps of the network.
        value: The value.
        after: The place of the first step that may read it.
        output: The output that is made from it in the end.
        marks: Values on the way, each with the place of the first step that may read it.

    Attributes:
        steps: The steps.
        first: The slot of the value.
        last: The slot of the output.
        marks: The slots of the values on the way, each with the number of steps that lead to it.
        may_draw: Whether some step may draw a random number.
        is_careful: Whether tensors that steps write to are copied first: gradients may need them.

    Raises:
        StandsAside: The output does not depend on the value, or some steps cannot run again.
    """

    def __init__(
        self,
        recording: Recording,
        value: Tensor,
        after: int,
        output: Tensor,
        marks: Sequence[tuple[Tensor, int]] = (),
    ) -> None:
        places = recording.following(value, after)
        following = [recording.steps[place] for place in places]
        made = [each for step in following for each in step.made]
        self._slots = {id(each): number for number, each in enumerate([value, *made])}
        if id(output) not in self._slots or not following:
            raise StandsAside("its output is not made of these features by functions of PyTorch")
        if any(id(each) not in self._slots for each, _ in marks):
            raise StandsAside("the layer that is named does not hang on its inputs")
        self.first, self.last = self._slots[id(value)], self._slots[id(output)]
        self.marks = tuple(
            (self._slots[id(each)], bisect_left(places, place)) for each, place in marks
        )
        if any(step.is_cast for step in following):
            raise StandsAside("it runs in half precision under torch.autocast, which is too coarse")
        if not marks and any(step.written is value for step in recording.steps[after:]):
            raise StandsAside("it writes to its features")
        self._check_constants(following, recording)
        self.steps = self._with_ends([self._again(step) for step in following])
        self.may_draw = not all(step.draws_nothing for step in self.steps)
        self.is_careful = False
        del self._slots  # ids, which mean nothing once the recording is gone

    def __call__(self, value: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the result of the steps from one place to another for a value."""
        first = self.steps[start - 1].makes[0] if start else self.first
        values, made = {first: value}, value
        for step in self.steps[start:stop]:
            results = step.run(values, is_careful=self.is_careful)
            values.update(zip(step.makes, results, strict=True))
            made = results[0] if results else made
            for each in step.ends:
                values.pop(each, None)
        return made if stop is not None else values.get(self.last, made)

    def is_chain(self, place: int) -> bool:
        """Whether all later steps depend only on a step's first result, among the values made."""
        made = self.steps[place].makes
        later = {each for step in self.steps[place + 1 :] for each in step.reads}
        before = {self.first, *(each for step in self.steps[:place] for each in step.makes)}
        return len(made) == 1 and not (before - {made[0]}) & later

    def _check_constants(self, following: Sequence[Step], recording: Recording) -> None:
        """Refuse other inputs of these steps if they are not constant until the end."""
        made = {id(each) for step in recording.steps for each in step.made}
        last = {
            id(step.written): place
            for place, step in enumerate(recording.steps)
            if step.written is not None
        }
        places = {id(step): place for place, step in enumerate(recording.steps)}
        there = {self.first}
        for step in following:
            for each in step.given:
                slot = self._slots.get(id(each))
                if slot in there:
                    continue
                if slot is not None:  # a constant until this step writes to it
                    raise StandsAside(f"it writes to what {step.name} has read")
                if last.get(id(each), -1) >= places[id(step)]:
                    raise StandsAside(f"it writes to what {step.name} has read")
                if each.grad_fn is not None and id(each) not in made:
                    raise StandsAside(f"what {step.name} reads was made by no function of PyTorch")
            there.update(self._slots[id(each)] for each in step.made)

    def _again(self, step: Step) -> Again:
        def kept(each: Any) -> Any:
            if not isinstance(each, Tensor):
                return each
            if id(each) in self._slots:
                return _Slot(self._slots[id(each)])
            return each.clone() if each.is_inference() else each.detach()

        args, kwargs = _mapped(kept, step.args), _mapped(kept, step.kwargs)
        reads = tuple(self._slots[id(each)] for each in step.given if id(each) in self._slots)
        function, made = step.function, step.made
        if not made:  # for example `features[mask] = 0`
            function, made = partial(_given_back, function), step.given[:1]
        makes = tuple(self._slots[id(each)] for each in made)
        shapes = _shape(step.given), _shape(made)
        return Again(step.name, function, args, kwargs, reads, makes, shapes)

    def _with_ends(self, steps: list[Again]) -> list[Again]:
        last: dict[int, int] = {}
        for place, step in enumerate(steps):
            last.update((each, place) for each in (*step.reads, *step.makes))
        last.pop(self.last)
        ends: dict[int, list[int]] = {}
        for each, place in last.items():
            ends.setdefault(place, []).append(each)
        return [replace(step, ends=tuple(ends.get(place, ()))) for place, step in enumerate(steps)]


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to the parts of lists, tuples and dicts, in their places."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind([_mapped(function, each) for each in value])
    if kind is dict:
        return {name: _mapped(function, each) for name, each in value.items()}
    return function(value)


def _given_back(function: Callable[..., Any], written: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return the tensor that a function wrote to, if the function returns nothing."""
    function(written, *args, **kwargs)
    return written


def _shape(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(tensors[0].shape) if tensors else ()

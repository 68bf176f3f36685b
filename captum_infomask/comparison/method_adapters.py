# What a user gives as methods, brought to one signature: names, Captum's methods, functions.
from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType
from typing import Any

import torch
from captum.attr import Attribution, LayerAttribution
from torch import Tensor

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask.attribution.default_view import asked_view
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.attribution.options import Options
from captum_infomask.comparison.costs import Count, Read, as_it_is, counted, counted_attribution
from captum_infomask.comparison.methods import METHOD_NAMES, Method
from captum_infomask.engines.isolation import Isolation
from captum_infomask.results import InfoMap
from captum_infomask.views.choose_view import OF_FEATURES

MEANINGS = {
    "crop": "what a region says alone",
    "keep": "what a region says, all else hidden",
    "drop": "what only a region says",
    "chain": "a region's share of what all say",
    "features": "what a region's features say",
    "evidence": "what a region's features add",
    "relay": "what each part adds",
}
_FORMS = (
    "default methods' names, or a mapping of names to captum.attr methods or functions "
    "(model, inputs, target), each alone or in a pair with a dict of further arguments"
)


@dataclass(frozen=True, eq=False)
class Question:
    """What a method is asked: one picture, one class.

    Attributes:
        model: The network, or the comparison's copy of it.
        users: The network itself.
        inputs: (1, C, H, W), of the method's own.
        target: Index of the class; None where an output is one number per picture, (N,).
        place: Which of the comparison's pictures this is.
        pictures: How many there are.
        seed: The seed of what the method draws.
        show_progress: Whether it shows a bar of its own, if it has one.
        read: What methods that know of no groups are given of the network's outputs.
    """

    model: Callable[..., Any]
    users: Callable[..., Any]
    inputs: Tensor
    target: int | None
    place: int = 0
    pictures: int = 1
    seed: int = 0
    show_progress: bool = False
    read: Read = as_it_is


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method said.

    Attributes:
        attributions: (1, C', H, W).
        passes: Pictures sent through the network; None where nobody could count.
        infomap: The regions' scores, of an InfoMask.
    """

    attributions: Tensor
    passes: int | None
    infomap: InfoMap | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """A method under the name that it was given, and with its arguments.

    Attributes:
        name: As in tables.
        given: One of Captum's methods, a function, or a ``Method``.
        options: Further arguments. Of tensors with one entry per picture each picture gets its own.
    """

    name: str
    given: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_foreign(self) -> bool:
        """Whether it runs code that is not of this package."""
        if isinstance(self.given, Method):
            return not _is_ours(self.given.attribute)
        return not isinstance(self.given, InfoMask)

    @property
    def takes_users(self) -> bool:
        """Whether it may do anything to the network itself: a function, or a user's own class."""
        captums = isinstance(self.given, Attribution) and not _runs_a_function(self.given)
        captums = captums and type(self.given).__module__.startswith("captum.")
        return self.is_foreign and not captums

    def isolated(self, isolation: Isolation) -> Entry:
        """The method on a copy of the network; a function is given the network itself.

        It may hold layers of it, which would see nothing of what a copy does.
        """
        return replace(self, given=_isolated(self.given, isolation))

    def is_density(self, inputs: Tensor) -> bool:
        """Whether it is an InfoMask that spreads bits over the cells of feature maps."""
        if not isinstance(self.given, InfoMask):
            return False
        view = asked_view(Options.among(self.options), (inputs,))
        regions = ("regions", "feature_mask", "sliding_window_shapes", "strides")
        has_regions = any(self.options.get(name) is not None for name in regions)
        return view in (None, *OF_FEATURES) and not has_regions

    @property
    def unit(self) -> str:
        """What the values are counted in."""
        if isinstance(self.given, InfoMask):
            return self.given.score.unit
        return self.given.unit if isinstance(self.given, Method) else "a.u."

    def meaning(self, view: str | None) -> str:
        """What the values say, in a few words; of an InfoMask by the view that it took."""
        if isinstance(self.given, InfoMask):
            meaning = MEANINGS.get(str(view or self.options.get("view")), "")
            told = self.options.get("contrast") is not None
            return f"{meaning}, against another class" if told else meaning
        if isinstance(self.given, Attribution):
            return f"Captum's {self.given.get_name()}"
        return self.given.meaning if isinstance(self.given, Method) else ""

    def ask(self, question: Question) -> Answer:
        """Run the method on one picture.

        Raises:
            ArgumentError: What comes back is no map of the picture.
        """
        options = {name: _own(value, question) for name, value in self.options.items()}
        if isinstance(self.given, InfoMask):
            return _ask_infomask(self.given, options, question)
        count = Count()
        x, y = question.inputs, question.target
        if isinstance(self.given, Attribution):
            networks = (question.model, question.users)
            method = counted_attribution(self.given, count, networks, question.read)
            if _takes(method.attribute, "show_progress"):
                options = {"show_progress": question.show_progress, **options}
            if _takes(method.attribute, "target") or _takes(method.attribute, "kwargs"):
                options = {"target": y, **options}
            found = method.attribute(x, **options)
        elif isinstance(self.given, Method):
            network = question.users if self.is_foreign else question.model
            read = question.read if self.is_foreign else as_it_is
            shown = counted(network, count, read)
            found = self.given.attribute(shown, x, y, question.show_progress)
        else:
            found = self.given(counted(question.users, count, question.read), x, y, **options)
        # Our controls use no network. Other methods may use it in ways that are not counted.
        known = count.pictures or (0 if isinstance(self.given, Method) else None)
        return Answer(_as_map(found, x), known)


def _isolated(given: Any, isolation: Isolation) -> Any:
    if isinstance(given, Method) and _is_ours(given.attribute):
        return replace(given, attribute=isolation.copy(given.attribute))
    if not isinstance(given, Attribution) or _runs_a_function(given):
        return given
    made = copy.copy(given)
    for name, held in vars(given).items():
        is_method = isinstance(held, Attribution)
        made.__dict__[name] = _isolated(held, isolation) if is_method else isolation.copy(held)
    return made


def _runs_a_function(method: Attribution) -> bool:
    """Whether a method may run the network itself, of which it may hold layers."""
    held = (vars(method).get(name) for name in ("forward_func", "model"))
    return any(isinstance(_called(one), FunctionType) for one in held)


def _is_ours(attribute: Callable[..., Any]) -> bool:
    """Whether a function is of this package, and so holds what it runs where a copy can follow."""
    return str(getattr(_called(attribute), "__module__", "")).startswith("captum_infomask.")


def _called(function: Any) -> Any:
    """What a partial calls in the end."""
    while isinstance(function, partial):
        function = function.func
    return function


def read_entries(methods: object) -> tuple[Entry, ...] | tuple[str, ...]:
    """Check what the user gives: names of default methods, or methods by name.

    Raises:
        ArgumentError: A name is unknown (the nearest is named) or comes twice, or something is
            none of the forms.
    """
    if isinstance(methods, str):
        methods = [methods]
    if isinstance(methods, Mapping):
        if not methods or not all(isinstance(name, str) and name for name in methods):
            raise ArgumentError(f"Expected `methods` to be {_FORMS}; got {describe(methods)}.")
        return tuple(_entry(name, given) for name, given in methods.items())
    if not isinstance(methods, Iterable):
        raise ArgumentError(
            f"Expected `methods` to be {_FORMS}; got {_kind(methods)}.{_by_name(methods)}"
        )
    names = tuple(_name(name) for name in methods)
    if not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"Expected `methods` to name each method once; got {describe(methods)}."
        )
    return names


def _name(given: object) -> str:
    """A default method's name; a method itself is told to go into a mapping."""
    if not isinstance(given, str):
        raise ArgumentError(
            f"Expected `methods` as a list to hold default methods' names; got {_kind(given)}."
            f"{_by_name(given)} {{**default_methods(model, inputs), ...}} keeps the default ones."
        )
    return one_of("methods", given, METHOD_NAMES)


def _kind(given: object) -> str:
    """What a method is, without its address."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    is_method = isinstance(given, Attribution)
    return f"the method {type(given).__name__}" if is_method else describe(given)


def _by_name(given: object) -> str:
    """How to give a method of one's own."""
    kind = given if isinstance(given, type) else type(given)
    if issubclass(kind, Attribution):
        return f" Give it a name: methods={{{kind.__name__!r}: {kind.__name__}(model)}}."
    return " Give it a name: methods={'mine': method}." if callable(given) else ""


def made_entries(made: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The default methods as entries."""
    return tuple(_entry(name, given) for name, given in made.items())


def _entry(name: str, given: object) -> Entry:
    options: object = {}
    if isinstance(given, tuple) and len(given) == 2:
        given, options = given
    is_options = isinstance(options, Mapping) and all(isinstance(key, str) for key in options)
    if isinstance(given, type) or not (isinstance(given, Attribution | Method) or callable(given)):
        hint = ""
        if isinstance(given, type):
            hint = f" Make one: {given.__name__}(model)."
        elif isinstance(given, str):
            hint = " Default methods are named in a list, or come from default_methods()."
        raise ArgumentError(
            f"Expected `methods`[{name!r}] to be one of captum.attr's methods, made, or a function "
            f"(model, inputs, target); got {_kind(given)}.{hint}"
        )
    if not isinstance(options, Mapping) or not is_options:
        raise ArgumentError(
            f"Expected `methods`[{name!r}] with a dict of arguments by name; got "
            f"{describe(options)}."
        )
    taken = {"inputs", "target"} & set(options)
    if taken:
        raise ArgumentError(
            f"Expected `methods`[{name!r}] without {', '.join(sorted(taken))}, which compare gives."
        )
    if options and isinstance(given, Method):
        raise ArgumentError(f"Expected `methods`[{name!r}] alone: a Method takes no arguments.")
    return Entry(name, given, dict(options))


def _ask_infomask(infomask: InfoMask, options: dict[str, Any], question: Question) -> Answer:
    """Keep the regions' scores; the engines need the network itself, and count for themselves."""
    settings = {"seed": question.seed, "show_progress": question.show_progress, **options}
    infomap = infomask.score_regions(question.inputs, target=question.target, **settings)
    return Answer(_as_map(infomap.attributions(), question.inputs), infomap.views, infomap)


def _own(value: Any, question: Question) -> Any:
    """A picture's own part of an argument that has one entry per picture."""
    n, k = question.pictures, question.place
    if isinstance(value, Tensor) and n > 1 and value.dim() > 0 and len(value) == n:
        return value[k : k + 1]
    return value


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of that name."""
    return name in inspect.signature(function).parameters


def _as_map(found: Any, inputs: Tensor) -> Tensor:
    """Attributions in the picture's height and width, without a graph."""
    if isinstance(found, tuple) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Tensor) or found.dim() != 4 or len(found) != 1 or not found.numel():
        raise ArgumentError(
            f"Expected attributions of shape (1, C, H, W) for a picture {tuple(inputs.shape)}; got "
            f"{describe(found)}."
        )
    found = found.detach()
    if found.dtype.is_complex or not bool(found.isfinite().all()):
        raise ArgumentError("Expected finite attributions; got NaN or infinity.")
    found = found if found.dtype.is_floating_point else found.float()
    size = (inputs.shape[2], inputs.shape[3])
    if tuple(found.shape[2:]) != size:
        with torch.no_grad():
            found = LayerAttribution.interpolate(found, size, "bilinear")
    attributions: Tensor = found
    return attributions

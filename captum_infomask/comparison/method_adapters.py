# Adapt the methods that users give to one protocol: an InfoMask, Captum's methods, functions.
from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType
from typing import Any, ClassVar, TypeVar

import torch
from captum.attr import Attribution, LayerAttribution
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.attribution.default_view import asked_view
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.attribution.options import Options
from captum_infomask.comparison.costs import Count, counted, counted_attribution
from captum_infomask.comparison.method_protocol import Answer, Counted, Method, Question
from captum_infomask.engines.isolation import Isolation
from captum_infomask.evaluation.bits_reliability import check_question
from captum_infomask.evaluation.method_calls import Attribute
from captum_infomask.scores.score import Score
from captum_infomask.views.choose_view import OF_FEATURES

AnAttribution = TypeVar("AnAttribution", bound=Attribution)

MEANINGS = {
    "crop": "what a region says alone",
    "keep": "what a region says, all else hidden",
    "drop": "what only a region says",
    "chain": "a region's share of what all say",
    "features": "what a region's features say",
    "evidence": "what a region's features add",
    "relay": "what each part adds",
}


def as_method(name: str, given: object) -> Method:
    """Adapt a method that a user, or ``default_methods``, gives under a name to the protocol.

    Args:
        name: The name.
        given: One of Captum's methods, an InfoMask, a function, or a :class:`ForwardMethod`, alone
            or in a pair with a dict of further arguments.

    Raises:
        ArgumentError: It is none of these, or its arguments do not fit it.
    """
    options: object = {}
    if isinstance(given, tuple) and len(given) == 2:
        given, options = given
    if isinstance(given, type) or not (
        isinstance(given, Attribution | ForwardMethod) or callable(given)
    ):
        hint = ""
        if isinstance(given, type):
            hint = f" Make one: {given.__name__}(model)."
        elif isinstance(given, str):
            hint = " Default methods are named in a list, or come from default_methods()."
        raise ArgumentError(
            f"Expected `methods`[{name!r}] to be one of captum.attr's methods, made, or a function "
            f"(model, inputs, target); got {kind_of(given)}.{hint}"
        )
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise ArgumentError(
            f"Expected `methods`[{name!r}] with a dict of arguments by name; got "
            f"{describe(options)}."
        )
    taken = {"inputs", "target"} & set(options)
    if taken:
        raise ArgumentError(
            f"Expected `methods`[{name!r}] without {', '.join(sorted(taken))}, which compare gives."
        )
    if isinstance(given, ForwardMethod):
        if options:
            raise ArgumentError(f"Expected `methods`[{name!r}] alone: a Method takes no arguments.")
        return replace(given, name=name)
    if isinstance(given, InfoMask):
        return InfoMaskMethod(name, given, dict(options))
    if isinstance(given, Attribution):
        return CaptumMethod(name, given, dict(options))
    return FunctionMethod(name, given, dict(options))


def kind_of(given: object) -> str:
    """Return the kind of a method, without its address in memory."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    is_method = isinstance(given, Attribution)
    return f"the method {type(given).__name__}" if is_method else describe(given)


@dataclass(frozen=True)
class ForwardMethod:
    """A method that calls the network only by the forward function that it is given.

    Args:
        name: Its name in tables and figures.
        unit: The unit of its values.
        call: ``(forward, inputs, target, show_progress)`` → attributions (1, C, H, W). ``forward``
            maps inputs to outputs, and is the only way in which the function may call the network.
            ``target`` is None if an output is one number per picture, (N,).
        meaning: The meaning of its values, in a few words.

    Example:
        >>> from captum_infomask.comparison.method_adapters import ForwardMethod
        >>> ForwardMethod("input", "pixels", lambda forward, inputs, target, bar: inputs).unit
        'pixels'
    """

    name: str
    unit: str
    call: Attribute
    meaning: str = ""

    score: ClassVar[Score | None] = None
    counted: ClassVar[Counted | None] = None

    @property
    def takes_users(self) -> bool:
        """Whether the call is not of this package, and so may hold layers of the network."""
        return not str(getattr(_called(self.call), "__module__", "")).startswith("captum_infomask.")

    def is_density(self, inputs: Tensor) -> bool:
        """Whether its unit is that of a density."""
        return False

    def isolated(self, isolation: Isolation) -> ForwardMethod:
        """Return the method with a copy of its call, if a copy can follow it."""
        return self if self.takes_users else replace(self, call=isolation.copy(self.call))

    def attribute(self, question: Question) -> Answer:
        """Give the network to the call; a control does not use it."""
        count, x = Count(), question.inputs
        network = counted(question.model, count)
        if self.takes_users:
            network = counted(question.users, count, question.read)
        found = self.call(network, x, question.target, question.show_progress)
        return Answer(_as_map(found, x), count.pictures)


@dataclass(frozen=True, eq=False)
class FunctionMethod:
    """A function ``(model, inputs, target, **options)`` → attributions."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]

    unit: ClassVar[str] = "a.u."
    meaning: ClassVar[str] = ""
    score: ClassVar[Score | None] = None
    counted: ClassVar[Counted | None] = None
    takes_users: ClassVar[bool] = True

    def is_density(self, inputs: Tensor) -> bool:
        """Return False: the unit of a function's values is unknown."""
        return False

    def isolated(self, isolation: Isolation) -> FunctionMethod:
        """Return the function itself, which may hold layers of the network."""
        return self

    def attribute(self, question: Question) -> Answer:
        """Give the network itself to the function; its uses of the network are not counted."""
        options = _own_options(self.options, question)
        count, x = Count(), question.inputs
        network = counted(question.users, count, question.read)
        found = self.function(network, x, question.target, **options)
        return Answer(_as_map(found, x), count.pictures or None)


@dataclass(frozen=True, eq=False)
class CaptumMethod:
    """One of Captum's methods, or a user's own class of that kind, with its arguments."""

    name: str
    attribution: Attribution
    options: Mapping[str, Any]

    unit: ClassVar[str] = "a.u."
    score: ClassVar[Score | None] = None
    counted: ClassVar[Counted | None] = None

    @property
    def meaning(self) -> str:
        """Captum's name for the method."""
        return f"Captum's {self.attribution.get_name()}"

    @property
    def takes_users(self) -> bool:
        """Whether its code is not Captum's, or a function brings it the network."""
        is_captums = type(self.attribution).__module__.startswith("captum.")
        return _runs_a_function(self.attribution) or not is_captums

    def is_density(self, inputs: Tensor) -> bool:
        """Return False: none of them counts bits."""
        return False

    def isolated(self, isolation: Isolation) -> CaptumMethod:
        """Return a copy of the method that holds the copy of the network."""
        return replace(self, attribution=_isolated(self.attribution, isolation))

    def attribute(self, question: Question) -> Answer:
        """Run a copy that counts pictures; it may also use the network in uncounted ways."""
        options = _own_options(self.options, question)
        count, x = Count(), question.inputs
        networks = (question.model, question.users)
        method = counted_attribution(self.attribution, count, networks, question.read)
        taken = inspect.signature(method.attribute).parameters
        if "show_progress" in taken:
            options = {"show_progress": question.show_progress, **options}
        if "target" in taken or "kwargs" in taken:
            options = {"target": question.target, **options}
        return Answer(_as_map(method.attribute(x, **options), x), count.pictures or None)


@dataclass(frozen=True, eq=False)
class InfoMaskMethod:
    """An InfoMask with its arguments. The scores of its regions are kept."""

    name: str
    infomask: InfoMask
    options: Mapping[str, Any]

    takes_users: ClassVar[bool] = False

    @property
    def unit(self) -> str:
        """The unit of its scores."""
        return self.score.unit

    @property
    def meaning(self) -> str:
        """The meaning of the values of its view, if a view is named."""
        return view_meaning(self.options.get("view"), self.options.get("contrast"))

    @property
    def score(self) -> Score:
        """The score that reads the network's outputs."""
        return self.infomask.score

    @property
    def counted(self) -> Counted | None:
        """The InfoMask itself, if its view and its head count from the prior."""
        view = asked_view(Options.among(self.options), ())
        options = {name: own for name, own in self.options.items() if name != "view"}
        if view is None or options.pop("contrast", None) is not None:
            return None
        try:
            check_question(self.infomask, view, options)
        except ArgumentError:
            return None
        return Counted(self.infomask, view, options)

    def is_density(self, inputs: Tensor) -> bool:
        """Whether its view, given or chosen, is one of feature maps, without regions."""
        view = asked_view(Options.among(self.options), (inputs,))
        regions = ("regions", "feature_mask", "sliding_window_shapes", "strides")
        has_regions = any(self.options.get(name) is not None for name in regions)
        return view in (None, *OF_FEATURES) and not has_regions

    def isolated(self, isolation: Isolation) -> InfoMaskMethod:
        """Return a copy of the InfoMask that holds the copy of the network."""
        return replace(self, infomask=_isolated(self.infomask, isolation))

    def attribute(self, question: Question) -> Answer:
        """Score regions; the engines need the network itself, and count for themselves."""
        options = _own_options(self.options, question)
        settings = {"seed": question.seed, "show_progress": question.show_progress, **options}
        x = question.inputs
        infomap = self.infomask.score_regions(x, target=question.target, **settings)
        return Answer(_as_map(infomap.attributions(), x), infomap.views, infomap)


def view_meaning(view: object, contrast: object) -> str:
    """Say in a few words what the values of a view mean."""
    meaning = MEANINGS.get(str(view), "")
    return meaning if contrast is None else f"{meaning}, against another class"


def _isolated(given: AnAttribution, isolation: Isolation) -> AnAttribution:
    """Return a copy of a method on copies; the method itself if a function runs the network."""
    if _runs_a_function(given):
        return given
    made = copy.copy(given)
    for name, held in vars(given).items():
        is_method = isinstance(held, Attribution)
        made.__dict__[name] = _isolated(held, isolation) if is_method else isolation.copy(held)
    return made


def _runs_a_function(method: Attribution) -> bool:
    """Whether a method runs a function, which may hold layers of the network itself."""
    held = (vars(method).get(name) for name in ("forward_func", "model"))
    return any(isinstance(_called(one), FunctionType) for one in held)


def _called(function: Any) -> Any:
    """Return the function that a partial calls in the end."""
    while isinstance(function, partial):
        function = function.func
    return function


def _own_options(options: Mapping[str, Any], question: Question) -> dict[str, Any]:
    """Return the arguments; a tensor with one entry per picture gives the picture's own entry."""
    return {name: _own(value, question) for name, value in options.items()}


def _own(value: Any, question: Question) -> Any:
    """Return a picture's own part of an argument that has one entry per picture."""
    n, k = question.pictures, question.place
    if isinstance(value, Tensor) and n > 1 and value.dim() > 0 and len(value) == n:
        return value[k : k + 1]
    return value


def _as_map(found: Any, inputs: Tensor) -> Tensor:
    """Return attributions in the picture's height and width, without a graph."""
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

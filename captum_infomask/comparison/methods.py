# The default methods of a comparison, by name. Controls are among them.
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import torch
from captum.attr import Attribution, InputXGradient, IntegratedGradients
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from captum_infomask._checks import check_initialised, describe, named_like, one_of, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import told
from captum_infomask._types import Shape
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.comparison.compare_arguments import Fill, checked_fill, checked_images
from captum_infomask.comparison.gradcam_layers import OnTokensError, layer_map
from captum_infomask.comparison.method_adapters import ForwardMethod, as_method, kind_of
from captum_infomask.comparison.method_protocol import Method
from captum_infomask.engines.reached import named_layer
from captum_infomask.evaluation.method_calls import (
    OCCLUSION_CHUNK,
    Attribute,
    Forward,
    Index,
    Windows,
    chosen_windows,
    grad_cam,
    occlusion,
)
from captum_infomask.scores.heads import HEADS
from captum_infomask.scores.score import Score, score_from
from captum_infomask.scores.score_settings import ScoreSettings
from captum_infomask.views.choose_view import OF_FEATURES, ViewName

if TYPE_CHECKING:
    from typing_extensions import Unpack


def centred_blob(height: int, width: int) -> Tensor:
    """Return a Gaussian in the middle of a picture, a quarter of its sides wide: (H, W)."""
    down, across = (torch.linspace(-2, 2, side).square() for side in (height, width))
    return (-(down[:, None] + across) / 2).exp()


def uniform_noise(*shape: int) -> Tensor:
    """Return independent uniform noise per pixel, not blurred, always the same."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def blurred_noise(height: int, width: int) -> Tensor:
    """Return normal noise, blurred over a sixteenth of a picture's sides, at most 1: (H, W)."""
    noise = torch.randn(height, width).double().numpy()
    blurred = torch.from_numpy(gaussian_filter(noise, (height / 16, width / 16)))
    return (blurred / blurred.abs().max()).float()


INFO_MASK, DROP, GRAD_CAM, OCCLUSION = "InfoMask", "InfoMask drop", "Grad-CAM", "Occlusion"
NOISE, BLOB = "blurred noise (control)", "centred blob (control)"
INPUT_GRADIENT, INTEGRATED = "Input x gradient", "Integrated gradients"
DEFAULT_METHODS = (INFO_MASK, DROP, GRAD_CAM, OCCLUSION, NOISE, BLOB)
VIEWS: dict[str, ViewName | None] = {INFO_MASK: None}
VIEWS |= {f"{INFO_MASK} {view}": view for view in get_args(ViewName)}
CROP = f"{INFO_MASK} crop"
METHOD_NAMES = (*VIEWS, GRAD_CAM, OCCLUSION, INPUT_GRADIENT, INTEGRATED, NOISE, BLOB)

_FORMS = (
    "default methods' names, or a mapping of names to captum.attr methods or functions "
    "(model, inputs, target), each alone or in a pair with a dict of further arguments"
)
_STEPS = 32  # steps of integrated gradients: Captum's 50 cost more than all other methods


@dataclass(frozen=True)
class Setting:
    """The settings that the default methods share.

    Attributes:
        model: The network.
        inputs: (N, C, H, W). One pass of the first picture finds Grad-CAM's layer.
        layer: Grad-CAM's layer, if it is given.
        windows: The windows of ``drop`` and Occlusion.
        fill: The values of hidden pixels.
        score: How the network's outputs are read.
    """

    model: Callable[..., Any]
    inputs: Tensor
    layer: nn.Module | None
    windows: Windows
    fill: Fill
    score: Score


@told(options_of=Score, without=("unit",))
def default_methods(
    model: Callable[..., Any],
    inputs: Tensor,
    *,
    layer: str | nn.Module | None = None,
    sliding_window_shapes: Shape | None = None,
    strides: int | Shape | None = None,
    baselines: Fill = 0.0,
    score: Score | None = None,
    **settings: Unpack[ScoreSettings],
) -> dict[str, Any]:
    """Return the methods that :func:`compare` runs by default; others can be added.

    They are InfoMask with its default view and with ``drop``, Captum's LayerGradCam and Occlusion,
    and two maps that see no network, as controls. If a network ends in tokens, it has no feature
    map for Grad-CAM. Captum's InputXGradient and IntegratedGradients then come beside Grad-CAM's
    error.

    Args:
        model: The network: images (N, C, H, W) → outputs (N, M).
        inputs: (N, C, H, W). One pass of the first picture finds Grad-CAM's layer.
        layer: Grad-CAM's layer or its name; None takes the last feature map.
        sliding_window_shapes: The windows (C, h, w) of ``drop`` and Occlusion, in pixels; None
            takes a quarter of the sides, an eighth apart.
        strides: Steps between windows.
        baselines: The values of hidden pixels: a number, or a picture (1, C, H, W).
        score: How the outputs are read; any head but ``raw``, which has no probabilities. Pass
            it to :func:`compare` too.
        **settings: The settings of :class:`Score` by name, except ``unit``, instead of ``score``.

    Returns:
        The methods by name, in the form that :func:`compare` takes as ``methods``.

    Raises:
        ArgumentError: The layer, the windows or the fill do not fit.

    Example:
        >>> import torch
        >>> from captum_infomask import default_methods
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
        >>> list(default_methods(net, torch.rand(1, 3, 16, 16)))[:4]
        ['InfoMask', 'InfoMask drop', 'Grad-CAM', 'Occlusion']
    """
    inputs = checked_images(model, inputs)
    score = score_in_bits(score, settings)
    setting = checked_setting(
        model, inputs, layer, sliding_window_shapes, strides, baselines, score
    )
    return make_methods(setting, None)


def score_in_bits(score: Score | None, settings: Mapping[str, Any]) -> Score:
    """Return the score of a comparison: in bits, by a head that gives probabilities."""
    with_probabilities = [name for name in HEADS if name != "raw"]
    if score is None and isinstance(settings.get("head", "logits"), str):
        one_of("head", settings.get("head", "logits"), with_probabilities)
    found = score_from(score, settings).with_classes("compare reads p(y | x) of classes")
    one_of("head", found.head, with_probabilities)
    return replace(found, unit="bits")


def checked_setting(
    model: Callable[..., Any],
    inputs: Tensor,
    layer: object,
    sliding_window_shapes: Any,
    strides: Any,
    baselines: Any,
    score: Score,
) -> Setting:
    """Check the settings of the default methods; nothing runs yet."""
    check_initialised("model", model)
    return Setting(
        model,
        inputs,
        _checked_layer(model, layer),
        chosen_windows(inputs, sliding_window_shapes, strides),
        checked_fill(inputs, baselines),
        score,
    )


def read_methods(methods: object) -> tuple[Sequence[str] | None, dict[str, Method]]:
    """Check what the user gives as ``methods``: names of default methods, or methods by name.

    Returns:
        The names of the default methods to make, or None for those that suit the network; and the
        methods that are given.

    Raises:
        ArgumentError: A name is unknown (the error names the nearest) or comes twice, or something
            has none of these forms.
    """
    if methods is None:
        return None, {}
    if isinstance(methods, str):
        methods = [methods]
    if isinstance(methods, Mapping):
        if not methods or not all(isinstance(name, str) and name for name in methods):
            raise ArgumentError(f"Expected `methods` to be {_FORMS}; got {describe(methods)}.")
        return (), {name: as_method(name, given) for name, given in methods.items()}
    if not isinstance(methods, Iterable):
        raise ArgumentError(
            f"Expected `methods` to be {_FORMS}; got {kind_of(methods)}.{_by_name(methods)}"
        )
    names = tuple(_name(name) for name in methods)
    if not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"Expected `methods` to name each method once; got {describe(methods)}."
        )
    return names, {}


def _name(given: object) -> str:
    """Return a default method's name; if it is a method, the error says to use a mapping."""
    if not isinstance(given, str):
        raise ArgumentError(
            f"Expected `methods` as a list to hold default methods' names; got {kind_of(given)}."
            f"{_by_name(given)} {{**default_methods(model, inputs), ...}} keeps the default ones."
        )
    return named_like("methods", given, METHOD_NAMES)


def _by_name(given: object) -> str:
    """Say how to give a method of one's own."""
    kind = given if isinstance(given, type) else type(given)
    if issubclass(kind, Attribution):
        return f" Give it a name: methods={{{kind.__name__!r}: {kind.__name__}(model)}}."
    return " Give it a name: methods={'mine': method}." if callable(given) else ""


def make_methods(setting: Setting, names: Iterable[str] | None) -> dict[str, Any]:
    """Make default methods by name, in compare's form; None makes those that suit the network."""
    made: dict[str, Any] = {}
    for name in DEFAULT_METHODS if names is None else names:
        if name != GRAD_CAM:
            made[name] = _make(name, setting)
            continue
        attribute, on_tokens = _grad_cam(setting)
        attribute = _counting_groups(attribute, setting.score)
        made[name] = ForwardMethod(name, "a.u.", attribute, "Captum's LayerGradCam")
        if on_tokens and names is None:
            made |= {other: _make(other, setting) for other in (INPUT_GRADIENT, INTEGRATED)}
    return made


def _make(name: str, setting: Setting) -> Any:
    shapes, strides = setting.windows
    sliding = {"sliding_window_shapes": shapes, "strides": strides}
    if name in VIEWS:
        view = VIEWS[name]
        options: dict[str, Any] = {} if view is None else {"view": view}
        if view not in ("crop", "features"):  # these views hide nothing
            options["baselines"] = setting.fill
        if view not in (None, *OF_FEATURES):
            options |= sliding
        return InfoMask(setting.model, score=setting.score), options
    if name == OCCLUSION:
        call = occlusion(shapes, strides, setting.score.log_probabilities, setting.fill)
        return ForwardMethod(name, "nats", call, "Captum's, of log p(y | x)")
    if name == INPUT_GRADIENT:
        call = _counting_groups(_input_gradient, setting.score)
        return ForwardMethod(name, "a.u.", call, "Captum's InputXGradient")
    if name == INTEGRATED:
        call = _counting_groups(_integrated_gradients(setting.fill), setting.score)
        return ForwardMethod(name, "a.u.", call, "Captum's IntegratedGradients")
    make = blurred_noise if name == NOISE else centred_blob
    return ForwardMethod(name, "a.u.", _control(make), "sees no network")


def _checked_layer(model: Callable[..., Any], layer: object) -> nn.Module | None:
    if layer is None:
        return None
    if not isinstance(model, nn.Module):
        raise ArgumentError("Expected `model` to be a torch.nn.Module along with `layer`.")
    if isinstance(layer, str):
        return named_layer(model, layer)
    if not isinstance(layer, nn.Module) or all(layer is not part for part in model.modules()):
        raise ArgumentError(
            f"Expected `layer` to be a layer of `model` or its name; got {short_repr(layer)}."
        )
    return layer


def _grad_cam(setting: Setting) -> tuple[Attribute, bool]:
    """Return Grad-CAM, which fails when run if no layer is found; and whether tokens are why."""
    if not isinstance(setting.model, nn.Module):
        reason = ArgumentError("Grad-CAM needs a torch.nn.Module, of which it takes a layer.")
        return _failing(reason), False
    first = setting.inputs[:1]
    try:
        found = layer_map(setting.model, first, setting.layer)
    except Exception as error:  # any failure of the network costs only this row
        kind = (
            ""
            if isinstance(error, ArgumentError)
            else f"no layer is found; {type(error).__name__}: "
        )
        return _failing(ArgumentError(f"{kind}{error}")), isinstance(error, OnTokensError)
    return grad_cam(found.module, channels_last=found.channels_last), False


def _counting_groups(attribute: Attribute, score: Score) -> Attribute:
    """Return a method whose targets count groups, if there are groups."""
    return attribute if score.groups is None else partial(_of_groups, attribute, score.merged)


def _of_groups(
    attribute: Attribute,
    merged: Callable[[Tensor], Tensor],
    forward: Forward,
    inputs: Tensor,
    target: Index,
    show_progress: bool,
) -> Tensor:
    return attribute(lambda x: merged(forward(x)), inputs, target, show_progress)


def _failing(reason: ArgumentError) -> Attribute:
    def attribute(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
        raise reason

    return attribute


def _input_gradient(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
    found: Tensor = InputXGradient(forward).attribute(inputs, target=target)
    return found


def _integrated_gradients(fill: Fill) -> Attribute:
    def attribute(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
        found: Tensor = IntegratedGradients(forward).attribute(
            inputs, fill, target, n_steps=_STEPS, internal_batch_size=OCCLUSION_CHUNK
        )
        return found

    return attribute


def _control(make: Callable[[int, int], Tensor]) -> Attribute:
    """Return a method whose map is made without the network."""

    def attribute(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
        return make(*inputs.shape[2:])[None, None].to(inputs)

    return attribute

# Which layer Grad-CAM looks at: the last feature map, or the one that the user names.
from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._checks import ArgumentError

_ACTIVATIONS = nn.ReLU.__module__


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the layer of that name; the error names the nearest one.

    Args:
        model: Searched with ``named_modules()``.
        name: A dotted name, such as ``"layer4.1.conv2"``.

    Returns:
        The layer.

    Raises:
        ArgumentError: if there is none of that name.

    Example:
        >>> from torch import nn
        >>> from captum_infomask.comparison.layers import named_layer
        >>> named_layer(nn.Sequential(nn.ReLU()), "0")
        ReLU()
    """
    layers: dict[str, nn.Module] = {key: module for key, module in model.named_modules() if key}
    if name not in layers:
        # A network has hundreds of layers: the nearest names help, the whole list does not.
        near = difflib.get_close_matches(name, layers)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise ArgumentError(
            f"Expected `layer` to name one of the {len(layers)} layers of "
            f"{type(model).__name__}; got {name!r}.{hint}"
        )
    return layers[name]


def last_feature_map(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Return the layer whose output is the last feature map before the global pooling.

    It is the layer of an output (N, C, h, w) with h × w > 1 from which no other such layer's is
    computed, activations such as ReLU by themselves left out: Grad-CAM is better before them
    (docs/results/defaults.md). One forward pass with gradients finds it, in eval mode; the model is
    then as it was.

    Args:
        model: The network.
        inputs: (N, C, H, W).

    Returns:
        The layer, for Captum's ``LayerGradCam``.

    Raises:
        ArgumentError: if there is no such layer, or several side by side (the error names them), or
            tokens (N, L, D) come after it, as in a vision transformer (:class:`OnTokensError`).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_infomask.comparison.layers import last_feature_map
        >>> layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        >>> last_feature_map(nn.Sequential(*layers), torch.rand(1, 1, 8, 8))
        Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))

    Source:
        Selvaraju et al. 2017, "Grad-CAM": the last convolutional layer keeps the place of things
        and has the highest meaning.
    """
    finished = _finished_layers(model, inputs)
    if not finished:
        raise ArgumentError(_needs(model, "no layer's output is one"))
    if finished[-1].is_tokens:
        raise OnTokensError(_needs(model, "its last layers work on tokens"))
    last = _last_of(finished)
    if len(last) > 1:
        names = {module: name for name, module in model.named_modules()}
        listed = ", ".join(repr(names[layer.module]) for layer in last)
        raise ArgumentError(_needs(model, f"several lie side by side: {listed}"))
    return last[0].module


class OnTokensError(ArgumentError):
    """The network's last layers work on tokens, which have no feature map."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer that has finished: where its output stands in the graph of gradients."""

    module: nn.Module
    node: Any
    is_tokens: bool


def _finished_layers(model: nn.Module, inputs: Tensor) -> list[_Layer]:
    """The layers of feature maps or tokens that the output is computed from, as they finish."""
    finished: list[_Layer] = []

    def note(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if not isinstance(output, Tensor) or type(module).__module__ == _ACTIVATIONS:
            return
        is_map = output.ndim == 4 and output.shape[2] * output.shape[3] > 1
        is_tokens = output.ndim == 3 and output.shape[1] > 1
        if is_map or is_tokens:
            finished.append(_Layer(module, output.grad_fn, is_tokens))

    training = {module: module.training for module in model.modules()}
    hooks = [module.register_forward_hook(note) for module in model.modules() if module != model]
    try:
        model.eval()
        with torch.enable_grad():
            output = model(inputs.detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    used: set[Any] = set()
    if isinstance(output, Tensor):
        _reach(output.grad_fn, used)
    return [layer for layer in finished if layer.node in used]


def _last_of(finished: Sequence[_Layer]) -> list[_Layer]:
    """The layers from whose outputs no other layer's is computed; of one output the outermost."""
    last: list[_Layer] = []
    reached: set[Any] = set()
    for layer in reversed(finished):
        if layer.node not in reached:
            last.append(layer)
            _reach(layer.node, reached)
    return last[::-1]


def _reach(node: Any, reached: set[Any]) -> None:
    """Add a node of the graph of gradients, and all that it is computed from."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in reached:
            reached.add(node)
            waiting.extend(before for before, _ in node.next_functions)


def _needs(model: nn.Module, why: str) -> str:
    return (
        "Grad-CAM needs a convolutional feature map of shape (N, C, h, w) before the global "
        f"pooling; in {type(model).__name__} {why}. Name a layer (`layer=`, or `--layer NAME`) "
        "whose output has that shape."
    )

# Which layer Grad-CAM looks at: the last feature map, or the one that the user names.
from __future__ import annotations

import difflib
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

    It is the last layer to finish whose output is (N, C, h, w) with h × w > 1, activations such as
    ReLU by themselves left out: Grad-CAM is better before them (docs/results/defaults.md). One
    forward pass finds it, in eval mode; the model is then as it was.

    Args:
        model: The network.
        inputs: (N, C, H, W).

    Returns:
        The layer, for Captum's ``LayerGradCam``.

    Raises:
        ArgumentError: if there is no such layer, or tokens (N, L, D) come after it, as in a
            vision transformer.

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
    finished: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if not isinstance(output, Tensor) or type(module).__module__ == _ACTIVATIONS:
            return
        is_map = output.ndim == 4 and output.shape[2] * output.shape[3] > 1
        is_tokens = output.ndim == 3 and output.shape[1] > 1
        if is_map or is_tokens:
            finished.append((module, output.ndim))

    training = {module: module.training for module in model.modules()}
    hooks = [module.register_forward_hook(note) for module in model.modules() if module != model]
    try:
        model.eval()
        with torch.no_grad():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    if finished and finished[-1][1] == 4:
        return finished[-1][0]
    why = "its last layers work on tokens" if finished else "no layer's output is one"
    raise ArgumentError(
        "Grad-CAM needs a convolutional feature map of shape (N, C, h, w) before the global "
        f"pooling; in {type(model).__name__} {why}. Name a layer (`--layer NAME`) whose output "
        "has that shape."
    )

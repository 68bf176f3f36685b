# InfoMask, Grad-CAM and Occlusion with one signature, and windows in Occlusion's form.
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

from captum_infomask._checks import positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import progress_bar
from captum_infomask._types import Shape
from captum_infomask.attribution.infomask import InfoMask
from captum_infomask.regions.windows import image_window, sliding_windows

Windows: TypeAlias = tuple[Shape, int | Shape]


def chosen_windows(inputs: Tensor, shapes: Any, strides: Any) -> Windows:
    """Return checked windows and strides; a quarter of the sides, an eighth apart, if None."""
    if shapes is None:
        if strides is not None:
            raise ArgumentError(
                "Expected `sliding_window_shapes` along with `strides`; got `strides` alone."
            )
        return image_window(tuple(inputs.shape[1:]))
    sliding_windows(inputs, shapes, strides)
    return shapes, 1 if strides is None else strides


def square_windows(
    inputs: Tensor, side: int | None = None, stride: int | None = None
) -> tuple[Shape, Shape]:
    """Return windows of a quarter of a photograph's shorter side, half a window apart.

    Args:
        inputs: (N, C, H, W).
        side: Another side, in pixels.
        stride: Another step, in pixels.

    Returns:
        Captum's ``sliding_window_shapes`` and ``strides``, over all channels.

    Raises:
        ArgumentError: if a window is larger than the picture, or if the step is larger than the
            window, which would leave out pixels.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.method_calls import square_windows
        >>> square_windows(torch.zeros(1, 3, 224, 224))
        ((3, 56, 56), (3, 28, 28))
    """
    channels, shorter = inputs.shape[1], min(inputs.shape[2:])
    usual = image_window((channels, shorter, shorter))[0][1]
    side = usual if side is None else positive_int("window", side)
    if side > shorter:
        raise ArgumentError(
            f"Expected `window` to fit into the picture of {inputs.shape[2]} × {inputs.shape[3]} "
            f"pixels that the network sees; got {side}."
        )
    stride = max(1, side // 2) if stride is None else positive_int("stride", stride)
    if stride > side:
        raise ArgumentError(
            f"Expected `stride` to be at most the window's side of {side}, so that every pixel is "
            f"in a window; got {stride}."
        )
    return (channels, side, side), (channels, stride, stride)


Forward: TypeAlias = Callable[[Tensor], Tensor]
Index: TypeAlias = int | None  # None if an output is one number per picture
Attribute: TypeAlias = Callable[[Forward, Tensor, Index, bool], Tensor]

# Occlusion's default of 1 would measure Python instead of the network.
OCCLUSION_CHUNK = 4


def target_log_probabilities(logits: Tensor) -> Tensor:
    """Log p(y | x)."""
    return logits.log_softmax(dim=1)


def info_mask(**settings: Any) -> Attribute:
    """InfoMask with some of ``attribute``'s settings."""

    def attribute(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
        bits: Tensor = InfoMask(forward).attribute(
            inputs, target=target, show_progress=show_progress, **settings
        )
        return bits

    return attribute


def grad_cam(layer: nn.Module, *, channels_last: bool = False) -> Attribute:
    """The positive part of Captum's LayerGradCam, resized to the picture's size.

    Args:
        layer: A layer of the network.
        channels_last: Whether the layer's output is (N, h, w, C), which Captum's method does not
            expect.
    """
    return partial(_grad_cam, layer, channels_last)


def _grad_cam(
    layer: nn.Module,
    channels_last: bool,
    forward: Forward,
    inputs: Tensor,
    target: Index,
    show_progress: bool,
) -> Tensor:
    shown = _channels_first(layer) if channels_last else nullcontext(layer)
    with torch.enable_grad(), shown as seen:
        coarse = LayerGradCam(forward, seen).attribute(inputs, target, relu_attributions=True)
    size = (inputs.shape[2], inputs.shape[3])
    fine: Tensor = LayerAttribution.interpolate(coarse.detach(), size, "bilinear")
    return fine


@contextmanager
def _channels_first(layer: nn.Module) -> Iterator[nn.Module]:
    """A layer that passes on what another one gives, (N, h, w, C), as (N, C, h, w) in between."""
    seen = nn.Identity()
    hook = layer.register_forward_hook(
        lambda module, args, output: seen(output.movedim(3, 1)).movedim(1, 3)
    )
    try:
        yield seen
    finally:
        hook.remove()


def occlusion(
    shapes: tuple[int, ...],
    strides: int | tuple[int, ...],
    read: Callable[[Tensor], Tensor],
    fill: float | Tensor = 0.0,
) -> Attribute:
    """Captum's Occlusion of the result of ``read`` on the outputs, with ``fill`` for hidden pixels.

    Without a target, an output is one number per picture, and ``read`` gives it the shape (n, 1).
    """

    def attribute(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
        pictures = len(inputs) * (1 + len(sliding_windows(inputs, shapes, strides)))
        # Our own bar, because Captum 0.9's bar counts the pixels of a window instead of windows.
        bar = progress_bar(total=pictures, desc="Occlusion attribution", show=show_progress)

        def counted(shown: Tensor) -> Tensor:
            bar.update(len(shown))
            rows = read(forward(shown))
            return rows[:, 0] if target is None else rows

        with bar, torch.no_grad():
            difference: Tensor = Occlusion(counted).attribute(
                inputs,
                shapes,
                strides=strides,
                baselines=fill,
                target=target,
                perturbations_per_eval=OCCLUSION_CHUNK,
            )
        return difference

    return attribute

# InfoMask, Grad-CAM and Occlusion behind one signature, whatever pictures they are compared on.
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

from captum_infomask._progress import progress_bar
from captum_infomask.attribution import InfoMask
from captum_infomask.regions.windows import sliding_windows

Forward: TypeAlias = Callable[[Tensor], Tensor]
Index: TypeAlias = int | None  # None where an output is one number per picture
Attribute: TypeAlias = Callable[[Forward, Tensor, Index, bool], Tensor]

# Occlusion's default of 1 would time Python rather than the network.
OCCLUSION_CHUNK = 4


def log_probabilities(logits: Tensor) -> Tensor:
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
    """Captum's LayerGradCam, its positive part, brought to the picture's size.

    Args:
        layer: Of the network.
        channels_last: Whether its output is (N, h, w, C), which Captum's method does not expect.
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
    """Captum's Occlusion of what ``read`` makes of the outputs; hidden pixels become ``fill``.

    Where there is no target, an output is one number per picture, which ``read`` makes (n, 1) of.
    """

    def attribute(forward: Forward, inputs: Tensor, target: Index, show_progress: bool) -> Tensor:
        pictures = len(inputs) * (1 + len(sliding_windows(inputs, shapes, strides)))
        # A bar of our own, because Captum 0.9's counts a window's pixels instead of the windows.
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

# The four methods of the main job, each as a name, a unit, and one call.
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from captum_infomask._checks import ArgumentError, positive_int
from captum_infomask.comparison.calls import (
    Attribute,
    Forward,
    grad_cam,
    info_mask,
    log_probabilities,
    occlusion,
)
from captum_infomask.comparison.layers import last_feature_map, named_layer


@dataclass(frozen=True)
class Method:
    """An attribution method under one name.

    Args:
        name: What tables and figures call it.
        unit: What its values are counted in.
        attribute: ``(forward, inputs, target, show_progress)`` → attributions (1, C, H, W);
            ``forward`` maps inputs to logits and is the only way in which it may call the network.
        meaning: What its values say, in a few words.

    Example:
        >>> from captum_infomask.comparison.methods import Method
        >>> Method("input", "pixels", lambda forward, inputs, target, show_progress: inputs).unit
        'pixels'
    """

    name: str
    unit: str
    attribute: Attribute
    meaning: str = ""


@dataclass(frozen=True)
class Windows:
    """Square windows over a picture, as Captum's Occlusion takes them.

    Args:
        side: Side of a window, in pixels.
        stride: Step from one window to the next, in pixels.
        channels: Channels of the picture; a window covers them all.

    Example:
        >>> from captum_infomask.comparison.methods import Windows
        >>> Windows(side=56, stride=14, channels=3).shapes
        (3, 56, 56)
    """

    side: int
    stride: int
    channels: int

    @property
    def shapes(self) -> tuple[int, int, int]:
        """Captum's ``sliding_window_shapes``."""
        return (self.channels, self.side, self.side)

    @property
    def strides(self) -> tuple[int, int, int]:
        """Captum's ``strides``."""
        return (self.channels, self.stride, self.stride)


def square_windows(inputs: Tensor, side: int | None = None, stride: int | None = None) -> Windows:
    """Return windows of a quarter of a photograph's shorter side, at a quarter of their own.

    Args:
        inputs: (1, C, H, W).
        side: Another side, in pixels.
        stride: Another step, in pixels.

    Returns:
        The windows.

    Raises:
        ArgumentError: if a window is larger than the picture, or the step larger than the window,
            which would leave pixels out.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.methods import square_windows
        >>> square_windows(torch.zeros(1, 3, 224, 224))
        Windows(side=56, stride=14, channels=3)
    """
    shorter = min(inputs.shape[2:])
    side = max(1, round(shorter / 4)) if side is None else positive_int("window", side)
    if side > shorter:
        raise ArgumentError(
            f"Expected `window` to fit into the picture of {inputs.shape[2]} × {inputs.shape[3]} "
            f"pixels that the network sees; got {side}."
        )
    stride = max(1, round(side / 4)) if stride is None else positive_int("stride", stride)
    if stride > side:
        raise ArgumentError(
            f"Expected `stride` to be at most the window's side of {side}, so that every pixel is "
            f"in a window; got {stride}."
        )
    return Windows(side, stride, inputs.shape[1])


def photo_methods(
    network: nn.Module, inputs: Tensor, windows: Windows, layer: str | None = None
) -> tuple[Method, ...]:
    """Return InfoMask's ``crop`` and ``drop``, Captum's LayerGradCam and Captum's Occlusion.

    Args:
        network: The network that ``forward`` will call.
        inputs: (1, C, H, W): one pass of it finds Grad-CAM's layer.
        windows: For InfoMask and Occlusion.
        layer: Name of Grad-CAM's layer; None takes the last feature map. A network that has none
            gets a Grad-CAM that fails and says why.

    Returns:
        The methods, in the order of the figure's rows.

    Raises:
        ArgumentError: if ``layer`` names no layer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_infomask.comparison.methods import photo_methods, square_windows
        >>> net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        >>> x = torch.rand(1, 3, 16, 16)
        >>> [method.unit for method in photo_methods(net, x, square_windows(x))]
        ['bits', 'bits', 'a.u.', 'nats']
    """
    sliding = {"sliding_window_shapes": windows.shapes, "strides": windows.strides}
    crop, drop = info_mask(view="crop", **sliding), info_mask(view="drop", **sliding)
    occluded = occlusion(windows.shapes, windows.strides, log_probabilities)
    return (
        Method("InfoMask crop", "bits", crop, "what a window says alone"),
        Method("InfoMask drop", "bits", drop, "what only a window says"),
        Method("Grad-CAM", "a.u.", _grad_cam(network, inputs, layer), "Captum's LayerGradCam"),
        Method("Occlusion", "nats", occluded, "Captum's, of log p(y | x)"),
    )


def _grad_cam(network: nn.Module, inputs: Tensor, layer: str | None) -> Attribute:
    """Grad-CAM at a named layer or the last feature map; where there is none, it fails when run."""
    if layer is not None:
        return grad_cam(named_layer(network, layer))
    try:
        return grad_cam(last_feature_map(network, inputs))
    except ArgumentError as error:
        reason = error

    def fail(forward: Forward, inputs: Tensor, target: int, show_progress: bool) -> Tensor:
        raise reason

    return fail

# Windows over a picture, in the forms of Captum's Occlusion.
from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor

from captum_infomask._checks import positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Shape
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
    """Return windows of a quarter of a photograph's shorter side, half of their own apart.

    Args:
        inputs: (N, C, H, W).
        side: Another side, in pixels.
        stride: Another step, in pixels.

    Returns:
        Captum's ``sliding_window_shapes`` and ``strides``, over all channels.

    Raises:
        ArgumentError: if a window is larger than the picture, or the step larger than the window,
            which would leave pixels out.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.windows import square_windows
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

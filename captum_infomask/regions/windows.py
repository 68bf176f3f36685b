# Sliding windows, with Occlusion's arguments, and grids.
from __future__ import annotations

import itertools
import math
import numbers
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe, positive_int, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._process import default_on_cpu
from captum_infomask._types import Shape, TensorOrTensors
from captum_infomask.regions.box_regions import BoxRegions
from captum_infomask.regions.region_protocol import example_shapes, place_sizes


@default_on_cpu()
def sliding_windows(
    inputs: TensorOrTensors,
    sliding_window_shapes: tuple[int, ...] | tuple[tuple[int, ...], ...],
    strides: int | tuple[int, ...] | tuple[int | tuple[int, ...], ...] | None = None,
) -> BoxRegions:
    r"""The windows that Captum's Occlusion slides over the inputs, as regions.

    In each dimension of size S, windows of size w and stride s start at 0, s, 2s, … until the end
    is reached. These are :math:`\lceil (S - w)/s \rceil + 1` windows; the last one is cut off at
    the border.

    Args:
        inputs: The inputs (N, ...), a tensor or a tuple of tensors; only their shapes are read.
        sliding_window_shapes: The window without the batch dimension, channel first, e.g.
            ``(3, 16, 16)``; a tuple of them for several inputs.
        strides: A number for all dimensions, or one per dimension. For several inputs, one such
            entry per input. 1 if None.

    Returns:
        The regions, row by row from the top left.

    Raises:
        ArgumentError: A window is larger than the input, a stride is 0 or larger than the window
            (which would leave gaps), or the number of entries is wrong.

    Example:
        >>> import torch
        >>> from captum_infomask import sliding_windows
        >>> len(sliding_windows(torch.zeros(1, 3, 224, 224), (3, 16, 16), (3, 8, 8)))
        729

    Source: the arguments have the form of those of ``captum.attr.Occlusion``.
    """
    shapes = example_shapes(inputs)
    windows = _per_input(sliding_window_shapes, shapes)
    steps = _strides_per_input(strides, shapes)
    boxes = []
    for k, shape in enumerate(shapes):
        window = _window(windows[k], shape, k if len(shapes) > 1 else None)
        stride = _stride(steps[k], window, shape)
        starts = [
            range(0, -(-(size - w) // s) * s + 1, s)
            for size, w, s in zip(shape, window, stride, strict=True)
        ]
        spans = [
            [(a, min(a + w, size)) for a in starts[d]]
            for d, (size, w) in enumerate(zip(shape, window, strict=True))
        ]
        boxes.append(_product(spans))
    return BoxRegions(shapes, tuple(boxes))


@default_on_cpu()
def grid(
    inputs: Tensor, *counts: int, rows: int | None = None, columns: int | None = None
) -> BoxRegions:
    r"""Cut images into rows × columns patches that cover every pixel once.

    Patch (i, j) spans rows :math:`\lfloor iH/\text{rows} \rfloor` to
    :math:`\lfloor (i+1)H/\text{rows} \rfloor`, columns likewise, and every channel.

    Args:
        inputs: Images (N, C, H, W), signals (N, C, T) or volumes (N, C, D, H, W); only the shape is
            read.
        counts: Number of patches along each place: rows and columns of images, one number for
            signals, and three, along D, H and W, for volumes.
        rows: Number of patches of images down, at most H, by name.
        columns: Number of patches of images across, at most W, by name.

    Returns:
        The regions, row by row.

    Raises:
        ArgumentError: ``inputs`` have no places, the number of counts is another one, or there are
            more patches than pixels.

    Example:
        >>> import torch
        >>> from captum_infomask import grid
        >>> len(grid(torch.zeros(1, 3, 30, 40), rows=3, columns=4))
        12
        >>> len(grid(torch.zeros(1, 1, 16, 32, 32), 2, 4, 4))
        32
    """
    sizes = place_sizes(inputs)
    is_image = len(sizes) == 2
    given = (*counts, *(one for one in (rows, columns) if one is not None))
    named = [name for name, one in (("rows", rows), ("columns", columns)) if one is not None]
    names = ("rows", "columns") if is_image else ("counts",) * len(sizes)
    if len(given) != len(sizes) or (named and tuple(named) != names[len(counts) :]):
        wanted = "`rows` and `columns`" if is_image else f"{len(sizes)} `counts`"
        raise ArgumentError(
            f"Expected {wanted} for inputs {tuple(inputs.shape)}, the number of patches along each "
            f"place; got {describe(given)}{f' with {named} by name' if named else ''}."
        )
    spans = [[(0, inputs.shape[1])]]
    for name, one, size in zip(names, given, sizes, strict=True):
        count = positive_int(name, one)
        if count > size:
            raise ArgumentError(f"Expected `{name}` of at most {size}, the pixels; got {count}.")
        edges = [i * size // count for i in range(count + 1)]
        spans.append(list(itertools.pairwise(edges)))
    return BoxRegions((tuple(inputs.shape[1:]),), (_product(spans),))


# A window's stride is this part of each side, for inputs of so many places, and the window is two
# strides wide. So signals have at most 31 windows, images 49 and volumes 343, or a few more.
_STEPS = {1: 32, 2: 8, 3: 8}


def default_windows(inputs: TensorOrTensors) -> BoxRegions:
    """The default regions.

    Images (N, C, H, W) get windows of a quarter of the sides with strides of an eighth. This
    setting loses little, at a quarter of the cost of finer ones (docs/results/defaults.md). Volumes
    (N, C, D, H, W) get the same, and signals (N, C, T) windows of a sixteenth with strides of half
    of that. For other inputs every element is a region, as in Captum's FeatureAblation.
    """
    found = [
        image_window(shape) if len(shape) - 1 in _STEPS else ((1,) * len(shape), (1,) * len(shape))
        for shape in example_shapes(inputs)
    ]
    windows, strides = zip(*found, strict=True)
    return sliding_windows(inputs, windows, strides)


def image_window(shape: Shape) -> tuple[Shape, Shape]:
    """The default window and strides of images (C, H, W), signals (C, T) or volumes."""
    parts = _STEPS[len(shape) - 1]
    steps = tuple(max(1, round(size / parts)) for size in shape[1:])
    window = tuple(min(size, 2 * step) for size, step in zip(shape[1:], steps, strict=True))
    return (shape[0], *window), (shape[0], *steps)


def _product(spans: list[list[tuple[int, int]]]) -> Tensor:
    boxes = list(itertools.product(*spans))
    return torch.tensor(boxes, dtype=torch.long).reshape(len(boxes), len(spans), 2)


def _per_input(windows: Any, shapes: tuple[Shape, ...]) -> tuple[Any, ...]:
    if isinstance(windows, tuple) and not any(isinstance(w, tuple) for w in windows):
        windows = (windows,)
    if not isinstance(windows, tuple) or len(windows) != len(shapes):
        hint = _meant(windows, shapes[0]) if len(shapes) == 1 else ""
        raise ArgumentError(
            f"Expected `sliding_window_shapes` to be a tuple with a window for each of the "
            f"{len(shapes)} inputs, e.g. (3, 16, 16); got {describe(windows)}.{hint}"
        )
    return windows


def _meant(window: Any, shape: Shape) -> str:
    """The tuple that the user probably meant by a window of another form, as a question."""
    given = window.tolist() if isinstance(window, Tensor | np.ndarray) else window
    sizes = list(given) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(size, int | float) and 1 <= size < math.inf for size in sizes):
        return ""
    whole, channels = [int(size) for size in sizes], list(shape[:1])
    candidates = (
        whole,  # a list, or floats
        channels + whole,  # (height, width)
        channels + whole * (len(shape) - 1),  # a side
        whole[1:],  # with a batch dimension
        channels + whole[:-1],  # channels last
    )
    for one in map(tuple, candidates):
        if len(one) == len(shape) and all(map(operator.le, one, shape)):
            return f" Did you mean {one}?"
    return ""


def _strides_per_input(strides: Any, shapes: tuple[Shape, ...]) -> tuple[Any, ...]:
    if strides is None:
        return (1,) * len(shapes)
    if len(shapes) == 1 and not (isinstance(strides, tuple) and len(strides) == 1):
        strides = (strides,)
    if not isinstance(strides, tuple) or len(strides) != len(shapes):
        raise ArgumentError(
            f"Expected `strides` to hold an entry for each of the {len(shapes)} inputs; got "
            f"{describe(strides)}."
        )
    if len(shapes) == 1 and len(shapes[0]) == 1 and isinstance(strides[0], numbers.Integral):
        return ((strides[0],),)
    return strides


def _window(window: Any, shape: Shape, k: int | None) -> Shape:
    where = "" if k is None else f" for input {k}"
    if not isinstance(window, tuple) or len(window) != len(shape):
        hint = _meant(window, shape)
        if isinstance(window, tuple) and len(window) == len(shape) + 1 == 3:
            hint = " Do the inputs lack a batch dimension? inputs.unsqueeze(0) adds one."
        raise ArgumentError(
            f"Expected `sliding_window_shapes` with {len(shape)} entries{where}, for examples of "
            f"shape {shape} (no batch dimension, channel first); got {short_repr(window)}.{hint}"
        )
    checked = tuple(_size(w, window, shape) for w in window)
    if any(w > size for w, size in zip(checked, shape, strict=True)):
        raise ArgumentError(
            f"Expected `sliding_window_shapes` no larger than the example's shape {shape}{where}; "
            f"got {window}.{_meant(window, shape)}"
        )
    return checked


def _size(size: object, window: object, shape: Shape) -> int:
    try:
        return positive_int("sliding_window_shapes", size)
    except ArgumentError as error:
        raise ArgumentError(f"{error}{_meant(window, shape)}") from None


def _stride(stride: Any, window: Shape, shape: Shape) -> Shape:
    if isinstance(stride, list):
        raise ArgumentError(
            f"Expected `strides` to be a number or a tuple, one per dimension; got "
            f"{describe(stride)}. Did you mean {tuple(stride)}?"
        )
    if not isinstance(stride, tuple):
        stride = (stride,) * len(shape)
    if len(stride) != len(shape):
        hint = f" Did you mean {(window[0], *stride)}?" if len(stride) == len(shape) - 1 else ""
        raise ArgumentError(
            f"Expected `strides` with {len(shape)} entries, one per dimension of an example of "
            f"shape {shape}; got {short_repr(stride)}.{hint}"
        )
    checked = tuple(positive_int("strides", s) for s in stride)
    for s, w, size in zip(checked, window, shape, strict=True):
        if s > w and w < size:
            raise ArgumentError(
                f"Expected `strides` no larger than the window {window}, which would leave gaps; "
                f"got {checked}."
            )
    return checked

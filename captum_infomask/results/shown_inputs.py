# Check the picture, the signal or the volume that a map is drawn over.
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.report.page_content import FloatArray, PhotoArray
from captum_infomask.results.map_pictures import ShownMap, rgb_of


def photo_of(argument: str, given: Any) -> PhotoArray:
    """Return a picture as uint8 (H, W, 3).

    Args:
        argument: The argument's name.
        given: Pillow's picture; an array (H, W, 3), (H, W, 1) or (H, W); or a tensor (3, H, W),
            (1, H, W), (H, W), with or without a batch dimension of 1.

    Raises:
        ArgumentError: It is none of these.

    Example:
        >>> import torch
        >>> from captum_infomask.results.shown_inputs import photo_of
        >>> photo_of("picture", torch.tensor([[[0.0, 1.0]]]))[0].tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    if isinstance(given, Image.Image):
        from captum_infomask.models.preprocessing import upright

        return rgb_of(upright(given))
    if isinstance(given, Tensor):
        array = array_of(given)
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    else:
        array = array_of(given)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in (1, 3) or not array.size:
        raise ArgumentError(
            f"Expected `{argument}` to be Pillow's picture, an array (H, W, 3) or a tensor "
            f"(3, H, W); got {describe(given)}."
            f"{' Give the picture alone, not all inputs.' if isinstance(given, tuple) else ''}"
        )
    return np.ascontiguousarray(np.broadcast_to(_as_bytes(argument, array), (*array.shape[:2], 3)))


def array_of(given: Any) -> npt.NDArray[Any]:
    """Return a tensor or an array as an array; an empty one for anything else."""
    if isinstance(given, Tensor):
        own = given.detach().cpu()
        return (own.float() if own.is_floating_point() else own).numpy()
    return given if isinstance(given, np.ndarray) else np.empty(0)


def _as_bytes(argument: str, array: npt.NDArray[Any]) -> PhotoArray:
    """Return pixels as uint8; values outside 0 to 1 are stretched to the whole range."""
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    if array.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ArgumentError(
            f"Expected `{argument}` to have finite pixels, uint8 or floating point; got "
            f"{describe(array)}."
        )
    low, high = values.min(), values.max()
    if array.dtype.kind != "f" or low < 0 or high > 1:
        values = (values - low) / (high - low or 1)
    return np.rint(255 * values).astype(np.uint8)


def photo_for(argument: str, given: Any, plane: FloatArray) -> PhotoArray | None:
    """Return the picture under a map, uint8 (H, W, 3); None if there is none.

    Args:
        argument: The picture's name in errors.
        given: The picture, of the map's size or the same in another size; or None.
        plane: (H, W), the map.

    Raises:
        ArgumentError: The picture has another aspect ratio than the map, or is no picture.
    """
    if given is None:
        return None
    photo = photo_of(argument, given)
    (height, width), (rows, columns) = photo.shape[:2], plane.shape
    # A feature map's sides are rounded: one side may differ by up to a cell.
    if abs(height * columns - width * rows) > max(height + rows, width + columns):
        raise ArgumentError(
            f"Expected `{argument}` to show what the network sees, {rows} × {columns} pixels or "
            f"the same in another size; got {height} × {width}. "
            f"classifier.preprocess.frame(photo) resizes and crops a photograph; the network's "
            f"input itself can be shown too."
        )
    return photo


def signal_for(argument: str, given: Any, values: FloatArray) -> FloatArray | None:
    """Return the signal of a map, (C, T); None if there is none.

    Args:
        argument: The signal's name in errors.
        given: A tensor or an array (1, C, T), (C, T) or (T,); or None.
        values: (C, T), the map.

    Raises:
        ArgumentError: The signal has another shape than the map, or is not finite.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from captum_infomask.results.shown_inputs import signal_for
        >>> signal_for("picture", torch.ones(1, 1, 4), np.zeros((1, 4), np.float32)).shape
        (1, 4)
    """
    if given is None:
        return None
    array = array_of(given)
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    array = array[None] if array.ndim == 1 else array
    if array.shape != values.shape or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ArgumentError(
            f"Expected `{argument}` to be the finite signal that the map is of, a tensor or an "
            f"array {values.shape}; got {describe(given)}."
        )
    return array.astype(np.float32)


def volume_for(argument: str, given: Any, values: FloatArray) -> PhotoArray | None:
    """Return the volume under a map, uint8 (D, H, W), or (D, H, W, 3) in colour; None without one.

    Values outside 0 to 1 are stretched to the range of the whole volume.

    Args:
        argument: The volume's name in errors.
        given: A tensor or an array (D, H, W), or (3, D, H, W) or (D, H, W, 3) in colour, with or
            without dimensions of 1 before these; or None.
        values: (D, H, W), the map.

    Raises:
        ArgumentError: It is none of these, or it has other proportions than the map.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from captum_infomask.results.shown_inputs import volume_for
        >>> scan = torch.linspace(-1000, 1000, 24).reshape(1, 1, 2, 3, 4)
        >>> volume_for("picture", scan, np.zeros((2, 3, 4), np.float32))[[0, 1], 0, 0].tolist()
        [0, 133]
    """
    if given is None:
        return None
    array = array_of(given)
    is_batch = array.ndim == 5 and len(array) > 1
    while array.ndim > 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 4 and len(array) == 3:
        array = np.moveaxis(array, 0, -1)
    if not array.size or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] != 3):
        raise ArgumentError(
            f"Expected `{argument}` to be a volume, (D, H, W) of grey values or (3, D, H, W) of "
            f"colours; got {describe(given)}. "
            f"{'x[0] is the first volume.' if is_batch else 'x[0, 1] is a channel of a batch.'}"
        )
    ratios = [a / b for a, b in zip(array.shape, values.shape, strict=False)]
    if max(ratios) > 1.25 * min(ratios):
        raise ArgumentError(
            f"Expected `{argument}` to show what the network sees, "
            f"{' × '.join(map(str, values.shape))} voxels or the same in another size; got "
            f"{' × '.join(map(str, array.shape[:3]))}."
        )
    return np.ascontiguousarray(_as_bytes(argument, array))


def viewed(given: Any, shown: ShownMap) -> PhotoArray | None:
    """Return the picture or the volume that a viewer lays a map over, of the map's own size.

    Raises:
        ArgumentError: It has another size.
    """
    if shown.kind == "picture":
        made = photo_for("picture", given, shown.values)
    else:
        made = volume_for("picture", given, shown.values)
    size = shown.values.shape
    own = size if made is None else made.shape[: len(size)]
    if own != size:
        raise ArgumentError(f"Expected `picture` to be of the map's own size, {size}; got {own}.")
    return made

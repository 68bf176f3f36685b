# Pictures to show beside maps, in the forms that people have them in.
from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask.report.rows import PhotoArray

Pictures: TypeAlias = PhotoArray | Sequence[Image.Image | PhotoArray]


def checked_pictures(argument: str, given: Any, n: int, height: int, width: int) -> PhotoArray:
    """Return uint8 pictures (n, H, W, 3) from an array, or a list of Pillow's pictures or arrays.

    Raises:
        ArgumentError: They are none, too few or too many, or of another size than the maps.
    """
    wanted = f"{n} picture{'s' * (n != 1)} of {height} × {width} pixels, as the network sees them"
    if not isinstance(given, np.ndarray | list | tuple) or len(given) != n:
        raise ArgumentError(f"Expected `{argument}` to be {wanted}; got {describe(given)}.")
    made = []
    for picture in given:
        is_image = isinstance(picture, Image.Image)
        array = np.asarray(picture.convert("RGB")) if is_image else picture
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != np.uint8
            or array.shape != (height, width, 3)
        ):
            raise ArgumentError(
                f"Expected `{argument}` to be {wanted}, uint8 (H, W, 3) or Pillow's; got "
                f"{describe(array)}."
            )
        made.append(array)
    return np.stack(made)


def checked_place(k: object, n: int) -> int:
    """Return the place of a picture among n."""
    place = int(k) if isinstance(k, numbers.Integral) and not isinstance(k, bool) else -1
    if not 0 <= place < n:
        raise ArgumentError(f"Expected `k` from 0 to {n - 1}; got {short_repr(k)}.")
    return place

# The pictures that a comparison shows: the user's own, or what the network was given.
from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from captum_infomask.report.rows import PhotoArray
from captum_infomask.results.pictures import checked_pictures


def shown_pictures(pictures: Any, inputs: Tensor) -> PhotoArray:
    """Return uint8 pictures (N, H, W, 3).

    Without the user's own each input is brought to 0..255 by itself: three channels are colours,
    any other number is averaged to grey.
    """
    n, _, height, width = inputs.shape
    if pictures is not None:
        return checked_pictures("pictures", pictures, n, height, width)
    return np.stack([_shown(picture) for picture in inputs.detach()])


def _shown(picture: Tensor) -> PhotoArray:
    """One input (C, H, W) as colours or grey."""
    values = picture.double().cpu()
    if len(values) != 3:
        values = values.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = float(values.min()), float(values.max())
    scaled = 255 * (values - low) / ((high - low) or 1.0)
    made: PhotoArray = scaled.round().byte().permute(1, 2, 0).contiguous().numpy()
    return made

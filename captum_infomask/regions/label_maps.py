# Regions by a map of numbers, as segmentation programs and networks give them.
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.regions.labels import LabelRegions
from captum_infomask.regions.windows import image_shape

_ANY_INTEGERS = "from_feature_mask takes any integers."


def from_label_map(inputs: Tensor, labels: Tensor | npt.NDArray[Any]) -> LabelRegions:
    """Regions from a map that numbers the region of every pixel.

    Every pixel is in one region, over all channels. Where images have maps of their own, an image
    need not have every region.

    Args:
        inputs: Images (N, C, H, W); only the shape and the device are read.
        labels: Integers from 0 to R − 1, none of them missing: (H, W) for all images, or (N, H, W).

    Returns:
        The R regions, in the order of their numbers.

    Raises:
        ArgumentError: ``labels`` are no integers, of another shape, negative, or a number between
            0 and the highest is missing.

    Example:
        >>> import torch
        >>> from captum_infomask import from_label_map
        >>> len(from_label_map(torch.zeros(1, 3, 2, 3), torch.tensor([[0, 0, 1], [2, 2, 1]])))
        3
    """
    _, height, width = image_shape(inputs)
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else labels
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        raise ArgumentError(
            f"Expected `labels` to be a tensor or a numpy array of integers; got "
            f"{describe(labels)}."
        )
    if array.shape not in ((height, width), (len(inputs), height, width)):
        raise ArgumentError(
            f"Expected `labels` of shape {(height, width)} or {(len(inputs), height, width)} for "
            f"inputs {tuple(inputs.shape)}; got {array.shape}."
        )
    found = np.unique(array)
    if found[0] < 0:
        raise ArgumentError(
            f"Expected `labels` of at least 0; the lowest is {found[0]}. {_ANY_INTEGERS}"
        )
    if found[-1] >= len(found):
        missing = int(np.argmax(found != np.arange(len(found))))
        raise ArgumentError(
            f"Expected `labels` to hold every number from 0 to the highest, {found[-1]}; "
            f"{missing} is missing. {_ANY_INTEGERS}"
        )
    maps = torch.from_numpy(array.astype(np.int64).reshape(-1, 1, height, width))
    shape = tuple(inputs.shape[1:])
    return LabelRegions((shape,), (maps.to(inputs.device),), torch.arange(len(found)))

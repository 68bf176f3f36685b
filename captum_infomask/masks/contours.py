# Masks → outlines, to draw over pictures.
from __future__ import annotations

import numpy as np
import numpy.typing as npt

from captum_infomask._types import TensorOrTensors
from captum_infomask.masks.planes import mask_planes


def contours(masks: TensorOrTensors) -> list[list[npt.NDArray[np.float64]]]:
    """Outlines of the connected parts of masks of images, and of their holes.

    They run half a pixel outside what they enclose, corners cut, and are closed, at the picture's
    border too: the first point is the last. Pixels that touch at an edge or a corner are connected;
    a pixel counts if any channel has it.

    Args:
        masks: Boolean (N, C, H, W), a tensor or a 1-tuple of one.

    Returns:
        For each example its outlines, the longest first, each a numpy array (P, 2): x, y in pixels,
        where (0, 0) is the middle of the first pixel, as matplotlib's ``imshow`` has it:
        ``axes.plot(*outline.T)``.

    Raises:
        ArgumentError: ``masks`` is not boolean or has another shape.

    Example:
        >>> import torch
        >>> from captum_infomask.masks import contours
        >>> mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        >>> mask[..., 1, 2] = True
        >>> [[outline]] = contours(mask)
        >>> outline.tolist()
        [[2.0, 1.5], [1.5, 1.0], [2.0, 0.5], [2.5, 1.0], [2.0, 1.5]]

    Source: marching squares, ``skimage.measure.find_contours``.
    """
    from skimage.measure import find_contours

    outlines = []
    for mask in mask_planes(masks):
        # The frame closes outlines that meet the border, and is taken off again.
        framed = np.pad(mask, 1).astype(float)
        found = find_contours(framed, 0.5, fully_connected="high")
        found.sort(key=len, reverse=True)
        outlines.append([points[:, ::-1] - 1 for points in found])
    return outlines

# Turns masks into boxes, contours and COCO's run lengths.
from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import one_of
from captum_infomask._run_length import encode
from captum_infomask._types import TensorOrTensors
from captum_infomask.masks.mask_planes import mask_places, mask_planes


def bounding_boxes(
    masks: TensorOrTensors, *, keep: Literal["largest", "all"] = "largest"
) -> list[Tensor]:
    """Boxes around the connected components of masks of images.

    Pixels that touch at an edge or a corner are connected; a pixel counts if any channel has it.

    Args:
        masks: Boolean (N, C, H, W), signals' (N, C, T) or volumes' (N, C, D, H, W), a tensor or a
            1-tuple of one.
        keep: ``largest`` gives the box of the component with the most pixels. If there are several,
            it is the one that begins furthest up, then furthest left. ``all`` gives the boxes of
            all components, largest first.

    Returns:
        For each example a long tensor (K, 4): x0, y0, x1, y1 in pixels, half-open, on the CPU. For
        signals it is (K, 2): t0, t1; for volumes (K, 6): x0, y0, z0, x1, y1, z1, with z along D.
        Empty masks have K = 0.

    Raises:
        ArgumentError: ``masks`` is not boolean or has another shape; unknown ``keep``.

    Example:
        >>> import torch
        >>> from captum_infomask import bounding_boxes
        >>> mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> mask[..., 2:4, 3:7] = True
        >>> bounding_boxes(mask)
        [tensor([[3, 2, 7, 4]])]

    Source: the largest component's box is that of Zhou et al., CVPR 2016.
    """
    one_of("keep", keep, ("largest", "all"))
    return [torch.from_numpy(component_boxes(plane, keep)).long() for plane in mask_places(masks)]


def component_boxes(mask: npt.NDArray[np.bool_], keep: str) -> npt.NDArray[np.int64]:
    """Boxes (K, 2 · D) around the connected components of one mask of D places, largest first."""
    from scipy.ndimage import find_objects, generate_binary_structure, label

    parts, _ = label(mask, generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(parts.ravel())[1:]  # the first is the background's
    order = np.argsort(-sizes, kind="stable")[: 1 if keep == "largest" else None]
    found = find_objects(parts)
    # The axes of boxes run the other way: x first, which is the last place.
    boxes = [
        [getattr(side, end) for end in ("start", "stop") for side in found[part][::-1]]
        for part in order
    ]
    return np.array(boxes, dtype=np.int64).reshape(-1, 2 * mask.ndim)


def contours(masks: TensorOrTensors) -> list[list[npt.NDArray[np.float64]]]:
    """Outlines of the connected parts of masks of images, and of their holes.

    They run half a pixel outside the enclosed pixels, with cut corners. They are closed, also at
    the picture's border: the first point is the last. Pixels that touch at an edge or a corner are
    connected. A pixel counts if any channel has it.

    Args:
        masks: Boolean (N, C, H, W), a tensor or a 1-tuple of one.

    Returns:
        For each example its outlines, the longest first. Each is a numpy array (P, 2): x, y in
        pixels, where (0, 0) is the centre of the first pixel, as in matplotlib's ``imshow``.
        ``axes.plot(*outline.T)`` draws one.

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
        # The frame closes outlines that meet the border. It is removed again.
        framed = np.pad(mask, 1).astype(float)
        found = find_contours(framed, 0.5, fully_connected="high")
        found.sort(key=len, reverse=True)
        outlines.append([points[:, ::-1] - 1 for points in found])
    return outlines


def masks_to_run_length(masks: TensorOrTensors) -> list[dict[str, Any]]:
    """Masks of images as COCO's compressed run lengths, one per example.

    A pixel counts if any channel has it.

    Args:
        masks: Boolean (N, C, H, W), a tensor or a 1-tuple of one.

    Returns:
        For each example ``{"size": [H, W], "counts": str}``, ready for JSON and for pycocotools.

    Raises:
        ArgumentError: ``masks`` is not boolean or has another shape.

    Example:
        >>> import torch
        >>> from captum_infomask.masks.outlines import masks_to_run_length
        >>> masks_to_run_length(torch.tensor([[[[False, True], [True, True]]]]))
        [{'size': [2, 2], 'counts': '13'}]

    Source: the form of COCO's annotations (Lin et al., ECCV 2014).
    """
    return [encode(torch.from_numpy(plane)) for plane in mask_planes(masks)]

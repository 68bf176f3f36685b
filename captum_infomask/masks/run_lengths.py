# Masks → COCO's run lengths.
from __future__ import annotations

from typing import Any

import torch

from captum_infomask._run_length import encode
from captum_infomask._types import TensorOrTensors
from captum_infomask.masks.planes import mask_planes


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
        >>> from captum_infomask.masks.run_lengths import masks_to_run_length
        >>> masks_to_run_length(torch.tensor([[[[False, True], [True, True]]]]))
        [{'size': [2, 2], 'counts': '13'}]

    Source: the form of COCO's annotations (Lin et al., ECCV 2014).
    """
    return [encode(torch.from_numpy(plane)) for plane in mask_planes(masks)]

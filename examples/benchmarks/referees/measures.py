# How well a map finds the pixels that are right.
from __future__ import annotations

import torch
from torch import Tensor

from captum_infomask.evaluation.ground_truth import average_precision, positive_share

LOCALISATION = {
    "ap": "average precision",
    "mass": "mass",
    "pointing": "pointing",
    "iou": "best IoU",
}


def localisation(plane: Tensor, truth: Tensor) -> dict[str, float]:
    """Four numbers of one map (H, W), from 0 to 1, the more the better."""
    plane = plane.detach().double()
    largest = plane == plane.max()
    return {
        "ap": float(average_precision(plane[None], truth[None])),
        "mass": float(positive_share(plane[None], truth[None])),
        "pointing": truth[largest].double().mean().item(),
        "iou": best_iou(plane, truth),
    }


def best_iou(plane: Tensor, truth: Tensor) -> float:
    """Intersection over union of the map's mask at its best threshold.

    Pixels of equal value are in the mask together, or not at all.
    """
    values, order = plane.flatten().sort(descending=True)
    inside = truth.flatten()[order].cumsum(0)
    kept = torch.arange(1, len(values) + 1)
    last_of_equals = torch.cat([values[1:] < values[:-1], torch.tensor([True])])
    overlap = inside / (kept + truth.sum() - inside)
    return overlap[last_of_equals].max().item()

# Regions from the tensors that `Regions.state` gave.
from __future__ import annotations

from torch import Tensor

from captum_infomask.regions.base import Regions
from captum_infomask.regions.boxes import BoxRegions
from captum_infomask.regions.labels import LabelRegions


def restore(state: dict[str, Tensor]) -> Regions:
    """Make the regions again whose ``state`` this is."""
    count = sum(name.startswith("shape.") for name in state)
    shapes = tuple(tuple(state[f"shape.{k}"].tolist()) for k in range(count))
    if "names" in state:
        return LabelRegions(
            shapes, tuple(state[f"labels.{k}"] for k in range(count)), state["names"]
        )
    return BoxRegions(shapes, tuple(state[f"boxes.{k}"] for k in range(count)))

# Regions from the tensors that `Regions.state` gave.
from __future__ import annotations

from torch import Tensor

from captum_infomask.regions.base import Regions
from captum_infomask.regions.boxes import BoxRegions
from captum_infomask.regions.labels import LabelRegions
from captum_infomask.regions.mask_regions import MaskRegions
from captum_infomask.regions.scales import Scales


def restore(state: dict[str, Tensor]) -> Regions:
    """Make the regions again whose ``state`` this is."""
    if any(name.startswith("scale.") for name in state):
        return Scales(tuple(map(restore, _by_scale(state))))
    count = sum(name.startswith("shape.") for name in state)
    shapes = tuple(tuple(state[f"shape.{k}"].tolist()) for k in range(count))
    if "names" in state:
        return LabelRegions(
            shapes, tuple(state[f"labels.{k}"] for k in range(count)), state["names"]
        )
    if "pixels" in state:
        return MaskRegions(shapes, state["pixels"])
    return BoxRegions(shapes, tuple(state[f"boxes.{k}"] for k in range(count)))


def _by_scale(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The states of the scales, in order."""
    parts: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        _, scale, own = name.split(".", 2)
        parts.setdefault(int(scale), {})[own] = tensor
    return [parts[scale] for scale in sorted(parts)]

# What an InfoMap says of one picture's regions, in the report's plain arrays.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum_infomask._errors import ArgumentError
from captum_infomask.masks import MaxFraction
from captum_infomask.regions.label_regions import LabelRegions
from captum_infomask.regions.map_cells import MapCells
from captum_infomask.regions.scales import Scales
from captum_infomask.report.content import RegionScores
from captum_infomask.report.rows import FloatArray, as_shown, density

if TYPE_CHECKING:
    from captum_infomask.results.info_map import InfoMap


def region_scores(infomap: InfoMap, k: int) -> RegionScores | None:
    """Picture k's regions and scores; None where regions are neither boxes nor one label a pixel.

    Several scales are means over regions of different kinds, none of which a pixel shows alone, and
    what cells of a feature map say is spread over the pixels.
    """
    if isinstance(infomap.regions, Scales | MapCells):
        return None
    scores = infomap.scores[k].detach().double().cpu().numpy()
    rectangles = infomap.regions.rectangles()
    if rectangles is not None:
        boxes = rectangles[k if len(rectangles) > 1 else 0].cpu().numpy().astype(np.int64)
        return RegionScores(scores, boxes=boxes)
    labels = infomap.regions.labels[0] if isinstance(infomap.regions, LabelRegions) else None
    if labels is None or labels.dim() != 4 or bool((labels != labels[:, :1]).any()):
        return None
    own = labels[k if len(labels) > 1 else 0, 0].expand(infomap.regions.shapes[0][1:])
    return RegionScores(scores, labels=own.cpu().numpy().astype(np.int64))


def attributions_unit(infomap: InfoMap) -> str:
    """What attributions are counted in: of cells of feature maps they are a density."""
    return density(infomap.unit) if _is_density(infomap) else infomap.unit


def suited_rule(infomap: InfoMap) -> MaxFraction:
    """The paper's rule, 20% of the maximum; of a density half of it (docs/masks.md)."""
    return MaxFraction(0.5 if _is_density(infomap) else 0.2)


def _is_density(infomap: InfoMap) -> bool:
    regions = infomap.regions
    return isinstance(regions.parts[0] if isinstance(regions, Scales) else regions, MapCells)


def plane_of(infomap: InfoMap, k: int) -> tuple[FloatArray, str]:
    """Picture k's attributions as they are shown, (H, W), the mean over channels, and their unit.

    Raises:
        ArgumentError: The inputs were no pictures.
    """
    attributions = infomap.attributions()
    tensor = attributions[0] if infomap.is_tuple else attributions
    if len(infomap.regions.shapes) != 1 or tensor.dim() != 4:
        raise ArgumentError(
            f"Expected an InfoMap of pictures (C, H, W) to show; got one of "
            f"{', '.join(map(str, infomap.regions.shapes))}."
        )
    plane: FloatArray = tensor[k].detach().mean(0).float().cpu().numpy()
    return as_shown(plane, attributions_unit(infomap))

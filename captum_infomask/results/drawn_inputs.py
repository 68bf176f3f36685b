# Draw a map of a picture and tables: which input is which, and what each says in words.
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Shape
from captum_infomask.masks import FalseDiscoveries
from captum_infomask.regions.per_input import inputs_of
from captum_infomask.report.beside_tables import Bars, beside_tables
from captum_infomask.report.page_content import FloatArray
from captum_infomask.report.words import decimals
from captum_infomask.results.drawing import Drawing
from captum_infomask.results.shown_inputs import photo_for

if TYPE_CHECKING:
    from captum_infomask.results.info_map import InfoMap


def has_tables(shapes: Sequence[Shape]) -> bool:
    """Whether inputs are one picture (C, H, W), and tables (F,) beside it."""
    dims = sorted(len(shape) for shape in shapes)
    return len(dims) > 1 and dims[-1] == 3 and set(dims[:-1]) == {1}


def check_no_features(features: object) -> None:
    """Refuse names of columns for a map without tables."""
    if features is not None:
        raise ArgumentError(
            f"Expected no `features`, the names of the columns of tables beside a picture, for a "
            f"map of other inputs; got {describe(features)}."
        )


def by_input(infomap: InfoMap) -> Tensor:
    """Return the sum of the scores of each input's regions, (N, K).

    Raises:
        ArgumentError: The scores do not add up, or a region lies in several inputs.
    """
    if infomap.view != "chain":
        raise ArgumentError(
            f"Expected view='chain', whose scores add up over regions; got {infomap.view!r}."
        )
    n, count = len(infomap.scores), len(infomap.regions.shapes)
    inputs = torch.stack([inputs_of(infomap.regions, image) for image in range(n)])
    is_there = infomap.regions.present(n)
    if bool((inputs[is_there] < 0).any()):
        raise ArgumentError(
            "Expected regions of one input each, to add up those of every input; got regions that "
            "lie in several."
        )
    own = torch.where(infomap.scores.isnan(), 0, infomap.scores)
    sums = own.new_zeros(n, count)
    return sums.scatter_add_(1, inputs.clamp_min(0).to(own.device), own)


def drawn_inputs(
    infomap: InfoMap,
    drawing: Drawing,
    picture: Any,
    features: Sequence[str] | None,
    k: int,
    heads: tuple[str, str],
) -> tuple[Figure, Axes]:
    """Draw example k's map of the picture, and the bars of all columns of the tables.

    Args:
        infomap: The map.
        drawing: The settings; ``ax`` is None.
        picture: The picture, as for :func:`show`.
        features: The names of the tables' columns, one table after another.
        k: The number of the example.
        heads: The title and the line below it.

    Raises:
        ArgumentError: The names are not one for each column, or a setting is for a single panel.
    """
    if drawing.ax is not None or isinstance(drawing.contour, FalseDiscoveries):
        raise ArgumentError(
            "Expected no `ax`, and no FalseDiscoveries as `contour`, for a map of several inputs, "
            "which is drawn in panels of its own."
        )
    shapes = infomap.regions.shapes
    place = next(one for one, shape in enumerate(shapes) if len(shape) == 3)
    tables = [one for one in range(len(shapes)) if one != place]
    names = _names(features, [shapes[one][0] for one in tables], tables)
    painted = infomap.painted()
    plane: FloatArray = infomap.attributions()[place][k].detach().mean(0).float().cpu().numpy()
    bars = Bars(names, _joined(painted, tables, k), _errors(infomap, tables, k))
    photo = photo_for("picture", picture, plane)
    both = np.concatenate([plane.ravel(), bars.values])[None]
    return beside_tables(
        plane,
        infomap.unit,
        photo,
        bars,
        drawing.shades(both, is_bare=photo is None),
        heads=drawing.heads(heads),
        panels=_panels(infomap, place, k),
        smooth=drawing.smooth,
        contour=drawing.rule(plane, infomap.unit),
    )


def _joined(painted: Sequence[Tensor], tables: Sequence[int], k: int) -> FloatArray:
    joined: FloatArray = torch.cat([painted[one][k] for one in tables]).float().cpu().numpy()
    return joined


def _errors(infomap: InfoMap, tables: Sequence[int], k: int) -> FloatArray | None:
    """Half the widths of the 95% intervals of the columns' values, if they are known."""
    if infomap.standard_errors is None or infomap.n_samples is None:
        return None
    _, high = infomap.interval()
    widths = torch.nan_to_num(high - infomap.scores)
    return _joined(infomap.regions.paint(widths, "max", 1.0), tables, k)


def _panels(infomap: InfoMap, place: int, k: int) -> tuple[str, str]:
    """Say what stands above the picture and the bars: their sums, if scores add up."""
    words = "picture", "table" if len(infomap.regions.shapes) == 2 else "tables"
    if infomap.view != "chain":
        return words
    sums = by_input(infomap)[k]
    own = float(sums[place]), float(sums.sum() - sums[place])
    first, second = (
        f"{name}: {decimals(value)} {infomap.unit}" for name, value in zip(words, own, strict=True)
    )
    return first, second


def _names(
    features: Sequence[str] | None, widths: Sequence[int], tables: Sequence[int]
) -> tuple[str, ...]:
    """Return the names of all columns; by their numbers if none are given."""
    if features is None:
        which = [f"input {one}, " if len(tables) > 1 else "" for one in tables]
        return tuple(
            f"{words}column {column}"
            for words, width in zip(which, widths, strict=True)
            for column in range(width)
        )
    count = sum(widths)
    given = list(features) if not isinstance(features, str) else []
    if len(given) != count or not all(isinstance(name, str) for name in given):
        raise ArgumentError(
            f"Expected `features` to hold {count} names, one for each column of the inputs that "
            f"are no picture; got {describe(features)}."
        )
    return tuple(given)

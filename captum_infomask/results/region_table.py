# The regions' scores as a table for pandas: a row per picture and region.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import describe, plain
from captum_infomask._errors import ArgumentError, with_extra
from captum_infomask.regions.mask_regions import spans_of
from captum_infomask.regions.per_input import inputs_of
from captum_infomask.regions.region_protocol import Regions, box_columns, over_all_channels
from captum_infomask.regions.scales import Scales

_COLUMNS = {
    "blank": "blank",
    "lower": "lower",
    "upper": "upper",
    "spread": "spread",
    "standard_errors": "standard_error",
}
_GROUP = 16  # masks that are looked at together


def frame(columns: Mapping[str, Any]) -> Any:
    """Return a DataFrame of these columns, each a list or an array.

    Whole numbers have pandas' type with NA, ``Int64``.

    Raises:
        ModuleNotFoundError: pandas is not installed; the message has the command.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise with_extra(error) from None

    def column(values: Any) -> Any:
        known = [value for value in values if value is not None]
        is_whole = all(
            isinstance(value, int | np.integer) and not isinstance(value, bool) for value in known
        )
        return pd.array(values, dtype="Int64") if is_whole else values

    return pd.DataFrame({name: column(values) for name, values in columns.items()})


def chosen_rows(images: object, n: int) -> Tensor:
    """Return the numbers of the images that an index or a slice means, long (k,).

    Raises:
        IndexError: There is no such image.
        ArgumentError: It is no integer and no slice, or a slice without images.
    """
    if isinstance(images, slice):
        rows = list(range(n)[images])
        if not rows:
            raise ArgumentError(
                f"Expected a slice with at least one of the {n} images; got {images}."
            )
        return torch.tensor(rows)
    number = plain(images)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ArgumentError(
            f"Expected an image's number or a slice, as in infomap[0]; got {describe(images)}."
        )
    if not -n <= number < n:
        raise IndexError(f"Expected an image from 0 to {n - 1}; got {number}.")
    return torch.tensor([number % n])


def column_of(infomap: Any) -> dict[str, Any]:
    """Return what an InfoMap says of one class: per-region tensors (N, R), and each image's class.

    Args:
        infomap: The InfoMap of one class.
    """
    about = "class" if infomap.value is None else "output"
    found: dict[str, Any] = {about: infomap.targets, "label": infomap.labels}
    found["value"] = infomap.value
    found["contrast"] = None if infomap.contrast is None else infomap.contrast[:, 1]
    found[infomap.unit] = infomap.scores
    return found | {shown: getattr(infomap, name) for name, shown in _COLUMNS.items()}


def region_table(regions: Regions, n: int, classes: Sequence[Mapping[str, Any]]) -> Any:
    """Return a DataFrame with a row per image, region and class.

    Args:
        regions: The R regions.
        n: The number of images.
        classes: For each class, its ``column_of``.
    """
    pictures, which = (rows.numpy() for rows in regions.present(n).nonzero().unbind(1))
    count = len(classes)
    columns: dict[str, Any] = {"picture": pictures.repeat(count), "region": which.repeat(count)}
    if isinstance(regions, Scales):
        ends = np.cumsum(regions.counts)
        columns["scale"] = np.searchsorted(ends, which, side="right").repeat(count)
    if len(regions.shapes) > 1:
        inputs = torch.stack([inputs_of(regions, image) for image in range(n)])
        columns["input"] = inputs.numpy()[pictures, which].repeat(count)
        columns["place"] = np.array([regions.describe(one) for one in which]).repeat(count)
    boxes = region_boxes(regions, torch.from_numpy(pictures), torch.from_numpy(which))
    for name, values in zip(table_columns(regions), boxes, strict=True):
        columns[name] = values.repeat(count)
    for name in classes[0]:
        parts = [_values(one[name], pictures, which) for one in classes]
        if name == "class" or any(part is not None for part in parts):
            columns[name] = _interleaved(parts, len(pictures))
    return frame(columns)


def _values(own: Any, pictures: npt.NDArray[Any], which: npt.NDArray[Any]) -> Any:
    """Return the value of each row: a region's, or its picture's."""
    if own is None:
        return None
    values = own.detach().cpu().numpy() if isinstance(own, Tensor) else np.array(own, dtype=object)
    return values[pictures, which] if values.ndim == 2 else values[pictures]


def _interleaved(parts: Sequence[Any], rows: int) -> npt.NDArray[Any]:
    """Return the classes' values, row by row."""
    known = [np.full(rows, None) if part is None else part for part in parts]
    return np.stack(known, axis=1).reshape(-1)


def region_boxes(regions: Regions, pictures: Tensor, which: Tensor) -> npt.NDArray[Any]:
    """Return x0, y0, x1, y1 of each row, (4, rows), or the numbers of ``table_columns``.

    They are None for inputs without places.
    """
    if over_all_channels(regions.shapes) is None:
        return np.full((4, len(which)), None)
    rectangles = regions.rectangles()
    if rectangles is not None:
        own = rectangles[pictures if len(rectangles) > 1 else 0, which]
        ends = [part.flip(1) for part in own.chunk(2, dim=1)]
        return torch.cat(ends, dim=1).T.cpu().numpy()
    found = []
    for images, some in zip(pictures.split(_GROUP), which.split(_GROUP), strict=True):
        (mask,) = regions.masks(images, some, torch.device("cpu"))
        assert mask is not None, "every region that a picture has holds a pixel"
        first, last = spans_of(mask.any(1).expand(-1, *regions.shapes[0][1:]))
        found.append(torch.cat([first.flip(1), last.flip(1)], dim=1))
    boxes: npt.NDArray[Any] = torch.cat(found).T.numpy()
    return boxes


def table_columns(regions: Regions) -> list[str]:
    """Return the names of a box's numbers: of images x0, y0, x1, y1."""
    return box_columns(len(over_all_channels(regions.shapes) or "xy"))

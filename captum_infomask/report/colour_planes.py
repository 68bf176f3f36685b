# Planes of attributions: their cells of equal value, the limits of their colours, their masks.
from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from captum_infomask._errors import ArgumentError
from captum_infomask.report.page_content import (
    BoolArray,
    FloatArray,
    MapContent,
    PageContent,
    PictureContent,
)

Starts = npt.NDArray[np.int64]

ARBITRARY = "a.u."  # no unit: the values of two such maps cannot be compared

PER_BIT = {"bits": 1.0, "nats": math.log(2)}  # units that count information

Threshold = tuple[Literal["max_fraction", "at_least"], float]
SHARE = 0.2  # of the maximum: it cuts maps where bits say nothing


def split_plane(plane: FloatArray) -> tuple[Starts, Starts, FloatArray]:
    """Cut a plane along the rows and columns at which anything changes.

    Maps of windows are constant between the edges of windows, so they become few cells. If a plane
    changes everywhere, every pixel is a cell. Bits are compared, so the plane comes back exact to
    the bit.

    Args:
        plane: (H, W), float32.

    Returns:
        The first rows of the A rows of cells and the first columns of the B columns, from 0, and
        the cells' values, (A, B).

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colour_planes import split_plane
        >>> rows, columns, values = split_plane(np.eye(2, dtype=np.float32).repeat(4, axis=1))
        >>> rows.tolist(), columns.tolist(), values.tolist()
        ([0, 1], [0, 4], [[1.0, 0.0], [0.0, 1.0]])
    """
    rows, columns = cell_starts(plane)
    return rows, columns, np.ascontiguousarray(plane, np.float32)[rows][:, columns]


def cell_starts(values: FloatArray) -> tuple[Starts, ...]:
    """Return, for each axis, 0 and the places at which any value differs from the one before.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colour_planes import cell_starts
        >>> [starts.tolist() for starts in cell_starts(np.eye(2).repeat(4, axis=1)[None])]
        [[0], [0, 1], [0, 4]]
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    starts = []
    for axis in range(bits.ndim):
        along = np.moveaxis(bits, axis, 0)
        others = tuple(range(1, bits.ndim))
        changes = np.flatnonzero((along[1:] != along[:-1]).any(others)) + 1
        starts.append(np.concatenate([[0], changes]))
    return tuple(starts)


def run_lengths(plane: npt.NDArray[Any]) -> dict[str, list[int]]:
    """Return the value and the length of each run of equal pixels, row by row.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colour_planes import run_lengths
        >>> run_lengths(np.array([[False, True], [True, True]]))
        {'values': [0, 1], 'lengths': [1, 3]}
    """
    flat = np.asarray(plane, dtype=np.int64).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return {"values": flat[starts].tolist(), "lengths": lengths.tolist()}


def colour_limits(content: PageContent) -> list[list[float]]:
    """Return the magnitude of full colour of every map on a scale that it shares, by picture.

    All maps of one unit share it, over all pictures and classes, so one colour is one value. A map
    in arbitrary units has a limit of its own.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.page_content import MapContent, PageContent, PictureContent
        >>> from captum_infomask.report.colour_planes import colour_limits
        >>> maps = [MapContent("a", "bits", np.full((1, 1), v, np.float32)) for v in (2, -3)]
        >>> colour_limits(PageContent("", (PictureContent(None, "", (), tuple(maps)),)))
        [[3.0, 3.0]]
    """
    shared: dict[str, float] = {}
    for picture in content.pictures:
        for made in picture.maps:
            shared[made.unit] = max(shared.get(made.unit, 0.0), *_magnitudes(made))
    return [
        [
            own_limit(made.plane) if made.unit == ARBITRARY else shared[made.unit] or 1.0
            for made in picture.maps
        ]
        for picture in content.pictures
    ]


def joint_limits(content: PageContent) -> list[list[float]]:
    """Return ``colour_limits``, with one scale for bits and nats, which count the same.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colour_planes import joint_limits
        >>> from captum_infomask.report.page_content import MapContent, PageContent, PictureContent
        >>> bits = MapContent("a", "bits", np.full((1, 1), 2, np.float32))
        >>> nats = MapContent("b", "nats", np.full((1, 1), 1, np.float32))
        >>> (limits,) = joint_limits(PageContent("", (PictureContent(None, "", (), (bits, nats)),)))
        >>> [round(limit, 2) for limit in limits]
        [2.0, 1.39]
    """
    limits = colour_limits(content)
    units = [[made.unit for made in picture.maps] for picture in content.pictures]
    found = [
        limit / PER_BIT[unit]
        for line, named in zip(limits, units, strict=True)
        for limit, unit in zip(line, named, strict=True)
        if unit in PER_BIT
    ]
    return [
        [
            max(found) * PER_BIT[unit] if unit in PER_BIT else limit
            for limit, unit in zip(line, named, strict=True)
        ]
        for line, named in zip(limits, units, strict=True)
    ]


def own_limit(plane: FloatArray | None) -> float:
    """Return the magnitude of full colour of a map on a scale of its own: its largest magnitude.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colour_planes import own_limit
        >>> own_limit(np.array([[1.0, -3.0, np.inf]], np.float32)), own_limit(None)
        (3.0, 1.0)
    """
    return _magnitude(plane) or 1.0


def _magnitudes(made: MapContent) -> list[float]:
    return [_magnitude(plane) for plane in (made.plane, *(each.plane for each in made.classes))]


def picture_size(picture: PictureContent) -> tuple[int, ...]:
    """Return the height and width of a picture and all its maps; (0, 0) if there are none.

    A volume's are depth, height and width.
    """
    named = {f"the plane of {made.name!r}": made.plane for made in picture.maps}
    known = {name: plane.shape for name, plane in named.items() if plane is not None}
    if picture.truth is not None:
        known["truth"] = picture.truth.shape
    # Pixels may have colours beyond their places.
    dims = max(map(len, known.values()), default=2)
    pixels = {} if picture.pixels is None else {"pixels": picture.pixels.shape[:dims]}
    shapes = list((pixels | known).items())
    if not shapes:
        return 0, 0
    for name, shape in shapes:
        if shape != shapes[0][1]:
            raise ArgumentError(
                f"Expected a picture and its maps to have one size; got {shapes[0][0]} of "
                f"{shapes[0][1]} and {name} of {shape}."
            )
    return shapes[0][1]


def unit_threshold(threshold: Threshold, unit: str) -> Threshold:
    """Return what a page's threshold asks of maps in a unit: "at least so much" is of bits.

    Nats are converted. Other units have no bits to count, and a density has them only over an area:
    such maps are cut at 20% of their maximum.

    Example:
        >>> from captum_infomask.report.colour_planes import unit_threshold
        >>> [unit_threshold(("at_least", 2.0), unit) for unit in ("bits", "a.u.")]
        [('at_least', 2.0), ('max_fraction', 0.2)]
    """
    rule, value = threshold
    if rule == "max_fraction":
        return threshold
    return (rule, value * PER_BIT[unit]) if unit in PER_BIT else ("max_fraction", SHARE)


def plane_mask(plane: FloatArray, threshold: Threshold) -> BoolArray:
    """Return the pixels that a threshold keeps: ``masks.threshold_mask``, for plain arrays.

    Args:
        plane: (H, W), float32.
        threshold: As in ``PageContent``.

    Returns:
        (H, W), boolean.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colour_planes import plane_mask
        >>> plane_mask(np.array([[-1.0, 0.1, 1.0]], np.float32), ("max_fraction", 0.2))
        array([[False, False,  True]])
    """
    rule, value = threshold
    smallest = value * largest_value(plane) if rule == "max_fraction" else value
    # A tensor's float32 values are compared with the threshold as float32. These are too.
    kept: BoolArray = (plane >= np.float32(smallest)) & (plane > 0)
    return kept


def largest_value(plane: FloatArray) -> float:
    """Return the largest value, without NaN; −∞ if there is none."""
    return float(np.max(plane, where=~np.isnan(plane), initial=-np.inf))


def _magnitude(plane: FloatArray | None) -> float:
    """Return the largest finite magnitude, 0 if there is none."""
    finite = plane[np.isfinite(plane)] if plane is not None else np.empty(0)
    return float(np.abs(finite).max()) if finite.size else 0.0

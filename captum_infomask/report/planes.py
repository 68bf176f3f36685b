# Planes of attributions: the cells they are constant in, their colours' limits, their masks.
from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from captum_infomask._checks import ArgumentError
from captum_infomask.report.content import PageContent, PictureContent
from captum_infomask.report.rows import BoolArray, FloatArray

Starts = npt.NDArray[np.int64]

ARBITRARY = "a.u."  # no unit: the values of two such maps have nothing in common


def split_plane(plane: FloatArray) -> tuple[Starts, Starts, FloatArray]:
    """Cut a plane along the rows and columns at which anything changes.

    What windows paint is constant between their edges, and so becomes few cells; of a plane that
    changes everywhere, every pixel is a cell. Bits are compared, so that the plane comes back
    to the bit.

    Args:
        plane: (H, W), float32.

    Returns:
        Where the A rows and B columns of cells start, from 0, and the cells' values, (A, B).

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.planes import split_plane
        >>> rows, columns, values = split_plane(np.eye(2, dtype=np.float32).repeat(4, axis=1))
        >>> rows.tolist(), columns.tolist(), values.tolist()
        ([0, 1], [0, 4], [[1.0, 0.0], [0.0, 1.0]])
    """
    bits = np.ascontiguousarray(plane, dtype=np.float32).view(np.uint32)
    rows = np.flatnonzero((bits[1:] != bits[:-1]).any(1)) + 1
    columns = np.flatnonzero((bits[:, 1:] != bits[:, :-1]).any(0)) + 1
    rows, columns = np.concatenate([[0], rows]), np.concatenate([[0], columns])
    return rows, columns, bits[rows][:, columns].view(np.float32)


def run_lengths(plane: npt.NDArray[Any]) -> dict[str, list[int]]:
    """Row by row, each run's value and how many pixels it lasts.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.planes import run_lengths
        >>> run_lengths(np.array([[False, True], [True, True]]))
        {'values': [0, 1], 'lengths': [1, 3]}
    """
    flat = np.asarray(plane, dtype=np.int64).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return {"values": flat[starts].tolist(), "lengths": lengths.tolist()}


def colour_limits(content: PageContent) -> list[list[float]]:
    """The magnitude of full colour of every map, by picture.

    All maps of one unit share it, over all pictures, so that one colour is one value; a map in
    arbitrary units has one of its own.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.content import MapContent, PageContent, PictureContent
        >>> from captum_infomask.report.planes import colour_limits
        >>> maps = [MapContent("a", "bits", np.full((1, 1), v, np.float32)) for v in (2, -3)]
        >>> colour_limits(PageContent("", (PictureContent(None, "", (), tuple(maps)),)))
        [[3.0, 3.0]]
    """
    shared: dict[str, float] = {}
    for picture in content.pictures:
        for made in picture.maps:
            shared[made.unit] = max(shared.get(made.unit, 0.0), _magnitude(made.plane))
    return [
        [
            (_magnitude(made.plane) if made.unit == ARBITRARY else shared[made.unit]) or 1.0
            for made in picture.maps
        ]
        for picture in content.pictures
    ]


def picture_size(picture: PictureContent) -> tuple[int, int]:
    """Height and width that a picture and all its maps have; (0, 0) where there are none."""
    shapes = [
        (name, part.shape[:2])
        for name, part in (
            ("pixels", picture.pixels),
            ("truth", picture.truth),
            *((f"the plane of {made.name!r}", made.plane) for made in picture.maps),
        )
        if part is not None
    ]
    if not shapes:
        return 0, 0
    for name, shape in shapes:
        if shape != shapes[0][1]:
            raise ArgumentError(
                f"Expected a picture and its maps to have one size; got {shapes[0][0]} of "
                f"{shapes[0][1]} and {name} of {shape}."
            )
    height, width = shapes[0][1]
    return height, width


def plane_mask(
    plane: FloatArray, threshold: tuple[Literal["max_fraction", "at_least"], float]
) -> BoolArray:
    """What a threshold keeps of a plane: ``masks.threshold_mask``, for plain arrays.

    Args:
        plane: (H, W), float32.
        threshold: As in ``PageContent``.

    Returns:
        (H, W), boolean.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.planes import plane_mask
        >>> plane_mask(np.array([[-1.0, 0.1, 1.0]], np.float32), ("max_fraction", 0.2))
        array([[False, False,  True]])
    """
    rule, value = threshold
    smallest = value * largest_value(plane) if rule == "max_fraction" else value
    # A tensor's float32 values are compared with the threshold as float32; so are these.
    kept: BoolArray = (plane >= np.float32(smallest)) & (plane > 0)
    return kept


def largest_value(plane: FloatArray) -> float:
    """The largest value, NaN aside; −∞ where there is none."""
    return float(np.max(plane, where=~np.isnan(plane), initial=-np.inf))


def _magnitude(plane: FloatArray | None) -> float:
    """The largest finite magnitude, 0 where there is none."""
    finite = plane[np.isfinite(plane)] if plane is not None else np.empty(0)
    return float(np.abs(finite).max()) if finite.size else 0.0

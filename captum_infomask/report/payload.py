# A page's content as JSON: pictures are data URIs, and planes are packed.
from __future__ import annotations

import json
import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from captum_infomask.report.colour_planes import (
    PER_BIT,
    joint_limits,
    largest_value,
    picture_size,
    run_lengths,
    split_plane,
)
from captum_infomask.report.colours import OPACITY, base64_text, colour_tables, picture_uri
from captum_infomask.report.page_content import (
    ClassContent,
    FloatArray,
    MapContent,
    PageContent,
    PictureContent,
    RegionScores,
    TableRow,
)
from captum_infomask.report.smoothing import peak_of, smoothed_note, window_steps


def page_payload(content: PageContent) -> dict[str, Any]:
    """Return all that the viewer needs, in types that JSON has.

    Args:
        content: The content of the page.

    Returns:
        Nested dicts, lists, strings, numbers and None; no NaN.

    Raises:
        ArgumentError: A picture and its maps differ in size.

    Example:
        >>> from captum_infomask.report.page_content import PageContent, PictureContent
        >>> from captum_infomask.report.payload import page_payload
        >>> picture = PictureContent(None, "espresso", (), ())
        >>> page_payload(PageContent("espresso", (picture,)))["pictures"][0]["title"]
        'espresso'
    """
    limits = joint_limits(content)
    pictures = [_picture(picture, limits[place]) for place, picture in enumerate(content.pictures)]
    is_rounded = any(
        made["plane"] is not None and made["plane"]["step"] is not None
        for picture in pictures
        for made in picture["maps"]
    )
    planes = [made.plane for picture in content.pictures for made in picture.maps]
    return {
        "title": content.title,
        "pictures": pictures,
        "threshold": list(content.threshold),
        "largest": _most_bits(content),
        "colours": colour_tables(),
        "opacity": OPACITY,
        "columns": [
            {"name": c.name, "better": c.better, "note": c.note, "digits": c.digits}
            for c in content.columns
        ],
        "rows": [_row(row) for row in content.rows],
        "reference": content.reference,
        "agreement": [
            {
                "title": square.title,
                "names": list(square.names),
                "values": [[json_number(value) for value in line] for line in square.values],
            }
            for square in content.agreement
        ],
        "notes": [*content.notes, *filter(None, [smoothed_note(planes)]), *[_ROUNDED] * is_rounded],
        "call": content.call,
        "provenance": [list(pair) for pair in content.provenance],
    }


def _most_bits(content: PageContent) -> float:
    """Return the largest value of all maps that count information, in bits; 0 if there is none."""
    found = [
        largest_value(plane) / PER_BIT[made.unit]
        for picture in content.pictures
        for made in picture.maps
        if made.unit in PER_BIT
        for plane in (made.plane, *(each.plane for each in made.classes))
        if plane is not None
    ]
    return max((value for value in found if math.isfinite(value)), default=0.0)


def script_json(payload: dict[str, Any]) -> str:
    r"""Return a payload as JSON that is safe inside an HTML ``<script>``.

    No ``<``, ``>`` or ``&`` is left, so nothing in it can end the script or start a comment. All
    other characters beyond ASCII are escaped too, including U+2028.

    Example:
        >>> from captum_infomask.report.payload import script_json
        >>> script_json({"label": "</script>"})
        '{"label":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _picture(picture: PictureContent, limits: list[float]) -> dict[str, Any]:
    *depth, height, width = picture_size(picture)
    return {
        "title": picture.title,
        "group": picture.group,
        "source": picture.source,
        "height": height,
        "width": width,
        "volume": _volume(picture) if depth else None,
        "photo": None if picture.pixels is None or depth else picture_uri(picture.pixels),
        "facts": [list(fact) for fact in picture.facts],
        "truth": None if picture.truth is None else run_lengths(picture.truth),
        "maps": [_map(made, limit) for made, limit in zip(picture.maps, limits, strict=True)],
    }


def _volume(picture: PictureContent) -> dict[str, Any]:
    """Return what a volume has beyond a picture: depth, grey values or colours, and the peak.

    The values are in the order of the volume, and packed like those of planes.
    """
    depth, height, width = picture_size(picture)
    values, pixels = picture.maps[0].plane, picture.pixels
    assert values is not None, "a volume has a map"
    return {
        "depth": depth,
        "isVideo": picture.is_video,
        "peak": list(peak_of(values)),
        "channels": 0 if pixels is None else pixels.size // (depth * height * width),
        "values": None if pixels is None else base64_text(_deflated(pixels)),
    }


def _map(made: MapContent, limit: float) -> dict[str, Any]:
    return {
        "name": made.name,
        "unit": made.unit,
        "meaning": made.meaning,
        "error": made.error,
        "limit": limit,
        "plane": None if made.plane is None else packed_plane(made.plane),
        "steps": None if made.plane is None else list(window_steps(made.plane)),
        "regions": None if made.regions is None else _regions(made.regions),
        "curves": {name: [json_number(v) for v in curve] for name, curve in made.curves.items()},
        "classes": [_class(each, is_first=k == 0) for k, each in enumerate(made.classes)],
        "contrasts": made.contrasts,
    }


def _class(each: ClassContent, *, is_first: bool) -> dict[str, Any]:
    """Return a class's numbers; the first one's plane is the map's own."""
    return {
        "name": each.name,
        "total": json_number(each.total),
        "plane": None if is_first else packed_plane(each.plane),
        "scores": None if each.scores is None else [json_number(score) for score in each.scores],
        **_errors(each.errors),
    }


EXACT_UP_TO = 32_000  # bytes of a packed plane; all that windows and superpixels paint takes less
STEPS = 32_767  # steps from 0 to the largest magnitude of a plane that is rounded
_ROUNDED = (
    f"Maps that differ at every pixel are kept in steps of 1/{STEPS:,} of their largest magnitude, "
    "so a pixel within half a step of the threshold may fall on its other side. The tables are of "
    "the exact maps."
)


def packed_plane(plane: FloatArray) -> dict[str, Any]:
    """Return a plane in few bytes: exact to the bit, or rounded if it is large.

    A volume's slices are packed as one plane, each below the one before it.

    Maps of windows and superpixels have few cells or few values, and stay exact. A larger plane
    of finite values is rounded to 32,767 steps either side of 0. The error is at most half a step;
    0 stays 0, and the largest magnitude stays as it is.

    Args:
        plane: (H, W), float32, or a volume (D, H, W).

    Returns:
        The starts of the cells' ``rows`` and ``columns``; ``step``, None if the values are exact;
        and their ``values``: float32 to the bit, or int16 numbers of steps. As unsigned numbers,
        each is counted from the one before it. Their lowest bytes come first, then the next higher
        ones; all is deflated, in base64.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.payload import packed_plane
        >>> packed_plane(np.eye(2, dtype=np.float32).repeat(4, axis=1))["columns"]
        [0, 4]
        >>> noise = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
        >>> packed_plane(noise)["step"] == float(np.abs(noise).max()) / 32_767
        True
    """
    rows, columns, values = split_plane(plane.reshape(-1, plane.shape[-1]))
    starts = {"rows": rows.tolist(), "columns": columns.tolist()}
    exact = _deflated(np.ascontiguousarray(values).view(np.uint32))
    if len(exact) <= EXACT_UP_TO or not np.isfinite(values).all():
        return {**starts, "step": None, "values": base64_text(exact)}
    step = float(np.abs(values).max()) / STEPS
    rounded = np.round(values / np.float64(step)).astype(np.int16)
    return {**starts, "step": step, "values": base64_text(_deflated(rounded.view(np.uint16)))}


def _deflated(numbers: npt.NDArray[Any]) -> bytes:
    """Pack unsigned numbers: the steps from one to the next, byte by byte, are easy to deflate."""
    flat = numbers.ravel()
    steps = np.diff(flat, prepend=flat[:1] * 0).astype(flat.dtype.newbyteorder("<"))
    return zlib.compress(steps.view(np.uint8).reshape(-1, flat.itemsize).T.tobytes(), 9)


def _regions(regions: RegionScores) -> dict[str, Any]:
    return {
        "scores": [json_number(score) for score in regions.scores],
        "boxes": None if regions.boxes is None else regions.boxes.tolist(),
        "labels": None if regions.labels is None else run_lengths(regions.labels),
        **_errors(regions.errors),
    }


def _errors(errors: npt.NDArray[np.float64] | None) -> dict[str, Any]:
    """Return the entry of standard errors, if there are any."""
    return {} if errors is None else {"errors": [json_number(error) for error in errors]}


def _row(row: TableRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "error": row.error,
        "cells": [
            {
                "value": json_number(cell.value),
                "difference": json_number(cell.difference),
                "low": json_number(cell.low),
                "high": json_number(cell.high),
            }
            for cell in row.cells
        ],
    }


def json_number(value: float | None) -> float | None:
    """Return a number that JSON has; None for NaN and infinity, which JSON lacks."""
    return float(value) if value is not None and math.isfinite(value) else None

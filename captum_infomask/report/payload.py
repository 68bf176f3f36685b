# A page's content as JSON: pictures are data URIs, and planes are exact to the bit.
from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from captum_infomask.report.colour_planes import (
    colour_limits,
    largest_value,
    picture_size,
    run_lengths,
    smoothed_note,
    split_plane,
    window_steps,
)
from captum_infomask.report.colours import OPACITY, base64_text, colour_tables, picture_uri
from captum_infomask.report.page_content import (
    MapContent,
    PageContent,
    PictureContent,
    RegionScores,
    TableRow,
)


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
    limits = colour_limits(content)
    planes = [made.plane for picture in content.pictures for made in picture.maps]
    largest = max((largest_value(plane) for plane in planes if plane is not None), default=0.0)
    return {
        "title": content.title,
        "pictures": [
            _picture(picture, limits[place]) for place, picture in enumerate(content.pictures)
        ],
        "threshold": list(content.threshold),
        "largest": json_number(largest),
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
        "notes": [*content.notes, *filter(None, [smoothed_note(planes)])],
        "call": content.call,
        "provenance": [list(pair) for pair in content.provenance],
    }


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
    height, width = picture_size(picture)
    return {
        "title": picture.title,
        "group": picture.group,
        "height": height,
        "width": width,
        "photo": None if picture.pixels is None else picture_uri(picture.pixels),
        "facts": [list(fact) for fact in picture.facts],
        "truth": None if picture.truth is None else run_lengths(picture.truth),
        "maps": [_map(made, limit) for made, limit in zip(picture.maps, limits, strict=True)],
    }


def _map(made: MapContent, limit: float) -> dict[str, Any]:
    return {
        "name": made.name,
        "unit": made.unit,
        "meaning": made.meaning,
        "error": made.error,
        "limit": limit,
        "plane": None if made.plane is None else _plane(made.plane),
        "steps": None if made.plane is None else list(window_steps(made.plane)),
        "regions": None if made.regions is None else _regions(made.regions),
        "curves": {name: [json_number(v) for v in curve] for name, curve in made.curves.items()},
    }


def _plane(plane: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return the cells' little-endian float32 values, and the starts of their rows and columns."""
    rows, columns, values = split_plane(plane)
    return {
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "values": base64_text(values.astype("<f4").tobytes()),
    }


def _regions(regions: RegionScores) -> dict[str, Any]:
    return {
        "scores": [json_number(score) for score in regions.scores],
        "boxes": None if regions.boxes is None else regions.boxes.tolist(),
        "labels": None if regions.labels is None else run_lengths(regions.labels),
    }


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

# The viewer's pictures without the viewer: for notebooks that run no scripts.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from captum_infomask.report.content import MapContent, PageContent, PictureContent
from captum_infomask.report.data_uris import picture_uri
from captum_infomask.report.planes import (
    colour_limits,
    largest_value,
    picture_size,
    plane_mask,
    shown_plane,
    smoothed_note,
)
from captum_infomask.report.rows import FloatArray, PhotoArray
from captum_infomask.report.templating import environment
from captum_infomask.report.tints import RGB, pale_grey, tint

PICTURES = 4  # a notebook's cell is no place for more
_SIDE = 160  # pixels of a shown picture's longer side
_KEPT, _HIDDEN = 0.2, 0.88  # greys that can be told from paper, white or black


@dataclass(frozen=True)
class _Shown:
    """One method's pictures as data URIs, and what is said under them."""

    made: MapContent
    overlay: str = ""
    mask: str = ""
    kept: str = ""
    largest: float = 0.0
    share: float = 0.0


def static_html(content: PageContent) -> str:
    """The maps, masks and numbers as an HTML fragment without scripts.

    Masks are cut where ``content.threshold`` says. At most four pictures are shown. All of
    ``content`` is text, and is escaped.

    Args:
        content: What to show.

    Returns:
        HTML for ``_repr_html_``, with pictures as PNG data URIs.

    Raises:
        ArgumentError: A picture and its maps differ in size.

    Example:
        >>> from captum_infomask.report.content import PageContent, PictureContent
        >>> from captum_infomask.report.static import static_html
        >>> page = static_html(PageContent("<b>", (PictureContent(None, "espresso", (), ()),)))
        >>> "&lt;b&gt;" in page, "<script" in page
        (True, False)
    """
    limits = colour_limits(content)
    pictures = [
        (picture, _photo(picture), _maps(picture, limits[place], content))
        for place, picture in enumerate(content.pictures[:PICTURES])
    ]
    rule, value = content.threshold
    cut = f"{value:.1%} of each map's maximum" if rule == "max_fraction" else f"at least {value:g}"
    return (
        environment()
        .get_template("static.html")
        .render(
            content=content,
            pictures=pictures,
            cut=cut,
            left=len(content.pictures) - len(pictures),
            smoothed=smoothed_note(
                made.plane for picture, _, _ in pictures for made in picture.maps
            ),
        )
    )


def _photo(picture: PictureContent) -> str:
    return "" if picture.pixels is None else _uri(picture.pixels)


def _maps(picture: PictureContent, limits: list[float], content: PageContent) -> list[_Shown]:
    height, width = picture_size(picture)
    ground: RGB = np.full((height, width, 3), 0.9)
    if picture.pixels is not None:
        ground = pale_grey(picture.pixels)
    return [
        _Shown(made)
        if made.plane is None
        else _shown(
            made, made.plane, picture.pixels, tint(shown_plane(made.plane), limit, ground), content
        )
        for made, limit in zip(picture.maps, limits, strict=True)
    ]


def _shown(
    made: MapContent,
    plane: FloatArray,
    photo: PhotoArray | None,
    overlay: RGB,
    content: PageContent,
) -> _Shown:
    mask = plane_mask(plane, content.threshold)
    kept = ""
    if photo is not None:
        kept = _uri(np.where(mask[..., None], photo / 255.0, _HIDDEN))
    return _Shown(
        made,
        overlay=_uri(overlay),
        mask=_uri(np.where(mask[..., None], np.full(3, _KEPT), np.full(3, _HIDDEN))),
        kept=kept,
        largest=largest_value(plane),
        share=float(mask.mean()),
    )


def _uri(picture: RGB | PhotoArray) -> str:
    """A small PNG: large pictures are brought down, small ones enlarged without a blur."""
    pixels = picture
    if pixels.dtype != np.uint8:
        pixels = np.round(np.nan_to_num(pixels).clip(0, 1) * 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    way = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    small = Image.fromarray(np.asarray(pixels, dtype=np.uint8)).resize(size, way)
    return picture_uri(np.asarray(small))

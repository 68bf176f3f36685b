# Make pages from templates: the viewer in one file, or its pictures for notebooks without scripts.
from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from captum_infomask.report import words
from captum_infomask.report.bits_figure import bits_pictures
from captum_infomask.report.colour_planes import (
    SHARE,
    largest_value,
    own_limit,
    picture_size,
    plane_mask,
    unit_threshold,
)
from captum_infomask.report.colours import RGB, Shades, picture_uri
from captum_infomask.report.page_content import (
    Cell,
    Column,
    FloatArray,
    MapContent,
    PageContent,
    PhotoArray,
    PictureContent,
)
from captum_infomask.report.payload import page_payload, script_json
from captum_infomask.report.run_content import (
    FEW_CLASSES,
    FEW_VALUES,
    RunContent,
    class_groups,
    figure,
    strip,
)
from captum_infomask.report.smoothing import shown_mask, shown_plane, smoothed_note

_START = """
const viewer = document.getElementById("viewer");
mount(viewer, JSON.parse(document.getElementById("payload").textContent));
"""
_SIDE = 160  # pixels of a shown picture's longer side


@functools.cache
def environment() -> Environment:
    """Return Jinja2 with the package's templates; it escapes all that is not marked as safe."""
    made = Environment(
        loader=PackageLoader("captum_infomask.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["sha256"] = _hash
    made.filters["number"] = _number
    made.filters |= words.FILTERS
    return made


@functools.cache
def viewer_script() -> str:
    """Return the viewer's JavaScript module."""
    return _text("viewer.js")


@functools.cache
def viewer_style() -> str:
    """Return the viewer's style sheet."""
    return _text("viewer.css")


@functools.cache
def run_script() -> str:
    """Return the script that the summary of a run adds to the viewer's module."""
    return _text("run.js")


@functools.cache
def run_style() -> str:
    """Return the style that the summary of a run adds to the viewer's style sheet."""
    return _text("run.css")


def _text(name: str) -> str:
    return files("captum_infomask.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return a source of a content security policy: this text alone may run."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _number(cell: Cell, column: Column) -> str:
    """Return a cell's value with its column's decimal places."""
    return "–" if cell.value is None else f"{cell.value:.{column.digits}f}"


def page_html(content: PageContent) -> str:
    """Return one HTML file with everything in it: it opens from disk and requests nothing.

    Its content security policy forbids every request. It forbids every script and style but the
    viewer's own. All of ``content`` is text: names, labels and errors are escaped wherever they are
    shown.

    Args:
        content: The content of the page.

    Returns:
        The file's text, to be written as UTF-8.

    Raises:
        ArgumentError: A picture and its maps differ in size.

    Example:
        >>> from captum_infomask.report.page_content import PageContent, PictureContent
        >>> from captum_infomask.report.page import page_html
        >>> page = page_html(PageContent("<b>", (PictureContent(None, "espresso", (), ()),)))
        >>> "<h1>&lt;b&gt;</h1>" in page
        True
    """
    payload, check = page_payload(content), content.reliability
    # The package's own files, and JSON without any <, > or &.
    return (
        environment()
        .get_template("page.html")
        .render(
            content=content,
            title=content.title,
            window_title=" · ".join([content.title, *content.origin]),
            summary=" · ".join([*content.origin, _summary(content)]),
            style=Markup(viewer_style() + (_text("bits.css") if check else "")),
            script=Markup(viewer_script() + _START),
            payload=Markup(script_json(payload)),
            diagrams=bits_pictures(check.curves) if check else (),
        )
    )


def _summary(content: PageContent) -> str:
    """Return the numbers of methods and pictures, in words."""
    methods = len({made.name for picture in content.pictures for made in picture.maps})
    first = content.pictures[0]
    is_volume = len(picture_size(first)) == 3
    noun = "video" if first.is_video else "volume" if is_volume else "picture"
    return f"{_count(methods, 'method')} on {_count(len(content.pictures), noun)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


PICTURES = 4  # a notebook's cell has no room for more
_KEPT, _HIDDEN = 0.2, 0.88  # greys that differ from paper, white or black


@dataclass(frozen=True)
class _Shown:
    """One method's pictures as data URIs, and the words under them."""

    made: MapContent
    overlay: str = ""
    mask: str = ""
    kept: str = ""
    largest: float = 0.0
    share: float = 0.0


def static_html(content: PageContent) -> str:
    """Return the maps, masks and numbers as an HTML fragment without scripts.

    ``content.threshold`` cuts the masks. At most four pictures are shown. All of ``content`` is
    text, and is escaped.

    Args:
        content: The content of the page.

    Returns:
        HTML for ``_repr_html_``, with pictures as PNG data URIs.

    Raises:
        ArgumentError: A picture and its maps differ in size.

    Example:
        >>> from captum_infomask.report.page_content import PageContent, PictureContent
        >>> from captum_infomask.report.page import static_html
        >>> page = static_html(PageContent("<b>", (PictureContent(None, "espresso", (), ()),)))
        >>> "&lt;b&gt;" in page, "<script" in page
        (True, False)
    """
    pictures = [
        (picture, _photo(picture), _maps(picture, content))
        for picture in content.pictures[:PICTURES]
    ]
    rule, value = content.threshold
    cut = f"{value:.1%} of each map's maximum"
    if rule == "at_least":
        cut = f"at least {value:g} bits; without bits, {SHARE:.0%} of a map's maximum"
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


def _maps(picture: PictureContent, content: PageContent) -> list[_Shown]:
    ground: RGB = np.full((*picture_size(picture), 3), 0.9)
    if picture.pixels is not None:
        ground = picture.pixels / 255.0
    return [
        _Shown(made)
        if made.plane is None
        else _shown(
            made,
            made.plane,
            picture.pixels,
            Shades(own_limit(made.plane)).over(shown_plane(made.plane), ground),
            content,
        )
        for each in picture.maps
        for made in _each_class(each)
    ]


def _each_class(made: MapContent) -> list[MapContent]:
    """Return a map for each class that can be chosen, as pictures show no choice."""
    if not made.classes:
        return [made]
    return [
        replace(made, name=f"{made.name}, {each.name}", plane=each.plane) for each in made.classes
    ]


def _shown(
    made: MapContent,
    plane: FloatArray,
    photo: PhotoArray | None,
    overlay: RGB,
    content: PageContent,
) -> _Shown:
    mask = plane_mask(plane, unit_threshold(content.threshold, made.unit))
    shown = shown_mask(mask)[..., None]
    kept = ""
    if photo is not None:
        kept = _uri(np.where(shown, photo / 255.0, _HIDDEN))
    return _Shown(
        made,
        overlay=_uri(overlay),
        mask=_uri(np.where(shown, np.full(3, _KEPT), np.full(3, _HIDDEN))),
        kept=kept,
        largest=largest_value(plane),
        share=float(mask.mean()),
    )


def _uri(picture: RGB | PhotoArray) -> str:
    """Return a small PNG: large pictures are scaled down, small ones enlarged without a blur."""
    pixels = picture
    if pixels.dtype != np.uint8:
        pixels = np.round(np.nan_to_num(pixels).clip(0, 1) * 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    way = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    small = Image.fromarray(np.asarray(pixels, dtype=np.uint8)).resize(size, way)
    return picture_uri(np.asarray(small))


def run_html(content: RunContent) -> str:
    """Return one HTML file with everything in it: it opens from disk and requests nothing.

    Its content security policy forbids every request, like that of ``page_html``. All of
    ``content`` is text: keys, names and errors are escaped wherever they are shown.

    Args:
        content: The content of the page.

    Returns:
        The file's text, to be written as UTF-8.

    Raises:
        ArgumentError: A picture and its map differ in size.

    Example:
        >>> from captum_infomask.report.run_content import RunContent
        >>> from captum_infomask.report.page import run_html
        >>> page = run_html(RunContent("<b>", "InfoMask crop", pictures=9, done=0, failed=9))
        >>> "<h1>&lt;b&gt;</h1>" in page
        True
    """
    payload = page_payload(PageContent(content.name, content.examples, content.threshold))
    # The package's own files, and JSON without any <, > or &.
    return (
        environment()
        .get_template("run.html")
        .render(
            content=content,
            title=content.name,
            window_title=" · ".join(filter(None, (content.name, content.model, content.date))),
            summary=" · ".join(filter(None, (content.summary, content.date))),
            style=Markup(viewer_style() + run_style()),
            script=Markup(viewer_script() + run_script()),
            payload=Markup(script_json(payload)),
            has_few_classes=len(content.classes) <= FEW_CLASSES,
            few_values=FEW_VALUES,
            has_accuracy=any(one.accuracy is not None for one in content.classes),
            **_drawing(content),
        )
    )


def _drawing(content: RunContent) -> dict[str, Any]:
    """Return the figure of distributions, if there are any."""
    axis = content.axis
    if axis is None:
        return {"figure": None, "groups": ()}
    named = [("All pictures", content.overall), *class_groups(content.classes)]
    groups = [(head, [strip(one, axis) for one in shown]) for head, shown in named]
    return {"figure": figure(axis), "groups": groups}

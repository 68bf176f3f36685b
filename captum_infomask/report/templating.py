# The templates, and the two files of the viewer: how they are read from the package.
from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from captum_infomask.report import words
from captum_infomask.report.content import Cell, Column


@functools.cache
def environment() -> Environment:
    """Jinja2 with the package's templates; everything is escaped unless it is marked as safe."""
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
    """The viewer's JavaScript module."""
    return _text("viewer.js")


@functools.cache
def viewer_style() -> str:
    """The viewer's style sheet."""
    return _text("viewer.css")


@functools.cache
def run_script() -> str:
    """What the summary of a run adds to the viewer's module."""
    return _text("run.js")


@functools.cache
def run_style() -> str:
    """What the summary of a run adds to the viewer's style sheet."""
    return _text("run.css")


def _text(name: str) -> str:
    return files("captum_infomask.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source of a content security policy: this text alone may run."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _number(cell: Cell, column: Column) -> str:
    """A cell's value with its column's decimal places."""
    return "–" if cell.value is None else f"{cell.value:.{column.digits}f}"

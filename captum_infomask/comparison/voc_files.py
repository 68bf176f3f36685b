# Ground truth in Pascal VOC's form → boxes.
from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import torch

from captum_infomask._errors import ArgumentError
from captum_infomask._run_length import check_pixels
from captum_infomask.comparison.image_boxes import ImageBoxes


def read_voc_boxes(path: str | PathLike[str], *, difficult: bool = False) -> dict[str, ImageBoxes]:
    """Read the boxes of Pascal VOC's annotations.

    VOC counts pixels from 1 and includes the last one: xmin … xmax becomes xmin − 1 … xmax,
    half-open. Boxes without area are left out.

    Args:
        path: An XML file, or a folder of them; folders inside it are left alone.
        difficult: True takes objects marked as difficult too.

    Returns:
        For each file, by its name without suffix (``2007_000027``), the objects of its picture;
        pictures without objects have no boxes.

    Raises:
        ArgumentError: ``path`` is neither, the folder has no XML files, or a file is no annotation:
            the message names it and what is wrong.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_infomask.comparison.voc_files import read_voc_boxes
        >>> xml = '''<annotation><size><width>60</width><height>40</height></size>
        ... <object><name>cat</name><bndbox><xmin>1</xmin><ymin>11</ymin>
        ... <xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>'''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "0001.xml").write_text(xml)
        ...     read_voc_boxes(folder)["0001"].boxes
        tensor([[ 0., 10., 30., 40.]], dtype=torch.float64)

    Source: Everingham et al., "The Pascal Visual Object Classes Challenge", and its development
    kit; ImageNet's localisation annotations have the same form.
    """
    place = Path(path)
    files = sorted(place.glob("*.xml")) if place.is_dir() else [place]
    if not files:
        raise ArgumentError(f"Expected `path` to be a folder with XML files; {place} has none.")
    return {file.stem: _read(file, difficult) for file in files}


def _read(file: Path, difficult: bool) -> ImageBoxes:
    """The objects of one file."""
    try:
        root = ElementTree.parse(file).getroot()
        size = (int(_number(root, "size/height")), int(_number(root, "size/width")))
        found = [
            (_box(entry), entry.findtext("name", "").strip())
            for entry in root.findall("object")
            if difficult or entry.findtext("difficult", "0").strip() != "1"
        ]
        if min(size) < 1:
            raise ValueError(f"size {size}")
        check_pixels("path", *size)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise ArgumentError(
            f"Expected `path` to hold Pascal VOC annotations; got {file} ({error})."
        ) from error
    kept = [(box, name) for box, name in found if box[0] < box[2] and box[1] < box[3]]
    boxes = torch.tensor([box for box, _ in kept], dtype=torch.float64).reshape(-1, 4)
    return ImageBoxes(boxes, tuple(name for _, name in kept), size)


def _box(entry: Element) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1, half-open and from 0."""
    # Only the object's own bndbox: its parts, such as a person's head, have others.
    x0, y0 = _number(entry, "bndbox/xmin") - 1, _number(entry, "bndbox/ymin") - 1
    return x0, y0, _number(entry, "bndbox/xmax"), _number(entry, "bndbox/ymax")


def _number(element: Element, path: str) -> float:
    """A finite number in the file."""
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{path} is {text}")
    return value

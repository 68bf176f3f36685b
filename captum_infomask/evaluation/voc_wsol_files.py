# Reads boxes in Pascal VOC's form, and writes attributions as score maps for WSOL's code.
from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import torch
from torch import Tensor

from captum_infomask._checks import describe, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import output_file
from captum_infomask._run_length import check_pixels
from captum_infomask._types import TensorOrTensors
from captum_infomask.evaluation.coco_files import ImageBoxes
from captum_infomask.masks.mask_planes import attribution_planes, normalised


def read_voc_boxes(path: str | PathLike[str], *, difficult: bool = False) -> dict[str, ImageBoxes]:
    """Read the boxes of Pascal VOC's annotations.

    VOC counts pixels from 1 and includes the last one. So xmin … xmax becomes xmin − 1 … xmax,
    half-open. Boxes without area are left out.

    Args:
        path: An XML file, or a folder of them; folders inside it are ignored.
        difficult: True takes objects marked as difficult too.

    Returns:
        For each file, by its name without suffix (``2007_000027``), the objects of its picture;
        pictures without objects have no boxes.

    Raises:
        ArgumentError: ``path`` is neither; the folder has no XML files; or a file is not an
            annotation (the message names it and its fault).

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_infomask.evaluation.voc_wsol_files import read_voc_boxes
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
    # Only the object's own bndbox is read. Its parts, such as a person's head, have others.
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


def export_wsol(
    attributions: TensorOrTensors | list[Tensor],
    keys: Sequence[str],
    folder: str | PathLike[str],
) -> list[Path]:
    """Write attributions as the .npy files that ``wsolevaluation`` reads.

    Each picture's map (the mean over channels) is scaled to [0, 1] by its own minimum and maximum;
    a constant map becomes 0. It is written to ``folder/key.npy`` as float64 (H, W). Keys are the
    image ids of the data set's ``image_ids.txt``, with their suffix: ``val2/0/1.jpeg`` becomes
    ``val2/0/1.jpeg.npy``. For its boxes, the code expects maps of 224 × 224 pixels of the resized
    whole picture.

    Args:
        attributions: Floating-point (N, C, H, W), a tensor or a 1-tuple of one; for pictures of
            several sizes a list of N tensors (C, H, W).
        keys: N different image ids; ``/`` makes sub-folders.
        folder: The output folder (``--scoremap_root``). It is made if it is missing, and files of
            the same names are replaced.

    Returns:
        The N paths.

    Raises:
        ArgumentError: Attributions have NaN or infinity, or another shape; keys are not N different
            paths inside the folder; or the folder cannot be written.

    Example:
        >>> import numpy as np, tempfile, torch
        >>> from captum_infomask.evaluation.voc_wsol_files import export_wsol
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path] = export_wsol(torch.tensor([[[[-1.0, 0.0, 3.0]]]]), ["val/1.jpeg"], folder)
        ...     np.load(path)
        array([[0.  , 0.25, 1.  ]])

    Source: Choe et al., CVPR 2020, whose code is clovaai/wsolevaluation on GitHub.
    """
    planes = attribution_planes(attributions)
    files = [Path(folder, f"{key}.npy") for key in _checked_keys(keys, len(planes))]
    for plane, file in zip(planes, files, strict=True):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"Expected `folder` to be writable; got {error}.") from error
        with output_file("folder", file) as beside, beside.open("wb") as content:
            np.save(content, normalised(plane))
    return files


def _checked_keys(keys: object, count: int) -> list[str]:
    """Return the keys; refuse keys that lead out of the folder or name the same file."""
    if not isinstance(keys, list | tuple) or len(keys) != count:
        raise ArgumentError(
            f"Expected `keys` to be a list of {count} image ids, one per picture; got "
            f"{describe(keys)}."
        )
    for key in keys:
        path = PurePosixPath(key) if isinstance(key, str) else None
        if path is None or path.is_absolute() or not path.name or ".." in path.parts:
            raise ArgumentError(
                f"Expected `keys` to be paths inside the folder, such as 'val/1.jpeg'; got "
                f"{short_repr(key)}."
            )
    if len(set(keys)) != count:
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ArgumentError(f"Expected `keys` that differ; got {twice!r} twice.")
    return list(keys)

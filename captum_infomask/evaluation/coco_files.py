# Reads boxes and masks from ground truth in COCO's form.
from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from skimage.draw import polygon
from torch import Tensor

from captum_infomask._checks import positive_int, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._run_length import check_pixels, decode


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """The boxes of one picture's objects.

    Args:
        boxes: (K, 4), float64: x0, y0, x1, y1 in pixels, half-open. K may be 0.
        names: The K objects' categories.
        size: (height, width) of the picture, in pixels.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.coco_files import ImageBoxes
        >>> boxes = torch.tensor([[10.0, 0.0, 30.0, 20.0], [0.0, 0.0, 4.0, 4.0]])
        >>> objects = ImageBoxes(boxes, ("dog", "ball"), (100, 200))
        >>> objects.of("dog").resized(224, 224).boxes
        tensor([[11.2000,  0.0000, 33.6000, 44.8000]])
    """

    boxes: Tensor
    names: tuple[str, ...]
    size: tuple[int, int]

    def of(self, name: str) -> ImageBoxes:
        """Only the objects of one category.

        Raises:
            ArgumentError: The picture has none.
        """
        places = [place for place, own in enumerate(self.names) if own == name]
        if not places:
            held = ", ".join(sorted(set(self.names))) or "none"
            raise ArgumentError(
                f"Expected `name` to be a category of the picture ({held}); got {name!r}."
            )
        return ImageBoxes(self.boxes[places], tuple(self.names[p] for p in places), self.size)

    def resized(self, height: int, width: int) -> ImageBoxes:
        """The boxes after a resize of the whole picture, to the size of the network's input.

        Raises:
            ArgumentError: ``height`` or ``width`` is not an integer of at least 1.
        """
        height, width = positive_int("height", height), positive_int("width", width)
        down, across = height / self.size[0], width / self.size[1]
        scale = torch.tensor([across, down, across, down], dtype=self.boxes.dtype)
        return ImageBoxes(self.boxes * scale, self.names, (height, width))


@dataclass(frozen=True, eq=False)
class ImageMasks:
    """The masks of one picture's objects.

    Args:
        masks: (K, H, W), boolean. K may be 0.
        names: The K objects' categories.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.coco_files import ImageMasks
        >>> ImageMasks(torch.ones(1, 2, 2, dtype=torch.bool), ("cat",)).names
        ('cat',)
    """

    masks: Tensor
    names: tuple[str, ...]


def read_coco_boxes(path: str | PathLike[str], *, crowd: bool = False) -> dict[str, ImageBoxes]:
    """Read the boxes of COCO's annotations.

    COCO's x, y, width, height become x0, y0, x1, y1, half-open. COCO has a few boxes without area;
    they are left out.

    Args:
        path: A JSON file with ``images``, ``annotations`` and ``categories``.
        crowd: True takes annotations of crowds (``iscrowd``) too.

    Returns:
        For each picture, by its ``file_name``, its objects; pictures without objects have no boxes.

    Raises:
        ArgumentError: ``path`` is not such a file; the message names the annotation that is wrong.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from captum_infomask.evaluation.coco_files import read_coco_boxes
        >>> content = {
        ...     "images": [{"id": 7, "file_name": "7.jpg", "height": 40, "width": 60}],
        ...     "categories": [{"id": 1, "name": "cat"}],
        ...     "annotations": [
        ...         {"id": 1, "image_id": 7, "category_id": 1, "bbox": [5.5, 0, 10, 20]}],
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "instances.json").write_text(json.dumps(content))
        ...     read_coco_boxes(Path(folder, "instances.json"))["7.jpg"].boxes
        tensor([[ 5.5000,  0.0000, 15.5000, 20.0000]], dtype=torch.float64)

    Source: Lin et al., "Microsoft COCO", ECCV 2014, and its page on data formats.
    """
    found: dict[str, tuple[list[list[float]], list[str]]] = {}
    images = _images(path)
    for key in images.sizes:
        found[key] = ([], [])
    for entry, key, name in images.objects(crowd):
        box = _numbers(path, entry, "bbox")
        if len(box) != 4 or min(box[2:]) < 0:
            raise _wrong(path, entry, "bbox", "x, y, width, height")
        x, y, width, height = box
        if width > 0 and height > 0:
            found[key][0].append([x, y, x + width, y + height])
            found[key][1].append(name)
    return {
        key: ImageBoxes(
            torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), tuple(names), images.sizes[key]
        )
        for key, (boxes, names) in found.items()
    }


def read_coco_masks(
    path: str | PathLike[str], keys: Iterable[str] | None = None, *, crowd: bool = False
) -> dict[str, ImageMasks]:
    """Read the masks of COCO's annotations: polygons, and run lengths in both forms.

    A pixel belongs to a polygon if its centre lies inside. COCO's own tool draws borders slightly
    differently, so masks can differ by pixels along the outline.

    Args:
        path: A JSON file with ``images``, ``annotations`` and ``categories``.
        keys: The ``file_name`` of the pictures to read; all if None. Masks take a byte per pixel
            and object, so the masks of a whole data set may not fit into memory.
        crowd: True takes annotations of crowds (``iscrowd``) too.

    Returns:
        For each picture, by its ``file_name``, its objects; pictures without objects have no masks.

    Raises:
        ArgumentError: ``path`` is not such a file, or lacks one of ``keys``; the message names the
            annotation that is wrong.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from captum_infomask.evaluation.coco_files import read_coco_masks
        >>> content = {
        ...     "images": [{"id": 7, "file_name": "7.jpg", "height": 2, "width": 4}],
        ...     "categories": [{"id": 1, "name": "cat"}],
        ...     "annotations": [{"id": 1, "image_id": 7, "category_id": 1,
        ...                      "segmentation": [[1, 0, 3, 0, 3, 2, 1, 2]]}],
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "instances.json").write_text(json.dumps(content))
        ...     read_coco_masks(Path(folder, "instances.json"))["7.jpg"].masks.int()
        tensor([[[0, 1, 1, 0],
                 [0, 1, 1, 0]]], dtype=torch.int32)

    Source: Lin et al., "Microsoft COCO", ECCV 2014, and its page on data formats.
    """
    images = _images(path)
    wanted = list(images.sizes) if keys is None else list(keys)
    missing = [key for key in wanted if key not in images.sizes]
    if missing:
        raise ArgumentError(
            f"Expected `keys` to be file names of pictures in {path}; got {short_repr(missing[0])}."
        )
    for key in wanted:
        check_pixels(f"masks of {key} in {path}", *images.sizes[key])
    found: dict[str, tuple[list[Tensor], list[str]]] = {key: ([], []) for key in wanted}
    for entry, key, name in images.objects(crowd):
        if key in found:
            found[key][0].append(_mask(path, entry, images.sizes[key]))
            found[key][1].append(name)
    return {
        key: ImageMasks(
            torch.stack(masks) if masks else torch.zeros(0, *images.sizes[key], dtype=torch.bool),
            tuple(names),
        )
        for key, (masks, names) in found.items()
    }


@dataclass(frozen=True)
class _Images:
    """A file's pictures and annotations, unchanged."""

    path: str | PathLike[str]
    sizes: dict[str, tuple[int, int]]
    keys: dict[Any, str]
    names: dict[Any, str]
    annotations: list[dict[str, Any]]

    def objects(self, crowd: bool) -> Iterator[tuple[dict[str, Any], str, str]]:
        """Each annotation with its picture's key and its category's name."""
        path = self.path
        for entry in self.annotations:
            if entry.get("iscrowd") and not crowd:
                continue
            if entry.get("image_id") not in self.keys:
                raise _wrong(path, entry, "image_id", "the id of one of the file's images")
            if entry.get("category_id") not in self.names:
                raise _wrong(path, entry, "category_id", "the id of one of the file's categories")
            yield entry, self.keys[entry["image_id"]], self.names[entry["category_id"]]


def _images(path: str | PathLike[str]) -> _Images:
    """Read a file's lists."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        sizes = {
            str(image["file_name"]): (int(image["height"]), int(image["width"]))
            for image in content["images"]
        }
        keys = {image["id"]: str(image["file_name"]) for image in content["images"]}
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        annotations = [dict(entry) for entry in content["annotations"]]
        if any(min(size) < 1 for size in sizes.values()):
            raise ValueError("an image without pixels")
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"Expected `path` to be a JSON file with COCO's images, annotations and categories; "
            f"got {path} ({type(error).__name__}: {error})."
        ) from error
    if len(sizes) != len(content["images"]):
        raise ArgumentError(f"Expected `path` with a file_name of its own per image; got {path}.")
    return _Images(path, sizes, keys, names, annotations)


def _mask(path: str | PathLike[str], entry: dict[str, Any], size: tuple[int, int]) -> Tensor:
    """An annotation's mask, (H, W)."""
    given = entry.get("segmentation")
    if isinstance(given, dict):
        return decode(
            given, name=f"segmentation of annotation {entry.get('id')} in {path}", size=size
        )
    if not isinstance(given, list) or not given:
        raise _wrong(path, entry, "segmentation", "polygons or run lengths")
    mask = np.zeros(size, dtype=bool)
    for points in given:
        corners = _numbers(path, {**entry, "segmentation": points}, "segmentation")
        if len(corners) < 6 or len(corners) % 2:
            raise _wrong(path, entry, "segmentation", "polygons of at least three corners x, y")
        # A pixel's centre is half a pixel from its corner, and COCO counts from corners.
        x, y = np.array(corners[0::2]) - 0.5, np.array(corners[1::2]) - 0.5
        mask[polygon(y, x, size)] = True
    return torch.from_numpy(mask)


def _numbers(path: str | PathLike[str], entry: dict[str, Any], field: str) -> list[float]:
    """An annotation's list of finite numbers."""
    given = entry.get(field)
    if not isinstance(given, list) or not all(
        isinstance(value, int | float) and math.isfinite(value) for value in given
    ):
        raise _wrong(path, entry, field, "a list of finite numbers")
    return [float(value) for value in given]


def _wrong(
    path: str | PathLike[str], entry: dict[str, Any], field: str, expected: str
) -> ArgumentError:
    """The error of an annotation that cannot be read."""
    which = f"`{field}` of annotation {short_repr(entry.get('id'))}"
    return ArgumentError(
        f"Expected `path` with {which} to be {expected}; got {short_repr(entry.get(field))} in "
        f"{path}."
    )

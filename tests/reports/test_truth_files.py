# Files of ground truth that somebody sent: what cannot be right is one clear error, and small.
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from captum_infomask import ArgumentError
from captum_infomask._run_length import decode, encode
from captum_infomask.evaluation.coco_files import read_coco_boxes, read_coco_masks


def coco(folder: Path, height: Any = 4, width: Any = 6, name: str = "7.jpg") -> Path:
    """A file of one picture with one square, a JSON of any size."""
    entry = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2]}
    content = {
        "images": [{"id": 7, "file_name": name, "height": height, "width": width}],
        "annotations": [{**entry, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}],
        "categories": [{"id": 1, "name": "c"}],
    }
    (folder / "c.json").write_text(json.dumps(content))
    return folder / "c.json"


@pytest.mark.parametrize("read", [read_coco_boxes, read_coco_masks])
@pytest.mark.parametrize("content", ["[" * 100_000, "{", "[]", '{"images": [5]}'])
def test_what_is_no_annotation_is_said_to_be_none(tmp_path, read, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ArgumentError, match=r"COCO's images.*c\.json"):
        read(tmp_path / "c.json")


@pytest.mark.parametrize("read", [read_coco_boxes, read_coco_masks])
@pytest.mark.parametrize("side", [float("inf"), float("nan"), None, "wide"])
def test_a_size_that_is_no_number_is_an_error(tmp_path, read, side):
    with pytest.raises(ArgumentError, match="COCO's images"):
        read(coco(tmp_path, height=side))


def test_masks_of_a_picture_that_cannot_be_are_not_made(tmp_path):
    """A line of text asked for 931 GiB."""
    path = coco(tmp_path, height=10**6, width=10**6)
    with pytest.raises(ArgumentError, match=r"masks of 7\.jpg.*MAX_IMAGE_PIXELS.*1000000 ×"):
        read_coco_masks(path)
    assert read_coco_boxes(path)["7.jpg"].size == (10**6, 10**6)
    assert read_coco_masks(path, []) == {}


def test_run_lengths_of_a_picture_that_cannot_be_are_not_made(monkeypatch):
    for side in (10**6, 10**30):
        with pytest.raises(ArgumentError, match="MAX_IMAGE_PIXELS"):
            decode({"size": [side, side], "counts": [side * side]})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    whole = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ArgumentError, match="at most 5 pixels"):
        decode(encode(whole))
    assert torch.equal(decode(encode(whole), size=(2, 3)), whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert torch.equal(decode(encode(whole)), whole)


def test_a_number_without_end_is_not_read():
    with pytest.raises(ArgumentError, match="numbers of at most 13 characters"):
        decode({"size": [2, 2], "counts": "o" * 200_000 + "0"})
    far = torch.zeros(3000, 3000, dtype=torch.bool)
    far[-1, -1] = True
    assert torch.equal(decode(encode(far)), far)


@pytest.mark.parametrize("name", ["/etc/passwd", "../7.jpg", "ftp://127.0.0.1/7.jpg"])
def test_file_names_are_names_and_not_opened(tmp_path, name):
    assert list(read_coco_boxes(coco(tmp_path, name=name))) == [name]
    assert read_coco_masks(coco(tmp_path, name=name))[name].masks.sum() == 4

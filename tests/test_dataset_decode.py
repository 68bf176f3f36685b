# Decoding a data set's pictures: every odd kind is shown as it is, every bad kind is an error.
from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_pictures import HEIGHT, WIDTH, Written, noise, png, write_bad_pictures
from PIL import Image

from captum_infomask import ArgumentError
from captum_infomask.dataset_run.data.data_pictures import (
    DataPictures,
    Decoded,
    decode_picture,
    find_pictures,
)
from captum_infomask.dataset_run.data.reading import LoadedPicture, Skipped
from captum_infomask.models.preprocessing import Preprocess, decode_image, read_image

SEEN = Preprocess(resize=HEIGHT, crop=(HEIGHT, WIDTH), mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def written(folder) -> Written:
    return write_bad_pictures(folder)


class Stored:
    """One picture in memory, or what reading it raises."""

    keys = ("key",)
    labels = None
    labels_are_folders = False
    class_names = None
    keys_are_numbers = False
    skipped = Skipped()

    def __init__(self, content: bytes | BaseException) -> None:
        self.content = content

    def load(self, k: int) -> LoadedPicture:
        if isinstance(self.content, BaseException):
            raise self.content
        return LoadedPicture.of_file(self.content)


def whole(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def decoded(content: bytes | BaseException, preprocess: Callable = SEEN) -> Decoded:
    return decode_picture(Stored(content), 0, preprocess, SEEN.shape)


def test_every_kind_of_picture_is_right_or_an_error(folder, written):
    pictures = find_pictures(folder)
    assert set(pictures.keys) == written.bad.keys() | written.good.keys()
    assert len(written.bad) > 15
    assert len(written.good) > 20
    for k, key in enumerate(pictures.keys):
        found = decode_picture(pictures, k, SEEN, SEEN.shape)
        assert found.index == k
        if key in written.bad:
            assert found.tensor is None
            assert written.bad[key] in found.error, key
            assert "\n" not in found.error
            continue
        assert found.error == "", key
        assert found.tensor.shape == (3, HEIGHT, WIDTH)
        assert found.tensor.dtype == torch.float32
        shown = (found.tensor * 255).round().permute(1, 2, 0).numpy().astype(int)
        off = np.abs(shown - written.good[key]).max()
        assert off <= written.tolerance.get(key, 0), f"{key} is off by {off}"
        assert found.sha256 == hashlib.sha256((folder / key).read_bytes()).hexdigest()


def test_the_hash_is_of_all_that_can_be_read(folder, written):
    pictures = find_pictures(folder)
    found = {
        key: decode_picture(pictures, k, SEEN, SEEN.shape) for k, key in enumerate(pictures.keys)
    }
    assert found["empty.jpg"].sha256 == hashlib.sha256(b"").hexdigest()
    assert [key for key in found if found[key].sha256 is None] == ["gone.jpg"]


def test_decoding_is_the_same_in_another_process(folder, written):
    pictures = find_pictures(folder)
    elsewhere = pickle.loads(pickle.dumps(pictures))
    for k in range(len(pictures.keys)):
        here, there = (decode_picture(each, k, SEEN, SEEN.shape) for each in (pictures, elsewhere))
        assert (here.sha256, here.error) == (there.sha256, there.error)
        assert (here.tensor is None) == (there.tensor is None)
        assert here.tensor is None or torch.equal(here.tensor, there.tensor)


def test_no_warning_escapes_and_none_is_silenced_for_others(folder, written):
    def talking(image: Image.Image) -> torch.Tensor:
        warnings.warn("a word", UserWarning, stacklevel=1)
        return SEEN(image)

    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pictures = find_pictures(folder)
        for k in range(len(pictures.keys)):
            decode_picture(pictures, k, talking, SEEN.shape)
            if pictures.keys[k] in written.good:
                read_image(folder / pictures.keys[k])
        assert caught == []
        warnings.warn("heard", UserWarning, stacklevel=1)
        assert len(caught) == 1
    assert warnings.filters == before


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    """Of these files no pixel could be decoded: they have none."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for width, height, words in [
        (10, 100, "whole picture file"),
        (10, 101, "at most 1000 pixels"),
        (10, 200, "at most 1000 pixels"),
        (10, 201, "at most 1000 pixels"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            decode_image(png(width, height, 8, 0, b""), "it")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode_image(whole(Image.new("L", (100, 100))), "it").size == (100, 100)


def test_postscript_is_not_run(monkeypatch):
    def run(*args: object, **kwargs: object) -> None:
        pytest.fail("a program was started")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert Image.open(io.BytesIO(program)).format == "EPS"
    assert "it is not one" in decoded(program).error


# --- what is wrong with the preprocessing ------------------------------------------------------


def raises(error: BaseException) -> Callable[[Image.Image], torch.Tensor]:
    def preprocess(image: Image.Image) -> torch.Tensor:
        raise error

    return preprocess


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [
        (raises(ValueError("too dark")), "ValueError: too dark"),
        (raises(KeyError("x")), "KeyError: 'x'"),
        (raises(RuntimeError(f"of {object()}")), "RuntimeError: of <object object>"),
        (raises(RuntimeError("two\n  lines")), "RuntimeError: two lines"),
        (lambda image: SEEN(image)[0], "got a tensor of shape (3, 28, 56)"),
        (lambda image: SEEN(image)[:, :, 1:], "got a tensor of shape (1, 3, 27, 56)"),
        (np.asarray, "got a numpy array of shape (28, 56, 3)"),
        (lambda image: None, "got None"),
        (lambda image: SEEN(image) * float("nan"), "got NaN or infinity"),
        (lambda image: SEEN(image) / 0, "got NaN or infinity"),
    ],
)
def test_whatever_the_preprocessing_does_is_an_error_of_the_picture(preprocess, words):
    content = whole(Image.fromarray(noise()))
    found = decoded(content, preprocess)
    assert found.tensor is None
    assert words in found.error
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_a_long_error_is_cut():
    found = decoded(whole(Image.fromarray(noise())), raises(ValueError("ah " * 10_000)))
    assert len(found.error) == 500
    assert found.error.endswith("h...")


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit()])
def test_what_is_no_fault_of_the_picture_passes(error):
    content = whole(Image.fromarray(noise()))
    with pytest.raises(type(error)):
        decoded(error)
    with pytest.raises(type(error)):
        decoded(content, raises(error))


@pytest.mark.parametrize("error", [PermissionError(13, "Denied"), Exception("of a storage")])
def test_a_file_that_cannot_be_read_is_an_error(error):
    found = decoded(error)
    assert (found.sha256, found.tensor) == (None, None)
    assert found.error.startswith(f"{type(error).__name__}: ")


def test_another_type_of_number_becomes_float32():
    found = decoded(whole(Image.fromarray(noise())), lambda image: SEEN(image).double())
    assert found.tensor.dtype == torch.float32
    assert torch.equal(found.tensor, SEEN(Image.fromarray(noise()))[0])


def test_the_stand_in_is_a_data_set():
    assert isinstance(Stored(b""), DataPictures)

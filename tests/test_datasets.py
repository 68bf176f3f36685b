# Two-digit pictures, the digits they are made of, and scikit-image's photos.
from __future__ import annotations

import random
import socket
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from captum_infomask import ArgumentError
from captum_infomask.datasets import (
    INK_THRESHOLD,
    TwoDigits,
    mnist,
    sample_photo,
    sklearn_digits,
    two_digits,
)

PHOTOS = ("astronaut", "camera", "chelsea", "coffee", "motorcycle_left", "rocket")


def flat_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Digit k is a flat square of brightness (k + 1) / 10, so that a picture tells its digits."""
    labels = torch.arange(10).repeat(3)
    return ((labels + 1) / 10)[:, None, None].expand(-1, 28, 28).contiguous(), labels


def flat_pictures(target: int = 4, count: int = 400, seed: int = 0) -> TwoDigits:
    return two_digits(*flat_digits(), target=target, count=count, seed=seed)


def test_pictures_hold_the_digits_they_are_said_to_hold():
    pictures = flat_pictures()
    assert pictures.images.shape == (400, 1, 28, 56)
    halves = pictures.images.reshape(400, 28, 2, 28)
    brightness = torch.where(pictures.digits >= 0, (pictures.digits + 1) / 10, 0.0)
    torch.testing.assert_close(halves.amin((1, 3)), brightness)
    torch.testing.assert_close(halves.amax((1, 3)), brightness)


def test_labels_are_balanced_and_say_whether_the_target_is_there():
    pictures = flat_pictures()
    holds = (pictures.digits == 4).any(1)
    assert torch.equal(pictures.labels, holds.long())
    assert not (pictures.digits == 4).all(1).any()
    pair = (pictures.digits >= 0).all(1)
    for kind in (holds & pair, holds & ~pair, ~holds & pair, ~holds & ~pair):
        assert kind.sum() == 100


def test_target_is_on_either_side_equally_often():
    on_left = (flat_pictures(count=2000).digits[:, 0] == 4).sum().item()
    assert abs(on_left - 500) < 5 * (1000 * 0.25) ** 0.5


def test_ink_is_the_target_digits_alone():
    pictures = flat_pictures()
    where = (pictures.digits == 4).repeat_interleave(28, 1)[:, None, None].expand(-1, -1, 28, -1)
    assert torch.equal(pictures.ink, where & (pictures.images > INK_THRESHOLD))
    faint = flat_pictures(target=0)  # brightness 0.1 is paper, not ink
    assert faint.labels.sum() == 200
    assert not faint.ink.any()


def test_seed_decides_and_global_generators_stay_as_they_were():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, again, other = flat_pictures(seed=1), flat_pictures(seed=1), flat_pictures(seed=2)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.digits, again.digits)
    assert not torch.equal(first.digits, other.digits)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()


def test_two_digit_pictures_with_the_target_can_be_chosen():
    chosen = flat_pictures().holding_target_beside_another()
    assert len(chosen.images) == 100
    assert ((chosen.digits == 4).sum(1) == 1).all()
    assert (chosen.digits >= 0).all()
    assert chosen.ink.flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"digits": torch.rand(30, 1, 28, 28)}, "`digits`"),
        ({"digits": torch.rand(30, 8, 8)}, "`digits`"),
        ({"digits": torch.zeros(30, 28, 28, dtype=torch.uint8)}, "`digits`"),
        ({"digits": torch.full((30, 28, 28), 255.0)}, "255"),
        ({"digits": torch.full((30, 28, 28), -0.1)}, "-0.1"),
        ({"labels": torch.arange(10)}, "`labels`"),
        ({"labels": torch.zeros(30)}, "`labels`"),
        ({"target": 10}, "`target`"),
        ({"labels": torch.full((30,), 4)}, "`target`"),
        ({"count": 0}, "`count`"),
        ({"count": 1.5}, "`count`"),
    ],
)
def test_bad_arguments_are_named(change, named):
    digits, labels = flat_digits()
    arguments = {"digits": digits, "labels": labels, "target": 4, "count": 8, **change}
    with pytest.raises(ArgumentError, match=named):
        two_digits(**arguments)


def test_sklearn_digits_are_laid_out_as_mnists():
    train, test = sklearn_digits(train=True), sklearn_digits(train=False)
    assert (len(train[0]), len(test[0])) == (1347, 450)
    for digits, labels in (train, test):
        assert digits.shape[1:] == (28, 28)
        assert digits.dtype == torch.float32
        assert digits.min() == 0
        assert digits.max() == 1
        assert labels.unique().tolist() == list(range(10))
        outside = torch.ones(28, 28, dtype=torch.bool)
        outside[4:24, 4:24] = False
        assert digits[:, outside].max() == 0
        ink = (digits > INK_THRESHOLD).float().mean().item()
        assert 0.1 < ink < 0.3


def test_missing_scikit_learn_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ArgumentError, match=r"pip install 'captum-infomask\[demo\]'"):
        sklearn_digits(train=True)


def write_mnist(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 3), ("t10k", 2)):
        pixels = bytes(range(count)) * (28 * 28)
        head = struct.pack(">iiii", 0x803, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels)
        head = struct.pack(">ii", 0x801, count)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + bytes(range(count)))


def test_mnist_is_read_from_its_files(tmp_path):
    write_mnist(tmp_path)
    digits, labels = mnist(tmp_path, train=True)
    assert digits.shape == (3, 28, 28)
    assert labels.tolist() == [0, 1, 2]
    torch.testing.assert_close(digits[0, 0, :3] * 255, torch.tensor([0.0, 1.0, 2.0]))
    assert len(mnist(tmp_path, train=False)[0]) == 2


def test_missing_mnist_names_the_option_that_fetches_it(tmp_path):
    with pytest.raises(ArgumentError, match="--download"):
        mnist(tmp_path, train=True)


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_come_from_the_installed_package_alone(name, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a sample photo must not touch the network")

    monkeypatch.setattr(socket, "socket", refuse)
    photo = sample_photo(name)
    assert photo.dtype == np.uint8
    assert photo.shape[2:] == (3,)
    assert min(photo.shape[:2]) >= 300
    assert photo.std() > 20


def test_photos_are_scikit_images_own():
    assert np.array_equal(sample_photo("coffee"), skimage.data.coffee())
    assert np.array_equal(sample_photo("camera"), np.stack([skimage.data.camera()] * 3, axis=2))


def test_unknown_photo_names_the_nearest():
    with pytest.raises(ArgumentError, match=r"`name`.*Did you mean 'coffee'"):
        sample_photo("cofee")


def test_photo_that_the_installed_version_lacks_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(skimage, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ArgumentError, match=r"coffee\.png"):
        sample_photo("coffee")

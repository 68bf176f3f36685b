# The orientation that a camera wrote is kept, whatever else stands in the same EXIF block.
from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from captum_infomask import ArgumentError
from captum_infomask.models.preprocessing import Preprocess, decode_image, read_image

# Where a scene's upper left and right corners lie in the stored rows: EXIF 2.3, tag 0x0112.
STORED = {
    1: lambda scene: scene,
    2: lambda scene: scene[:, ::-1],
    3: lambda scene: scene[::-1, ::-1],
    4: lambda scene: scene[::-1],
    5: lambda scene: scene.transpose(1, 0, 2),
    6: lambda scene: scene.transpose(1, 0, 2)[::-1],
    7: lambda scene: scene.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda scene: scene.transpose(1, 0, 2)[:, ::-1],
}
SHORT, ASCII, RATIONAL, SIGNED_SHORT, FLOAT, LONG = 3, 2, 5, 8, 11, 4
FORMATS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}


def scene() -> np.ndarray:
    """24 x 40 pixels in four colours, a quarter each, which JPEG's blocks of 8 keep."""
    shown = np.zeros((24, 40, 3), np.uint8)
    shown[:8, :16] = 255, 0, 0
    shown[:8, 16:] = 0, 255, 0
    shown[8:, :16] = 0, 0, 255
    shown[8:, 16:] = 255, 255, 0
    return shown


def block(*tags: tuple[int, int, int, bytes], inner: bytes = b"") -> bytes:
    """An EXIF block of these tags: number, type, count, four bytes; ``inner`` comes after them."""
    entries = b"".join(struct.pack("<HHI4s", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + inner


def orientation(number: int, *others: tuple[int, int, int, bytes], inner: bytes = b"") -> bytes:
    return block((0x0112, SHORT, 1, struct.pack("<HH", number, 0)), *others, inner=inner)


def end(tags: int) -> bytes:
    """The place after a block of so many tags, as four bytes."""
    return struct.pack("<I", 8 + 2 + 12 * tags + 4)


# What other tags can be that no reader of the orientation may stumble over.
HOSTILE = {
    "negative short": orientation(6, (0x0100, SIGNED_SHORT, 1, struct.pack("<hH", -5, 0))),
    "float that is no number": orientation(6, (0x011A, FLOAT, 1, struct.pack("<f", np.nan))),
    "text for a place": orientation(6, (0xA005, ASCII, 4, b"abc\0")),
    "GPS of 0/0": orientation(
        6,
        (0x8825, LONG, 1, end(2)),
        inner=struct.pack("<HHHII", 1, 2, RATIONAL, 1, 8 + 2 + 24 + 4 + 2 + 12 + 4) + bytes(12),
    ),
    "a block inside that lies nowhere": orientation(6, (0x8769, LONG, 1, b"\xff\xff\xff\x7f")),
    "GPS that is text": orientation(6, (0x8825, ASCII, 4, b"abc\0")),
    "a type that is none": orientation(6, (0x0110, 99, 1, b"\xff" * 4)),
    "more values than bytes": orientation(6, (0x9286, SHORT, 2**31, b"\xff" * 4)),
}


def stored(pixels: np.ndarray, kind: str, exif: bytes) -> bytes:
    """A picture's file with an EXIF block as it is, which Pillow would not write."""
    image, file = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    if kind == "TIFF":
        return tiff(pixels, exif)
    image.save(file, kind, exif=b"Exif\0\0" + exif, **FORMATS[kind])
    return file.getvalue()


def tiff(pixels: np.ndarray, exif: bytes) -> bytes:
    """A TIFF file whose own tags are the block's."""
    height, width, _ = pixels.shape
    count = struct.unpack("<H", exif[8:10])[0]
    tags = {
        struct.unpack("<H", exif[10 + 12 * k : 12 + 12 * k])[0]: exif[10 + 12 * k : 22 + 12 * k]
        for k in range(count)
    }
    own = [
        *((0x0100, width), (0x0101, height), (0x0103, 1), (0x0106, 2), (0x0115, 3)),
        *((0x0116, height), (0x0117, pixels.nbytes), (0x011C, 1)),
    ]
    tags |= {tag: struct.pack("<HHII", tag, LONG, 1, value) for tag, value in own}
    size = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags[0x0102] = struct.pack("<HHII", 0x0102, SHORT, 3, size)
    tags[0x0111] = struct.pack("<HHII", 0x0111, LONG, 1, size + 6)
    entries = b"".join(tags[tag] for tag in sorted(tags))
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    return head + struct.pack("<HHH", 8, 8, 8) + pixels.tobytes()


def near(image: Image.Image, shown: np.ndarray) -> bool:
    found = np.asarray(image).astype(int)
    return found.shape == shown.shape and np.abs(found - shown).max() <= 8


@pytest.mark.parametrize(
    ("number", "kind"),
    [*((number, "JPEG") for number in STORED), *((6, kind) for kind in FORMATS if kind != "JPEG")],
)
def test_all_eight_orientations_are_turned_upright(number, kind):
    content = stored(STORED[number](scene()), kind, orientation(number))
    assert near(decode_image(content, "it"), scene())


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("tag", HOSTILE)
def test_another_tag_that_cannot_be_read_or_written_turns_nothing_away(tag, kind):
    content = stored(STORED[6](scene()), kind, HOSTILE[tag])
    assert near(decode_image(content, "it"), scene())


@pytest.mark.parametrize(
    ("exif", "kind"),
    [
        *((exif, "JPEG") for exif in (b"garbage!" * 4, b"II*\0", b"", orientation(6)[:16])),
        *((b"II*\0", kind) for kind in ("PNG", "WEBP")),
    ],
)
def test_a_block_that_cannot_be_read_loses_no_picture(kind, exif):
    assert near(decode_image(stored(scene(), kind, exif), "it"), scene())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_text_that_lies_nowhere_turns_nothing_away(kind):
    exif = orientation(6, (0x010E, ASCII, 40, b"\xff\xff\xff\x7f"))
    assert near(decode_image(stored(STORED[6](scene()), kind, exif), "it"), scene())


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(number):
    assert near(decode_image(stored(scene(), "JPEG", orientation(number)), "it"), scene())


@pytest.mark.parametrize("tag", ["negative short", "text for a place"])
def test_a_picture_is_turned_by_whatever_reads_it(tag, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(stored(STORED[8](scene()), "JPEG", HOSTILE[tag].replace(b"\6\0", b"\x08\0")))
    assert near(read_image(path), scene())


def test_an_orientation_after_the_pixels_is_found():
    """PNG's eXIf may stand behind them."""
    plain = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(STORED[6](scene()))).save(plain, "PNG")
    exif = b"eXIf" + orientation(6)
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    head, tail = plain.getvalue()[:-12], plain.getvalue()[-12:]
    assert near(decode_image(head + chunk + tail, "it"), scene())


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_picture_stays_an_error_with_an_orientation(kind):
    content = stored(STORED[6](scene()), kind, HOSTILE["negative short"])
    with pytest.raises(ArgumentError, match=r"whole picture file|PNG or JPEG"):
        decode_image(content[: len(content) * 3 // 4], "it")


def test_a_picture_of_the_users_own_is_turned_once(tmp_path):
    plain = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    preprocess = Preprocess(resize=24, crop=24)
    want = preprocess(plain)
    with Image.open(tmp_path / "turned.png") as held:
        assert torch.equal(preprocess(held), want)
        assert held.size == (30, 40)
    assert torch.equal(preprocess(read_image(tmp_path / "turned.png")), want)

# One picture file of every kind that is bad, and of every kind that is odd and right.
from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HEIGHT, WIDTH = 28, 56  # of all that is right, as the two-digit network sees it


@dataclass
class Written:
    """What lies in the folder.

    bad: for each bad picture, words of its error.
    good: for each other picture, what it shows: uint8 (HEIGHT, WIDTH, 3).
    tolerance: how far a decoded value may lie off; 0 if not listed.
    """

    bad: dict[str, str] = field(default_factory=dict)
    good: dict[str, np.ndarray] = field(default_factory=dict)
    tolerance: dict[str, int] = field(default_factory=dict)


def noise(seed: int = 0) -> np.ndarray:
    """A picture that shows every mistake of a pixel."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def slopes() -> np.ndarray:
    """A picture that JPEG hardly changes, different in its channels and at its sides."""
    down, right = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = (4 * right, 8 * down, 200 - 3 * right)
    return np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any size and depth; ``rows`` begin with a filter's byte each."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(rows, 1), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts.items()
    )


def write_bad_pictures(folder: Path) -> Written:
    """Write all of them; also what is no picture and must be passed over."""
    folder.mkdir(parents=True, exist_ok=True)
    written = Written()
    _write_bad(folder, written.bad)
    _write_odd(folder, written.good)
    _write_jpegs(folder, written)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")
    (folder / "folder.png").mkdir()
    return written


def _write_bad(folder: Path, bad: dict[str, str]) -> None:
    """Nothing that can be shown."""
    whole = {
        suffix: _encoded(Image.fromarray(noise()), kind)
        for suffix, kind in [("jpg", "JPEG"), ("png", "PNG"), ("gif", "GIF"), ("tif", "TIFF")]
    }
    for suffix, content in whole.items():
        (folder / f"cut.{suffix}").write_bytes(content[: len(content) // 2])
        bad[f"cut.{suffix}"] = "whole picture file"
    middle = len(whole["png"]) // 2
    flipped = bytes([whole["png"][middle] ^ 255])
    (folder / "flipped.png").write_bytes(
        whole["png"][:middle] + flipped + whole["png"][middle + 1 :]
    )
    bad["flipped.png"] = "whole picture file"
    for name, content in {
        "empty.jpg": b"",
        "text.jpg": b"This is no picture, whatever its name.\n" * 20,
        "page.png": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "program.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    }.items():
        (folder / name).write_bytes(content)
        bad[name] = "PNG or JPEG; it is not one"
    for name, mode in {"deep_grey.png": "I;16", "deep_grey.tif": "I;16", "float.tif": "F"}.items():
        Image.new(mode, (WIDTH, HEIGHT), 40_000).save(folder / name)
        bad[name] = "8 bits per channel"
    # Pillow itself decodes the first with a warning, and refuses the second.
    side = 10_000
    (folder / "bomb.png").write_bytes(png(side, side, 1, 0, bytes(side * (1 + side // 8))))
    (folder / "header.png").write_bytes(png(60_000, 60_000, 8, 2, b""))
    bad["bomb.png"] = bad["header.png"] = "Pillow's MAX_IMAGE_PIXELS"
    # 20 MB if decoded, but 28 pixels high it is 5.6 million wide.
    Image.new("L", (1, 200_000)).save(folder / "thin.png")
    bad["thin.png"] = "1 × 200000"
    (folder / "gone.jpg").symlink_to(folder / "no such file")
    bad["gone.jpg"] = "No such file"


def _write_odd(folder: Path, good: dict[str, np.ndarray]) -> None:
    """Files without loss."""
    pixels = noise()
    image = Image.fromarray(pixels)
    grey, alpha = image.convert("L"), Image.fromarray(noise(1)[:, :, 0])
    three_greys = np.array(grey)[:, :, None].repeat(3, 2)

    def add(name: str, shown: np.ndarray, content: bytes) -> None:
        (folder / name).write_bytes(content)
        good[name] = shown

    add("plain.png", pixels, _encoded(image, "PNG"))
    add("UPPER.PNG", pixels, _encoded(image, "PNG"))
    add("png_named.jpg", pixels, _encoded(image, "PNG"))
    add("more_bytes.png", pixels, _encoded(image, "PNG") + b"more bytes")
    add("grey.png", three_greys, _encoded(grey, "PNG"))
    with_alpha = Image.merge("LA", [grey, alpha])
    add("grey_alpha.png", three_greys, _encoded(with_alpha, "PNG"))
    with_alpha = Image.merge("RGBA", [*image.split(), alpha])
    add("alpha.png", pixels, _encoded(with_alpha, "PNG"))
    add("see_through.webp", pixels, _encoded(with_alpha, "WEBP", lossless=True, exact=True))
    bits = Image.fromarray(noise()[:, :, 0] > 127)
    add("bits.png", np.array(bits.convert("RGB")), _encoded(bits, "PNG"))
    high, low = noise(), noise(2)
    deep = np.stack([high, low], axis=3).reshape(HEIGHT, -1)
    rows = np.pad(deep, ((0, 0), (1, 0))).tobytes()
    add("deep_colour.png", high, png(WIDTH, HEIGHT, 16, 2, rows))

    ink = Image.fromarray(255 - np.dstack([pixels, np.full_like(pixels[:, :, :1], 255)]), "CMYK")
    add("ink.tif", pixels, _encoded(ink, "TIFF"))

    few = image.quantize(64)
    shown = np.array(few.convert("RGB"))
    add("palette.png", shown, _encoded(few, "PNG"))
    add("palette.gif", shown, _encoded(few, "GIF"))
    add("palette_one_clear.png", shown, _encoded(few, "PNG", transparency=3))
    clear = bytes(range(0, 256, 4))
    add("palette_clear.png", shown, _encoded(few, "PNG", transparency=clear))
    others = [Image.fromarray(noise(seed)) for seed in (3, 4)]
    add("moving.gif", shown, _encoded(few, "GIF", save_all=True, append_images=others))
    moving = _encoded(image, "WEBP", save_all=True, append_images=others, lossless=True)
    add("moving.webp", pixels, moving)

    for name, kind in {"turned.png": "PNG", "turned.tif": "TIFF", "turned.webp": "WEBP"}.items():
        loss = {"lossless": True} if kind == "WEBP" else {}
        add(name, pixels, _encoded(_as_camera_6(image), kind, exif=_orientation(6), **loss))
    garbage = b"Exif\0\0" + b"garbage!" * 4
    add("bad_exif.png", pixels, _encoded(image, "PNG", exif=garbage))


def _write_jpegs(folder: Path, written: Written) -> None:
    """JPEGs: their colours are rounded."""
    image = Image.fromarray(slopes())
    black = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    ink = Image.fromarray(np.dstack([255 - slopes(), black]), "CMYK")
    # Adobe's other form, YCCK: luminance and colour of the negative.
    negative = np.array(ImageOps.invert(image).convert("YCbCr"))
    planes = np.dstack([255 - negative, black])
    ycck = _encoded(Image.fromarray(planes, "CMYK"), "JPEG", quality=95)
    marker = ycck.index(b"Adobe") + 11
    broken = _orientation(6).tobytes()[:16]
    Image.init()
    has_avif = "AVIF" in Image.SAVE  # not every Pillow has it
    fine, avif = {"quality": 95, "subsampling": 0}, {"quality": 95, "subsampling": "4:4:4"}
    for name, content in {
        "plain.jpeg": _encoded(image, "JPEG", **fine),
        "progressive.jpg": _encoded(image, "JPEG", progressive=True, **fine),
        "ink.jpg": _encoded(ink, "JPEG", **fine),
        "ink_ycck.jpg": ycck[:marker] + b"\2" + ycck[marker + 1 :],
        "turned.jpg": _encoded(_as_camera_6(image), "JPEG", exif=_orientation(6), **fine),
        "bad_exif.jpg": _encoded(image, "JPEG", exif=broken, **fine),
        **({"good.avif": _encoded(image, "AVIF", **avif)} if has_avif else {}),
    }.items():
        (folder / name).write_bytes(content)
        written.good[name] = slopes()
        written.tolerance[name] = 6


def _encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def _orientation(number: int) -> Image.Exif:
    """An EXIF block that says how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def _as_camera_6(image: Image.Image) -> Image.Image:
    """What a camera stores that was turned by a quarter, and says so by orientation 6."""
    return image.transpose(Image.Transpose.ROTATE_90)

# Reads picture files, and turns their pixels into the input of a network.
from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional as F

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._process import quiet, refused

_ORIENTATION = 0x0112  # the tag of EXIF and TIFF for the orientation of the camera
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | Path) -> Image.Image:
    """Read a picture file as 8-bit RGB, and turn it upright by its EXIF orientation.

    Args:
        path: A file in any format that Pillow reads.

    Returns:
        The picture, as ``decode_image`` makes it.

    Raises:
        ArgumentError: if the file is missing, is a folder, or if ``decode_image`` refuses it.

    Example:
        >>> import tempfile, os
        >>> from PIL import Image
        >>> from captum_infomask.models.preprocessing import read_image
        >>> path = os.path.join(tempfile.mkdtemp(), "grey.png")
        >>> Image.new("L", (4, 2)).save(path)
        >>> read_image(path).size
        (4, 2)
    """
    path = image_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArgumentError(
            f"Expected the image to be a file that can be read; got {path}: {error}."
        ) from error
    return decode_image(content, str(path))


def image_file(path: str | Path) -> Path:
    """Return the path of a picture file, which is not opened.

    Raises:
        ArgumentError: if it is missing or a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise ArgumentError(f"Expected the image to be a file; got the folder {path}.")
    if not path.exists():
        raise ArgumentError(f"Expected the image to be a file; {path} does not exist.")
    return path


def decode_image(content: bytes, name: str) -> Image.Image:
    """Decode a picture file's bytes as 8-bit RGB, and turn it upright by its EXIF orientation.

    For an animation, the first frame is decoded. Transparency is ignored, and the colours beneath
    it are shown, as with torchvision's ``ImageFolder`` in training. If there are 16 bits per
    colour, Pillow keeps the upper 8. If the EXIF block cannot be read, the picture is not turned.

    Args:
        content: The bytes of a file in any format that Pillow reads, except PostScript, which is a
            program.
        name: The file's name in error messages.

    Returns:
        The picture. No warning is given.

    Raises:
        ArgumentError: if the bytes are not a picture, are truncated or damaged, have more than 8
            bits of grey (which a conversion would clip silently), or hold more pixels than Pillow's
            ``MAX_IMAGE_PIXELS``. The last is checked before a pixel is decoded.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from captum_infomask.models.preprocessing import decode_image
        >>> file = io.BytesIO()
        >>> Image.new("CMYK", (1, 1), (0, 255, 255, 0)).save(file, "TIFF")
        >>> decode_image(file.getvalue(), "ink.tif").getpixel((0, 0))
        (255, 0, 0)
    """
    try:
        # Between its limit and twice its limit, Pillow only warns.
        bombs = refused(Image.DecompressionBombWarning)
        with quiet(""), bombs, Image.open(io.BytesIO(content)) as file:
            if file.format == "EPS":  # Ghostscript would run the file's program
                raise UnidentifiedImageError
            image = _loaded_upright(file)
            deep = image.mode in ("I", "F") or image.mode.startswith("I;")
            shown = image if deep else image.convert("RGB")
            shown.info = {}  # it is upright now, whatever its EXIF block says
    except UnidentifiedImageError:
        raise ArgumentError(
            f"Expected the image to be a picture file such as PNG or JPEG; {name} is not one."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ArgumentError(
            f"Expected the image to have at most {Image.MAX_IMAGE_PIXELS} pixels (Pillow's "
            f"MAX_IMAGE_PIXELS); {name} has more."
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise any kind of error for damage
        raise ArgumentError(
            f"Expected the image to be a whole picture file; {name} cannot be read: {error}."
        ) from error
    if deep:
        raise ArgumentError(
            f"Expected the image to have 8 bits per channel; {name} has Pillow mode {shown.mode!r}."
        )
    return shown


def _loaded_upright(file: Image.Image) -> Image.Image:
    """Decode a picture and turn it by its orientation; ignore the rest of its EXIF block."""
    if file.format == "TIFF":  # Pillow turns it while loading, and may fail at its other tags
        _orientation(file, alone=True)
        file.load()
        return file
    file.load()
    return upright(file)


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned by its camera's orientation (EXIF); itself if there is none.

    Example:
        >>> from PIL import Image
        >>> from captum_infomask.models.preprocessing import upright
        >>> image = Image.new("RGB", (4, 3))
        >>> image.getexif()[0x0112] = 6
        >>> upright(image).size
        (3, 4)
    """
    method = _UPRIGHT.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _orientation(file: Image.Image, *, alone: bool = False) -> int:
    """Read the camera's orientation, 1 if it is not given; ``alone`` drops the other tags."""
    try:
        exif = file.getexif()
        if alone:
            for tag in set(exif) - {_ORIENTATION}:
                del exif[tag]
        if _ORIENTATION in exif:
            return int(exif[_ORIENTATION])
        return _orientation_in(file.info.get("exif", b""))
    except MemoryError:
        raise
    except Exception:  # a damaged block can raise any error
        return 1


def _orientation_in(block: bytes) -> int:
    """Find the orientation if Pillow, up to 12, stopped at a damaged tag before it."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = "<" if block.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", block, place)
        if tag == _ORIENTATION:
            return int(value)
    return 1


@dataclass(frozen=True)
class Preprocess:
    """From a photograph to the tensor that a network was trained on.

    The picture is resized, and ``crop`` is cut out of the centre; pixels outside the picture are
    black. Then every channel becomes ``(p / 255 − mean) / std``. The two steps are separate
    methods, so a figure can show exactly the pixels that the network saw.

    Args:
        resize: The size after resizing, in pixels: the shorter side, or (height, width), which
            does not keep the picture's proportions.
        crop: The size of the part that is cut out, in pixels: (height, width), or the side of a
            square.
        mean: Per channel, the value that is subtracted from pixels in [0, 1]. One entry makes the
            picture grey.
        std: Per channel, the value by which the result is divided.
        interpolation: The method of resampling.
        rounds_down: Where the centre lies between two pixels, whether the part begins at the first,
            as in Hugging Face's image processors, or at the even one, as in torchvision.

    Example:
        >>> from PIL import Image
        >>> from captum_infomask.models.preprocessing import Preprocess
        >>> tuple(Preprocess()(Image.new("RGB", (640, 480))).shape)
        (1, 3, 224, 224)

    Source:
        torchvision's ``ImageClassification`` transforms, on 8-bit pictures.
    """

    resize: int | tuple[int, int] = 256
    crop: int | tuple[int, int] = 224
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    interpolation: InterpolationMode = InterpolationMode.BILINEAR
    rounds_down: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the network's input."""
        height, width = self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)
        return len(self.mean), height, width

    def frame(self, image: Image.Image) -> Image.Image:
        """Return the resized and cropped picture, in the 8-bit pixels that the network sees.

        It is RGB and upright: if the picture says how the camera was held (EXIF), it is turned. If
        the network sees grey, the three channels are equal.

        Raises:
            ArgumentError: if ``image`` is no picture of Pillow, or one side is so much shorter than
                the other that the resized picture would have more pixels than Pillow's
                ``MAX_IMAGE_PIXELS``.
        """
        if not isinstance(image, Image.Image):
            raise ArgumentError(
                f"Expected `image` to be a picture of Pillow; got {describe(image)}. "
                f"read_image(path) reads a file, and PIL.Image.fromarray takes an array."
            )
        image = upright(image)
        width, height = self._resized(image.size)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and width * height > limit:
            raise ArgumentError(
                f"Expected the image to have at most {limit} pixels (Pillow's MAX_IMAGE_PIXELS) "
                f"when its shorter side is {self.shorter_side}; got {image.width} × {image.height}."
            )
        if len(self.mean) == 1:
            image = image.convert("L").convert("RGB")
        resized = F.resize(image, [height, width], self.interpolation)
        x, y = (self._cut(*sides) for sides in zip(resized.size, self.shape[:0:-1], strict=True))
        return resized.crop((x, y, x + self.shape[2], y + self.shape[1]))  # type: ignore[no-any-return]

    @property
    def shorter_side(self) -> int:
        """The shorter side after resizing, in pixels."""
        return self.resize if isinstance(self.resize, int) else min(self.resize)

    def enlarged(self, times: int) -> Preprocess:
        """Return the preprocessing that shows the same part in ``times`` as many pixels a side."""
        _, height, width = self.shape
        sides = self.resize
        resize = sides * times if isinstance(sides, int) else (sides[0] * times, sides[1] * times)
        return replace(self, resize=resize, crop=(height * times, width * times))

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of a picture of this size after resizing."""
        if not isinstance(self.resize, int):
            return self.resize[1], self.resize[0]
        short = min(size)
        return self.resize * size[0] // short, self.resize * size[1] // short

    def _cut(self, resized: int, shown: int) -> int:
        """The margin that is cut off; negative if one is added, as the picture is smaller."""
        if self.rounds_down:
            return (resized - shown) // 2
        return round((resized - shown) / 2) if resized > shown else -((shown - resized) // 2)

    def in_picture(self, box: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the box in a whole picture that holds a box in its frame.

        Args:
            box: x0, y0, x1, y1 in pixels of the frame, half-open.
            size: (width, height) of the picture.

        Returns:
            x0, y0, x1, y1 in pixels of the picture, half-open, within the picture.

        Example:
            >>> from captum_infomask.models.preprocessing import Preprocess
            >>> Preprocess(resize=256, crop=224).in_picture((0, 0, 224, 112), (640, 512))
            (96, 32, 544, 256)
        """
        ends = []
        for side, resized, shown, low, high in zip(
            size, self._resized(size), self.shape[:0:-1], box[:2], box[2:], strict=True
        ):
            cut = self._cut(resized, shown)
            ends.append(
                (
                    min(max((low + cut) * side // resized, 0), side),
                    min(max(-(-(high + cut) * side // resized), 0), side),
                )
            )
        (x0, x1), (y0, y1) = ends
        return x0, y0, x1, y1

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the picture as a normalised float tensor of shape (1, C, H, W)."""
        pixels = F.to_tensor(self.frame(image))[: len(self.mean)]
        return F.normalize(pixels, list(self.mean), list(self.std))[None]  # type: ignore[no-any-return]

# Picture files, and their way from pixels to what a network was trained on.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from captum_infomask._checks import ArgumentError

# Pillow reports a damaged file as any of these, depending on its format.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_image(path: str | Path) -> Image.Image:
    """Read a picture file as 8-bit RGB, turned upright as its EXIF orientation says.

    Args:
        path: A file in any format that Pillow reads.

    Returns:
        The picture.

    Raises:
        ArgumentError: if the file is missing, a folder, no picture, truncated, or has more than
            8 bits per channel (which a conversion would clip silently).

    Example:
        >>> import tempfile, os
        >>> from PIL import Image
        >>> from captum_infomask.models.pictures import read_image
        >>> path = os.path.join(tempfile.mkdtemp(), "grey.png")
        >>> Image.new("L", (4, 2)).save(path)
        >>> read_image(path).size
        (4, 2)
    """
    path = Path(path)
    if path.is_dir():
        raise ArgumentError(f"Expected the image to be a file; got the folder {path}.")
    if not path.exists():
        raise ArgumentError(f"Expected the image to be a file; {path} does not exist.")
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ArgumentError(
            f"Expected the image to be a picture file such as PNG or JPEG; {path} is not one."
        ) from None
    except _UNREADABLE as error:
        raise ArgumentError(
            f"Expected the image to be a whole picture file; {path} cannot be read: {error}."
        ) from error
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ArgumentError(
            f"Expected the image to have 8 bits per channel; {path} has Pillow mode {image.mode!r}."
        )
    return image.convert("RGB")


@dataclass(frozen=True)
class Preprocess:
    """From a photograph to the tensor that a network was trained on.

    The shorter side is resized to ``resize``, the centre ``crop`` × ``crop`` is cut out, and every
    channel becomes ``(p / 255 − mean) / std``. The two steps are methods of their own so that a
    figure can show exactly the pixels that the network saw.

    Args:
        resize: Shorter side after resizing, in pixels.
        crop: Side of the square that is cut from the centre, in pixels.
        mean: Per channel, subtracted from pixels in [0, 1].
        std: Per channel, divides the result.
        interpolation: How pixels are resampled.

    Example:
        >>> from PIL import Image
        >>> from captum_infomask.models.pictures import Preprocess
        >>> tuple(Preprocess()(Image.new("RGB", (640, 480))).shape)
        (1, 3, 224, 224)

    Source:
        torchvision's ``ImageClassification`` transforms, on 8-bit pictures.
    """

    resize: int = 256
    crop: int = 224
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    interpolation: InterpolationMode = InterpolationMode.BILINEAR

    def frame(self, image: Image.Image) -> Image.Image:
        """Return the resized and cropped picture, in the 8-bit pixels that the network sees."""
        resized = F.resize(image, [self.resize], self.interpolation)
        return F.center_crop(resized, [self.crop, self.crop])  # type: ignore[no-any-return]

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the picture as a normalised float tensor of shape (1, C, H, W)."""
        pixels = F.to_tensor(self.frame(image))
        return F.normalize(pixels, list(self.mean), list(self.std))[None]  # type: ignore[no-any-return]

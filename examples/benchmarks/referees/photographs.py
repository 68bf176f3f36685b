# What scikit-image brings: photographs whose class a network knows, and pictures to lie behind.
from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
from PIL import Image

Pixels = npt.NDArray[np.uint8]

# Name and ImageNet class.
KNOWN = {"coffee": 967, "camera": 872, "rocket": 657, "chelsea": 282, "motorcycle_left": 665}
TEXTURES = ("brick", "grass", "gravel", "ihc", "retina")
SCENES = ("astronaut", "coffee", "chelsea", "motorcycle_left", "rocket", "ihc", "hubble_deep_field")


@cache
def photograph(name: str) -> Pixels:
    """One of scikit-image's pictures, (H, W, 3), from the installed package, no download."""
    folder = Path(skimage.__file__).parent / "data"
    (path,) = [file for end in ("png", "jpg") if (file := folder / f"{name}.{end}").is_file()]
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def square(picture: Pixels) -> Pixels:
    """The largest square in the middle."""
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]

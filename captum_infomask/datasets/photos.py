# scikit-image's own photos.
from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
from PIL import Image

from captum_infomask._checks import one_of
from captum_infomask._errors import ArgumentError

_PHOTOS = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle_left": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}


def sample_photo(name: str) -> npt.NDArray[np.uint8]:
    """Read one of scikit-image's own photos, from the installed package, without a download.

    Args:
        name: astronaut, camera (grey), chelsea, coffee, motorcycle_left or rocket.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        ArgumentError: if the name is unknown (the error names the nearest one), or if this version
            of scikit-image does not have the photo.

    Example:
        >>> from captum_infomask.datasets import sample_photo
        >>> sample_photo("coffee").shape
        (400, 600, 3)

    Source: scikit-image's data folder, which states each photo's origin and licence.
    """
    # skimage.data.coffee() is not used, because it may fetch over the network.
    folder = Path(skimage.__file__).parent / "data"
    path = folder / _PHOTOS[one_of("name", name, _PHOTOS)]
    if not path.is_file():
        raise ArgumentError(
            f"Expected the installed scikit-image to ship the photo `name`={name!r}; "
            f"its data folder has no {path.name}."
        )
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB"))

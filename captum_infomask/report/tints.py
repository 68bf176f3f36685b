# Colours over a pale grey photograph: how attributions are laid over what they are about.
from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from captum_infomask.report.rows import FloatArray, PhotoArray

RGB = npt.NDArray[np.float64]

OPACITY = 0.8  # of a colour at the end of its scale, over the grey photograph
COLOUR_REACH = 0.85  # how far into the colour map: its very ends are almost black


def pale_grey(photo: PhotoArray) -> RGB:
    """The photograph as a ground for colours: no colours of its own, and no black.

    Args:
        photo: (H, W, 3), uint8.

    Returns:
        (H, W, 3) from 0.3 to 1.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.tints import pale_grey
        >>> pale_grey(np.zeros((1, 1, 3), np.uint8))
        array([[[0.3, 0.3, 0.3]]])
    """
    grey: RGB = np.asarray(photo, dtype=np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2)
    return 0.3 + 0.7 * grey / 255


def tint(values: FloatArray, limit: float, ground: RGB) -> RGB:
    """Lay colours over a ground, the stronger the larger the magnitude.

    Args:
        values: (H, W), any unit: red above 0, blue below.
        limit: The magnitude of full colour.
        ground: (H, W, 3), what shows through where values are near 0.

    Returns:
        (H, W, 3) from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.tints import tint
        >>> ground = np.full((1, 1, 3), 0.5)
        >>> bool((tint(np.zeros((1, 1), np.float32), 1.0, ground) == ground).all())
        True
    """
    scaled = np.clip(values / limit, -1, 1)
    colours = colormaps["RdBu_r"](0.5 + COLOUR_REACH * scaled / 2)[..., :3]
    opacity = (OPACITY * np.abs(scaled) ** 0.5)[..., None]
    tinted: RGB = opacity * colours + (1 - opacity) * ground
    return tinted

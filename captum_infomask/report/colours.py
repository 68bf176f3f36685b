# Colour maps, colours over a pale grey photograph, and pictures as data URIs.
from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image

from captum_infomask.report.page_content import FloatArray, PhotoArray

LOSSLESS_UP_TO = 400_000  # bytes; a photograph of 224 x 224 pixels takes about 100,000
_QUALITY = 92
# Name, matplotlib's colour map, and whether it has two arms. Readers who confuse red and green can
# read all of them. The last shows positive values only, light on dark.
_MAPS = (
    ("blue, white, red", "RdBu_r", True),
    ("purple, white, orange", "PuOr_r", True),
    ("cividis, positive only", "cividis_r", False),
)


def picture_uri(pixels: PhotoArray) -> str:
    """Return a picture as a PNG data URI, or as a JPEG if the PNG would be large.

    Args:
        pixels: (H, W, 3), uint8.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colours import picture_uri
        >>> picture_uri(np.zeros((2, 2, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    image = Image.fromarray(pixels)
    png = _encoded(image, "PNG", optimize=True)
    if len(png) <= LOSSLESS_UP_TO:
        return f"data:image/png;base64,{base64_text(png)}"
    jpeg = _encoded(image, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64_text(jpeg)}"


def base64_text(data: bytes) -> str:
    """Return bytes as base64, in ASCII."""
    return base64.b64encode(data).decode("ascii")


def _encoded(image: Image.Image, kind: str, **settings: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


STEPS = 256


def colour_tables() -> list[dict[str, Any]]:
    """Return the colour maps, from −1 to 1 in 256 steps.

    Returns:
        For each map its name, whether values below 0 have colours, and base64 of (256, 3) bytes.

    Example:
        >>> from captum_infomask.report.colours import colour_tables
        >>> [table["name"] for table in colour_tables()]
        ['blue, white, red', 'purple, white, orange', 'cividis, positive only']
    """
    scaled = np.linspace(-1, 1, STEPS)
    tables = []
    for name, source, signed in _MAPS:
        place = 0.5 + COLOUR_REACH * scaled / 2 if signed else scaled.clip(0)
        table = colormaps[source](place, bytes=True)[:, :3]
        tables.append({"name": name, "signed": signed, "table": base64_text(table.tobytes())})
    return tables


RGB = npt.NDArray[np.float64]

OPACITY = 0.8  # opacity of a colour at the end of its scale, over the grey photograph
COLOUR_REACH = 0.85  # part of the colour map that is used: its very ends are almost black


def pale_grey(photo: PhotoArray) -> RGB:
    """Return the photograph as a ground for colours: no colours of its own, and no black.

    Args:
        photo: (H, W, 3), uint8.

    Returns:
        (H, W, 3) from 0.3 to 1.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colours import pale_grey
        >>> pale_grey(np.zeros((1, 1, 3), np.uint8))
        array([[[0.3, 0.3, 0.3]]])
    """
    grey: RGB = np.asarray(photo, dtype=np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2)
    return 0.3 + 0.7 * grey / 255


def tint(values: FloatArray, limit: float, ground: RGB) -> RGB:
    """Lay colours over a ground; a larger magnitude has a stronger colour.

    Args:
        values: (H, W), any unit: red above 0, blue below.
        limit: The magnitude of full colour.
        ground: (H, W, 3), the ground that shows through where values are near 0.

    Returns:
        (H, W, 3) from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colours import tint
        >>> ground = np.full((1, 1, 3), 0.5)
        >>> bool((tint(np.zeros((1, 1), np.float32), 1.0, ground) == ground).all())
        True
    """
    scaled = np.clip(values / limit, -1, 1)
    colours = colormaps["RdBu_r"](0.5 + COLOUR_REACH * scaled / 2)[..., :3]
    opacity = (OPACITY * np.abs(scaled) ** 0.5)[..., None]
    tinted: RGB = opacity * colours + (1 - opacity) * ground
    return tinted

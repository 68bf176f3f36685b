# Colour maps, the colours of a map over its photograph, and pictures as data URIs.
from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Colormap
from PIL import Image

from captum_infomask.report.page_content import FloatArray, PhotoArray

LOSSLESS_UP_TO = 400_000  # bytes; a photograph of 224 x 224 pixels takes about 100,000
_QUALITY = 92
# Name, matplotlib's colour map, and whether it has two arms. Readers who confuse red and green can
# read all of them. None is that of Shades, over the photograph's own colours; the others lie over a
# grey one. The last shows positive values only, light on dark.
_MAPS = (
    ("blue, pink, yellow", None, True),
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
        For each map its name, whether values below 0 have colours, whether it lies over the
        photograph's own colours, and base64 of (256, 3) bytes.

    Example:
        >>> from captum_infomask.report.colours import colour_tables
        >>> [table["name"] for table in colour_tables()][:2]
        ['blue, pink, yellow', 'blue, white, red']
    """
    scaled = np.linspace(-1, 1, STEPS, dtype=np.float32)
    tables = []
    for name, source, signed in _MAPS:
        place = 0.5 + COLOUR_REACH * scaled / 2 if signed else scaled.clip(0)
        colours = Shades(1.0).colours(scaled) if source is None else colormaps[source](place)
        table = np.rint(255 * colours[:, :3]).astype(np.uint8)
        tables.append(
            {
                "name": name,
                "signed": signed,
                "overPhoto": source is None,
                "table": base64_text(table.tobytes()),
            }
        )
    return tables


RGB = npt.NDArray[np.float64]

OPACITY = 0.8  # of a colour at the end of its scale
COLOUR_REACH = 0.85  # part of the colour map that is used: its very ends are almost black
_FADE = (0.1, 0.9)  # shares of the limit between which a colour appears
_ABOVE = "plasma", 0.42, 0.96  # pink over orange to yellow
_BELOW = np.array([[49, 83, 200], [53, 182, 230], [195, 251, 255]]) / 255  # blue to pale cyan


@dataclass(frozen=True)
class Shades:
    """The colours of a map: which colour a value has, and how opaque it is.

    Args:
        limit: The magnitude of full colour, in the map's unit.
        cmap: A colour map of matplotlib. It runs from 0 to ``limit``, or from −``limit`` if
            ``signed``. None is pink over orange to yellow above 0, and blue to cyan below.
        signed: Whether the map has values below 0.
        alpha: The opacity at ``limit``. It falls to 0 near 0.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.colours import Shades
        >>> photo = np.full((1, 2, 3), 0.5)
        >>> over = Shades(limit=2.0).over(np.array([[0.0, 2.0]], np.float32), photo)
        >>> over.round(1).tolist()
        [[[0.5, 0.5, 0.5], [0.9, 0.8, 0.2]]]
    """

    limit: float
    cmap: Colormap | None = None
    signed: bool = False
    alpha: float = OPACITY

    def colours(self, values: FloatArray) -> RGB:
        """Return the colours of values, (..., 3), at full opacity."""
        scaled = np.clip(values / self.limit, -1, 1)
        if self.cmap is not None:
            place = (1 + scaled) / 2 if self.signed else scaled
            chosen: RGB = self.cmap(place)[..., :3]
            return chosen
        name, first, last = _ABOVE
        above = colormaps[name](first + (last - first) * scaled.clip(0))[..., :3]
        stops = np.linspace(0, 1, len(_BELOW))
        below = np.stack([np.interp(-scaled, stops, part) for part in _BELOW.T], axis=-1)
        return np.where((scaled >= 0)[..., None], above, below)

    def over(self, values: FloatArray, ground: RGB) -> RGB:
        """Lay the colours over a ground, which shows where values are near 0 or NaN.

        Args:
            values: (H, W), in the map's unit.
            ground: (H, W, 3) from 0 to 1.

        Returns:
            (H, W, 3) from 0 to 1.
        """
        known = np.nan_to_num(values, nan=0.0, posinf=self.limit, neginf=-self.limit)
        low, high = _FADE
        t = np.clip((np.abs(known) / self.limit - low) / (high - low), 0, 1)
        opacity = (self.alpha * t * t * (3 - 2 * t))[..., None]
        return opacity * self.colours(known) + (1 - opacity) * ground

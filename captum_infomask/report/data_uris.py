# Pictures inside a page: data URIs.
from __future__ import annotations

import base64
import io

from PIL import Image

from captum_infomask.report.rows import PhotoArray

LOSSLESS_UP_TO = 400_000  # bytes; a photograph of 224 x 224 pixels takes about 100,000
_QUALITY = 92


def picture_uri(pixels: PhotoArray) -> str:
    """A picture as a PNG data URI; as a JPEG where the PNG would be large.

    Args:
        pixels: (H, W, 3), uint8.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.data_uris import picture_uri
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
    """Bytes as base64, in ASCII."""
    return base64.b64encode(data).decode("ascii")


def _encoded(image: Image.Image, kind: str, **settings: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()

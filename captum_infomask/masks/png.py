# Writes and reads attributions as 16-bit grey PNG files that keep their unit.
from __future__ import annotations

import json
import math
from os import PathLike
from typing import Literal

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from captum_infomask._checks import describe, finite_number, one_of, short_repr
from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_input, output_file
from captum_infomask._process import refused

_KEY = "captum_infomask"
_FORMAT = "grey level × scale + offset"
_LEVELS = 65535
_DEFLATE = 1032  # the most times that PNG's compressed data can grow
_NATS = {"bits": math.log(2), "nats": 1.0}


def save_png(
    attributions: Tensor, path: str | PathLike[str], *, unit: Literal["bits", "nats"] = "bits"
) -> None:
    r"""Write one picture's attributions as a 16-bit grey PNG that :func:`read_png` can read.

    .. math::

        g = \mathrm{round}\!\left(65535 \, \frac{a - \min a}{\max a - \min a}\right)

    The file's text holds scale, offset and unit. So the error of :func:`read_png` is at most half a
    grey level: (max − min) / 131,070.

    Args:
        attributions: Floating-point (1, C, H, W) with equal channels, like InfoMask's.
        path: Where to write.
        unit: The unit of the attributions.

    Raises:
        ArgumentError: ``attributions`` has another shape, channels that differ, NaN or infinity, or
            too wide a range; ``path`` cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from captum_infomask.masks.png import read_png, save_png
        >>> bits = torch.tensor([[[[-1.0, 0.0, 6.5]]]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_png(bits, Path(folder, "bits.png"))
        ...     back = read_png(Path(folder, "bits.png"))
        >>> bool((back - bits).abs().max() <= 7.5 / 131070)
        True
    """
    one_of("unit", unit, _NATS)
    values = _plane(attributions)
    offset = float(values.min())
    scale = (float(values.max()) - offset) / _LEVELS
    if not math.isfinite(scale):
        raise ArgumentError("Expected `attributions` whose range is finite; got a wider one.")
    levels = np.rint((values - offset) / scale) if scale > 0 else np.zeros_like(values)
    text = PngImagePlugin.PngInfo()
    settings = {"format": _FORMAT, "unit": unit, "scale": scale, "offset": offset}
    text.add_text(_KEY, json.dumps(settings, ensure_ascii=True))
    picture = Image.fromarray(levels.clip(0, _LEVELS).astype(np.uint16))
    with output_file("path", path) as beside:
        picture.save(beside, format="PNG", pnginfo=text)


def read_png(path: str | PathLike[str], *, unit: Literal["bits", "nats"] = "bits") -> Tensor:
    """Read the attributions that :func:`save_png` wrote.

    Args:
        path: The file.
        unit: The unit of the result; it may differ from the file's.

    Returns:
        (1, 1, H, W), float64, within half a grey level of the written values.

    Raises:
        ArgumentError: ``path`` is not a file that ``save_png`` wrote, or was changed later.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from captum_infomask.masks.png import read_png, save_png
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_png(torch.ones(1, 3, 2, 2), Path(folder, "bits.png"))
        ...     read_png(Path(folder, "bits.png"))
        tensor([[[[1., 1.],
                  [1., 1.]]]], dtype=torch.float64)
    """
    one_of("unit", unit, _NATS)
    file = check_input("path", path)
    try:
        # Between its limit and twice its limit, Pillow only warns.
        bombs = refused(Image.DecompressionBombWarning)
        with bombs, Image.open(file, formats=["PNG"]) as picture:
            _check_size(picture, file.stat().st_size)
            picture.load()
            text = picture.info.get(_KEY)
            levels = np.asarray(picture).astype(np.float64)
            mode = picture.mode
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises several kinds of errors for damage
        raise ArgumentError(
            f"Expected `path` to be a PNG file that save_png wrote; got {path} ({error})."
        ) from error
    if text is None:
        raise ArgumentError(
            f"Expected `path` to be a PNG file that save_png wrote; got {path}, whose text says "
            f"nothing of scale and unit. Programs that write a picture anew often drop its text."
        )
    try:
        settings = json.loads(text)
        found = _NATS[settings["unit"]]
        scale, offset = finite_number("scale", settings["scale"], least=0), settings["offset"]
        values = levels * scale + finite_number("offset", offset)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArgumentError(
            f"Expected `path` with scale, offset and unit in its text; got {path} with "
            f"{short_repr(text)}."
        ) from error
    if not mode.startswith("I") or levels.ndim != 2 or not np.isfinite(values).all():
        raise ArgumentError(
            f"Expected `path` to hold 16-bit grey levels; got {path} of mode {mode}: it was "
            f"changed after save_png wrote it."
        )
    return torch.from_numpy(values * (found / _NATS[unit]))[None, None]


def _check_size(picture: Image.Image, size: int) -> None:
    """Refuse a header that claims more than a file of this size can hold."""
    claimed = 2 * picture.width * picture.height
    if claimed > _DEFLATE * size:
        raise ValueError(f"its header claims {picture.width} x {picture.height} pixels")


def _plane(attributions: object) -> np.ndarray:
    """The values of one picture, (H, W), float64."""
    if (
        not isinstance(attributions, Tensor)
        or not attributions.is_floating_point()
        or attributions.dim() != 4
        or len(attributions) != 1
        or attributions.numel() == 0
    ):
        raise ArgumentError(
            "Expected `attributions` of one picture, floating-point (1, C, H, W); got "
            f"{describe(attributions)}. attributions[i : i + 1] is the i-th of a batch."
        )
    if not bool(attributions.isfinite().all()):
        raise ArgumentError("Expected `attributions` without NaN or infinity; got some.")
    if bool((attributions != attributions[:, :1]).any()):
        raise ArgumentError(
            "Expected `attributions` whose channels are alike; got channels that differ. "
            "attributions.sum(1, keepdim=True) adds them."
        )
    return attributions[0, 0].detach().double().cpu().numpy()

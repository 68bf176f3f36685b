# What one method gave for one photograph, in plain arrays: the rows of the figure.
from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
PhotoArray: TypeAlias = npt.NDArray[np.uint8]

_PER_PIXEL, _PER_PERCENT = " per pixel", " per 1%"


def density(unit: str) -> str:
    """What values are counted in whose sum over the pixels is in the unit."""
    return f"{unit}{_PER_PIXEL}"


def as_shown(plane: FloatArray, unit: str) -> tuple[FloatArray, str]:
    """A map as pictures and tables show it: a density's values per 1% of the picture.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.rows import as_shown, density
        >>> plane, unit = as_shown(np.full((20, 20), 0.5, np.float32), density("bits"))
        >>> float(plane[0, 0]), unit
        (2.0, 'bits per 1%')
    """
    if not unit.endswith(_PER_PIXEL):
        return plane, unit
    scale = np.float32(plane.shape[-2] * plane.shape[-1] / 100)
    return plane * scale, unit.removesuffix(_PER_PIXEL) + _PER_PERCENT


@dataclass(frozen=True)
class MethodResult:
    """What a method said about a picture.

    Args:
        attribution: (H, W), in ``unit``.
        mask: (H, W), what the threshold keeps.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.rows import MethodResult
        >>> values = np.array([[1.0, 3.0]], dtype=np.float32)
        >>> MethodResult(values, values > 2).share
        0.5
    """

    attribution: FloatArray
    mask: BoolArray

    @property
    def largest(self) -> float:
        """The largest value, in the method's unit."""
        return float(self.attribution.max())

    @property
    def share(self) -> float:
        """The share of the picture that the mask keeps, from 0 to 1."""
        return float(self.mask.mean())


@dataclass(frozen=True)
class MethodRow:
    """One method's row: what it is called, and what it gave.

    Args:
        name: The method's name.
        unit: What its values are counted in.
        result: What it gave; None where it failed.
        error: Why it failed; empty where it did not.
        meaning: What its values say, in a few words.

    Example:
        >>> import numpy as np
        >>> from captum_infomask.report.rows import MethodResult, MethodRow
        >>> values = np.eye(2, dtype=np.float32)
        >>> row = MethodRow("InfoMask crop", "bits", MethodResult(values, values > 0.2))
        >>> row.result.largest, row.result.share
        (1.0, 0.5)
    """

    name: str
    unit: str
    result: MethodResult | None = None
    error: str = ""
    meaning: str = ""

    @property
    def numbers(self) -> str:
        """What a map's values come to, and what its mask keeps."""
        if self.result is None:
            return ""
        values = f"largest {self.result.largest:.2f} {self.unit}"
        if self.unit.endswith(_PER_PERCENT):
            whole = 100 * float(self.result.attribution.mean())
            values = f"sums to {whole:.2f} {self.unit.removesuffix(_PER_PERCENT)}"
        return f"{values}, mask {self.result.share:.0%} of the picture"

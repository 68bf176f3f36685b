# What one method gave for one photograph, in plain arrays: the rows of the figure.
from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
PhotoArray: TypeAlias = npt.NDArray[np.uint8]


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

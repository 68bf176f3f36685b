# Numbers that two computations may round differently.
from __future__ import annotations

from typing import Any

import numpy as np


def within_ulps(a: Any, b: Any, ulps: int) -> bool:
    """Whether arrays of one shape lie within so many units in the last place of the larger one.

    The unit is that of the coarser of the two types: the double of a float32 number is as exact as
    that number. NaN equals NaN. Bit equality is for the same computation, done twice.

    Args:
        a: Floating-point numbers.
        b: The same by another path.
        ulps: Units in the last place.
    """
    a, b = np.asarray(a), np.asarray(b)
    coarser = min((a.dtype, b.dtype), key=lambda dtype: dtype.itemsize)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    unit = np.spacing(np.fmax(abs(wide_a), abs(wide_b)).astype(coarser)).astype(np.float64)
    close = (abs(wide_a - wide_b) <= ulps * unit) | (wide_a == wide_b)
    return a.shape == b.shape and bool((close | (np.isnan(wide_a) & np.isnan(wide_b))).all())

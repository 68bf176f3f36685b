# Which imputer an attribute call means.
from __future__ import annotations

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Baselines
from captum_infomask.imputers.base import Imputer
from captum_infomask.imputers.constant import Constant


def choose_imputer(baselines: Baselines, imputer: object) -> Imputer:
    """``imputer``, or the constant one of ``baselines`` (0 if None)."""
    if imputer is None:
        return Constant(baselines)
    if baselines is not None:
        raise ArgumentError("Expected one of `baselines` and `imputer`; got both.")
    if not isinstance(imputer, Imputer) or isinstance(imputer, type):
        raise ArgumentError(
            f"Expected `imputer` to be an imputer, such as Constant(0) or Blur(); got "
            f"{describe(imputer)}."
        )
    return imputer

# Which imputer a call means: an object, a name, or the constant of `baselines`.
from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Baselines
from captum_infomask.imputers.constant import Constant
from captum_infomask.imputers.imputer_protocol import Imputer
from captum_infomask.imputers.noise import NormalNoise, UniformNoise
from captum_infomask.imputers.noisy_linear import NoisyLinear
from captum_infomask.imputers.remove_tokens import RemoveTokens
from captum_infomask.imputers.surroundings import Blur, Inpaint, LocalMean

ImputerName = Literal[
    "blur",
    "local_mean",
    "inpaint",
    "noisy_linear",
    "uniform_noise",
    "normal_noise",
    "remove_tokens",
]

# Those that need no settings. The patches of other pictures need these pictures.
NAMED: dict[str, Callable[[], Imputer]] = {
    "blur": Blur,
    "local_mean": LocalMean,
    "inpaint": Inpaint,
    "noisy_linear": NoisyLinear,
    "uniform_noise": UniformNoise,
    "normal_noise": NormalNoise,
    "remove_tokens": RemoveTokens,
}


def as_imputer(given: object) -> Imputer | None:
    """The imputer that an object or a name means; None for None.

    Raises:
        ArgumentError: It is no imputer, and no imputer's name.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return NAMED[one_of("imputer", given, NAMED)]()
    if not isinstance(given, Imputer) or isinstance(given, type):
        raise ArgumentError(
            f"Expected `imputer` to be an imputer, such as Constant(0) or Blur(), or the name of "
            f"one, such as 'blur'; got {describe(given)}."
        )
    return given


def choose_imputer(baselines: Baselines, imputer: object) -> Imputer:
    """``imputer``, or the constant one of ``baselines`` (0 if None)."""
    if imputer is not None and baselines is not None:
        raise ArgumentError("Expected one of `baselines` and `imputer`; got both.")
    found = as_imputer(imputer)
    return Constant(baselines) if found is None else found

# The only file that imports Captum's private helpers.
from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
    _format_output as format_output,
    _is_mask_valid as is_mask_valid,
)
from captum.attr._utils.attribution import PerturbationAttribution
from captum.log import log_usage

_P = ParamSpec("_P")
_R = TypeVar("_R")

__all__ = [
    "PerturbationAttribution",
    "format_additional_forward_args",
    "format_output",
    "is_mask_valid",
    "logged",
]


def logged(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let Captum log the use of a method, if the user turned this on; its type stays the same."""
    made: Callable[_P, _R] = log_usage()(method)
    return made

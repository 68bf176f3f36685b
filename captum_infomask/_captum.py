# The only file that imports Captum's private helpers.
from __future__ import annotations

from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
    _format_output as format_output,
    _is_mask_valid as is_mask_valid,
)
from captum.attr._utils.attribution import PerturbationAttribution
from captum.log import log_usage

__all__ = [
    "PerturbationAttribution",
    "format_additional_forward_args",
    "format_output",
    "is_mask_valid",
    "log_usage",
]

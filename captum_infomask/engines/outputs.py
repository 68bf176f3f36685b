# What a forward function gives back for a chunk of views, checked.
from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from captum_infomask._checks import ArgumentError
from captum_infomask.views.plan import ViewPlan


def check_batch_dimension(plan: ViewPlan, error: Exception) -> None:
    """Where a network cannot take what looks like one image without a batch, say so."""
    inputs = plan.scene.inputs
    if plan.hidden == "nothing" and len(inputs) == 1 and inputs[0].dim() == 3:
        shape = tuple(inputs[0].shape)
        if shape[0] in (1, 3):
            raise ArgumentError(
                f"Expected `inputs` with a batch dimension, (N, C, H, W) for images; got {shape}, "
                f"for which `forward_func` raised {type(error).__name__}: {error} "
                f"inputs.unsqueeze(0) adds a batch dimension."
            ) from error


def check_output(output: object, views: int) -> Tensor:
    """Return an output that has one row per view."""
    if not isinstance(output, Tensor):
        part = f"[{next(iter(output))!r}]" if isinstance(output, Mapping) and output else ".logits"
        raise ArgumentError(
            f"Expected `forward_func` to return a tensor; got {type(output).__name__}. Wrap the "
            f"model, e.g. lambda x: model(x){part}."
        )
    if output.dim() == 0 or len(output) != views:
        raise ArgumentError(
            f"Expected `forward_func` to return one row per example, {views} in all; got shape "
            f"{tuple(output.shape)}."
        )
    return output

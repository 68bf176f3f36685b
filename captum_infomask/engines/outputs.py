# What a forward function gives back for a chunk of views, checked.
from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from captum_infomask._checks import ArgumentError
from captum_infomask.engines.base import Call
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


def changed_classes(first: Sequence[int], other: Sequence[int], call: Call) -> ArgumentError:
    """The error for a network whose number of classes is not the same in every pass."""
    shapes = f"(N, {', '.join(map(str, first))}) and then (N, {', '.join(map(str, other))})"
    followed = [
        f"[{place}] of shape {tuple(arg.shape)}"
        for place, (arg, follows) in enumerate(
            zip(call.additional_forward_args, call.per_example, strict=False)
        )
        if follows
    ]
    if not followed:
        return ArgumentError(
            f"Expected `forward_func` to return the same classes in every pass; got {shapes}."
        )
    return ArgumentError(
        f"Expected `forward_func` to return the same classes in every pass; got {shapes}. "
        f"`additional_forward_args`{', '.join(followed)} has as many entries as there are examples "
        f"and was repeated with them. Pass args_per_example=False to hand it over as it is."
    )


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

# The batched engine: plain forward passes over chunks of views, whatever the network.
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_infomask._checks import ArgumentError
from captum_infomask.engines.base import Call
from captum_infomask.engines.pixels import draw
from captum_infomask.views.plan import ViewPlan

# A chunk's size in pictures of 3 × 224 × 224, and in views at most: measured with one and two CPU
# threads, where larger chunks lose (docs/results/speed.md); a guess for more, and elsewhere.
_PICTURE = 3 * 224 * 224
_PICTURES_PER_THREAD, _PICTURES_ON_CPU, _VIEWS_ON_CPU = 2, (4, 32), 128
_PICTURES_ON_ACCELERATOR, _VIEWS_ON_ACCELERATOR = 128, 256


@dataclass(frozen=True)
class Batched:
    """Plain forward passes over chunks of views; images of a batch fill chunks together."""

    def start(self, call: Call) -> RunningBatched:
        """Begin a call."""
        return RunningBatched(call)


@dataclass(frozen=True, eq=False)
class RunningBatched:
    """The batched engine at work on one call."""

    call: Call
    name = "batched"

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each chunk's rows and outputs."""
        for rows in self._chunks(plan):
            try:
                output = self.call.forward_func(*draw(plan, rows), *self._arguments(plan, rows))
            except (RuntimeError, ValueError, IndexError) as error:
                _check_batch_dimension(plan, error)
                raise
            _check_output(output, len(rows))
            yield rows, output

    def _chunks(self, plan: ViewPlan) -> list[Tensor]:
        if plan.sizes is None:
            groups = [torch.arange(len(plan))]
        else:
            _, group = plan.sizes.unique(dim=0, return_inverse=True)
            groups = [(group == g).nonzero()[:, 0] for g in range(int(group.max()) + 1)]
        return [rows for g in groups for rows in g.split(self._chunk_size(plan, g))]

    def _chunk_size(self, plan: ViewPlan, rows: Tensor) -> int:
        inputs = plan.scene.inputs
        if self.call.perturbations_per_eval is not None:
            return self.call.perturbations_per_eval * len(inputs[0])
        elements = sum(x[0].numel() for x in inputs)
        if plan.sizes is not None:
            elements = inputs[0].shape[1] * int(plan.sizes[rows[0]].prod())
        pictures, views = _PICTURES_ON_ACCELERATOR, _VIEWS_ON_ACCELERATOR
        if inputs[0].device.type == "cpu":
            least, most = _PICTURES_ON_CPU
            pictures = min(max(_PICTURES_PER_THREAD * torch.get_num_threads(), least), most)
            views = _VIEWS_ON_CPU
        return min(max(pictures * _PICTURE // max(elements, 1), 1), views)

    def _arguments(self, plan: ViewPlan, rows: Tensor) -> tuple[Any, ...]:
        n = len(plan.scene.inputs[0])
        images = plan.images[rows]
        return tuple(
            arg.index_select(0, images.to(arg.device))
            if isinstance(arg, Tensor) and arg.dim() > 0 and len(arg) == n
            else arg
            for arg in self.call.additional_forward_args
        )


def _check_batch_dimension(plan: ViewPlan, error: Exception) -> None:
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


def _check_output(output: object, views: int) -> None:
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

# Run methods on one picture and measure what each costs and gives.
from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from captum_infomask._checks import ArgumentError
from captum_infomask.comparison.methods import Method
from captum_infomask.masks import MaxFraction, threshold_mask
from captum_infomask.report.rows import MethodResult, MethodRow


class CountedForward:
    """A network's forward pass that counts the pictures sent through it.

    A wrapper, not a hook, so that the network is left as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.pictures = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """Count the batch and run it."""
        self.pictures += len(inputs)
        return self.network(inputs)  # type: ignore[no-any-return]


def measure_methods(
    methods: Sequence[Method],
    network: nn.Module,
    inputs: Tensor,
    target: int,
    *,
    fraction: float = 0.2,
    show_progress: bool = False,
) -> tuple[MethodRow, ...]:
    """Run every method on one picture; one that fails becomes a row with its error.

    Args:
        methods: What to run.
        network: Maps (N, C, H, W) to logits (N, M).
        inputs: One picture, (1, C, H, W).
        target: Index of the class.
        fraction: The mask keeps what reaches this fraction of the maximum.
        show_progress: Show the methods' own progress bars on stderr.

    Returns:
        One row per method, in the same order.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_infomask.comparison.measure import measure_methods
        >>> from captum_infomask.comparison.methods import Method
        >>> ours = Method("input", "pixels", lambda forward, x, target, bar: forward(x) * 0 + x)
        >>> rows = measure_methods([ours], nn.Identity(), torch.rand(1, 1, 4, 4), 0)
        >>> rows[0].forward_passes, rows[0].result.attribution.shape
        (1, (4, 4))
    """
    rows = []
    for method in methods:
        forward = CountedForward(network)
        start = time.perf_counter()
        result, error = None, ""
        try:
            attribution = method.attribute(forward, inputs, target, show_progress)
            seconds = time.perf_counter() - start
            result = _result(attribution, fraction)
        except Exception as failure:  # one method's failure must not lose the others' work
            seconds = time.perf_counter() - start
            kind = "" if isinstance(failure, ArgumentError) else f"{type(failure).__name__}: "
            error = kind + " ".join(str(failure).split())
        rows.append(
            MethodRow(
                name=method.name,
                unit=method.unit,
                forward_passes=forward.pictures,
                seconds=seconds,
                result=result,
                error=error,
                meaning=method.meaning,
            )
        )
    return tuple(rows)


def _result(attribution: Tensor, fraction: float) -> MethodResult:
    """Bring an attribution and its mask to plain arrays of the picture's height and width."""
    # Every method here gives all channels of a pixel the same value.
    plane = attribution.detach().mean(dim=1, keepdim=True)
    mask = threshold_mask(plane, MaxFraction(fraction))
    return MethodResult(plane[0, 0].cpu().numpy().astype(np.float32), mask[0, 0].cpu().numpy())

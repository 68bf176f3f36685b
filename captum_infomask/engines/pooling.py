# Where a network takes the mean of its last feature map, as it runs and as a graph.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_infomask.engines.feature_maps import CUTS, first_cut
from captum_infomask.engines.recording import Recording
from captum_infomask.engines.traced_network import Node


class LastPooling(TorchFunctionMode):
    """Notes the last global average pooling of what runs in a ``with`` block, and changes nothing.

    Attributes:
        features: What was pooled, (n, C, h, w); None where nothing was.
        pooled: What it became, (n, C) or (n, C, 1, 1).
        may_cut: Whether something took a part of a value, which may have been some of its places.
    """

    features: Tensor | None = None
    pooled: Tensor | None = None
    may_cut = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's functions."""
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "").strip("_") in CUTS:
            self.may_cut = True
        if _pools(func, args, kwargs or {}) and args[0].dim() == 4:
            self.features, self.pooled = args[0], result
        return result


def pools_part(recording: Recording) -> bool:
    """Whether the last global average pooling is one of a part of the network's features."""
    places = [
        place
        for place, step in enumerate(recording.steps)
        if _pools(step.function, step.args, step.kwargs) and step.given[0].dim() == 4
    ]
    return bool(places) and first_cut(recording, places[-1], 2) < places[-1]


def is_pooling(node: Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether an operation of a traced network is a global average pooling."""
    if node.op == "call_module":
        module = modules[node.target]
        return isinstance(module, nn.AdaptiveAvgPool2d) and _is_one(module.output_size)
    function = Tensor.mean if (node.op, node.target) == ("call_method", "mean") else node.target
    return _pools(function, node.args, node.kwargs)


def _pools(function: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of one of PyTorch's functions is a mean over places."""
    second = args[1] if len(args) > 1 else None
    if function is F.adaptive_avg_pool2d:
        return _is_one(kwargs.get("output_size", second))
    if function in (torch.mean, Tensor.mean):
        places = kwargs.get("dim", second)
        return (
            isinstance(places, tuple | list)
            and all(isinstance(place, int) for place in places)
            and sorted(place % 4 for place in places) == [2, 3]
        )
    return False


def _is_one(size: object) -> bool:
    return size == 1 or (isinstance(size, tuple | list) and tuple(size) == (1, 1))

# A traced node as a call of a function, and the facts that are known before nodes are recognised.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask.engines.incremental.boxes import Size
from captum_infomask.engines.incremental.operations import GlobalMean, Operation, Pointwise
from captum_infomask.engines.traced_network import Node, with_nodes

_OfModule = Callable[[Any], tuple[Any, tuple[Any, ...]]]

_METHODS = {
    "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "exp": torch.exp,
    "abs": torch.abs, "square": torch.square, "clamp": torch.clamp, "neg": torch.neg,
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "mean": torch.mean,
    "transpose": torch.transpose,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class FunctionCall:
    """A function and its arguments; nodes stand for maps."""

    function: Any
    args: tuple[Any, ...]
    options: Mapping[str, Any]


def function_call(
    node: Node, modules: Mapping[str, nn.Module], constants: Mapping[Node, Any]
) -> FunctionCall | None:
    """Return a node as a function's call, with constants for known nodes; None if it is unknown.

    Modules are recognised by their exact type: a subclass may do anything.
    """

    def known(argument: Node) -> Any:
        return constants.get(argument, argument)

    args = with_nodes(node.args, known)
    options = with_nodes(node.kwargs, known)
    if node.op == "call_module":
        return _of_module(modules[str(node.target)], args, options)
    if node.op == "call_function":
        return FunctionCall(node.target, args, options)
    if node.op != "call_method":
        return None
    if node.target == "permute":
        dims = args[1] if len(args) == 2 and not isinstance(args[1], int) else args[1:]
        return FunctionCall(torch.permute, (args[0], dims), options)
    method = _METHODS.get(str(node.target))
    return None if method is None else FunctionCall(method, args, options)


def _of_module(m: Any, args: Any, options: Any) -> FunctionCall | None:
    if len(args) != 1 or options:
        return None
    of_kind = _MODULES.get(type(m))
    if of_kind is None:
        return FunctionCall(m, args, {})
    function, settings = of_kind(m)
    return None if function is None else FunctionCall(function, (*args, *settings), {})


def _conv(function: Any) -> _OfModule:
    def of(m: Any) -> tuple[Any, tuple[Any, ...]]:
        settings = (m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
        return (function if m.padding_mode == "zeros" else None), settings

    return of


def _batch_norm(m: nn.BatchNorm2d) -> tuple[Any, tuple[Any, ...]]:
    own = (m.running_mean, m.running_var, m.weight, m.bias)
    return F.batch_norm, (*own, False, 0.0, m.eps)


def _max_pool(function: Any) -> _OfModule:
    def of(m: Any) -> tuple[Any, tuple[Any, ...]]:
        settings = (m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)
        return function, settings

    return of


def _average_pool(function: Any) -> _OfModule:
    def of(m: Any) -> tuple[Any, tuple[Any, ...]]:
        window = (m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad)
        return function, (*window, getattr(m, "divisor_override", None))  # nn.AvgPool1d has none

    return of


def _adaptive_pool(function: Any) -> _OfModule:
    return lambda m: (function, (m.output_size,))


_MODULES: dict[type, _OfModule] = {
    nn.Conv1d: _conv(F.conv1d),
    nn.Conv2d: _conv(F.conv2d),
    nn.Conv3d: _conv(F.conv3d),
    nn.Linear: lambda m: (F.linear, (m.weight, m.bias)),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.LayerNorm: lambda m: (F.layer_norm, (m.normalized_shape, m.weight, m.bias, m.eps)),
    nn.MaxPool1d: _max_pool(F.max_pool1d),
    nn.MaxPool2d: _max_pool(F.max_pool2d),
    nn.MaxPool3d: _max_pool(F.max_pool3d),
    nn.AvgPool1d: _average_pool(F.avg_pool1d),
    nn.AvgPool2d: _average_pool(F.avg_pool2d),
    nn.AvgPool3d: _average_pool(F.avg_pool3d),
    nn.AdaptiveAvgPool1d: _adaptive_pool(F.adaptive_avg_pool1d),
    nn.AdaptiveAvgPool2d: _adaptive_pool(F.adaptive_avg_pool2d),
    nn.AdaptiveAvgPool3d: _adaptive_pool(F.adaptive_avg_pool3d),
}

# The time of an exponential or an error function, in multiplications, measured with one CPU thread.
EXPONENTIAL = 50.0


@dataclass(frozen=True, eq=False)
class Known:
    """The known facts about a network before its nodes are recognised.

    Attributes:
        dims: The number of dimensions of places in maps.
        modules: The modules by name.
        constants: Values that do not depend on the picture, by node.
        samples: For each node, a tensor with the shape, device and precision that one picture
            gives.
        maps: For each node that is a map, whether channels are its last dimension.
        winograd: Whether convolutions may take Winograd's form.
    """

    dims: int
    modules: Mapping[str, nn.Module]
    constants: Mapping[Node, Any]
    samples: Mapping[Node, Tensor]
    maps: Mapping[Node, bool]
    winograd: bool

    def is_map(self, value: object) -> bool:
        """Whether a value is a map's node."""
        return isinstance(value, Node) and value in self.maps

    def alike(self, values: Sequence[object]) -> tuple[Node, ...] | None:
        """Return the values, if they are maps of one size and layout."""
        nodes = tuple(v for v in values if isinstance(v, Node) and self.is_map(v))
        kinds = {(self.maps[node], self.size(node)) for node in nodes}
        return nodes if len(nodes) == len(values) and len(kinds) == 1 else None

    def size(self, node: Node) -> Size:
        """Return the lengths of a map."""
        shape = self.samples[node].shape
        return tuple(shape[1:-1] if self.maps[node] else shape[2:])

    def channels(self, node: Node) -> int:
        """Return the number of channels of a map."""
        return self.samples[node].shape[-1 if self.maps[node] else 1]

    def in_layout(self, node: Node, function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        """Return a function of a map in the network's layout as one of (V, C, ...)."""
        if not self.maps[node]:
            return function
        return lambda values: function(values.movedim(1, -1)).movedim(-1, 1)


@dataclass(frozen=True, eq=False)
class FoundOperation:
    """A recognised node.

    Attributes:
        operation: The operation of the node.
        inputs: The maps that it takes.
        channels_last: Whether channels are the last dimension of the map that it makes.
    """

    operation: Operation | GlobalMean
    inputs: tuple[Node, ...]
    channels_last: bool


def pointwise(
    known: Known,
    x: Node,
    apply: Callable[[Tensor], Tensor],
    over: Callable[[Tensor], Tensor] | None = None,
    cost: float = 0.0,
) -> FoundOperation:
    """Return a node that treats each position by itself, in its input's layout."""
    in_place = None if over is None else known.in_layout(x, over)
    return FoundOperation(Pointwise(known.in_layout(x, apply), in_place, cost), (x,), known.maps[x])

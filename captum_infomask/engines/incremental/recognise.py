# Recognise the nodes of a traced network that make maps in which only boxes change.
from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_infomask.engines.incremental.boxes import Shape, sizes
from captum_infomask.engines.incremental.node_calls import (
    EXPONENTIAL,
    FoundOperation,
    FunctionCall,
    Known,
    function_call,
    pointwise,
)
from captum_infomask.engines.incremental.operations import GlobalMean, Join, Pointwise
from captum_infomask.engines.incremental.windowed_operations import (
    Convolution,
    Window,
    average_pool,
    max_pool,
)
from captum_infomask.engines.traced_network import Node, nodes_in

Handler = Callable[..., FoundOperation | None]


def _conv(
    dims: int, known: Known, input: Node, weight: Any, bias: Any = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> FoundOperation | None:  # fmt: skip
    constant = isinstance(weight, Tensor) and not isinstance(bias, Node)
    if not _takes(known, input, dims) or not constant:
        return None
    if isinstance(padding, str):
        around = [d * (k - 1) for d, k in zip(sizes(dims, dilation), weight.shape[2:], strict=True)]
        if padding == "same" and any(total % 2 for total in around):
            return None
        padding = 0 if padding == "valid" else tuple(total // 2 for total in around)
    shape = Shape.of(dims, tuple(weight.shape[2:]), stride, padding, dilation)
    made = Convolution.of(weight, bias, shape, groups, winograd=known.winograd)
    return FoundOperation(Window(shape, 0.0, made.apply, made.whole, made.cost), (input,), False)


def _max_pool(
    dims: int, known: Known, input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> FoundOperation | None:  # fmt: skip
    if not _takes(known, input, dims) or return_indices:
        return None
    shape = Shape.of(dims, kernel_size, stride, padding, dilation)
    return FoundOperation(max_pool(shape, ceil_mode=ceil_mode), (input,), False)


def _average_pool(
    dims: int, known: Known, input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> FoundOperation | None:  # fmt: skip
    if not _takes(known, input, dims):
        return None
    divisor = () if divisor_override is None else (divisor_override,)
    settings = (ceil_mode, count_include_pad, *divisor)
    shape = Shape.of(dims, kernel_size, stride, padding)
    return FoundOperation(average_pool(shape, settings, known.samples[input]), (input,), False)


def _adaptive_pool(dims: int, known: Known, input: Node, output_size: Any) -> FoundOperation | None:
    if not _takes(known, input, dims):
        return None
    before = known.size(input)
    asked = output_size if isinstance(output_size, Sequence) else (output_size,)
    asked = tuple(asked) * (dims // len(asked))
    after = tuple(size if want is None else want for want, size in zip(asked, before, strict=True))
    if after == before:
        return pointwise(known, input, lambda maps: maps)
    if set(after) == {1}:
        places = tuple(range(2, dims + 2))
        return FoundOperation(
            GlobalMean(lambda maps: maps.mean(places, keepdim=True)), (input,), False
        )
    if any(size % want for want, size in zip(after, before, strict=True)):
        return None
    kernel = tuple(size // want for want, size in zip(after, before, strict=True))
    return _average_pool(dims, known, input, kernel)


def _mean(
    known: Known, input: Node, dim: Any = None, keepdim: bool = False, **more: Any
) -> FoundOperation | None:
    dims = dim if isinstance(dim, Sequence) else (dim,)
    last, total = known.maps[input], known.dims + 2
    spatial = tuple(range(1, total - 1) if last else range(2, total))
    if more or None in dims or tuple(sorted(d % total for d in dims)) != spatial:
        return None
    apply = known.in_layout(input, lambda maps: maps.mean(spatial, keepdim=True))
    if keepdim:
        return None if last else FoundOperation(GlobalMean(apply), (input,), False)
    return FoundOperation(GlobalMean(lambda maps: apply(maps).flatten(1)), (input,), False)


def _batch_norm(
    known: Known, input: Node, running_mean: Any, running_var: Any, weight: Any = None,
    bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> FoundOperation | None:  # fmt: skip
    given = (running_mean, running_var, weight, bias)
    if known.maps[input] or training or running_mean is None or _has_nodes(given):
        return None
    return pointwise(known, input, lambda maps: F.batch_norm(maps, *given, eps=eps), cost=1)


def _layer_norm(
    known: Known, input: Node, normalized_shape: Sequence[int], weight: Any = None,
    bias: Any = None, eps: float = 1e-5,
) -> FoundOperation | None:  # fmt: skip
    if not known.maps[input] or len(normalized_shape) != 1 or _has_nodes((weight, bias)):
        return None
    return pointwise(
        known, input, lambda maps: F.layer_norm(maps, normalized_shape, weight, bias, eps), cost=20
    )


def _linear(known: Known, input: Node, weight: Any, bias: Any = None) -> FoundOperation | None:
    if not known.maps[input] or not isinstance(weight, Tensor) or isinstance(bias, Node):
        return None
    return pointwise(known, input, lambda maps: F.linear(maps, weight, bias), cost=weight.shape[1])


def _stochastic_depth(
    known: Known, input: Node, p: float, mode: str, training: bool = True
) -> FoundOperation | None:
    return None if training else pointwise(known, input, lambda maps: maps)


def _permute(known: Known, input: Node, dims: Sequence[int]) -> FoundOperation | None:
    total, last = known.dims + 2, known.maps[input]
    wanted = [0, total - 1, *range(1, total - 1)] if last else [0, *range(2, total), 1]
    if [d % total for d in dims] != wanted:
        return None
    return FoundOperation(Pointwise(lambda maps: maps), (input,), not last)


def _transpose(known: Known, input: Node, dim0: int, dim1: int) -> FoundOperation | None:
    dims = list(range(known.dims + 2))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return _permute(known, input, dims)


def _cat(known: Known, tensors: Sequence[object], dim: int = 0) -> FoundOperation | None:
    nodes = known.alike(tensors)
    if nodes is None:
        return None
    last = known.maps[nodes[0]]
    if dim % (known.dims + 2) != (known.dims + 1 if last else 1):
        return None
    return FoundOperation(Join(lambda *maps: torch.cat(maps, 1)), nodes, last)


def _pair_of(
    function: Callable[..., Tensor],
    over: Callable[[Tensor, Tensor], Tensor] | None,
    known: Known,
    input: Any,
    other: Any,
) -> FoundOperation | None:
    """Return a sum, product and the like of two maps, or of a map and a constant over places."""
    if known.is_map(input) and known.is_map(other):
        nodes = known.alike((input, other))
        if nodes is None or known.channels(input) != known.channels(other):
            return None
        return FoundOperation(Join(function, over), nodes, known.maps[input])
    x, constant = (input, other) if known.is_map(input) else (other, input)
    if not _is_the_same_everywhere(constant, known, x):
        return None
    if x is input:
        return pointwise(known, x, lambda maps: function(maps, constant), cost=1)
    return pointwise(known, x, lambda maps: function(constant, maps), cost=1)


def _elementwise(
    function: Callable[..., Tensor],
    over: Callable[..., Tensor] | None,
    known: Known,
    input: Node,
    *args: Any,
    **options: Any,
) -> FoundOperation | None:
    given = (*args, *options.values())
    if any(isinstance(each, Node | Tensor) for each in given) or options.get("training"):
        return None
    in_place = None if over is None else lambda maps: over(maps, *args, **options)
    cost = EXPONENTIAL if function in _EXPONENTIALS else 0.0
    return pointwise(known, input, lambda maps: function(maps, *args, **options), in_place, cost)


def _dropout(
    known: Known, input: Node, p: float = 0.5, training: bool = True, inplace: bool = False
) -> FoundOperation | None:
    return None if training else pointwise(known, input, lambda maps: maps)


def _takes(known: Known, input: Node, dims: int) -> bool:
    """Whether a function of maps with so many dimensions of places takes a map as it is."""
    return known.dims == dims and not known.maps[input]


def _has_nodes(values: Sequence[object]) -> bool:
    return any(isinstance(value, Node) for value in values)


def _is_the_same_everywhere(value: object, known: Known, x: Node) -> bool:
    if not isinstance(value, Tensor):
        return isinstance(value, int | float)
    total = known.dims + 2
    shape = (1,) * (total - value.dim()) + tuple(value.shape)
    spatial = shape[1:-1] if known.maps[x] else shape[2:]
    return len(shape) == total and shape[0] == 1 and set(spatial) == {1}


_EXPONENTIALS = {
    F.elu, F.selu, F.celu, F.silu, F.mish, F.gelu, F.softplus, F.tanh, F.sigmoid, torch.sigmoid,
    torch.tanh, torch.exp,
}  # fmt: skip


def _by_dims(
    handler: Callable[..., FoundOperation | None], *functions: object
) -> dict[object, Handler]:
    """Return the handler of each function; the first is of signals, then of pictures, volumes."""
    return {function: partial(handler, dims) for dims, function in enumerate(functions, start=1)}


_HANDLERS: dict[object, Handler] = {
    **_by_dims(_conv, F.conv1d, F.conv2d, F.conv3d),
    **_by_dims(_max_pool, F.max_pool1d, F.max_pool2d, F.max_pool3d),
    **_by_dims(_max_pool, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    **_by_dims(_average_pool, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    **_by_dims(
        _adaptive_pool, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d
    ),
    torch.mean: _mean,
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.linear: _linear,
    F.dropout: _dropout,
    F.dropout1d: _dropout,
    F.dropout2d: _dropout,
    F.dropout3d: _dropout,
    torch.permute: _permute,
    torch.transpose: _transpose,
    torch.cat: _cat,
    **dict.fromkeys((operator.add, torch.add), partial(_pair_of, torch.add, Tensor.add_)),
    **dict.fromkeys((operator.mul, torch.mul), partial(_pair_of, torch.mul, Tensor.mul_)),
    **dict.fromkeys((operator.sub, torch.sub), partial(_pair_of, torch.sub, None)),
    **dict.fromkeys((operator.truediv, torch.div), partial(_pair_of, torch.div, None)),
    torch.relu: partial(_elementwise, torch.relu, torch.relu_),
    **{
        function: partial(_elementwise, function, partial(function, inplace=True))
        for function in (
            F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.silu, F.mish, F.hardswish,
            F.hardsigmoid, F.hardtanh,
        )
    },
    **{
        function: partial(_elementwise, function, None)
        for function in (
            F.gelu, F.softplus, F.tanh, F.sigmoid, torch.sigmoid, torch.tanh, torch.exp, torch.abs,
            torch.square, torch.clamp, torch.neg, operator.neg,
        )
    },
}  # fmt: skip

# torchvision's functions by name: the module need not be imported to know them.
_BY_NAME: dict[str, Handler] = {
    "torchvision.ops.stochastic_depth.stochastic_depth": _stochastic_depth
}


def handler_of(function: object) -> Handler | None:
    """Return the function that makes an operation on maps of a call; None if it is unknown."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    return _HANDLERS.get(function, _BY_NAME.get(name))


_IN_PLACE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh,
)  # fmt: skip
_OTHERS = (
    nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout1d,
    nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_EXPONENTIAL_MODULES = (
    nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip


def recognise(node: Node, known: Known) -> FoundOperation | None:
    """Return a node's operation on maps; None if it must read whole maps, or makes no map."""
    call = function_call(node, known.modules, known.constants)
    if call is None or not _takes_maps(call.args, known) or _takes_others(call, known):
        return None
    if isinstance(call.function, nn.Module):
        return _module(call.function, call.args[0], known)
    handler = handler_of(call.function)
    if handler is None:
        return None
    options = {key: value for key, value in call.options.items() if key != "inplace"}
    try:
        inspect.signature(handler).bind(known, *call.args, **options)
    except TypeError:
        return None
    return handler(known, *call.args, **options)


def _takes_maps(args: tuple[object, ...], known: Known) -> bool:
    """Whether the first argument is a map or a list of them, or the second is a map."""
    first = args[0] if args else None
    maps = first if isinstance(first, list | tuple) else args[:2]
    return any(known.is_map(each) for each in maps)


def _takes_others(call: FunctionCall, known: Known) -> bool:
    """Whether an argument that is not a map, such as a size, is made from the picture."""
    return not all(known.is_map(node) for node in nodes_in((call.args, call.options)))


def _module(module: Any, x: Node, known: Known) -> FoundOperation | None:
    cost = EXPONENTIAL if type(module) in _EXPONENTIAL_MODULES else 0.0
    if type(module) in _IN_PLACE:
        over = copy.copy(module)
        over.inplace = True
        return pointwise(known, x, module, over, cost)
    return pointwise(known, x, module, cost=cost) if type(module) in _OTHERS else None

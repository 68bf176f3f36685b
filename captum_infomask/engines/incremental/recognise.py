# Which nodes of a traced network make maps of which only boxes change, and by what operation.
from __future__ import annotations

import copy
import inspect
from typing import Any

from torch import nn

from captum_infomask.engines.incremental.calls import FunctionCall, function_call
from captum_infomask.engines.incremental.handlers import handler_of
from captum_infomask.engines.incremental.known import EXPONENTIAL, Found, Known, pointwise
from captum_infomask.engines.traced_network import Node, nodes_in

_IN_PLACE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh,
)  # fmt: skip
_OTHERS = (
    nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_EXPONENTIALS = (
    nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip


def recognise(node: Node, known: Known) -> Found | None:
    """The operation on maps that a node is; None if it must see whole maps, or makes none."""
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
    """Whether something that is no map, such as a size, is made of the picture."""
    return not all(known.is_map(node) for node in nodes_in((call.args, call.options)))


def _module(module: Any, x: Node, known: Known) -> Found | None:
    cost = EXPONENTIAL if type(module) in _EXPONENTIALS else 0.0
    if type(module) in _IN_PLACE:
        over = copy.copy(module)
        over.inplace = True
        return pointwise(known, x, module, over, cost)
    return pointwise(known, x, module, cost=cost) if type(module) in _OTHERS else None

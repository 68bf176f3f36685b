# What a value holds, and the networks that can be come to from it: nothing of the user's is run.
from __future__ import annotations

import difflib
import weakref
from collections.abc import Iterable
from functools import partial
from types import (
    BuiltinMethodType,
    CellType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._errors import ArgumentError

MOST = 10_000  # values that are looked at
IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_DEPTH = 6
_OF_MODULES = frozenset(vars(nn.Module()))


def modules_reached(function: object) -> list[nn.Module]:
    """The modules that a forward function can be seen to use, each once.

    Looked through are methods, ``functools.partial``, a function's closure, defaults, globals that
    its code names, and what it wraps; the attributes of objects; lists, tuples, sets and dicts; to
    a depth of a few. A module counts with all that are registered in it, and its own attributes
    are looked through too. Not seen: properties, what C code holds, what is imported inside.
    """
    found: dict[int, nn.Module] = {}
    layer: list[Any] = [function]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        following: list[Any] = []
        for value in layer:
            if id(value) in seen or len(seen) >= MOST or type(value) in IMMUTABLE:
                continue
            seen.add(id(value))
            if not issubclass(type(value), nn.Module):
                following += [*held(value), *_globals(value)]
                continue
            for module in value.modules():
                if found.setdefault(id(module), module) is module:
                    following += _attributes(module)
        layer = following
    return list(found.values())


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the layer of that name; the error names the nearest one.

    Args:
        model: Searched with ``named_modules()``.
        name: A dotted name, such as ``"layer4.1.conv2"``.

    Returns:
        The layer.

    Raises:
        ArgumentError: if there is none of that name.

    Example:
        >>> from torch import nn
        >>> from captum_infomask.engines.reached import named_layer
        >>> named_layer(nn.Sequential(nn.ReLU()), "0")
        ReLU()
    """
    layers: dict[str, nn.Module] = {key: module for key, module in model.named_modules() if key}
    if name not in layers:
        # A network has hundreds of layers: the nearest names help, the whole list does not.
        near = difflib.get_close_matches(name, layers)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise ArgumentError(
            f"Expected `layer` to name one of the {len(layers)} layers of "
            f"{type(model).__name__}; got {name!r}.{hint}"
        )
    return layers[name]


def _attributes(module: nn.Module) -> Iterable[Any]:
    """What a module holds that is not registered, and its forward function."""
    own = [value for name, value in vars(module).items() if name not in _OF_MODULES]
    return [*own, vars(type(module)).get("forward")]


def _globals(value: Any) -> list[Any]:
    """What a function's code names of its file, if it is called; the function of an object."""
    if not isinstance(value, FunctionType):
        calls = (vars(kind).get("__call__") for kind in type(value).__mro__)
        return [call for call in calls if isinstance(call, FunctionType)][:1]
    named = [value.__globals__.get(name) for name in value.__code__.co_names]
    kinds = (nn.Module, FunctionType, MethodType, partial)
    return [each for each in named if issubclass(type(each), kinds)]


def held(value: Any) -> list[Any]:
    """What a value holds, as far as it tells."""
    found: list[Any] = []
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if is_filled(cell)]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        found = [*cells, *defaults, *vars(value).values()]
    elif isinstance(value, MethodType):
        found = [value.__self__, value.__func__]
    elif isinstance(value, BuiltinMethodType):
        found = [value.__self__]
    elif isinstance(value, weakref.ref):
        found = [value()]
    elif isinstance(value, partial):
        found = [value.func, *value.args, *value.keywords.values(), *vars(value).values()]
    elif isinstance(value, dict | MappingProxyType):
        found = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        found = list(value)
    elif not isinstance(value, type | ModuleType | Tensor):
        names = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
        found = [_own(value, name) for name in names]
        found += (_own(value, "__dict__") or {}).values()
    return found


def _own(value: Any, name: str) -> Any:
    """An attribute that an object has itself; None where it has none of that name."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


def is_filled(cell: CellType) -> bool:
    """Whether a closure's variable holds a value."""
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable that is not set yet
        return False

# Find what a value holds, and what a network reaches beyond its modules, without running user code.
from __future__ import annotations

import difflib
import operator
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dis import get_instructions
from functools import partial
from types import (
    BuiltinMethodType,
    CellType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode
from torch.utils._pytree import tree_leaves

from captum_infomask._errors import ArgumentError

MOST = 10_000  # values that are looked at
IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_DEPTH = 6
_OF_MODULES = frozenset(vars(nn.Module()))
_CONTAINERS = (list, set, deque, dict)
_STORES = ("STORE_SUBSCR", "DELETE_SUBSCR")
_WRITERS = {
    "add", "append", "appendleft", "clear", "extend", "extendleft", "insert", "pop", "popitem",
    "popleft", "remove", "setdefault", "update",
}  # fmt: skip
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


def modules_reached(function: object) -> list[nn.Module]:
    """Return the modules that a forward function visibly uses, each once.

    The search looks through methods, ``functools.partial``, and a function's closure, defaults, the
    globals that its code names, and the function that it wraps. It looks through the attributes of
    objects, and through lists, tuples, sets and dicts, to a depth of a few. A module counts with
    all modules that are registered in it, and its own attributes are searched too. The search does
    not see properties, values that C code holds, or modules that are imported inside.
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
        ArgumentError: There is no layer of that name.

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
    """Return the unregistered values that a module holds, and its forward function."""
    own = [value for name, value in vars(module).items() if name not in _OF_MODULES]
    return [*own, vars(type(module)).get("forward")]


def _globals(value: Any) -> list[Any]:
    """Return the globals that a function's code names, if it is called; an object's function."""
    if not isinstance(value, FunctionType):
        calls = (vars(kind).get("__call__") for kind in type(value).__mro__)
        return [call for call in calls if isinstance(call, FunctionType)][:1]
    named = [value.__globals__.get(name) for name in value.__code__.co_names]
    kinds = (nn.Module, FunctionType, MethodType, partial)
    return [each for each in named if issubclass(type(each), kinds)]


def held(value: Any) -> list[Any]:
    """Return the values that a value visibly holds."""
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
    """Return an attribute that an object has itself; None if it has none of that name."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


def is_filled(cell: CellType) -> bool:
    """Whether a closure's variable holds a value."""
    try:
        return cell.cell_contents is not None
    except ValueError:  # this variable is not set yet
        return False


def is_plain(value: object) -> bool:
    """Whether a copy cannot change a value: a constant, or a tensor, which has a stand-in there."""
    if isinstance(value, tuple):
        return all(is_plain(part) and not isinstance(part, Tensor) for part in value)
    return isinstance(value, (Tensor, *_PLAIN))


def shared_state(network: nn.Module) -> dict[str, Any]:
    """Return the values that a network's code may write to and shares with others, by name.

    The search covers the functions that ``forward`` names, and those that they name. If these write
    to any, it finds the lists, sets and dicts in their globals and closures and in the modules'
    classes. Caches of functions, globals that the functions set, and mappings of other kinds are
    given as None, because writes to them cannot be undone. PyTorch's own code is passed over.
    """
    seen = set[FunctionType]()
    found: dict[str, Any] = {}
    for kind in {type(module) for module in network.modules()}:
        forward = getattr(kind, "forward", None)
        if isinstance(forward, FunctionType) and not _is_torchs(forward):
            found |= _shared(forward, kind, seen)
    return found


@contextmanager
def unchanged(containers: Mapping[str, Any]) -> Iterator[None]:
    """Restore lists, sets and dicts, and those in them, to their earlier content afterwards.

    Raises:
        RuntimeError: At the end, if their content had changed.
    """
    before = [(name, each, _content(each)) for name, c in containers.items() for each in _all(c)]
    changed = ""
    try:
        yield
    finally:
        for name, each, content in before:
            if not _same(_content(each), content):
                changed = name
                each.clear()
                each.extend(content) if isinstance(each, list | deque) else each.update(content)
    if changed:
        raise RuntimeError(f"it writes to {changed!r}, which others share")


def _all(container: Any) -> list[Any]:
    """Return a container, and the containers that it holds."""
    found = [container]
    for each in found:
        values = each.values() if isinstance(each, dict) else each
        held = [value for value in values if isinstance(value, _CONTAINERS)]
        found += [value for value in held if all(value is not other for other in found)]
    return found


def _content(container: Any) -> list[Any]:
    return list(container.items() if isinstance(container, dict) else container)


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether these are the same objects; for dicts, the same keys with the same values."""
    pairs = zip(now, before, strict=False)
    return len(now) == len(before) and all(
        all(map(operator.is_, one, other)) if type(one) is type(other) is tuple else one is other
        for one, other in pairs
    )


def _shared(function: FunctionType, kind: type, seen: set[FunctionType]) -> dict[str, Any]:
    """Return the values that a function, and the functions that it names, share with others."""
    found: dict[str, Any] = {}
    if function in seen:
        return found
    seen.add(function)
    codes = [function.__code__]
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
    steps = [(step.opname, step.argval) for code in codes for step in get_instructions(code)]
    found |= {name: None for op, name in steps if op == "STORE_GLOBAL"}
    attributes = {name for op, name in steps if op in ("LOAD_ATTR", "LOAD_METHOD")}
    names = {name for op, name in steps if op in ("LOAD_GLOBAL", "LOAD_NAME")}
    held = [(name, function.__globals__.get(name)) for name in names]
    rooms = [kind, *(room for _, room in held if isinstance(room, ModuleType | type))]
    held += [
        (name, getattr(room, name, None))
        for room in rooms
        if not _is_torchs(room)
        for name in attributes
    ]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held += [(name, cell.cell_contents) for name, cell in cells if is_filled(cell)]
    writes = bool(attributes & _WRITERS) or any(op in _STORES for op, _ in steps)
    for name, value in held:
        called = value.fget if isinstance(value, property) else value
        if hasattr(called, "cache_info"):
            found[name] = None
        elif writes and isinstance(called, _CONTAINERS):
            found[name] = called
        elif writes and isinstance(called, MutableMapping):
            found[name] = None
        elif isinstance(called, FunctionType) and not _is_torchs(called):
            found |= _shared(called, kind, seen)
    return found


def _is_torchs(held: Any) -> bool:
    """Whether a module, a class or a function is PyTorch's."""
    room = held.__name__ if isinstance(held, ModuleType) else held.__module__
    return str(room).split(".")[0] in ("torch", "builtins")


class Sealed(TorchDispatchMode):
    """Forbid writes to some tensors in a ``with`` block, in this thread alone.

    Args:
        tensors: The tensors; tensors that share their memory are sealed too.

    Raises:
        RuntimeError: In the block, instead of a write.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = set(map(_place, tensors))

    # TorchDispatchMode also changes state for torch.compile, and does so in all threads.
    def __enter__(self) -> Sealed:
        """Seal the tensors."""
        _push_mode(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Unseal the tensors."""
        _pop_mode()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's operations, if it writes to none of the tensors."""
        if func._schema.is_mutable:
            for place, argument in enumerate(func._schema.arguments):
                if argument.alias_info is None or not argument.alias_info.is_write:
                    continue
                by_name = (kwargs or {}).get(argument.name)
                written = tree_leaves(args[place] if place < len(args) else by_name)
                if any(isinstance(w, Tensor) and _place(w) in self._places for w in written):
                    raise RuntimeError(f"{func} writes to a tensor of the network's own")
        return func(*args, **(kwargs or {}))


def _place(tensor: Tensor) -> int:
    """Return a tensor's place in memory, or its id if the place is unknown."""
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (NotImplementedError, RuntimeError):  # sparse tensors and the like
        return id(tensor)

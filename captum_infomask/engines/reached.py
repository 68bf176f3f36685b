# What a value holds, and what a network reaches beyond its modules: nothing of the user's is run.
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


def is_plain(value: object) -> bool:
    """Whether no copy can change a value: a tensor, which has a stand-in there, or a constant."""
    if isinstance(value, tuple):
        return all(is_plain(part) and not isinstance(part, Tensor) for part in value)
    return isinstance(value, (Tensor, *_PLAIN))


def shared_state(network: nn.Module) -> dict[str, Any]:
    """What others share with a network's code and it may write to, by name.

    Looked at are the functions that ``forward`` names, and those that they name: lists, sets and
    dicts in their globals and closures and in the modules' classes, where they write to any. Caches
    of functions, globals that they set and mappings of other kinds stand as None: what is written
    there cannot be taken back. PyTorch's own code is passed over.
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
    """Afterwards lists, sets and dicts, and those in them, hold what they held.

    Raises:
        RuntimeError: At the end, if they did not.
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
    """A container, and those that it holds."""
    found = [container]
    for each in found:
        values = each.values() if isinstance(each, dict) else each
        held = [value for value in values if isinstance(value, _CONTAINERS)]
        found += [value for value in held if all(value is not other for other in found)]
    return found


def _content(container: Any) -> list[Any]:
    return list(container.items() if isinstance(container, dict) else container)


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether these are the same objects; of dicts, the same keys with the same values."""
    pairs = zip(now, before, strict=False)
    return len(now) == len(before) and all(
        all(map(operator.is_, one, other)) if type(one) is type(other) is tuple else one is other
        for one, other in pairs
    )


def _shared(function: FunctionType, kind: type, seen: set[FunctionType]) -> dict[str, Any]:
    """What a function shares with others, and what the functions that it names do."""
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
    """In a ``with`` block, and in this thread alone, nothing is written to some tensors.

    Args:
        tensors: Which ones; what shares their memory is sealed too.

    Raises:
        RuntimeError: In the block, instead of a write.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = set(map(_place, tensors))

    # What TorchDispatchMode does besides, for torch.compile, it does to all threads.
    def __enter__(self) -> Sealed:
        """Seal them."""
        _push_mode(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Open them again."""
        _pop_mode()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's operations, if it writes to none of them."""
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
    """Where a tensor lies in memory, or which it is where that is not told."""
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (NotImplementedError, RuntimeError):  # sparse tensors and the like
        return id(tensor)

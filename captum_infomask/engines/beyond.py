# What a network reaches beyond its own modules, where a traced copy of it would do harm.
from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dis import get_instructions
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode
from torch.utils._pytree import tree_leaves

from captum_infomask.engines.reached import is_filled

_CONTAINERS = (list, set, deque, dict)
_STORES = ("STORE_SUBSCR", "DELETE_SUBSCR")
_WRITERS = {
    "add", "append", "appendleft", "clear", "extend", "extendleft", "insert", "pop", "popitem",
    "popleft", "remove", "setdefault", "update",
}  # fmt: skip
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


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

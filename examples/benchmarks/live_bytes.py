# Memory that tensors take: what is alive at once, and all that a forward pass makes.
from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors made inside that were alive at once.

    Args:
        outside: Tensors that are not counted, nor are views of them: a network's parameters.
    """

    def __init__(self, outside: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.outside = {tensor.untyped_storage().data_ptr() for tensor in outside}
        self.held: set[int] = set()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        # The storage, not the tensor: a parameter made of a tensor is another object.
        where, size = storage.data_ptr(), storage.nbytes()
        if where not in self.held and where not in self.outside:
            self.held.add(where)
            self.now += size
            weakref.finalize(storage, self._let_go, where, size)

    def _let_go(self, where: int, size: int) -> None:
        self.held.remove(where)
        self.now -= size


class _Sizes(fx.Interpreter):
    """Runs a graph, and keeps every value that its operations make."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)

    def bytes_made(self, picture: Tensor) -> int:
        with torch.no_grad():
            self.run(picture)
        return _bytes(
            value
            for node, value in self.env.items()
            if isinstance(value, Tensor) and node.op.startswith("call")
        )


def activation_bytes(graph: fx.GraphModule, picture: Tensor) -> int:
    """Bytes of all values between a network's input and output."""
    return _Sizes(graph).bytes_made(picture)


def copied_bytes(graph: fx.GraphModule, network: nn.Module) -> int:
    """Bytes of a graph's parameters that are not the network's own."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return _bytes(p for p in graph.parameters() if p.untyped_storage().data_ptr() not in own)


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, those that share their memory counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())

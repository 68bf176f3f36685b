# Memory that tensors take: what is alive at once, and all that a forward pass makes.
from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from captum_infomask.engines.traced_network import Node, TracedNetwork


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


def activation_bytes(network: TracedNetwork, picture: Tensor) -> int:
    """Bytes of all values between a network's input and output."""
    made: list[Tensor] = []

    def note(node: Node, values: Mapping[Node, Any]) -> None:
        if isinstance(values[node], Tensor) and node.op.startswith("call"):
            made.append(values[node])

    with torch.no_grad():
        network(picture, seen=note)
    return _bytes(made)


def copied_bytes(made: TracedNetwork, network: nn.Module) -> int:
    """Bytes of a traced network's parameters that are not the network's own."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    used = (p for module in made.modules.values() for p in module.parameters())
    return _bytes(p for p in used if p.untyped_storage().data_ptr() not in own)


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, those that share their memory counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())

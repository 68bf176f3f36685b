# A faster copy of a user's network, used only where it repeats the network's own answers.
from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._types import Tensors
from captum_infomask.engines.agreement import TOLERANCE, check_agreement
from captum_infomask.engines.base import Call
from captum_infomask.engines.chunks import MOST_VIEWS_ON_CPU
from captum_infomask.engines.memory import LARGEST_BLOCK, MOST_ALIVE, Measured
from captum_infomask.engines.traced import StandsAside, check_writes, folded
from captum_infomask.engines.traced_network import Node, TracedNetwork


@dataclass(frozen=True, eq=False)
class FastCopy:
    """A network as a graph: batch norms folded, channels last, activations written in place.

    Attributes:
        network: The graph; weights that nothing changed are the user's own.
        largest: Bytes of its largest tensor, per number that views show.
        alive: Bytes of all tensors alive at once, per number that views show.
    """

    network: TracedNetwork
    largest: float
    alive: float

    def __call__(self, *inputs: Any) -> Any:
        """Run the network on views and further arguments."""
        return self.network(*map(_channels_last, inputs))

    def views_on_cpu(self, elements: int) -> int:
        """How many views of so many numbers the C library's allocator takes at its best."""
        fitting = min(LARGEST_BLOCK / self.largest, MOST_ALIVE / self.alive) / elements
        return min(max(int(fitting), torch.get_num_threads()), MOST_VIEWS_ON_CPU)


Copies = dict[Callable[..., Any], FastCopy]

_kept: ContextVar[Copies | None] = ContextVar("_kept", default=None)


@contextmanager
def copies_kept(made: Copies) -> Iterator[None]:
    """Inside, networks do not change, and a copy made of one serves the calls that follow.

    Args:
        made: Those that there are; new ones are added.
    """
    token = _kept.set(made)
    try:
        yield
    finally:
        _kept.reset(token)


def fast_copy(call: Call, shown: Tensors, arguments: tuple[Any, ...], output: Tensor) -> FastCopy:
    """Copy a network, or raise why not.

    Args:
        call: What the network is run for.
        shown: A few views, one tensor per input.
        arguments: Further arguments for them.
        output: What the network said of them.

    Raises:
        StandsAside: There can be no copy, or it says something else.
    """
    device = shown[0].device
    if torch.is_grad_enabled():
        raise StandsAside("gradients are recorded")
    if torch.is_autocast_enabled(device.type):
        raise StandsAside("autocast is on")
    if output.dtype not in TOLERANCE:
        raise StandsAside(f"the outputs are {output.dtype}")
    kept = _kept.get()
    made = None if kept is None else kept.get(call.forward_func)
    with call.drawing_nothing():
        try:
            if made is None:
                made, answer = _made(call, shown, arguments)
            else:
                answer = made(*shown, *arguments)
        except StandsAside:
            raise
        except Exception as error:
            raise StandsAside(f"its graph raised {type(error).__name__}: {error}") from error
    check_agreement(answer, output)
    if kept is not None:
        kept[call.forward_func] = made
    return made


def _made(call: Call, shown: Tensors, arguments: tuple[Any, ...]) -> tuple[FastCopy, Any]:
    """A copy, and what it says of the views that it was measured on."""
    network = _write_in_place(folded(call.traced((*shown, *arguments))))
    measured = Measured()

    def seen(node: Node, values: Mapping[Node, Any]) -> None:
        measured.add(node, values)
        check_writes(network, node, values)

    answer = network(*map(_channels_last, (*shown, *arguments)), seen=seen)
    elements = sum(x.numel() for x in shown)
    return FastCopy(network, measured.largest / elements, measured.alive / elements), answer


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _write_in_place(network: TracedNetwork) -> TracedNetwork:
    """Let activations and sums overwrite what a layer has just made and nothing else reads."""
    modules, made = dict(network.modules), dict[Node, Node]()
    for node in network.nodes:
        target, read = node.target, node.args[0] if node.args else None
        if isinstance(read, Node) and network.readers[read] == 1 and _is_layer(read, modules):
            own = modules.get(target) if node.op == "call_module" else None
            if target is operator.add:
                target = operator.iadd
            elif own is not None and hasattr(own, "inplace"):
                writing: Any = copy.copy(own)
                writing.inplace = True
                target = f"{target}.writing"
                modules[target] = writing
        made[node] = node.on(made.__getitem__, target)
    return TracedNetwork(tuple(made.values()), modules, network.attributes)


def _is_layer(node: Node, modules: Mapping[str, nn.Module]) -> bool:
    made_by = modules.get(node.target) if node.op == "call_module" else None
    return isinstance(made_by, nn.Conv2d | nn.BatchNorm2d)

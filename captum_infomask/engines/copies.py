# A faster copy of a user's network, used only where it repeats the network's own answers.
from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from captum_infomask._types import Tensors
from captum_infomask.engines.agreement import TOLERANCE, check_agreement
from captum_infomask.engines.chunks import MOST_VIEWS_ON_CPU
from captum_infomask.engines.memory import LARGEST_BLOCK, MOST_ALIVE, Measured
from captum_infomask.engines.traced import StandsAside, folded, traced


@dataclass(frozen=True, eq=False)
class FastCopy:
    """A network as a graph: batch norms folded, channels last, activations written in place.

    Attributes:
        network: The graph; weights that nothing changed are the user's own.
        largest: Bytes of its largest tensor, per number that views show.
        alive: Bytes of all tensors alive at once, per number that views show.
    """

    network: fx.GraphModule
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


def fast_copy(
    forward_func: Callable[..., Any], shown: Tensors, arguments: tuple[Any, ...], output: Tensor
) -> FastCopy:
    """Copy a network, or raise why not; the random state is as before in either case.

    Args:
        forward_func: The network.
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
    made = None if kept is None else kept.get(forward_func)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        before = _random_state(device)
        try:
            if made is None:
                made, answer = _made(forward_func, shown, arguments)
            else:
                answer = made(*shown, *arguments)
        except StandsAside:
            raise
        except Exception as error:
            raise StandsAside(f"its graph raised {type(error).__name__}: {error}") from error
        if not torch.equal(before, _random_state(device)):
            raise StandsAside("it draws random numbers")
    check_agreement(answer, output)
    if kept is not None:
        kept[forward_func] = made
    return made


def _made(
    forward_func: Callable[..., Any], shown: Tensors, arguments: tuple[Any, ...]
) -> tuple[FastCopy, Any]:
    """A copy, and what it says of the views that it was measured on."""
    network = _write_in_place(folded(traced(forward_func)))
    measured = Measured(network)
    answer = measured.run(*map(_channels_last, (*shown, *arguments)))
    elements = sum(x.numel() for x in shown)
    return FastCopy(network, measured.largest / elements, measured.alive / elements), answer


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _random_state(device: torch.device) -> Tensor:
    if device.type != "cuda":
        return torch.get_rng_state()
    return torch.cat([torch.get_rng_state(), torch.cuda.get_rng_state(device)])


def _write_in_place(network: fx.GraphModule) -> fx.GraphModule:
    """Let activations and sums overwrite what a layer has just made and nothing else reads."""
    modules = dict(network.named_modules())
    for node in network.graph.nodes:
        made = node.args[0] if node.args else None
        if not isinstance(made, fx.Node) or len(made.users) != 1 or made.op != "call_module":
            continue
        if not isinstance(modules.get(made.target), nn.Conv2d | nn.BatchNorm2d):
            continue
        own = modules.get(node.target) if node.op == "call_module" else None
        if node.target is operator.add:
            node.target = operator.iadd
        elif own is not None and hasattr(own, "inplace"):
            writing: Any = copy.copy(own)
            writing.inplace = True
            node.target = f"writing_{node.name}"
            network.add_submodule(node.target, writing)
    network.recompile()
    return network

# A faster copy of a network, used only if it repeats the network's own outputs.
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
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.memory import (
    LARGEST_BLOCK,
    MOST_ALIVE,
    MOST_VIEWS_ON_CPU,
    MeasuredMemory,
)
from captum_infomask.engines.traced import BATCH_NORMS, CONVOLUTIONS, channels_last, folded
from captum_infomask.engines.traced_network import Node, StandsAside, TracedNetwork, check_writes

# The most that outputs may differ from the network's own, besides roundings, as a share of the
# largest if that is below 1. Log p depends on differences of two outputs: in float32 it is off by
# 1e-4 nats.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 5e-11}

# The most roundings of the largest output by which two ways through a network may differ. Copies of
# networks from torchvision, with random weights, differed by 55 of float32's, at most.
_OF_OUTPUTS = 64
# Some settings round float32 factors to this share of themselves before they are multiplied.
# Counted
# in these roundings, outputs differed by at most 2.5, for eight networks from torchvision and timm.
_ROUNDING = {"tf32": 2.0**-11, "bf16": 2.0**-8}
_OF_FACTORS = 8


def check_agreement(made: object, own: object) -> None:
    """Compare the outputs of a traced network and of the network itself, for the same views.

    If outputs may be probabilities, all in [0, 1], their logarithms are compared. Information is
    read from logarithms, and small probabilities may differ by little and many times.

    Raises:
        StandsAside: They differ by more than rounding explains, or are not finite.
    """
    if (
        not isinstance(own, Tensor)
        or not isinstance(made, Tensor)
        or (own.shape, own.dtype) != (made.shape, made.dtype)
    ):
        raise StandsAside("the traced network gives other outputs than the network")
    if own.dtype not in TOLERANCE:
        raise StandsAside(f"the outputs are {own.dtype}")
    if not bool(own.isfinite().all()):
        raise StandsAside("the outputs are not finite")
    compared = ""
    if bool(((own >= 0) & (own <= 1)).all()):
        compared, least = " in their logarithms", torch.finfo(own.dtype).tiny
        own, made = own.clamp(min=least).log(), made.clamp(min=least).log()
    off, scale = float((own - made).abs().max()), float(own.abs().max())
    allowed = TOLERANCE[own.dtype] * min(1.0, scale) + roundings(own.dtype, own.device) * scale
    if not off <= allowed:
        raise StandsAside(
            f"the traced network's outputs are off by {off:.2g}, of {scale:.2g}{compared}"
        )


def roundings(dtype: torch.dtype, device: torch.device) -> float:
    """Return the share of the largest output that roundings may add, under PyTorch's settings.

    Convolutions on a GPU multiply in TensorFloat-32 unless a setting forbids it. In another order
    of operations, such a network agrees with itself only as well as such products do.

    Args:
        dtype: The outputs' type.
        device: The device of the network.
    """
    exact = _OF_OUTPUTS * torch.finfo(dtype).eps / 2
    if dtype != torch.float32:
        return exact
    factors = [_ROUNDING.get(name, 0.0) for name in _precisions(device)]
    return max(exact, *(_OF_FACTORS * rounding for rounding in factors))


def _precisions(device: torch.device) -> tuple[str, str]:
    """Return the precision of the factors of float32 products, in matrices and convolutions."""
    backends: Any = torch.backends
    if device.type not in ("cuda", "cpu"):
        return "ieee", "ieee"
    on_gpu = device.type == "cuda"
    matmul: Any = backends.cuda.matmul if on_gpu else getattr(backends.mkldnn, "matmul", None)
    if hasattr(matmul, "fp32_precision"):  # from PyTorch 2.9; if it is set, older flags raise
        conv = backends.cudnn.conv if on_gpu else backends.mkldnn.conv
        return matmul.fp32_precision, conv.fp32_precision
    if on_gpu:
        flags = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
        return "tf32" if flags[0] else "ieee", "tf32" if flags[1] else "ieee"
    return "bf16" if torch.get_float32_matmul_precision() == "medium" else "ieee", "ieee"


@dataclass(frozen=True, eq=False)
class FastCopy:
    """A network as a graph: batch norms folded, channels last, activations written in place.

    Attributes:
        network: The graph; weights that did not change are the user's own.
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
        """Return how many views of so many numbers suit the C library's allocator best."""
        fitting = min(LARGEST_BLOCK / self.largest, MOST_ALIVE / self.alive) / elements
        return min(max(int(fitting), torch.get_num_threads()), MOST_VIEWS_ON_CPU)


Copies = dict[Callable[..., Any], FastCopy]

_kept: ContextVar[Copies | None] = ContextVar("_kept", default=None)


@contextmanager
def copies_kept(made: Copies) -> Iterator[None]:
    """Inside, networks do not change, and the copy of a network serves all later calls.

    Args:
        made: The existing copies; new ones are added.
    """
    token = _kept.set(made)
    try:
        yield
    finally:
        _kept.reset(token)


def fast_copy(call: Call, shown: Tensors, arguments: tuple[Any, ...], output: Tensor) -> FastCopy:
    """Copy a network, or raise the reason why not.

    Args:
        call: The call that the network runs for.
        shown: A few views, one tensor per input.
        arguments: Further arguments for them.
        output: The network's output for them.

    Raises:
        StandsAside: No copy is possible, or its output differs.
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
    """Return a copy, and its output for the views that it was measured on."""
    network = _write_in_place(folded(call.traced((*shown, *arguments))))
    measured = MeasuredMemory()

    def seen(node: Node, values: Mapping[Node, Any]) -> None:
        measured.add(node, values)
        check_writes(network, node, values)

    answer = network(*map(_channels_last, (*shown, *arguments)), seen=seen)
    elements = sum(x.numel() for x in shown)
    return FastCopy(network, measured.largest / elements, measured.alive / elements), answer


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() in (4, 5):
        return channels_last(value)
    return value


def _write_in_place(network: TracedNetwork) -> TracedNetwork:
    """Let activations and sums overwrite the result of a layer that nothing else reads."""
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
    return isinstance(made_by, (*CONVOLUTIONS, *BATCH_NORMS))

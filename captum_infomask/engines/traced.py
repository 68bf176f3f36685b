# Trace a network into a sequence of operations, without touching the network or the process.
from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import GraphAppendingTracer
from torch.nn.modules import module as _modules
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captum_infomask._messages import warn
from captum_infomask._outputs import logits_of
from captum_infomask._process import users_default
from captum_infomask.engines.isolation import Isolation, network_within, same_weight
from captum_infomask.engines.reached import Sealed, is_plain, shared_state, unchanged
from captum_infomask.engines.traced_network import (
    AUGMENTED,
    Node,
    StandsAside,
    TracedNetwork,
    with_nodes,
    without_writes,
)

# Where transformers makes the hooks that it leaves in a network once hidden states were asked for.
# They do nothing but keep outputs while such a pass of the whole network runs.
_CAPTURING = "transformers.utils.output_capturing"


def traced(
    forward_func: Callable[..., object],
    given: tuple[Any, ...] = (torch.empty(0),),
    *,
    closed: Callable[[nn.Module], bool] = lambda module: False,
) -> TracedNetwork:
    """Return a network's operations in evaluation mode; its parameters are the network's own.

    A copy of the network runs on stand-ins for its inputs. Stand-ins note the functions that they
    are passed to (``__torch_function__``). In the copy, the modules of ``torch.nn`` note their
    calls. ``torch.fx.symbolic_trace`` would instead patch ``nn.Module`` for the whole process
    meanwhile. In-place operations become plain ones, so no value changes once it is made.

    Args:
        forward_func: The network.
        given: The inputs that it will be called with. Tensors count only as tensors.
        closed: Modules that are not traced inside, besides those of ``torch.nn``.

    Raises:
        StandsAside: The function is not a module, is in training mode or has hooks, may change
            values that others share, or cannot be traced.
    """
    network = plain_module(forward_func)
    for module in network.modules():
        if "forward" in vars(module) and network_within(module) is None:
            # It may be bound to the user's modules, which must not meet stand-ins.
            raise StandsAside(f"{type(module).__name__} has a forward function of its own")
    if not all(map(is_plain, given)):
        raise StandsAside("a further argument is one that it may change")
    shared = shared_state(network)
    if None in shared.values():
        name = next(name for name, value in shared.items() if value is None)
        raise StandsAside(f"its code uses {name!r}, which it may change for all")
    isolation = Isolation(same_weight)
    own = isolation.copy(network)
    if not isolation.is_whole:
        raise StandsAside("it holds parts of itself where no copy can follow")
    devices = {value.device.type for value in given if isinstance(value, Tensor)}
    recorder, sealed = _Recorder(own, devices), Sealed(isolation.shared)
    del isolation  # it refers to the values of the copy
    try:
        with users_default(), _recording(own, recorder, closed), sealed, unchanged(shared):
            recorder.end(logits_of(own(*recorder.stand_ins(given))))
    except StandsAside:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        raise StandsAside(f"torch.fx cannot trace it: {''.join(first)[:120]}") from error
    nodes, modules = without_writes(recorder.nodes(), recorder.modules)
    recorder.check_left()
    return TracedNetwork(nodes, modules, recorder.attributes)


class _StandIn(fx.Proxy):
    """A stand-in that distinguishes ``x += y`` from ``x = x + y``; an input's has its channels."""

    @property
    def shape(self) -> Any:
        """The shape; its second entry is a number for an input, so that code may check it."""
        channels = self.tracer.channels.get(self.node)  # type: ignore[attr-defined]
        return _Shape(self, channels) if channels else self.__getattr__("shape")


class _Shape(fx.proxy.Attribute):
    """A stand-in for an input's shape."""

    def __init__(self, root: _StandIn, channels: int) -> None:
        super().__init__(root, "shape")
        self.channels = channels

    def __getitem__(self, place: Any) -> Any:
        return self.channels if place == 1 else super().__getitem__(place)  # type: ignore[misc]


def _assigning(operation: Any) -> Callable[[_StandIn, Any], Any]:
    def assign(self: _StandIn, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return assign


for _operation in AUGMENTED:
    setattr(_StandIn, f"__{_operation.__name__}__", _assigning(_operation))


class _Recorder(GraphAppendingTracer):
    """Record the operations on stand-ins, ``fx.Proxy``."""

    def __init__(self, network: nn.Module, devices: set[str]) -> None:
        super().__init__(fx.Graph())
        self.devices = devices
        self.modules = dict(network.named_modules())
        named = {**dict(network.named_buffers()), **dict(network.named_parameters())}
        self.attributes: dict[str, Any] = dict(named)
        self.names = {id(tensor): name for name, tensor in named.items()}
        self.inputs: dict[fx.Node, int] = {}
        self.channels: dict[fx.Node, int] = {}  # those of inputs (N, C, ...), in every pass
        self.made: list[weakref.ref[_StandIn]] = []

    def proxy(self, node: fx.Node) -> _StandIn:
        """Return a stand-in for a node's value."""
        made = _StandIn(node, self)
        self.made.append(weakref.ref(made))
        return made

    def check_left(self) -> None:
        """Raise an error if something outside the network keeps stand-ins."""
        if any(made() is not None for made in self.made):
            gc.collect()
        if any(made() is not None for made in self.made):
            vars(self).clear()
            warn(
                "The network keeps what it computes outside of itself, in a global perhaps. There "
                "are stand-ins for tensors now, torch.fx.Proxy, of a trial run on a copy. Pass "
                "engine=Batched(folded=False), which makes no copy."
            )
            raise StandsAside("it keeps what it computes outside of itself")

    def stand_ins(self, given: tuple[Any, ...]) -> list[Any]:
        """Return the network's inputs: stand-ins for tensors, other values as they are."""
        made = list(given)
        for place, value in enumerate(given):
            if isinstance(value, Tensor):
                made[place] = self.create_proxy("placeholder", f"input_{place}", (), {})
                self.inputs[made[place].node] = place
                if value.dim() > 2:
                    self.channels[made[place].node] = value.shape[1]
        return made

    def parameter(self, parameter: nn.Parameter | None) -> Any:
        """Return a stand-in for a parameter, so that the operations on it are noted as well."""
        if parameter is None:
            return None
        return self.create_proxy("get_attr", self.names[id(parameter)], (), {})

    def module(self, name: str) -> Callable[..., fx.Proxy]:
        """Return the forward function of a module that is not traced inside."""

        def forward(*args: Any, **kwargs: Any) -> fx.Proxy:
            return self.create_proxy("call_module", name, args, kwargs)

        return forward

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any) -> fx.Node:
        """Note an operation."""
        if any(map(torch.is_autocast_enabled, self.devices)):
            raise StandsAside("it turns torch.autocast on")
        return self.graph.create_node(kind, target, args, kwargs, *more)

    def create_arg(self, a: Any) -> Any:
        """Return an argument as nodes hold it: a tensor that is not a stand-in is got by a name."""
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        name = self.names.setdefault(id(a), f"constant_{len(self.names)}")
        self.attributes[name] = a
        return self.create_node("get_attr", name, (), {})

    def end(self, output: Any) -> None:
        """Note the network's output, and keep no stand-in of it."""
        self.graph.output(self.create_arg(output))

    def nodes(self) -> list[Node]:
        """Return the recorded nodes; the graph, which refers to itself, is taken apart."""
        made: dict[fx.Node, Node] = {}
        for node in self.graph.nodes:
            args, kwargs = with_nodes((node.args, node.kwargs), made.__getitem__, fx.Node)
            made[node] = Node(node.op, self.inputs.get(node, node.target), args, kwargs)
        for node in reversed(made):
            self.graph.erase_node(node)
        vars(self.graph).clear()
        return list(made.values())


@contextmanager
def _recording(
    network: nn.Module, recorder: _Recorder, closed: Callable[[nn.Module], bool]
) -> Iterator[None]:
    """Inside, a copy of a network is ready to run on stand-ins; afterwards it keeps none."""
    leaves = {
        name: module
        for name, module in recorder.modules.items()
        if module is not network and (_is_leaf(module) or closed(module))
    }
    before = {module: module._parameters for module in recorder.modules.values()}
    for name, module in leaves.items():
        module.__dict__["forward"] = recorder.module(name)
    stand_ins = {id(p): recorder.parameter(p) for p in network.parameters()}
    for module, parameters in before.items():
        module.__dict__["_parameters"] = {
            name: stand_ins.get(id(parameter)) for name, parameter in parameters.items()
        }
    try:
        yield
    finally:
        for module, parameters in before.items():
            module.__dict__["_parameters"] = parameters
        for module in leaves.values():
            del module.__dict__["forward"]
        called = {part for module in leaves.values() for part in module.modules()}
        for module in before.keys() - called:
            vars(module).clear()  # its attributes may be stand-ins, which refer to the network


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's own operations, as in ``torch.fx``."""
    of_torch = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    return of_torch and not isinstance(module, nn.Sequential)


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def channels_last(values: Tensor) -> Tensor:
    """Return the same values (N, C, ...), stored with channels last."""
    return values.movedim(1, -1).contiguous().movedim(-1, 1)


# Tensors with channels last have no such views.
_RESHAPES = {"view": "reshape", "view_as": "reshape_as"}


def folded(network: TracedNetwork) -> TracedNetwork:
    """Return the network with batch norms folded into convolutions, and channels last in weights.

    Copies replace the convolutions; the original modules do not change.
    """
    modules, made = dict(network.modules), dict[Node, Node]()
    reader = {each: node for node in network.nodes for each in node.inputs}
    in_convolutions: set[Node] = set()
    for node in network.nodes:
        if node in in_convolutions:
            made[node] = made[node.args[0]]
            continue
        target = node.target
        if node.op == "call_method":
            target = _RESHAPES.get(target, target)
        conv = modules.get(target) if node.op == "call_module" else None
        if _is_convolution(conv):
            user = reader[node] if network.readers[node] == 1 else None
            norm = modules.get(user.target) if user and user.op == "call_module" else None
            if user is not None and user.args == (node,) and _folds(norm):
                layer = fuse_conv_bn_eval(conv, norm)
                in_convolutions.add(user)
            else:
                layer = copy.copy(conv)
                layer._parameters = dict(conv._parameters)
            weight = channels_last(layer.weight.detach())
            layer.weight = nn.Parameter(weight, requires_grad=False)
            target = f"folded_{len(made)}"
            modules[target] = layer
        made[node] = node.on(made.__getitem__, target=target)
    kept = (made[node] for node in network.nodes if node not in in_convolutions)
    return TracedNetwork(tuple(kept), modules, network.attributes)


def _is_convolution(module: Any) -> TypeGuard[nn.Conv2d]:
    return type(module) in CONVOLUTIONS


def _folds(norm: Any) -> TypeGuard[nn.BatchNorm2d]:
    return type(norm) in BATCH_NORMS and norm.running_mean is not None


def plain_module(forward_func: object) -> nn.Module:
    """Return the network, without wrappers, if its calls do nothing but its ``forward``.

    Raises:
        StandsAside: It is not a module, is in training mode or has hooks.
    """
    if not isinstance(forward_func, nn.Module):
        raise StandsAside("the forward function is no torch.nn.Module")
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    if any(getattr(_modules, f"_global{name}") for name in hooks):
        raise StandsAside("there are global module hooks")
    for name, module in forward_func.named_modules():
        where = f"{type(module).__name__} {name!r}" if name else type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise StandsAside(f"{where} is TorchScript")
        if _is_exported(module):
            raise StandsAside("it is an exported program")
        # A module that wraps a network has the network's mode, whatever its own flag is.
        if module.training and network_within(module) is None:
            raise StandsAside(f"{where} is in training mode")
        own = [each for hook in hooks for each in getattr(module, hook).values()]
        if not all(getattr(each, "__module__", "") == _CAPTURING for each in own):
            raise StandsAside(f"{where} has hooks")
    network: nn.Module | None = forward_func
    while network is not None:
        found, network = network, network_within(network)
    return found


def _is_exported(module: nn.Module) -> bool:
    """Whether a module is an exported program, whose mode was fixed then, whatever its flag is."""
    calls_aten = isinstance(module, fx.GraphModule) and any(
        isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes
    )
    return calls_aten

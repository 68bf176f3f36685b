# A network as a graph of operations, traced by torch.fx without touching the network.
from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import fx, nn
from torch.nn.modules import module as _modules
from torch.nn.utils.fusion import fuse_conv_bn_eval


class StandsAside(Exception):  # noqa: N818 - no error: another engine takes over
    """Why an engine cannot run a call; another one does."""


def traced(forward_func: Callable[..., object]) -> fx.GraphModule:
    """The graph of a network in evaluation mode; its parameters are the network's own.

    The modules are copies: a network may keep what passes through it, and tracing passes stand-ins.
    In-place operations become plain ones, so that no value of the graph changes once it is made.

    Raises:
        StandsAside: The function is no module, is in training mode or has hooks, or cannot be
            traced.
    """
    network = plain_module(forward_func)
    try:
        network = copy.deepcopy(network, {id(each): each for each in network.parameters()})
        graph = fx.Tracer().trace(network, _defaults(network))
        made = fx.GraphModule(network, graph)
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        raise StandsAside(f"torch.fx cannot trace it: {''.join(first)[:120]}") from error
    _without_writes(made)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made


# Tensors in channels_last have no such views.
_RESHAPES = {"view": "reshape", "view_as": "reshape_as"}


def folded(network: fx.GraphModule) -> fx.GraphModule:
    """The graph with batch norms folded into convolutions, weights in channels_last.

    Convolutions are replaced by copies in this graph; the modules that they were are unchanged.
    """
    modules = dict(network.named_modules())
    copies = 0
    for node in list(network.graph.nodes):
        if node.op == "call_method" and node.target in _RESHAPES:
            node.target = _RESHAPES[node.target]
        conv = modules.get(node.target) if node.op == "call_module" else None
        if type(conv) is not nn.Conv2d:
            continue
        user = next(iter(node.users)) if len(node.users) == 1 else None
        norm = modules.get(user.target) if user is not None and user.op == "call_module" else None
        if user is not None and user.args == (node,) and _folds(norm):
            made = fuse_conv_bn_eval(conv, norm)
            user.replace_all_uses_with(node)
            network.graph.erase_node(user)
        else:
            made = copy.copy(conv)
            made._parameters = dict(conv._parameters)
        made.weight = nn.Parameter(
            made.weight.detach().contiguous(memory_format=torch.channels_last),
            requires_grad=False,
        )
        name = f"folded_{copies}"
        copies += 1
        network.add_submodule(name, made)
        node.target = name
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def _folds(norm: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    return type(norm) is nn.BatchNorm2d and norm.running_mean is not None


def plain_module(forward_func: object) -> nn.Module:
    """The network, if it does what its ``forward`` says and nothing else.

    Raises:
        StandsAside: It is no module, is in training mode or has hooks.
    """
    if not isinstance(forward_func, nn.Module):
        raise StandsAside("the forward function is no torch.nn.Module")
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    if any(getattr(_modules, f"_global{name}") for name in hooks):
        raise StandsAside("there are global module hooks")
    for name, module in forward_func.named_modules():
        where = f"{type(module).__name__} {name!r}" if name else type(module).__name__
        if module.training:
            raise StandsAside(f"{where} is in training mode")
        if any(getattr(module, hook) for hook in hooks):
            raise StandsAside(f"{where} has hooks")
    return forward_func


def _defaults(network: nn.Module) -> dict[str, object]:
    """What arguments are that nobody gives: branches depend on them."""
    parameters = inspect.signature(network.forward).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if isinstance(parameter.default, bool | int | float | str | None)
    }


def _without_writes(network: fx.GraphModule) -> None:
    """Give every value one name: what an in-place operation wrote is what later readers get."""
    place = {node: k for k, node in enumerate(network.graph.nodes)}
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        if not _writes(node, modules):
            continue
        written = node.args[0]
        written.replace_all_uses_with(
            node, delete_user_cb=lambda user, node=node: place[user] > place[node]
        )
        _make_plain(network, node, modules)


def _writes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_function":
        return bool(node.kwargs.get("inplace")) or node.target in _PLAIN_OPERATORS or _by_name(node)
    target = str(node.target)
    return node.op == "call_method" and target.endswith("_") and not target.endswith("__")


def _by_name(node: fx.Node) -> bool:
    """Whether a function is called as those are that write: torch.sigmoid_, not operator.and_."""
    called: Any = node.target
    name, room = called.__name__, called.__module__
    return name.endswith("_") and not name.endswith("__") and room != "_operator"


_PLAIN_OPERATORS: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    torch.relu_: torch.relu,
}


def _make_plain(network: fx.GraphModule, node: fx.Node, modules: dict[str, nn.Module]) -> None:
    if node.op == "call_module":
        made: Any = copy.copy(modules[str(node.target)])
        made.inplace = False
        node.target = f"plain_{node.name}"
        network.add_submodule(node.target, made)
    elif node.op == "call_method":
        node.target = str(node.target)[:-1]
        if not callable(getattr(torch.Tensor, node.target, None)):
            raise StandsAside(f"it calls Tensor.{node.target}_")
    elif node.target in _PLAIN_OPERATORS:
        node.target = _PLAIN_OPERATORS[node.target]
    elif "inplace" in node.kwargs:
        node.kwargs = {**node.kwargs, "inplace": False}
    else:
        raise StandsAside(f"it calls {node.target}")

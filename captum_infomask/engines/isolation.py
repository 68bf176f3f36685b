# Copies of a user's network that share its weights, and nothing else: what is done to them leaves
# the network as it was, whatever else runs in the process.
from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Memo = dict[int, Any]


def isolated(
    network: nn.Module, weights: Callable[[nn.Parameter], Tensor], memo: Memo
) -> nn.Module:
    """Copy a network's modules, buffers, hooks and attributes by construction.

    No module is asked to copy itself, and nothing is assigned to one, since either may reach the
    network that it wraps. What cannot be copied is shared; so are TorchScript modules, which are
    programs rather than objects. Of a compiled network the copy is the network that was compiled.

    Args:
        network: The user's.
        weights: What stands for a parameter in the copy.
        memo: What stands for each object of the network, by ``id``, as ``copy.deepcopy`` takes it;
            whatever refers to the network can be copied with it afterwards.

    Returns:
        The copy.
    """
    shells: list[tuple[nn.Module, nn.Module]] = []
    made = _make_shells(network, memo, shells)
    with torch.inference_mode(False), torch.no_grad():
        for module, _ in shells:
            for parameter in module._parameters.values():
                if isinstance(parameter, nn.Parameter) and id(parameter) not in memo:
                    memo[id(parameter)] = parameter if is_lazy(parameter) else weights(parameter)
        for module, shell in shells:
            for name, value in vars(module).items():
                shell.__dict__[name] = _own(value, memo)
            shell.__dict__["_compiled_call_impl"] = None  # it would run the user's module
    return made


def same_weight(parameter: nn.Parameter) -> Tensor:
    """The user's parameter itself: for copies whose gradients nobody takes."""
    return parameter


def alias(parameter: nn.Parameter) -> Tensor:
    """A parameter of the same memory, with a gradient and flags of its own."""
    values = parameter.clone() if parameter.is_inference() else parameter.detach()
    return nn.Parameter(values, requires_grad=parameter.requires_grad)


def own_weight(parameter: nn.Parameter) -> Tensor:
    """A parameter of the same values, in memory of its own."""
    return nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)


def compiled_network(module: nn.Module) -> nn.Module | None:
    """The network that ``torch.compile`` made this of, if it did."""
    # Imported by whoever compiles: it takes seconds, and need not be there.
    room = sys.modules.get("torch._dynamo.eval_frame")
    if room is not None and isinstance(module, room.OptimizedModule):
        network: nn.Module = module._orig_mod
        return network
    return None


def is_compiled(forward_func: object) -> bool:
    """Whether a function, or a part of a network, was made by ``torch.compile``."""
    if isinstance(forward_func, nn.Module):
        return any(compiled_network(module) is not None for module in forward_func.modules())
    return hasattr(forward_func, "_torchdynamo_orig_callable")


def _make_shells(
    module: nn.Module, memo: Memo, shells: list[tuple[nn.Module, nn.Module]]
) -> nn.Module:
    """An empty module in the place of each module below this one."""
    made: nn.Module
    if id(module) in memo:
        made = memo[id(module)]
        return made
    if isinstance(module, torch.jit.ScriptModule):
        memo[id(module)] = module
        return module
    compiled = compiled_network(module)
    if compiled is not None:
        made = memo[id(module)] = _make_shells(compiled, memo, shells)
        return made
    shell = object.__new__(type(module))
    memo[id(module)] = shell
    shells.append((module, shell))
    for child in module._modules.values():
        if child is not None:
            _make_shells(child, memo, shells)
    return shell


def _own(value: Any, memo: Memo) -> Any:
    """A copy of an attribute's value, in which the network's parts are the copy's."""
    if id(value) in memo:
        return memo[id(value)]
    kind = type(value)
    if kind in (dict, OrderedDict):
        made: Any = kind()
        memo[id(value)] = made
        made.update((key, _own(part, memo)) for key, part in value.items())
    elif kind in (list, set):
        made = kind()
        memo[id(value)] = made
        (made.extend if kind is list else made.update)(_own(part, memo) for part in value)
    elif kind is tuple:
        made = tuple(_own(part, memo) for part in value)
    elif isinstance(value, Tensor):
        made = memo[id(value)] = value if is_lazy(value) else value.detach().clone()
    elif kind in _IMMUTABLE:
        made = value
    else:
        made = _deep_copy(value, memo)
    return made


_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


def _deep_copy(value: Any, memo: Memo) -> Any:
    """``copy.deepcopy`` where it works: a failure must leave no halves in the memo."""
    trial = dict(memo)
    try:
        made = copy.deepcopy(value, trial)
    except Exception:  # locks, files, generators: whatever __deepcopy__ or __reduce__ raises
        return value
    memo.update(trial)
    return made

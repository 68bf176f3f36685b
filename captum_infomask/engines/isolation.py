# Copies of a user's network that share its weights and nothing else. Changes to a copy leave the
# network as it was, whatever else runs in the process.
from __future__ import annotations

import copy
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_infomask._errors import ArgumentError
from captum_infomask.engines.reached import IMMUTABLE, MOST, held


class Isolation:
    """Copy networks, and everything that refers to them.

    No module is asked to copy itself, and nothing is assigned to one, because either may reach the
    network that it wraps. Values that cannot be copied are shared. TorchScript is a program rather
    than an object, so it is copied with its weights. If parameters stand for themselves, large
    tensors that are not parameters do too. The copy of a compiled network is the network that was
    compiled, and that of one in parallel is the network alone.

    Args:
        weights: A function that returns the stand-in for a parameter in a copy.

    Attributes:
        is_whole: Whether no copy runs a part of its original. A function's closure or a weak
            reference may hold such a part, and nothing can follow it.
        shared: Tensors that stand for themselves.
    """

    def __init__(self, weights: Callable[[nn.Parameter], Tensor]) -> None:
        self._weights = weights
        self.is_whole = True
        self.shared: list[Tensor] = []
        self._made: dict[int, Any] = {}  # by the id of the original
        self._copied: list[Any] = []  # kept, so that their ids are not used again

    @torch.no_grad()
    def copy(self, value: Any) -> Any:
        """Return a network, or anything that refers to networks, with the copies in their place."""
        with torch.inference_mode(False):
            return self._own(value)

    def _own(self, value: Any) -> Any:
        kind = type(value)
        if kind in IMMUTABLE:
            return value
        if id(value) in self._made:
            return self._made[id(value)]
        made: Any
        if kind in weakref.ProxyTypes:
            self.is_whole = False
            return value
        if isinstance(value, nn.Module):
            return self._network(value)
        if kind in (dict, OrderedDict):
            made = self._note(value, kind())
            made.update((self._own(key), self._own(part)) for key, part in value.items())
        elif kind in (list, set):
            made = self._note(value, kind())
            parts = map(self._own, value)
            made.extend(parts) if kind is list else made.update(parts)
        elif kind is tuple:
            made = tuple(map(self._own, value))
        elif kind is MethodType:
            made = MethodType(value.__func__, self._own(value.__self__))
        elif kind is partial:
            options = {key: self._own(part) for key, part in value.keywords.items()}
            made = partial(self._own(value.func), *map(self._own, value.args), **options)
        elif isinstance(value, Tensor):
            made = self._tensor(value)
        else:
            made = self._deep_copy(value)
        return made

    def _note(self, value: Any, made: Any) -> Any:
        self._made[id(value)] = made
        self._copied.append(value)
        return made

    def _tensor(self, value: Tensor) -> Tensor:
        """Return a tensor with its attributes; a large one is shared if parameters are."""
        made = value
        if isinstance(value, nn.Parameter):
            made = value if is_lazy(value) else self._weights(value)
        elif not is_lazy(value) and (self._weights is not same_weight or _is_small(value)):
            made = value.detach().clone()
        self._note(value, made)
        if made is value:
            self.shared.append(value)
        else:
            for name in vars(value).keys() - vars(made).keys():
                made.__dict__[name] = self._own(vars(value)[name])
        return made

    def _network(self, network: nn.Module) -> nn.Module:
        shells: list[tuple[nn.Module, nn.Module]] = []
        made = self._shell(network, shells)
        for module, shell in shells:
            for name, value in vars(module).items():
                if name != "_compiled_call_impl":  # this would run the user's module
                    shell.__dict__[name] = self._own(value)
        return made

    def _shell(self, module: nn.Module, shells: list[tuple[nn.Module, nn.Module]]) -> nn.Module:
        """Return an empty module in the place of each module below this one."""
        made: nn.Module
        if id(module) in self._made:
            made = self._made[id(module)]
            return made
        if isinstance(module, torch.jit.ScriptModule):
            made = self._note(module, self._script(module))
            return made
        within = network_within(module)
        if within is not None:
            made = self._note(module, self._shell(within, shells))
            return made
        made = self._note(module, object.__new__(type(module)))
        if any(vars(kind).get("__slots__") for kind in type(module).__mro__):
            self.is_whole = False
        shells.append((module, made))
        for child in module._modules.values():
            if child is not None:
                self._shell(child, shells)
        return made

    def _script(self, module: torch.jit.ScriptModule) -> nn.Module:
        """TorchScript, which cannot share its weights alone: as it is where none are changed."""
        if self._weights is same_weight:
            return module
        made: nn.Module = copy.deepcopy(module)
        return made

    def _deep_copy(self, value: Any) -> Any:
        """Use ``copy.deepcopy`` if it works; a failure must leave no partial copies behind."""
        trial = dict(self._made)
        if self._weights is same_weight:
            tensors = [each for each in _reached(value) if isinstance(each, Tensor)]
            trial.update((id(each), self._tensor(each)) for each in tensors)
        try:
            made = copy.deepcopy(value, trial)
        except Exception:  # locks, files, generators: whatever __deepcopy__ or __reduce__ raises
            made = value
        else:
            self._copied.append(trial.pop(id(trial), None))  # what keeps the ids in it from reuse
            self._made.update(trial)
        if made is value and self._reaches(value):
            self.is_whole = False
        return made

    def _reaches(self, value: Any) -> bool:
        """Whether a copied module can be reached from a value that is shared."""
        modules = (each for each in _reached(value) if isinstance(each, nn.Module))
        return any(self._made.get(id(each), each) is not each for each in modules)


def _reached(value: Any) -> Iterator[Any]:
    """Yield the values that can be reached from a value; the content of modules is left out."""
    waiting, seen = [value], set[int]()
    while waiting and len(seen) < MOST:
        each = waiting.pop()
        if id(each) in seen or type(each) in IMMUTABLE:
            continue
        seen.add(id(each))
        yield each
        if not isinstance(each, nn.Module):
            waiting += held(each)


_LARGEST_COPY = 2**20  # bytes


def _is_small(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() <= _LARGEST_COPY


def same_weight(parameter: nn.Parameter) -> Tensor:
    """Return the user's parameter itself: for copies whose gradients nobody takes."""
    return parameter


def alias(parameter: nn.Parameter) -> Tensor:
    """Return a parameter in the same memory, with its own gradient and flags."""
    return _like(parameter, parameter.clone() if parameter.is_inference() else parameter.detach())


def own_weight(parameter: nn.Parameter) -> Tensor:
    """Return a parameter with the same values, in its own memory."""
    return _like(parameter, parameter.detach().clone())


def _like(parameter: nn.Parameter, values: Tensor) -> Tensor:
    """Return a parameter of the same kind, without a call of its class."""
    kind, flag = type(parameter), parameter.requires_grad
    if kind is nn.Parameter or isinstance(values, kind):
        return nn.Parameter(values, requires_grad=flag)
    made: Tensor = Tensor._make_subclass(kind, values, flag)
    return made


def check_no_script(name: str, network: nn.Module) -> None:
    """Refuse TorchScript if weights are to be changed layer by layer."""
    scripts = [key for key, m in network.named_modules() if isinstance(m, torch.jit.ScriptModule)]
    if scripts:
        where = f" at {scripts[0]!r}" if scripts[0] else ""
        raise ArgumentError(
            f"Expected `{name}` to be a torch.nn.Module whose layers can be changed; got "
            f"TorchScript{where}. Pass the module that it was made of."
        )


def network_within(module: nn.Module) -> nn.Module | None:
    """Return the network that a module compiles or runs in parallel, if it does nothing else."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        parallel: nn.Module = module.module
        return parallel
    # The code that compiles imports this: it takes seconds, and may be missing.
    room = sys.modules.get("torch._dynamo.eval_frame")
    if room is not None and isinstance(module, room.OptimizedModule):
        network: nn.Module = module._orig_mod
        return network
    return None

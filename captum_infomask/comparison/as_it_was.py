# One method's run: drawn by the seed, and all of the model as it was before, whatever happens.
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from captum_infomask._process import numbers_of_libraries, quiet
from captum_infomask.engines.untouched import untouched

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What Captum says it will change and take back; it is taken back here in any case.
_TAKEN_BACK = (
    "Input Tensor . did not already require gradients",
    "Setting forward, backward hooks and attributes",
    "Setting backward hooks on ReLU activations",
)


@contextmanager
def as_it_was(*models: Callable[..., Any], seed: int) -> Iterator[None]:
    """Run something that may do anything to a model but change the values of its parameters.

    Random numbers are drawn by ``seed`` inside, and gradients can be taken. Afterwards,
    also after an error, the model's buffers, hooks, modes, attributes, and its parameters'
    gradients are as they were. Threads enter one at a time, since Captum warns, and Python filters
    warnings for all threads together.

    Args:
        *models: Modules or their methods; other functions are let be.
        seed: Of what is drawn.
    """
    owners = [m if isinstance(m, nn.Module) else getattr(m, "__self__", None) for m in models]
    modules = [
        module
        for owner in owners
        if isinstance(owner, nn.Module)
        for module in owner.modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    with quiet(*_TAKEN_BACK), ExitStack() as stack:
        stack.enter_context(numbers_of_libraries(seed))
        stack.enter_context(_put_back(modules))
        stack.enter_context(torch.inference_mode(False))
        for model in models:
            stack.enter_context(untouched(model, seed))
        stack.enter_context(torch.enable_grad())
        yield


@contextmanager
def _put_back(modules: list[nn.Module]) -> Iterator[None]:
    before = [_Before(module) for module in modules]
    parameters = dict.fromkeys(p for m in modules for p in m.parameters(recurse=False))
    gradients = [(p, p.grad, p.requires_grad) for p in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        yield
    finally:
        for state in before:
            state.put_back()
        for parameter, gradient, requires_grad in gradients:
            parameter.grad = gradient
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)


class _Before:
    """A module's mode, hooks and names of attributes."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training, self.names = module, module.training, set(vars(module))
        self.hooks = {name: dict(getattr(module, name)) for name in _HOOKS}

    def put_back(self) -> None:
        """Take off what came since, and put back what went."""
        if self.module.training != self.training:
            self.module.training = self.training
        for name in set(vars(self.module)) - self.names:
            del self.module.__dict__[name]
        for name, hooks in self.hooks.items():
            now = getattr(self.module, name)
            if dict(now) != hooks:
                now.clear()
                now.update(hooks)

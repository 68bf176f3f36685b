# One method's run: drawn by the seed, and all of the user's as it was before, whatever happens.
from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from captum_infomask.engines.untouched import untouched

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What Captum says it will change and take back; it is taken back here in any case.
_TAKEN_BACK = (
    "Input Tensor . did not already require gradients",
    "Setting forward, backward hooks and attributes",
    "Setting backward hooks on ReLU activations",
)


@contextmanager
def as_it_was(model: Callable[..., Any], device: torch.device, seed: int) -> Iterator[None]:
    """Run something that may do anything to a model but change the values of its parameters.

    Random numbers of PyTorch, NumPy and Python are drawn by ``seed`` inside, and gradients can be
    taken. Afterwards, also after an error, the random states are as they were, and so are the
    model's buffers, hooks, modes, attributes, and its parameters' gradients.

    Args:
        model: A module or its method; of another function only the random states can be kept.
        device: Where it runs.
        seed: Of what is drawn.
    """
    owner = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    network = owner if isinstance(owner, nn.Module) else nn.Module()
    before = [_Before(module) for module in network.modules()]
    parameters = list(network.parameters())
    gradients = [(p, p.grad, p.requires_grad) for p in parameters]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        for parameter in parameters:
            parameter.grad = None
        random.seed(seed)
        np.random.seed(seed % 2**32)
        with (
            torch.inference_mode(False),
            untouched(model, device, seed),
            torch.enable_grad(),
            warnings.catch_warnings(),
        ):
            for words in _TAKEN_BACK:
                warnings.filterwarnings("ignore", words)
            yield
    finally:
        for state in before:
            state.put_back()
        for parameter, gradient, requires_grad in gradients:
            parameter.grad = gradient
            parameter.requires_grad_(requires_grad)
        random.setstate(python)
        np.random.set_state(numpy)


class _Before:
    """A module's mode, hooks and names of attributes."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training, self.names = module, module.training, set(vars(module))
        self.hooks = {name: dict(getattr(module, name)) for name in _HOOKS}

    def put_back(self) -> None:
        """Take off what came since, and put back what went."""
        self.module.training = self.training
        for name in set(vars(self.module)) - self.names:
            del self.module.__dict__[name]
        for name, hooks in self.hooks.items():
            now = getattr(self.module, name)
            if dict(now) != hooks:
                now.clear()
                now.update(hooks)

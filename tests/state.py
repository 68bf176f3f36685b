# Everything that an attribution must leave as it was, taken down so that it can be compared.
from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


def take_down(model: nn.Module, tensors: tuple[Tensor, ...] = ()) -> dict[str, Any]:
    """Values and identities of all state of a model, of some tensors, and of the process."""
    state: dict[str, Any] = {}
    named = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in [*named, *((f"tensor {k}", tensor) for k, tensor in enumerate(tensors))]:
        state[f"{name} value"] = tensor.detach().clone()
        state[f"{name} identity"] = id(tensor)
        state[f"{name} requires_grad"] = tensor.requires_grad
        state[f"{name} grad"] = None if tensor.grad is None else tensor.grad.clone()
    for name, module in model.named_modules():
        state[f"{name} training"] = getattr(module, "training", None)
        for hooks in _HOOKS:
            state[f"{name} {hooks}"] = tuple(getattr(module, hooks, ()))
    state["grad enabled"] = torch.is_grad_enabled()
    state["inference mode"] = torch.is_inference_mode_enabled()
    state["autocast"] = torch.is_autocast_enabled("cpu")
    state["default dtype"] = torch.get_default_dtype()
    state["threads"] = torch.get_num_threads()
    state["torch rng"] = torch.get_rng_state()
    state["numpy rng"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))
    state["python rng"] = random.getstate()
    return state


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what is not the same, to the bit."""
    return [
        name
        for name in sorted(before.keys() | after.keys())
        if not _same(before.get(name, "absent"), after.get(name, "absent"))
    ]


@contextmanager
def unchanged(model: nn.Module, *tensors: Tensor) -> Iterator[None]:
    """Fail if anything was changed inside, whether or not an exception leaves."""
    before = take_down(model, tensors)
    try:
        yield
    finally:
        assert differences(before, take_down(model, tensors)) == []


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b

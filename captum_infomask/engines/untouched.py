# The promise that a user's model and random state are as they were, whatever happens.
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def untouched(
    forward_func: Callable[..., Any], device: torch.device, seed: int = 0
) -> Iterator[None]:
    """Put the random state back afterwards, and the buffers that forward passes move or replace.

    Inside, a network that draws by itself draws by ``seed``.

    Forward passes run under ``no_grad`` rather than ``inference_mode``: a model may cache tensors
    of its own (positional tables, say), and inference tensors could not be used in training
    afterwards. The buffers of a model that is hidden in a plain function cannot be seen from here.
    """
    buffers = _buffers(forward_func)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            seed_generators(seed, device)
            yield
    finally:
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)
                # Writing to a buffer would spoil a graph of the user's that has saved it.
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and this device's; ``torch.manual_seed`` would seed them all."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _buffers(forward_func: object) -> list[tuple[nn.Module, str, Tensor, Tensor]]:
    """Every buffer of a model or of a model's method: where it is, and a copy of its values."""
    if not isinstance(forward_func, nn.Module):
        forward_func = getattr(forward_func, "__self__", None)
    if not isinstance(forward_func, nn.Module):
        return []
    return [
        (module, name, buffer, buffer.detach().clone())
        for module in forward_func.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]

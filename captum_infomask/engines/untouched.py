# The promise that a user's model and random state are as they were, whatever happens.
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def untouched(forward_func: Callable[..., Any], device: torch.device) -> Iterator[None]:
    """Put the random state back afterwards, and the buffers that modules in training mode move.

    Forward passes run under ``no_grad`` rather than ``inference_mode``: a model may cache tensors
    of its own (positional tables, say), and inference tensors could not be used in training
    afterwards.
    """
    buffers = _moving_buffers(forward_func)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _moving_buffers(forward_func: object) -> list[tuple[Tensor, Tensor]]:
    if not isinstance(forward_func, nn.Module):
        forward_func = getattr(forward_func, "__self__", None)
    if not isinstance(forward_func, nn.Module):
        return []
    if not any(module.training for module in forward_func.modules()):
        return []
    return [(buffer, buffer.detach().clone()) for buffer in forward_func.buffers()]

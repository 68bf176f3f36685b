# Find the dimensions of a value that are places, by the steps that make and read it.
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_infomask.engines.recording import Recording, Step

REDUCTIONS = ("mean", "sum", "amax", "max", "logsumexp", "norm", "linalg_vector_norm")

# Words in the names of steps that show where the channels of their input stand.
_FIRST = ("conv", "pool", "batch_norm", "group_norm", "instance_norm", "interpolate", "pixel")
_LAST = ("linear", "layer_norm", "rms_norm", "attention")
_HEADS = ("attention", "matmul", "bmm", "einsum")  # steps on (N, heads, L, C), which is not a map
MOVES = ("permute", "transpose", "swapaxes", "movedim", "moveaxis")
_ENDS = ("flatten", "view", "reshape")
_OTHER = {"first": "last", "last": "first", "heads": "heads"}


def axes_of(recording: Recording, value: Tensor, after: int, places: int) -> tuple[int, ...] | None:
    """Return the dimensions that are places, by the steps around a value; None if nothing tells.

    Args:
        recording: The steps of the network.
        value: The value.
        after: The place of the step that made it.
        places: The dimensions of places that the inputs have.
    """
    first = tuple(range(2, value.dim()))
    last = tuple(range(1, value.dim() - 1))
    told = _told(recording.steps[after + 1 :], value, forward=True)
    if told is None:
        told = _told(recording.steps[after::-1], value, forward=False)
    if told is None:
        told = _told(recording.steps[after + 1 :], value, forward=True, rows=True)
    if told is None:
        # These are maps whose places are put in one row, as in a network's first layers.
        told = "first" if value.dim() == 2 + places and value.dim() > 3 else None
    if told in (None, "heads"):
        return None
    return first if told == "first" else last


def channels_beside(reduced: Any, dims: int) -> str | None:
    """Return the place of channels, ``first`` or ``last``, if a reduction is one over all places.

    Args:
        reduced: The dimensions of the reduction, in the form of the call.
        dims: The number of dimensions, including those of a batch and of channels.
    """
    over = [reduced] if isinstance(reduced, int) else reduced
    if not isinstance(over, list | tuple) or not all(isinstance(one, int) for one in over):
        return None
    places = sorted(one % dims for one in over)
    if places == list(range(2, dims)):
        return "first"
    return "last" if places == list(range(1, dims - 1)) else None


def _told(steps: Sequence[Step], value: Tensor, *, forward: bool, rows: bool = False) -> str | None:
    """Return the place of channels, by the steps that follow a value, or that led to it.

    Args:
        steps: The steps, from the value on.
        value: The value.
        forward: Whether the steps follow it.
        rows: Whether a reshape counts that puts places in one row.
    """
    at, is_moved = value, False
    for step in steps:
        read = step.given[:1] if forward else step.made[:1]
        if not read or read[0] is not at:
            continue
        told = _tells(step, at)
        if told:
            return _OTHER[told] if is_moved else told
        follows = step.made[:1] if forward else step.given[:1]
        if not follows or follows[0].dim() != value.dim():
            told = _by_shape(at, follows[0]) if rows and follows and step.name in _ENDS else None
            return _OTHER[told] if told and is_moved else told
        if step.name in MOVES:
            is_moved ^= _swaps(step, at)
        at = follows[0]
    return None


def _by_shape(value: Tensor, in_row: Tensor) -> str | None:
    """Return the place of a map's channels, if a reshape puts its places in one row, or back."""
    if in_row.dim() != 3 or value.dim() < 4:
        return None
    sizes, row = tuple(value.shape), tuple(in_row.shape[1:])
    first = row == (sizes[1], math.prod(sizes[2:]))
    last = row == (math.prod(sizes[1:-1]), sizes[-1])
    return None if first == last else "first" if first else "last"


def _tells(step: Step, at: Tensor) -> str | None:
    """Return where a step has the channels of its input or output: ``first`` or ``last``."""
    name, dims = step.name, at.dim()
    if dims > 3 and any(word in name for word in _HEADS):
        return "heads"
    if name in REDUCTIONS:
        return channels_beside(_argument(step, "dim"), dims)
    if name in ("getitem", "select"):
        return "last" if dims == 3 and _picks_token(step) else None
    if name == "layer_norm" and len(_argument(step, "normalized_shape")) > 1:
        return None
    if any(word in name for word in _LAST):
        return "last"
    return "first" if any(word in name for word in _FIRST) else None


def _picks_token(step: Step) -> bool:
    """Whether a step reads one token of (N, L, C)."""
    if step.name == "select":
        return step.args[1:2] == (1,)
    index: Any = step.args[1]
    is_pair = isinstance(index, tuple) and len(index) > 1
    return is_pair and index[0] == slice(None) and isinstance(index[1], int)


def _argument(step: Step, name: str) -> Any:
    """Return a step's second argument, which may be given by name."""
    return step.kwargs.get(name, step.args[1] if len(step.args) > 1 else None)


def _swaps(step: Step, at: Tensor) -> bool:
    """Whether a permutation moves the channels from one end to the other."""
    sizes = tuple(range(2, 2 + at.dim()))
    moved = step.function(torch.empty(sizes, device="meta"), *step.args[1:], **step.kwargs)
    return int(moved.shape[1]) != sizes[1] and int(moved.shape[-1]) != sizes[-1]

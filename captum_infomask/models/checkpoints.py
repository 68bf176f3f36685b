# Weight files: read without running anything that is in them, and fitted to a network with
# errors that name what does not fit.
from __future__ import annotations

import re
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from captum_infomask._errors import ArgumentError
from captum_infomask._files import check_input
from captum_infomask._process import quiet
from captum_infomask.models.claims import WouldRunError, check_claims


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a file of weights: safetensors, or a state dict that ``torch.save`` wrote.

    Nothing in the file is run: a pickle of anything but tensors and plain containers is refused.
    What it says it holds is held against its size before any of it is made. ``{"state_dict": …}``
    is unwrapped, and the prefix that ``DataParallel`` adds is taken off.

    Args:
        path: ``.safetensors``, or any other suffix for ``torch.save``'s format.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ArgumentError: if the file is missing, damaged, holds pickled code, or is no state dict.

    Example:
        >>> import os, tempfile, torch
        >>> from captum_infomask.models.checkpoints import read_state_dict
        >>> path = os.path.join(tempfile.mkdtemp(), "weights.pt")
        >>> torch.save({"state_dict": {"bias": torch.zeros(2)}}, path)
        >>> list(read_state_dict(path))
        ['bias']
    """
    path = check_input("weights", path)
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not _all_tensors(state):
        raise ArgumentError(
            f"Expected `weights` to be a state dict (tensors by name) or {{'state_dict': …}}; "
            f"{path} holds {_contents(state)}."
        )
    state = dict(state)
    consume_prefix_in_state_dict_if_present(state, "module.")
    return state


def fit_state_dict(network: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Copy weights into a network, or name the first ones that do not fit and change nothing.

    Args:
        network: Changed in place.
        state: Tensors by name.
        source: Where they came from, for the error message.

    Raises:
        ArgumentError: if a tensor is missing, unexpected, of another shape, not dense, or of
            another kind: boolean or complex, say, where the network's own is real. Precisions may
            differ.

    Example:
        >>> import torch
        >>> from captum_infomask.models.checkpoints import fit_state_dict
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> fit_state_dict(layer, {"weight": torch.full((1, 1), 2.0)}, "memory")
        >>> layer.weight.item()
        2.0
    """
    own = network.state_dict()
    wrong = {
        # Files from before 2018 do not count batches, and a network in eval mode does not ask.
        "missing": [
            name for name in own if name not in state and not name.endswith("num_batches_tracked")
        ],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
        "of another kind": [
            f"{name}, {_kind(state[name])} instead of {_kind(own[name])}"
            for name in own
            if name in state and _kind(state[name]) not in _TAKES.get(_kind(own[name]), ())
        ],
    }
    if any(wrong.values()):
        listed = "; ".join(
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in wrong.items()
            if names
        )
        raise ArgumentError(
            f"Expected `weights` to hold the {len(own)} tensors of {type(network).__name__}; "
            f"{source} has {listed}."
        )
    # Not load_state_dict: some networks refuse a dict without the version that safetensors drops.
    with torch.no_grad():
        for name in own.keys() & state.keys():
            own[name].copy_(state[name])


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or say that it is none."""
    try:
        return safetensors.torch.load_file(path)
    except MemoryError:
        raise
    except Exception as error:  # safetensors reports damage by several kinds
        raise ArgumentError(
            f"Expected `weights` to be a safetensors file; {path} cannot be read: {error}."
        ) from error


def _read_torch(path: Path) -> object:
    """Read ``torch.save``'s format with the unpickler that builds tensors and nothing else."""
    try:
        check_claims(path)
        with quiet("Detected pickle protocol"):
            # Of another protocol than torch.save's: it is read or refused, both by the same rules.
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        what = _fault(error)
        raise ArgumentError(
            f"Expected `weights` to be a state dict of plain tensors, as `torch.save` writes it, "
            f"or .safetensors; {path} {what}. It was refused, and nothing in it was run."
        ) from error


def _fault(error: Exception) -> str:
    """What is wrong with a file, in words."""
    if isinstance(error, WouldRunError):
        name = str(error)
        kind = (
            "holds other than dense tensors"
            if name.startswith("torch._utils.")
            else "would run code"
        )
        return f"{kind} ({name})"
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return f"would run code ({found[1]})"
    words = " ".join(str(error).split())[:200]
    return f"is none ({type(error).__name__}{': ' if words else ''}{words})"


# What a network's own tensor takes, by kind.
_TAKES = {
    "floating-point": ("floating-point",),
    "integer": ("integer", "floating-point"),  # all of a file may have been made half precise
    "complex": ("complex", "floating-point"),
    "boolean": ("boolean",),
}


def _kind(tensor: Tensor) -> str:
    """What a tensor's numbers are, or why it has none to copy."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return "not dense"
    if tensor.is_meta:
        return "without numbers (meta)"
    if tensor.is_quantized:
        return "quantized"
    if tensor.dtype == torch.bool:
        return "boolean"
    if tensor.is_complex():
        return "complex"
    return "floating-point" if tensor.is_floating_point() else "integer"


def _all_tensors(state: dict[object, object]) -> bool:
    """Tell whether a dict is tensors by name."""
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())


def _contents(state: object) -> str:
    """Say in a few words what a file held instead of a state dict."""
    if isinstance(state, dict):
        return f"a dict with the keys {list(state)[:5]}"
    return f"a {type(state).__name__}"

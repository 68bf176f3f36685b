# Reads weight files without running anything in them, and copies the weights into a network. Errors
# name the tensors that do not fit.
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

_WRAPS = ("state_dict", "model")  # the keys of a training's checkpoint that hold the weights


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a file of weights: safetensors, or a state dict that ``torch.save`` wrote.

    Nothing in the file is run: a pickle of anything but tensors and plain containers is refused.
    The content that the file claims is compared with its size before any of it is made.
    ``{"state_dict": …}`` and ``{"model": …}`` are unwrapped, and the prefix of ``DataParallel`` is
    removed.

    Args:
        path: ``.safetensors``, or any other suffix for ``torch.save``'s format.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ArgumentError: if the file is missing, damaged, holds pickled code, or is not a state dict.

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
    if isinstance(state, dict):
        state = next((state[key] for key in _WRAPS if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not state or not _all_tensors(state):
        raise ArgumentError(
            f"Expected `weights` to be a state dict (tensors by name), {{'state_dict': …}} or "
            f"{{'model': …}}; "
            f"{path} holds {_contents(state)}."
        )
    state = dict(state)
    consume_prefix_in_state_dict_if_present(state, "module.")
    return state


def fit_state_dict(network: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Copy weights into a network; if some do not fit, name them and change nothing.

    Args:
        network: Changed in place.
        state: Tensors by name.
        source: The origin of the weights, for the error message.

    Raises:
        ArgumentError: if a tensor is missing, unexpected, of another shape, not dense, or of
            another kind, such as boolean or complex instead of real. Precisions may differ.

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
        # Files from before 2018 do not count batches, and a network in eval mode does not need
        # this.
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
    # load_state_dict is not used: safetensors drops the version, and some networks refuse this.
    with torch.no_grad():
        for name in own.keys() & state.keys():
            own[name].copy_(state[name])


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or say that it is not one."""
    try:
        return safetensors.torch.load_file(path)
    except MemoryError:
        raise
    except Exception as error:  # safetensors raises several kinds of errors for damage
        raise ArgumentError(
            f"Expected `weights` to be a safetensors file; {path} cannot be read: {error}."
        ) from error


def _read_torch(path: Path) -> object:
    """Read ``torch.save``'s format with the unpickler that builds only tensors."""
    try:
        check_claims(path)
        with quiet("Detected pickle protocol"):
            # The protocol is not torch.save's. The same rules decide whether it is read or refused.
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise any error
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


# The kinds of tensors that a network's own tensor accepts.
_TAKES = {
    "floating-point": ("floating-point",),
    "integer": ("integer", "floating-point"),  # a file may have been converted to half precision
    "complex": ("complex", "floating-point"),
    "boolean": ("boolean",),
}


def _kind(tensor: Tensor) -> str:
    """The kind of a tensor's numbers, or the reason why it has none to copy."""
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
    """Whether a dict holds tensors by name."""
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())


def _contents(state: object) -> str:
    """Say in a few words what a file held instead of a state dict."""
    if isinstance(state, dict):
        return f"a dict with the keys {list(state)[:5]}"
    return f"a {type(state).__name__}"

# Checks arguments. Each message says what was expected and what was given.
from __future__ import annotations

import contextlib
import difflib
import itertools
import math
import numbers
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from captum_infomask._errors import ArgumentError


def folded(name: str) -> str:
    """Return a name without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def one_of(argument: str, given: object, valid: Iterable[str]) -> str:
    """Return ``given`` if it is one of ``valid``; the error names the nearest valid name."""
    names = list(valid)
    if isinstance(given, str) and given in names:
        return given
    by_fold = {folded(name): name for name in reversed(names)}
    near = difflib.get_close_matches(folded(str(given)), by_fold, n=1, cutoff=0.4)
    hint = f" Did you mean {by_fold[near[0]]!r}?" if near else ""
    listed = ", ".join(repr(name) for name in names)
    raise ArgumentError(
        f"Expected `{argument}` to be one of {listed}; got {short_repr(given)}.{hint}"
    )


def named_like(argument: str, given: object, valid: Iterable[str]) -> str:
    """Return the valid name that ``given`` means, whatever its case, hyphens and spaces."""
    names = list(valid)
    if isinstance(given, str) and given not in names:
        meant = [name for name in names if folded(name) == folded(given)]
        given = meant[0] if len(meant) == 1 else given
    return one_of(argument, given, names)


def plain(given: Any) -> Any:
    """Return a NumPy or PyTorch scalar (or 0-dimensional array or tensor) as a Python number."""
    has_value = isinstance(given, np.generic | np.ndarray | torch.Tensor) and given.ndim == 0
    return given.item() if has_value else given


def positive_int(argument: str, given: object) -> int:
    """Return ``given`` as an int of at least 1."""
    number = plain(given)
    if not _is_integer(number) or number < 1:
        raise ArgumentError(
            f"Expected `{argument}` to be an integer of at least 1; got {short_repr(given)}."
        )
    return int(number)


def random_seed(given: object) -> int:
    """Return the argument ``seed`` as an int that PyTorch's generators take."""
    number = plain(given)
    if not _is_integer(number) or not 0 <= number < 2**63:
        raise ArgumentError(
            f"Expected `seed` to be an integer from 0 to 2**63 - 1; got {short_repr(given)}."
        )
    return int(number)


def _is_integer(given: object) -> TypeGuard[int]:
    return isinstance(given, numbers.Integral) and not isinstance(given, bool)


def boolean(argument: str, given: object) -> bool:
    """Return ``given`` if it is True or False."""
    truth = plain(given)
    if not isinstance(truth, bool):
        raise ArgumentError(f"Expected `{argument}` to be True or False; got {describe(given)}.")
    return truth


def finite_number(
    argument: str, given: object, *, above: float = -math.inf, least: float = -math.inf
) -> float:
    """Return ``given`` as a finite float larger than ``above``, and at least ``least``."""
    number, value = math.nan, plain(given)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not (above < number < math.inf and number >= least):
        bound = f" of at least {least:g}" if least > above else f" above {above:g}"
        if max(above, least) == -math.inf:
            bound = ""
        raise ArgumentError(
            f"Expected `{argument}` to be a finite number{bound}; got {short_repr(given)}."
        )
    return number


def open_share(argument: str, given: object) -> float:
    """Return ``given`` as a float above 0 and below 1."""
    number = finite_number(argument, given, above=0)
    if number >= 1:
        raise ArgumentError(f"Expected `{argument}` below 1; got {number:g}.")
    return number


def available_device(argument: str, given: object) -> str:
    """Return the name of a device that PyTorch has here; None takes CUDA if it is available."""
    if given is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    wanted = (
        f"Expected `{argument}` to be one that PyTorch has here, such as 'cpu' or 'cuda'; got "
        f"{short_repr(given)}"
    )
    if isinstance(given, bool) or not isinstance(given, str | int | torch.device):
        raise ArgumentError(f"{wanted}.")
    try:
        return str(torch.empty(0, device=given).device)
    except Exception as error:
        raise ArgumentError(
            f"{wanted} ({_shortened(f'{type(error).__name__}: {error}')})."
        ) from error


def describe(value: Any) -> str:
    """Say what a value is, in a few words on one line, for an error message."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"a numpy array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple | list):
        if any(isinstance(entry, torch.Tensor | np.ndarray | tuple | list) for entry in value):
            held = ", ".join(map(describe, value))
        else:
            held = repr(value)
        return _shortened(f"a {type(value).__name__} of {len(value)}: {held}")
    return _shortened(f"{value!r} ({type(value).__name__})")


def model_name(model: object) -> str:
    """Return the name of a model in tables: its own ``name``, or that of its class or function."""
    own = getattr(model, "name", None)
    if isinstance(own, str) and own:
        return own
    if isinstance(model, nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", "") or type(model).__name__


def short_repr(value: object) -> str:
    """Write a value as Python would, on one line."""
    return _shortened(repr(value))


def _shortened(words: str) -> str:
    """One line of at most 120 characters."""
    line = " ".join(words.split())
    return line if len(line) <= 120 else f"{line[:117]}..."


def check_callable(argument: str, given: object) -> None:
    """Refuse anything but a network or a function, and say what to pass instead."""
    if isinstance(given, type):
        raise ArgumentError(
            f"Expected `{argument}` to be a model or function; got the class {given.__name__}. "
            f"Make a network of it first: {given.__name__}(...)."
        )
    # What a function with @contextmanager returns is callable, but calls decorate functions.
    if isinstance(given, contextlib.ContextDecorator) and not isinstance(given, nn.Module):
        raise ArgumentError(
            f"Expected `{argument}` to be a model or function; got a context manager, as "
            f"keep_dropout(model) is. Pass the model, in a `with` block: with keep_dropout(model): "
            f"..."
        )
    if hasattr(given, "graph_signature") and hasattr(given, "module"):
        raise ArgumentError(
            f"Expected `{argument}` to be a model or function; got {type(given).__name__}. Pass "
            f"program.module()."
        )
    if callable(given):
        return
    hint, words = "", describe(given)
    held = [name for name in ("network", "forward_func") if callable(getattr(given, name, None))]
    if held:
        hint = f" Pass its `{held[0]}`."
    elif hasattr(given, "get_inputs") and hasattr(given, "run"):
        words = type(given).__name__
        hint = (
            " Pass a function around it: lambda x: torch.from_numpy("
            "session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])."
        )
    elif hasattr(given, "SerializeToString"):  # onnx.load's
        words = type(given).__name__
        hint = (
            " onnxruntime.InferenceSession(model.SerializeToString()) runs it: pass a function "
            "around the session."
        )
    elif isinstance(given, str | PathLike) and str(given).endswith(".onnx"):
        hint = " onnxruntime.InferenceSession(path) runs it: pass a function around the session."
    elif isinstance(given, str | PathLike):
        hint = " A name or a path is no network yet: make it and load its weights first."
    elif isinstance(given, Mapping) or hasattr(given, "missing_keys"):
        words = type(given).__name__
        hint = " Pass the network itself, after network.load_state_dict(...)."
    elif given is None:
        hint = " Does the function that makes the network return it?"
    raise ArgumentError(f"Expected `{argument}` to be a model or function; got {words}.{hint}")


def check_initialised(argument: str, forward_func: object) -> None:
    """Refuse a network, or its method, whose lazy parameters or buffers are not initialised."""
    network = getattr(forward_func, "__self__", forward_func)
    if not isinstance(network, nn.Module):
        return
    for name, tensor in itertools.chain(network.named_parameters(), network.named_buffers()):
        if is_lazy(tensor):
            layer, _, own = name.rpartition(".")
            where = f"layer {layer!r}" if layer else "the network itself"
            kind = type(network.get_submodule(layer)).__name__
            raise ArgumentError(
                f"Expected `{argument}` to be a network whose weights are there; {where} ({kind}) "
                f"has no {own} yet. Run one forward pass first, then eval()."
            )


def check_inputs(inputs: object) -> tuple[torch.Tensor, ...]:
    """Return the inputs as a tuple of tensors of one batch size, at least 1."""
    tensors = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    if isinstance(inputs, list) or not tensors:
        raise ArgumentError(
            f"Expected `inputs` to be a tensor or a tuple of tensors; got {describe(inputs)}. "
            f"{_joined(tensors)}"
        )
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            raise ArgumentError(
                f"Expected `inputs` to be a tensor or a tuple of tensors; got {describe(tensor)}."
                f"{_as_tensor(tensor)}"
            )
        if tensor.layout != torch.strided:
            raise ArgumentError(
                f"Expected `inputs` to be dense tensors; got layout {tensor.layout}. "
                f"inputs.to_dense() converts them."
            )
        if tensor.is_meta:
            raise ArgumentError(
                f"Expected `inputs` with values; got {describe(tensor)} on the meta device."
            )
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ArgumentError(
                f"Expected `inputs` with at least one example and one element in each, (N, ...); "
                f"got {describe(tensor)}."
            )
        if tensor.dtype.is_complex or (tensor.dim() == 4 and not tensor.dtype.is_floating_point):
            raise ArgumentError(
                f"Expected `inputs` to be floating-point images; got {describe(tensor)}. "
                f"Convert and normalise them as in training, e.g. inputs.float() / 255."
            )
    if len({len(tensor) for tensor in tensors}) != 1:
        sizes = [len(tensor) for tensor in tensors]
        place = next(k for k, size in enumerate(sizes) if size != 1)
        hint = (
            f" inputs[{place}][None] adds a batch dimension to one example." if 1 in sizes else ""
        )
        raise ArgumentError(f"Expected `inputs` of one batch size; got {sizes}.{hint}")
    return tensors


def _joined(given: tuple[object, ...]) -> str:
    """Say what to pass instead of a list: several inputs as a tuple, or pictures as one batch."""
    shapes = [tuple(one.shape) for one in given if isinstance(one, torch.Tensor)]
    if len({shape[1:] if len(shape) == 4 else shape for shape in shapes}) > 1:
        return "tuple(inputs) are several inputs of one network."
    joined = "cat" if any(len(shape) == 4 for shape in shapes) else "stack"
    return f"torch.{joined}(inputs) makes one batch of a list of equal shapes."


def _as_tensor(given: object) -> str:
    """Say how an array, a picture or what a processor returned becomes a tensor."""
    if isinstance(given, Mapping):
        named = [name for name, one in given.items() if getattr(one, "ndim", 0) > 2]
        return f" inputs[{named[0]!r}] holds the pictures." if len(named) == 1 else ""
    if isinstance(given, np.ndarray):
        is_picture = given.ndim == 3 and given.shape[2] in (1, 3, 4)
        moved = ".permute(2, 0, 1)[None]" if is_picture else ""
        return f" torch.from_numpy(inputs){moved} makes one of an array."
    if hasattr(given, "getbands"):  # Pillow's pictures
        return (
            " classifier.preprocess(inputs) makes one of a picture. Without a Classifier, "
            "torchvision.transforms.functional.to_tensor(inputs)[None] makes one; normalise it as "
            "in training."
        )
    return ""


def are_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether these look like colour pictures (N, H, W, C)."""
    return len(shape) == 4 and shape[3] in (3, 4) and min(shape[1:3]) > 4


def are_frames_first(shape: tuple[int, ...]) -> bool:
    """Whether these look like colour videos (N, T, C, H, W), which transformers take."""
    return len(shape) == 5 and shape[2] == 3 and shape[1] not in (1, 3) and min(shape[3:]) > 4

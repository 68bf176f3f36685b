# Yields the batches of a user's loader, and checks each one.
from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._messages import progress_bar

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_FORM = "(inputs, labels), two tensors with one entry per example"


def batches(
    loader: Iterable[Any], *, name: str = "loader", description: str, show_progress: bool
) -> Iterator[Any]:
    """Yield a loader's batches under a progress bar; an empty loader is an error.

    Args:
        loader: A DataLoader, or anything that can be iterated over.
        name: The argument's name, for messages.
        description: The text of the progress bar.
        show_progress: Whether to show the bar on stderr.
    """
    if not isinstance(loader, Iterable) or isinstance(loader, str | Tensor):
        raise ArgumentError(
            f"Expected `{name}` to be a DataLoader or another iterable of batches; got "
            f"{describe(loader)}."
        )
    count = 0
    for batch in progress_bar(loader, desc=description, show=show_progress):
        count += 1
        yield batch
    if count == 0:
        raise ArgumentError(
            f"Expected `{name}` to yield at least one batch; it yielded none. An iterator can be "
            f"read once only: pass the loader itself."
        )


def labelled_batches(
    loader: Iterable[Any], *, name: str = "loader", description: str, show_progress: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (inputs, labels) of every batch: finite inputs (B, ...), long labels (B,)."""
    found = batches(loader, name=name, description=description, show_progress=show_progress)
    for number, batch in enumerate(found):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ArgumentError(f"Expected `{name}` to yield {_FORM}; got {describe(batch)}.")
        inputs = checked_batch(batch[0], name, number)
        yield inputs, checked_labels(batch[1], name, number, len(inputs))


def checked_batch(inputs: object, name: str, number: int) -> Tensor:
    """Return a batch's inputs; refuse inputs that are not tensors, are empty, or are not finite."""
    if not isinstance(inputs, Tensor) or inputs.dim() == 0 or inputs.numel() == 0:
        raise ArgumentError(f"Expected `{name}` to yield {_FORM}; got inputs {describe(inputs)}.")
    if not bool(inputs.isfinite().all()):
        wrong = (~inputs.isfinite().flatten(1).all(1)).nonzero() if inputs.dim() > 1 else [0]
        raise ArgumentError(
            f"Expected `{name}` to yield finite inputs; batch {number} holds NaN or infinity in "
            f"{len(wrong)} of {len(inputs)} examples."
        )
    return inputs


def checked_labels(labels: object, name: str, number: int, count: int | None = None) -> Tensor:
    """Return a batch's labels as a long tensor (B,); refuse anything but one class per example."""
    values = labels
    if isinstance(labels, list | tuple):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            values = torch.as_tensor(labels, device="cpu")
    if (
        not isinstance(values, Tensor)
        or values.dim() != 1
        or values.is_floating_point()
        or values.is_complex()
        or values.dtype == torch.bool
        or (count is not None and len(values) != count)
    ):
        expected = "integers (B,)" if count is None else f"integers ({count},)"
        raise ArgumentError(
            f"Expected `{name}` to yield labels {expected}, a class per example; batch {number} "
            f"holds {describe(labels)}."
        )
    if bool((values < 0).any()):
        raise ArgumentError(
            f"Expected `{name}` to yield labels of at least 0; batch {number} holds "
            f"{int(values.min())}."
        )
    return values.long()


def whole_numbers(argument: str, given: object, n: int | None = None) -> Tensor:
    """Integers of at least 0, one per picture, long (n,), on the CPU: a user's own argument.

    Args:
        argument: The argument's name, for messages.
        given: A tensor, an array, a list or a tuple.
        n: The number of pictures, if it is known.
    """
    try:
        values = torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        values = torch.empty(0)
    if (
        values.dim() != 1
        or (n is not None and len(values) != n)
        or values.is_floating_point()
        or values.is_complex()
        or values.dtype == torch.bool
        or bool((values < 0).any())
    ):
        count = "" if n is None else f"{n} "
        raise ArgumentError(
            f"Expected `{argument}` to hold {count}integers of at least 0, one per picture; got "
            f"{describe(given)}."
        )
    return values.long().cpu()


def check_label_range(labels: Tensor, classes: int, name: str = "loader") -> None:
    """Refuse labels that the network's output has no class for."""
    if int(labels.max()) >= classes:
        raise ArgumentError(
            f"Expected `{name}` to yield labels below {classes}, the classes of the network's "
            f"output; got {int(labels.max())}."
        )


def placed(forward_func: object, inputs: Tensor) -> Tensor:
    """Inputs on the device of a network's parameters, and of their floating-point type.

    The type is that of the first parameter that has one: the inputs usually meet it first. Integers
    stay integers. For functions other than networks and their methods, inputs stay as they are.
    """
    network = getattr(forward_func, "__self__", forward_func)
    if not isinstance(network, nn.Module):
        return inputs
    device = next((each.device for each in network.parameters()), inputs.device)
    return inputs.to(device, dtype_of(network, inputs))


def dtype_of(network: object, inputs: Tensor) -> torch.dtype:
    """The type that floating-point inputs of a network have: see :func:`placed`."""
    if isinstance(network, nn.Module) and inputs.is_floating_point():
        kinds = (parameter.dtype for parameter in network.parameters())
        return next((kind for kind in kinds if kind in _FLOATS), inputs.dtype)
    return inputs.dtype

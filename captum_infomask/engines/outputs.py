# Check the output of a forward function for a chunk of views.
from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType

import torch
from torch import Tensor, nn

from captum_infomask._checks import are_channels_last
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Shape, Tensors
from captum_infomask.engines.engine_protocol import Call
from captum_infomask.engines.memory import is_out_of_memory
from captum_infomask.engines.traced import CONVOLUTIONS

_OF_FORM = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
)  # errors of a network about the form of its inputs


def explain(
    forward_func: object,
    inputs: Tensors,
    error: Exception,
    argument: str = "forward_func",
    *,
    further: int = 0,
    crop: Shape | None = None,
) -> None:
    """If the form of the inputs causes a network's error, explain which form it expects.

    A network may convert its inputs by itself, so only its error shows the cause.

    Args:
        forward_func: The network, or a function.
        inputs: The inputs that views are made from.
        error: The error that was raised.
        argument: The name of the inputs in messages.
        further: The number of further arguments.
        crop: Height and width of the pictures that were cut out, if they were.
    """
    if isinstance(error, ArgumentError) or is_out_of_memory(error):
        return
    if _has_texts(forward_func):
        kind = type(forward_func).__name__
        raise ArgumentError(
            f"Expected `{argument}` to be a network of pictures; {kind} takes "
            f"pictures and texts. captum_infomask.adapters.zero_shot(model, processor, prompts) "
            f"makes a classifier of it. (It raised {type(error).__name__}: {short_words(error)})"
        ) from error
    if not isinstance(error, _OF_FORM):
        return
    words = " ".join(str(error).split())
    if isinstance(error, TypeError):
        hint = _miscounted(words, argument, len(inputs), further)
    else:
        hint = _misplaced(forward_func, inputs, words, argument)
        hint = hint or _misshapen(forward_func, inputs, crop)
    if hint:
        raise ArgumentError(
            f"Expected {hint} (`{argument}` raised {type(error).__name__}: {short_words(error)})"
        ) from error


def short_words(error: Exception) -> str:
    """Return the words of an error on one line, of at most 120 characters."""
    words = " ".join(str(error).split())
    return words if len(words) <= 120 else f"{words[:117]}..."


@contextmanager
def explained(
    forward_func: object, inputs: Tensors, argument: str = "forward_func"
) -> Iterator[None]:
    """Inside, a network's errors are explained if possible."""
    try:
        yield
    except Exception as error:
        explain(forward_func, inputs, error, argument)
        raise


def _has_texts(network: object) -> bool:
    """Whether a network compares pictures with texts, as CLIP of transformers or open_clip does."""
    of_texts = ("get_text_features", "encode_text")
    return hasattr(network, "logit_scale") and any(hasattr(network, name) for name in of_texts)


def _misplaced(forward_func: object, inputs: Tensors, words: str, argument: str) -> str:
    """Explain an error about inputs on another device, or of another dtype, than the weights."""
    if not any(word in words for word in ("device", "type", "Type", "backend")):
        return ""
    weights = [
        tensor
        for network in _networks(forward_func)
        for tensor in itertools.chain(network.parameters(), network.buffers())
        if tensor.is_floating_point()
    ]
    devices = {tensor.device for tensor in weights}
    dtypes = {tensor.dtype for tensor in weights}
    for x in inputs:
        if devices == {torch.device("meta")}:
            return f"`{argument}` to have weights; they are on the meta device, without values."
        if devices and x.device not in devices:
            own = weights[0].device
            return (
                f"`inputs` on {own}, as the weights of `{argument}` are; got {x.device}. "
                f"inputs.to({str(own)!r}) moves them."
            )
        if dtypes and x.dtype not in dtypes:
            kind = weights[0].dtype
            return (
                f"`inputs` of dtype {kind}, as the weights of `{argument}` are; got {x.dtype}. "
                f"inputs.to({kind}) converts them."
            )
    return ""


def _miscounted(words: str, argument: str, inputs: int, further: int) -> str:
    """Explain the error of a function that takes fewer arguments."""
    if "positional argument" not in words or inputs + further < 2:
        return ""
    return (
        f"`{argument}` to take {inputs} `inputs` and {further} `additional_forward_args`, as they "
        f"were given."
    )


def _misshapen(forward_func: object, inputs: Tensors, crop: Shape | None) -> str:
    """Explain errors about crops, a missing batch dimension, or channels in the last dimension."""
    shape = tuple(inputs[0].shape)
    if crop is not None and crop != shape[2:]:
        return (
            f"`crop_size` that the network takes; got crops of {crop} out of pictures of "
            f"{shape[2:]}. crop_size=None resizes crops to the pictures' size."
        )
    if hint := _unbatched(forward_func, inputs):
        return (
            f"`inputs` with a batch dimension, (N, C, H, W) for images, (N, C, T) for signals and "
            f"(N, C, D, H, W) for volumes; got {shape}.{hint}"
        )
    if len(inputs) == 1 and are_channels_last(shape):
        return (
            f"`inputs` with channels first, (N, C, H, W) for images; got {shape}. "
            f"inputs.permute(0, 3, 1, 2) moves them."
        )
    return ""


def _unbatched(forward_func: object, inputs: Tensors) -> str:
    """Say how one example gets a batch dimension, if the inputs are one for this network."""
    shape = tuple(inputs[0].shape)
    modules = (part for network in _networks(forward_func) for part in network.modules())
    places = {len(part.kernel_size) for part in modules if isinstance(part, CONVOLUTIONS)}
    # Without convolutions to be seen, pictures are known by their number of channels.
    is_one = places == {len(shape) - 1} if places else len(shape) == 3 and shape[0] in (1, 3)
    has_no_channel = places == {len(shape)}
    if len(inputs) > 1 or not (is_one or has_no_channel):
        return ""
    if has_no_channel:
        kind = {1: "signal", 2: "image", 3: "volume"}[len(shape)]
        return f" inputs[None, None] adds a batch dimension and a channel to one {kind}."
    kind = {2: "signal", 3: "image", 4: "volume"}[len(shape)]
    return f" inputs.unsqueeze(0) adds a batch dimension to one {kind}."


def _networks(forward_func: object) -> list[nn.Module]:
    """Return a network, the network of a method, or the networks that a function names."""
    owner = getattr(forward_func, "__self__", forward_func)
    if isinstance(owner, nn.Module):
        return [owner]
    named: list[object] = []
    if isinstance(forward_func, FunctionType):
        with contextlib.suppress(ValueError):  # a name without a value yet
            found = inspect.getclosurevars(forward_func)
            named = [*found.nonlocals.values(), *found.globals.values()]
    return [one for one in named if isinstance(one, nn.Module)]


def changed_classes(first: Sequence[int], other: Sequence[int], call: Call) -> ArgumentError:
    """Return the error for a network whose number of classes changes between passes."""
    shapes = f"(N, {', '.join(map(str, first))}) and then (N, {', '.join(map(str, other))})"
    followed = [
        f"[{place}] of shape {tuple(arg.shape)}"
        for place, (arg, follows) in enumerate(
            zip(call.additional_forward_args, call.per_example, strict=False)
        )
        if follows
    ]
    if not followed:
        return ArgumentError(
            f"Expected `forward_func` to return the same classes in every pass; got {shapes}."
        )
    return ArgumentError(
        f"Expected `forward_func` to return the same classes in every pass; got {shapes}. "
        f"`additional_forward_args`{', '.join(followed)} has as many entries as there are examples "
        f"and was repeated with them. Pass args_per_example=False to hand it over as it is."
    )


def check_output(output: Tensor, views: int, inputs: Tensors, forward_func: object) -> Tensor:
    """Return a network's output that has one row per view of the inputs."""
    if output.dim() == 0 or len(output) != views:
        raise ArgumentError(
            f"Expected `forward_func` to return one row per example, {views} in all; got shape "
            f"{tuple(output.shape)}.{_unbatched(forward_func, inputs)}"
        )
    return output

# Read the logits in a network's output, if there is only one way to read it.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from captum_infomask._errors import ArgumentError

_ADAPTERS = "captum_infomask.adapters"
_AREA = f"{_ADAPTERS}.area(model, where) asks about the class of an area"
_DETECTION = f"{_ADAPTERS}.detection(model, box, label) asks about a detected box"
_PROMPTS = f"{_ADAPTERS}.zero_shot(model, processor, prompts) asks about prompts"

# The names of tensors in outputs without logits, and what asks such a network for bits.
_ASKED_BY = {
    "out": _AREA,
    "boxes": _DETECTION,
    "pred_boxes": _DETECTION,
    "logits_per_image": _PROMPTS,
    "image_embeds": f"{_ADAPTERS}.gallery(model, embeddings) asks about references",
    "pooler_output": f"{_ADAPTERS}.gallery(model, embeddings) asks about references",
}


def logits_of(output: object) -> object:
    """Return the logits that an output holds under this name; else the output itself.

    Networks of transformers return a ``ModelOutput``, others a dictionary or a named tuple, such as
    torchvision's Inception with its auxiliary head in training.

    Args:
        output: What a network returned: a tensor, or something that holds tensors. While a network
            is traced, stand-ins for tensors are read in the same way.
    """
    if _is_tensor(output):
        return output
    get = output.get if isinstance(output, Mapping) else partial(getattr, output)
    found = get("logits", None)
    return found if _is_tensor(found) else output


def read_logits(output: object, argument: str = "forward_func") -> Tensor:
    """Return the tensor that a network returned, or the logits (N, M) in what it returned.

    Args:
        output: What a network returned.
        argument: The name of the network in messages.

    Raises:
        ArgumentError: It holds no logits, or logits of more dimensions, which do not say which
            class of what is meant. The error shows the wrapper to write.
    """
    found = logits_of(output)
    if isinstance(found, Tensor) and (found is output or found.dim() <= 2):
        return found
    raise ArgumentError(
        f"Expected `{argument}` to return a tensor, or logits (N, M) under the name `logits`; got "
        f"{_form(output)}.{_wrapper(output)}"
    )


def _is_tensor(value: object) -> bool:
    """Whether a value is a tensor, or stands for one as those of ``torch.fx`` do."""
    return hasattr(type(value), "__torch_function__")


def _held(output: object) -> dict[str, Any]:
    """Return the values that an output holds under names."""
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if isinstance(output, tuple):
        return dict(zip(getattr(output, "_fields", ()), output, strict=False))
    return dict(getattr(output, "__dict__", {}))


def _form(output: object) -> str:
    found = logits_of(output)
    kind = type(output).__name__
    return kind if found is output else f"{kind} with logits {tuple(found.shape)}"  # type: ignore[attr-defined]


def _wrapper(output: object) -> str:
    """Say how to get logits (N, M) from an output, in a sentence; nothing if it has no tensor."""
    if output is None:
        return " Does it end in a return of its logits?"
    if isinstance(output, np.ndarray):
        return " Leave out .numpy(), or pass lambda x: torch.from_numpy(model(x))."
    if logits_of(output) is not output and "pred_boxes" not in _held(output):
        part = "['logits']" if isinstance(output, Mapping) else ".logits"
        return (
            f" {_AREA}, and {_DETECTION}; lambda x: model(x){part} about one place, if dimension 1 "
            f"holds the classes."
        )
    is_list = isinstance(output, Sequence) and len(output) > 0
    if is_list and isinstance(output[0], np.ndarray):  # type: ignore[index]
        return " Pass lambda x: torch.from_numpy(model(x)[0])."
    first = output[0] if is_list and isinstance(output[0], Mapping) else output  # type: ignore[index]
    held = {name: part for name, part in _held(first).items() if not _is_rows(name, part)}
    asked = next((words for name, words in _ASKED_BY.items() if name in held), "")
    asked = _PROMPTS if _is_of_pictures_and_texts(output) else asked
    if asked:
        return f" {asked}."
    part = _part(output)
    return f" Wrap the model, e.g. lambda x: model(x){part}." if part else ""


def _is_of_pictures_and_texts(output: object) -> bool:
    """Whether it is what open_clip returns for pictures alone: embeddings, None, the scale."""
    if not isinstance(output, tuple) or len(output) < 3:
        return False
    pictures, texts, scale = output[:3]
    return texts is None and all(_is_tensor(part) for part in (pictures, scale)) and not scale.dim()


def _is_rows(name: str, part: object) -> bool:
    """Whether the output ``out`` of a segmentation network has no pixels, so that it is none."""
    return name == "out" and isinstance(part, Tensor) and part.dim() <= 2


def _part(output: object) -> str:
    """Return how the first tensor in an output is got; nothing if there is none."""
    if isinstance(output, Mapping):
        return next((f"[{name!r}]" for name, part in output.items() if _is_tensor(part)), "")
    if isinstance(output, Sequence):
        return next((f"[{place}]" for place, part in enumerate(output) if _is_tensor(part)), "")
    return next((f".{name}" for name, part in _held(output).items() if _is_tensor(part)), "")

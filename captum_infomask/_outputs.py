# Read the logits in a network's output, if there is only one way to read it.
from __future__ import annotations

from collections.abc import Mapping


def logits_of(output: object) -> object:
    """Return the logits that an output holds under this name; else the output itself.

    Networks of transformers return a ``ModelOutput``, others a dictionary or a named tuple, such as
    torchvision's Inception with its auxiliary head in training.

    Args:
        output: What a network returned: a tensor, or something that holds tensors.
    """
    if isinstance(output, Mapping):
        return output.get("logits", output)
    return getattr(output, "logits", output)

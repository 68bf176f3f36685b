# InfoMask as a function that Quantus's metrics can ask.
from __future__ import annotations

import difflib
import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.attribution.infomask import InfoMask

_GIVEN = ("self", "forward_func", "inputs", "target")


def infomask_explain_func(
    model: nn.Module, inputs: npt.NDArray[Any], targets: npt.NDArray[Any] | int, **kwargs: Any
) -> npt.NDArray[Any]:
    """Explain pictures with InfoMask, in the form in which Quantus asks: arrays in, arrays out.

    Args:
        model: The network, (N, C, H, W) → logits (N, M).
        inputs: (N, C, H, W), any numbers; they become what the network's parameters are.
        targets: The N classes, or one for all.
        **kwargs: Settings of :class:`InfoMask` (``head``, ``unit``, …) and arguments of
            :meth:`InfoMask.attribute` (``view``, ``sliding_window_shapes``, …), as
            ``explain_func_kwargs``; and ``device``, where to compute, which Quantus adds.

    Returns:
        (N, C, H, W), in the unit.

    Raises:
        ArgumentError: ``model`` is no module; an argument that neither of them has; ``inputs`` or
            ``targets`` that are no numbers; and what InfoMask refuses.

    Example:
        >>> import numpy as np, torch
        >>> from captum_infomask.evaluation.quantus_functions import infomask_explain_func
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
        >>> pictures = np.ones((2, 3, 8, 8), np.float32)
        >>> infomask_explain_func(model, pictures, np.array([0, 3]), view="drop").shape
        (2, 3, 8, 8)

    Source: ``quantus.explain``; Hedström et al., "Quantus", JMLR 24 (2023).
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"Expected `model` to be a torch.nn.Module; got {describe(model)}.")
    settings, options = _sorted_out(kwargs)
    device = kwargs.get("device")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    try:
        pictures = torch.as_tensor(np.asarray(inputs)).to(like.device if device is None else device)
        classes = torch.as_tensor(np.asarray(targets)).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"Expected `inputs` and `targets` to be arrays of numbers, and `device` one of "
            f"PyTorch's; got {describe(inputs)}, {describe(targets)} and {device!r}."
        ) from error
    attributions: torch.Tensor = InfoMask(model, **settings).attribute(
        pictures.to(like.dtype), target=classes if len(classes) > 1 else classes[0], **options
    )
    return attributions.cpu().numpy()


def _sorted_out(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide arguments into those of InfoMask and those of its ``attribute``."""
    settings, options = (
        [name for name in inspect.signature(function).parameters if name not in _GIVEN]
        for function in (InfoMask.__init__, InfoMask.attribute)
    )
    known = [*settings, *options, "device"]
    unknown = [name for name in kwargs if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(
            "Expected `explain_func_kwargs` to be arguments of InfoMask or of InfoMask.attribute; "
            f"got {', '.join(map(repr, unknown))}.{hint}"
        )
    return (
        {name: kwargs[name] for name in settings if name in kwargs},
        {name: kwargs[name] for name in options if name in kwargs},
    )

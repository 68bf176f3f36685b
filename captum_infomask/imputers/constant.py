# The constant imputer: Captum's `baselines`.
from __future__ import annotations

import numbers
from dataclasses import dataclass

from torch import Tensor

from captum_infomask._checks import describe, plain
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Baselines, Tensors
from captum_infomask.imputers.imputer_protocol import Pictures


@dataclass(frozen=True, eq=False)
class Constant:
    """Hidden elements take given values: Captum's ``baselines``, in all their forms.

    Args:
        baselines: A number, a tensor, or a tuple with one of these per input. A tensor has the
            input's shape, with or without the batch dimension, and any dimension may be 1. None is
            0.

    Raises:
        ArgumentError: When the imputer is used: the number of baselines or a shape does not fit the
            inputs.

    Example:
        >>> from captum_infomask import Constant, InfoMask
        >>> import torch
        >>> infomask = InfoMask(lambda x: x.flatten(1)[:, :2])
        >>> x = torch.ones(1, 1, 8, 8)
        >>> infomask.attribute(x, target=0, view="drop", imputer=Constant(0.5)).shape
        torch.Size([1, 1, 8, 8])
    """

    baselines: Baselines = None

    def prepare(self, inputs: Tensors) -> Pictures:
        """Check the baselines against the inputs."""
        given = self.baselines
        entries = given if isinstance(given, tuple) else (0 if given is None else given,)
        if given is None:
            entries = (0,) * len(inputs)
        if len(entries) != len(inputs):
            raise ArgumentError(
                f"Expected `baselines` to hold one entry for each of the {len(inputs)} inputs; "
                f"got {len(entries)}."
            )
        return Pictures(tuple(_picture(entry, x) for entry, x in zip(entries, inputs, strict=True)))


def _picture(entry: object, x: Tensor) -> Tensor:
    number = plain(entry)
    if isinstance(number, numbers.Real):
        return x.new_full((1,) * x.dim(), float(number))
    if not isinstance(entry, Tensor) or entry.dtype.is_complex:
        raise ArgumentError(
            f"Expected `baselines` to hold real tensors or numbers; got {describe(entry)}."
        )
    batched = entry[None] if entry.dim() == x.dim() - 1 else entry
    sizes = zip(batched.shape, x.shape, strict=False)
    if batched.dim() != x.dim() or any(own not in (1, size) for own, size in sizes):
        raise ArgumentError(
            f"Expected `baselines` of shape {tuple(x.shape)}, {(1, *x.shape[1:])} or "
            f"{tuple(x.shape[1:])}, in which any size may be 1, or a number; got "
            f"{tuple(entry.shape)}."
        )
    return batched.detach().to(x).expand(-1, *x.shape[1:])

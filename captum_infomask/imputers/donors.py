# The pictures of a data set that patches are taken from.
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from captum_infomask._batches import batches
from captum_infomask._checks import describe, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask._types import Tensors
from captum_infomask.imputers.checks import float_images

Donors = Tensor | Iterable[Any]


def read_donors(images: Donors, limit: int) -> Tensor:
    """Pictures (D, C, H, W): the tensor given, or the first ``limit`` pictures of a loader."""
    positive_int("limit", limit)
    if isinstance(images, Tensor):
        return _checked(images)
    found: list[Tensor] = []
    for batch in batches(images, name="images", description="Donors", show_progress=False):
        pictures = _checked(batch[0] if isinstance(batch, tuple | list) and batch else batch)
        if found and pictures.shape[1:] != found[0].shape[1:]:
            raise ArgumentError(
                f"Expected `images` to yield pictures of one shape; got "
                f"{tuple(found[0].shape[1:])} and {tuple(pictures.shape[1:])}."
            )
        found.append(pictures)
        if sum(map(len, found)) >= limit:
            break
    return torch.cat(found)[:limit]


def _checked(pictures: object) -> Tensor:
    """Refuse what are no floating-point, finite images."""
    if (
        not isinstance(pictures, Tensor)
        or pictures.dim() != 4
        or not pictures.dtype.is_floating_point
        or pictures.numel() == 0
    ):
        raise ArgumentError(
            f"Expected `images` to be floating-point images (D, C, H, W), or a loader of such "
            f"batches or of (images, labels); got {describe(pictures)}."
        )
    if not bool(pictures.isfinite().all()):
        raise ArgumentError("Expected `images` to be finite; they hold NaN or infinity.")
    return pictures.detach()


def check_donors(imputer: str, donors: Tensor, inputs: Tensors) -> None:
    """Refuse inputs of another shape than the donors have."""
    float_images(imputer, inputs)
    if len(inputs) != 1 or inputs[0].shape[1:] != donors.shape[1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ArgumentError(
            f"Expected one input (N, {', '.join(map(str, donors.shape[1:]))}) for the imputer "
            f"{imputer}, as the shape of its `images` is; got {shapes}."
        )


def copies(donors: Tensor, inputs: Tensor) -> Tensor:
    """Which donors equal which input, to the inputs' precision: bool (n, D), on their device."""
    found = torch.zeros(len(inputs), len(donors), dtype=torch.bool, device=donors.device)
    for image, x in enumerate(inputs.to(donors.device)):
        # Few donors share a row of pixels with the picture, and only those are looked at in full.
        alike = (donors[:, :, 0].to(x.dtype) == x[:, 0]).flatten(1).all(1).nonzero()[:, 0]
        found[image, alike] = (donors[alike].to(x.dtype) == x).flatten(1).all(1)
    return found

# What every family of patches can do: how patches look, given the label.
from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from captum_infomask._checks import describe, positive_int
from captum_infomask._errors import ArgumentError


class PatchFamily(Protocol):
    """How patches are drawn given the label, and how likely a patch is given each label."""

    @property
    def classes(self) -> int:
        """M, the number of labels."""
        ...

    @property
    def positions(self) -> int:
        """How many distributions there are: one per patch, or 1 that all patches share."""
        ...

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a patch."""
        ...

    def may_be_all(self, value: float) -> bool:
        """Whether a patch may hold this value everywhere."""
        ...

    def sample(self, labels: Tensor, patches: int, generator: torch.Generator) -> Tensor:
        """Draw ``patches`` patches for each label (N,): float64 (N, patches, C, h, w)."""
        ...

    def likelihood(self) -> nn.Module:
        """Patches (N, R, C, h, w) → log p(patch | label), (N, R, M), nats, up to a constant."""
        ...


def checked_patches(name: str, given: object, form: str) -> Tensor:
    """A finite float64 copy with as many dimensions as the form says, none of them 0."""
    if (
        not isinstance(given, Tensor)
        or not given.is_floating_point()
        or given.dim() != form.count(",") + 1
        or given.numel() == 0
        or not bool(given.isfinite().all())
    ):
        raise ArgumentError(
            f"Expected `{name}` to be a finite floating-point tensor {form}; got {describe(given)}."
        )
    return given.detach().to("cpu", torch.float64, copy=True)


def check_classes(name: str, given: Tensor) -> None:
    """Refuse fewer than two classes in dimension 0."""
    if len(given) < 2:
        raise ArgumentError(f"Expected `{name}` of at least 2 classes; got {describe(given)}.")


def patch_sizes(
    classes: int, positions: int, channels: int, side: int
) -> tuple[int, int, int, int]:
    """M, P, C and the side, checked."""
    named = {"classes": classes, "positions": positions, "channels": channels, "side": side}
    m, p, c, s = (positive_int(name, given) for name, given in named.items())
    return m, p, c, s

# Whether a traced network says what the user's network says.
from __future__ import annotations

import torch
from torch import Tensor

from captum_infomask.engines.traced import StandsAside

# How far outputs may lie from the network's own, as a share of the largest of them.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def check_agreement(made: object, own: object) -> None:
    """Compare the outputs of a traced network and of the network itself, for the same views.

    Raises:
        StandsAside: They differ by more than rounding explains, or are not finite.
    """
    if (
        not isinstance(own, Tensor)
        or not isinstance(made, Tensor)
        or (own.shape, own.dtype) != (made.shape, made.dtype)
    ):
        raise StandsAside("the traced network gives other outputs than the network")
    if own.dtype not in TOLERANCE:
        raise StandsAside(f"the outputs are {own.dtype}")
    if not bool(own.isfinite().all()):
        raise StandsAside("the outputs are not finite")
    off, scale = (own - made).abs().max(), own.abs().max()
    if not bool(off <= TOLERANCE[own.dtype] * scale):
        raise StandsAside(
            f"the traced network's outputs are off by {float(off):.2g}, of {float(scale):.2g}"
        )

# Whether a traced network says what the user's network says.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_infomask.engines.traced import StandsAside

# How far outputs may lie from the network's own, as a share of the largest of them.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}

# Settings under which float32 factors are rounded, before they are multiplied, to this share of
# themselves; and how many such roundings two ways through a network may end apart. Folded copies
# of eight networks from torchvision and timm ended apart by 2.5 of them, at most.
_ROUNDING = {"tf32": 2.0**-11, "bf16": 2.0**-8}
_ROUNDINGS = 8


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
    if not bool(off <= tolerance(own.dtype, own.device) * scale):
        raise StandsAside(
            f"the traced network's outputs are off by {float(off):.2g}, of {float(scale):.2g}"
        )


def tolerance(dtype: torch.dtype, device: torch.device) -> float:
    """How far outputs may lie from the network's own under PyTorch's settings now in force.

    A network that multiplies in TensorFloat-32, as convolutions do on a GPU unless they are told
    otherwise, is no closer to itself in another order of operations than such products are.

    Args:
        dtype: The outputs' type.
        device: Where the network runs.
    """
    exact = TOLERANCE[dtype]
    if dtype != torch.float32:
        return exact
    roundings = [_ROUNDING.get(name, 0.0) for name in _precisions(device)]
    return max(exact, *(_ROUNDINGS * rounding for rounding in roundings))


def _precisions(device: torch.device) -> tuple[str, str]:
    """What PyTorch rounds the factors of float32 products to: of matrices, and of convolutions."""
    backends: Any = torch.backends
    if device.type not in ("cuda", "cpu"):
        return "ieee", "ieee"
    on_gpu = device.type == "cuda"
    matmul: Any = backends.cuda.matmul if on_gpu else getattr(backends.mkldnn, "matmul", None)
    if hasattr(matmul, "fp32_precision"):  # from PyTorch 2.9; where it was set, older flags raise
        conv = backends.cudnn.conv if on_gpu else backends.mkldnn.conv
        return matmul.fp32_precision, conv.fp32_precision
    if on_gpu:
        flags = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
        return "tf32" if flags[0] else "ieee", "tf32" if flags[1] else "ieee"
    return "bf16" if torch.get_float32_matmul_precision() == "medium" else "ieee", "ieee"

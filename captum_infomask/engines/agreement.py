# Whether a traced network says what the user's network says.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_infomask.engines.traced import StandsAside

# How far outputs may lie from the network's own, besides roundings, as a share of the largest if
# that is below 1. Log p hangs on differences of two outputs: in float32 it is off by 1e-4 nats.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 5e-11}

# How many roundings of the largest output two ways through a network may end apart: copies of
# networks from torchvision, with random weights, ended apart by 55 of float32's, at most.
_OF_OUTPUTS = 64
# Settings under which float32 factors are rounded, before they are multiplied, to this share of
# themselves; and the same of these: at most 2.5, for eight networks from torchvision and timm.
_ROUNDING = {"tf32": 2.0**-11, "bf16": 2.0**-8}
_OF_FACTORS = 8


def check_agreement(made: object, own: object) -> None:
    """Compare the outputs of a traced network and of the network itself, for the same views.

    Of outputs that may be probabilities, all in [0, 1], the logarithms are compared: information
    is read from these, and small probabilities may differ by little and many times.

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
    compared = ""
    if bool(((own >= 0) & (own <= 1)).all()):
        compared, least = " in their logarithms", torch.finfo(own.dtype).tiny
        own, made = own.clamp(min=least).log(), made.clamp(min=least).log()
    off, scale = float((own - made).abs().max()), float(own.abs().max())
    allowed = TOLERANCE[own.dtype] * min(1.0, scale) + roundings(own.dtype, own.device) * scale
    if not off <= allowed:
        raise StandsAside(
            f"the traced network's outputs are off by {off:.2g}, of {scale:.2g}{compared}"
        )


def roundings(dtype: torch.dtype, device: torch.device) -> float:
    """What roundings may add to that, as a share of the largest output, under PyTorch's settings.

    A network that multiplies in TensorFloat-32, as convolutions do on a GPU unless they are told
    otherwise, is no closer to itself in another order of operations than such products are.

    Args:
        dtype: The outputs' type.
        device: Where the network runs.
    """
    exact = _OF_OUTPUTS * torch.finfo(dtype).eps / 2
    if dtype != torch.float32:
        return exact
    factors = [_ROUNDING.get(name, 0.0) for name in _precisions(device)]
    return max(exact, *(_OF_FACTORS * rounding for rounding in factors))


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

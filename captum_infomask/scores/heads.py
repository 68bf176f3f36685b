# Heads: how a network's output becomes log p(y | v). Dimension 1 holds the classes.
from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask._checks import ArgumentError

Head = Literal["logits", "log_probs", "probs", "sigmoid", "raw"]
HEADS: tuple[str, ...] = get_args(Head)
SOFTMAX_HEADS = ("logits", "log_probs", "probs")


def widen(output: Tensor) -> Tensor:
    """Half-precision outputs in float32, so that sums of exponentials keep their digits."""
    return output if output.dtype == torch.float64 else output.float()


def probability_floor(dtype: torch.dtype) -> float:
    """The smallest probability that an output of this type can tell from 0."""
    if not dtype.is_floating_point:
        dtype = torch.float32
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    own = torch.finfo(dtype)
    return max(own.smallest_normal * own.eps, torch.finfo(wide).smallest_normal)


def _logits(output: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(widen(output) / temperature, dim=1)


def _log_probs(output: Tensor, temperature: float) -> Tensor:
    floor = torch.tensor(probability_floor(output.dtype), dtype=torch.float64).log().item()
    log_p = widen(output)
    log_p = torch.where(log_p == -torch.inf, floor, log_p)
    return log_p if temperature == 1 else F.log_softmax(log_p / temperature, dim=1)


def _probs(output: Tensor, temperature: float) -> Tensor:
    log_p = widen(output).clamp_min(probability_floor(output.dtype)).log()
    return log_p if temperature == 1 else F.log_softmax(log_p / temperature, dim=1)


def _sigmoid(output: Tensor, temperature: float) -> Tensor:
    return F.logsigmoid(widen(output) / temperature)


def _raw(output: Tensor, temperature: float) -> Tensor:
    return widen(output) / temperature


_READERS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "logits": _logits,
    "log_probs": _log_probs,
    "probs": _probs,
    "sigmoid": _sigmoid,
    "raw": _raw,
}


def log_posterior(output: Tensor, head: str, temperature: float) -> Tensor:
    """Return log p(y | v) of every class, or T itself for ``raw``, shaped like ``output``."""
    return _READERS[head](output, temperature)


def check_output(output: Tensor, head: str) -> None:
    """Refuse outputs that cannot be what ``head`` says they are."""
    shape = tuple(output.shape)
    if output.dtype.is_complex or (not output.dtype.is_floating_point and head != "raw"):
        raise ArgumentError(
            f"Expected `forward_func` to return real floating-point numbers for head={head!r}; "
            f"got dtype {output.dtype}."
        )
    if head not in SOFTMAX_HEADS:
        return
    if output.dim() < 2 or output.shape[1] < 2:
        raise ArgumentError(
            f"Expected `forward_func` to return (N, M, ...) with M ≥ 2 classes in dimension 1 for "
            f"head={head!r}; got {shape}. For one logit per example pass head='sigmoid'; for any "
            f"other number per example pass head='raw'."
        )
    if head == "logits" or not bool(torch.isfinite(output).any()):
        return
    wide = widen(output)
    total = (wide if head == "probs" else wide.exp()).sum(1)
    low = float(wide.min()) if head == "probs" else 0.0
    if low < 0 or bool((total - 1).abs().gt(0.05).any()):
        kind = "probabilities" if head == "probs" else "log-probabilities"
        raise ArgumentError(
            f"Expected `forward_func` to return {kind} that sum to 1 over dimension 1 "
            f"for head={head!r}; got values from "
            f"{float(wide.min()):.3g} to {float(wide.max()):.3g} with sums from "
            f"{float(total.min()):.3g} to {float(total.max()):.3g}. Did you mean head='logits'?"
        )

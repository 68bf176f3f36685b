# Heads: how a network's output becomes log p(y | v). Dimension 1 holds the classes.
from __future__ import annotations

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


def scaled_logits(output: Tensor, head: str, temperature: float) -> Tensor:
    """Logits over the temperature; for probabilities their logarithms take the logits' place."""
    values = widen(output)
    if head == "log_probs":
        floor = torch.tensor(probability_floor(output.dtype), dtype=torch.float64).log().item()
        values = torch.where(values == -torch.inf, floor, values)
    elif head == "probs":
        values = values.clamp_min(probability_floor(output.dtype)).log()
    return values / temperature


def log_partition(scaled: Tensor, head: str) -> Tensor:
    """The logarithm of what turns scaled logits into probabilities; broadcasts to their shape."""
    if head == "sigmoid":
        return F.softplus(scaled)
    if head == "raw":
        return torch.zeros_like(scaled)
    return torch.logsumexp(scaled, dim=1, keepdim=True)


def log_posterior(output: Tensor, head: str, temperature: float) -> Tensor:
    """Return log p(y | v) of every class, or T itself for ``raw``, shaped like ``output``."""
    scaled = scaled_logits(output, head, temperature)
    if head == "sigmoid":
        return F.logsigmoid(scaled)
    if head == "raw" or (head != "logits" and temperature == 1):
        return scaled
    return F.log_softmax(scaled, dim=1)


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

# Heads turn a network's output into log p(y | v). Dimension 1 holds the classes.
from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask._errors import ArgumentError
from captum_infomask._messages import warn
from captum_infomask.scores.value_heads import ValueHead

Head = Literal["logits", "log_probs", "probs", "sigmoid", "raw"]
HEADS: tuple[str, ...] = get_args(Head)
AnyHead: TypeAlias = str | ValueHead
SOFTMAX_HEADS = ("logits", "log_probs", "probs")

_PASS_PROBS = 'Pass head="probs".'
_WRAP = (
    "If they are, wrap the network, lambda x: torch.logit(model(x), eps=1e-6), and pass "
    'head="sigmoid"; or, if they sum to 1, pass head="probs".'
)

_ENOUGH, _MANY = 8, 8  # numbers of outputs, and of labels, that are not all in [0, 1] by chance


def widen(output: Tensor) -> Tensor:
    """Half-precision outputs in float32, so sums of exponentials keep their digits."""
    return output if output.dtype == torch.float64 else output.float()


def probability_floor(dtype: torch.dtype) -> float:
    """The smallest probability that an output of this type can tell from 0."""
    if not dtype.is_floating_point:
        dtype = torch.float32
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    own = torch.finfo(dtype)
    return max(own.smallest_normal * own.eps, torch.finfo(wide).smallest_normal)


def scaled_logits(output: Tensor, head: AnyHead, temperature: float) -> Tensor:
    """Logits over the temperature; for probabilities, their logarithms over the temperature."""
    values = widen(output)
    if head == "log_probs":
        floor = probability_floor(output.dtype)
        floor = torch.tensor(floor, dtype=torch.float64, device="cpu").log().item()
        values = torch.where(values == -torch.inf, floor, values)
    elif head == "probs":
        values = values.clamp_min(probability_floor(output.dtype)).log()
    return values / temperature


def log_partition(scaled: Tensor, head: AnyHead) -> Tensor:
    """The logarithm of the normalisation of scaled logits; broadcasts to their shape."""
    if head == "sigmoid":
        return F.softplus(scaled)
    if head == "raw":
        return torch.zeros_like(scaled)
    return torch.logsumexp(scaled, dim=1, keepdim=True)


def log_posterior(output: Tensor, head: AnyHead, temperature: float) -> Tensor:
    """Return log p(y | v) of every class, or T itself for ``raw``, shaped like ``output``."""
    scaled = scaled_logits(output, head, temperature)
    if head == "sigmoid":
        return F.logsigmoid(scaled)
    if head == "raw" or (head != "logits" and temperature == 1):
        return scaled
    return F.log_softmax(scaled, dim=1)


def rows_of(output: Tensor) -> Tensor:
    """Outputs with a dimension of classes: one number per example, (N,), is one class, (N, 1)."""
    return output[:, None] if output.dim() == 1 else output


def check_head_output(output: Tensor, head: AnyHead, argument: str = "forward_func") -> None:
    """Refuse outputs that contradict ``head``."""
    shape = tuple(output.shape)
    if output.dtype.is_complex or (not output.dtype.is_floating_point and head != "raw"):
        whole = not output.dtype.is_complex and output.dtype != torch.bool
        classes = " Classes, as of argmax, hold no information: return the logits." if whole else ""
        raise ArgumentError(
            f"Expected `{argument}` to return real floating-point numbers for head={head!r}; "
            f"got dtype {output.dtype}.{classes}"
        )
    if head not in SOFTMAX_HEADS:
        return
    if output.dim() < 2 or output.shape[1] < 2:
        raise ArgumentError(
            f"Expected `{argument}` to return (N, M, ...) with M ≥ 2 classes in dimension 1 for "
            f"head={head!r}; got {shape}. For one logit per example pass head='sigmoid'; for the "
            f"value that a regression predicts, head=Gaussian(sigma) and its prior; for any other "
            f"number per example, head='raw'."
        )
    if head == "logits" or not bool(torch.isfinite(output).any()):
        return
    wide = widen(output)
    total = (wide if head == "probs" else wide.exp()).sum(1)
    low = float(wide.min()) if head == "probs" else 0.0
    if low < 0 or bool((total - 1).abs().gt(0.05).any()):
        kind = "probabilities" if head == "probs" else "log-probabilities"
        raise ArgumentError(
            f"Expected `{argument}` to return {kind} that sum to 1 over dimension 1 "
            f"for head={head!r}; got values from "
            f"{float(wide.min()):.3g} to {float(wide.max()):.3g} with sums from "
            f"{float(total.min()):.3g} to {float(total.max()):.3g}. {_meant(wide, head)}"
        )


def _meant(wide: Tensor, head: AnyHead) -> str:
    """The more likely kind of outputs that do not fit a head."""
    low, high = float(wide.min()), float(wide.max())
    if head == "probs" and low >= 0 and high <= 1:
        return (
            "Probabilities of labels that are independent: wrap them, lambda x: "
            "torch.logit(model(x), eps=1e-6), and pass head='sigmoid'."
        )
    if head == "probs" and high <= 0 and sum_to_one(wide.exp()):
        return "Did you mean head='log_probs'?"
    if head == "log_probs" and sum_to_one(wide):
        return "Did you mean head='probs'?"
    if head == "log_probs" and high <= 0:
        return (
            "Log-probabilities of labels that are independent: wrap them, lambda x: "
            "torch.logit(model(x).exp(), eps=1e-6), and pass head='sigmoid'. Did you mean "
            "head='logits'?"
        )
    return "Did you mean head='logits'?"


def sum_to_one(output: Tensor) -> bool:
    """Whether every row is a distribution over two classes or more, within rounding."""
    if output.dim() < 2 or output.shape[1] < 2 or not output.dtype.is_floating_point:
        return False
    off = (widen(output).sum(1) - 1).abs().max()
    in_range = bool(((output >= 0) & (output <= 1)).all())
    return in_range and float(off) <= max(1e-5, torch.finfo(output.dtype).eps)


class Doubt:
    """Whether all outputs so far can be probabilities, although the head says logits.

    Logits do not lie in [0, 1] and sum to 1 by chance. For independent labels nothing sums to 1,
    and the logits of an untrained network, near 0, may lie in [0, 1]. So the test needs many
    labels, or a few labels around 1/2, where sigmoids begin, or one label that goes far to both
    sides of 1/2. If there are only zeros and ones, they may be votes.
    """

    def __init__(self, head: AnyHead) -> None:
        self._head, self._count, self._labels = head, 0, 1
        self._sums, self._fits = head == "logits", head in ("logits", "sigmoid")
        self._is_between = False
        self._low, self._high = 1.0, 0.0

    def see(self, output: Tensor) -> None:
        """Look at outputs (B, ...), until some of them must be logits."""
        # Complex or empty outputs are refused when they are read.
        if not self._fits or output.is_complex() or not output.numel():
            return
        output = output.detach()
        low, high = float(output.min()), float(output.max())
        self._fits = 0 <= low <= high <= 1
        self._sums &= self._fits and sum_to_one(output)
        self._is_between |= bool(((output > 0) & (output < 1)).any())
        self._count += output.numel()
        self._labels = output.shape[1] if output.dim() > 1 else 1
        self._low, self._high = min(self._low, low), max(self._high, high)

    def say(self, advice: str = "") -> None:
        """Warn if all outputs can be probabilities.

        Args:
            advice: The advice if no head can be passed.
        """
        if not self._fits or not self._is_between:
            return
        if self._sums:
            warn(
                "All outputs lie in [0, 1] and sum to 1 over the classes: they look like "
                f'probabilities, and head="logits" reads them as far too little. '
                f"{advice or _PASS_PROBS}"
            )
        elif self._count >= _ENOUGH and self._are_labels():
            again = "a softmax" if self._head == "logits" else "a sigmoid again"
            warn(
                f'All outputs lie in [0, 1]: they look like probabilities, and head="{self._head}" '
                f"puts them through {again}. {advice or _WRAP}"
            )

    def _are_labels(self) -> bool:
        """Whether so many logits cannot lie in [0, 1] by chance."""
        if self._labels >= _MANY and self._low > 0:  # the outputs of a ReLU can be 0
            return True
        low, high = self._low, self._high
        if self._labels == 1:
            return low < 0.25 and high > 0.75
        return low < 0.5 < high or 0.25 < low <= high < 0.75

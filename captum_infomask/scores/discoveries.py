# E-BH and closed e-BH: hypotheses whose e-values are beyond chance, at a false discovery rate.
from __future__ import annotations

import math

import torch
from torch import Tensor

# Values at a threshold count as above it: 1/π is the largest e-value of a class, and often just at
# it. Bits in float32 are this exact.
_ROUNDED = 1 - 1e-6

_FEW = 64  # sets that are looked at first


def e_bh(log2_e: Tensor, rate: float, *, closed: bool = False) -> Tensor:
    r"""Choose hypotheses so that the expected share of false ones is at most a rate.

    e-BH takes the k largest of K e-values, for the largest k with

    .. math::

        k \cdot e_{[k]} \ge K / \text{rate}.

    Closed e-BH takes the k largest, the set R, for the largest k with

    .. math::

        \frac{1}{|S|} \sum_{s \in S} e_s \ge \frac{|R \cap S|}{\text{rate} \cdot |R|}
        \quad \text{for every set } S \text{ of hypotheses}.

    It finds at least what e-BH finds. Both hold under any dependence. For the closed one: let S be
    the true null hypotheses. The mean of their e-values is an e-value, and the condition says that
    the false share :math:`|R \cap S| / |R|` is at most the rate times that mean.

    Args:
        log2_e: log₂ of the e-values, any shape; NaN where there is no hypothesis.
        rate: The false discovery rate, between 0 and 1.
        closed: Use closed e-BH.

    Returns:
        Bool, of the same shape.

    Example:
        >>> import torch
        >>> from captum_infomask.scores.discoveries import e_bh
        >>> e_values = torch.tensor([64.0, 16.0, 12.0, 0.5])
        >>> e_bh(e_values.log2(), rate=0.1), e_bh(e_values.log2(), rate=0.1, closed=True)
        (tensor([ True, False, False, False]), tensor([ True,  True,  True, False]))

    Source: e-BH: Wang & Ramdas, JRSS B 84(3), 2022, arXiv 2009.02824. Closed e-BH: Xu, Fischer &
    Ramdas, arXiv 2504.11759, merged into Xu, Solari, Fischer, de Heide, Ramdas & Goeman, arXiv
    2509.02517.
    """
    values = log2_e.detach().double().cpu().reshape(-1)
    there = values.isnan().logical_not().nonzero()[:, 0]
    ordered, order = values[there].sort(descending=True, stable=True)
    count = _closed(ordered, rate) if closed else _plain(ordered, rate)
    found = torch.zeros(len(values), dtype=torch.bool, device="cpu")
    found[there[order[:count]]] = True
    return found.reshape(log2_e.shape).to(log2_e.device)


def _plain(ordered: Tensor, rate: float) -> int:
    """The number that e-BH takes of K values, the largest first."""
    ranks = torch.arange(1, len(ordered) + 1, dtype=torch.float64, device="cpu")
    wanted = len(ordered) / (ranks * rate) * _ROUNDED
    passed = (ordered >= wanted.log2()).nonzero()[:, 0]
    return int(passed[-1]) + 1 if len(passed) else 0


def _closed(ordered: Tensor, rate: float) -> int:
    """The number that closed e-BH takes of K values, the largest first.

    For S with a members of R and b others, the a smallest of R and the b smallest others are the
    hardest. In b, the sum of the b smallest others less b times a number t is convex; its minimum
    takes the others below t.
    """
    total = len(ordered)
    # A value above K / rate satisfies alone every condition that it takes part in.
    e = ordered.clamp_max(math.log2(2 * max(total, 1) / rate)).exp2()
    sums = e.cumsum(0)
    means = sums / torch.arange(1, total + 1, device="cpu")
    likely = (means >= _ROUNDED / rate).nonzero()[:, 0]  # S = R
    rising = e.flip(0)
    below = torch.cat([rising.new_zeros(1), rising.cumsum(0)])

    def holds(k: int, inside: Tensor) -> bool:
        """Whether the condition holds for every S with these numbers of members of R."""
        least = inside / (rate * k)
        others = torch.searchsorted(rising, least).clamp_max(total - k)
        smallest = below[total - k + inside.long()] - below[total - k]
        return bool((smallest + below[others] >= (inside + others) * least * _ROUNDED).all())

    for k in reversed([int(place) + 1 for place in likely]):
        # A few sets refuse most k, so all are looked at for few.
        few = torch.linspace(1, k, _FEW, dtype=torch.float64, device="cpu").floor()
        if holds(k, few) and holds(k, torch.arange(1, k + 1, dtype=torch.float64, device="cpu")):
            return k
    return 0

# The classes that a view alone makes likeliest: those that bets may be placed on.
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask.scores.score import Score
from captum_infomask.scores.score_settings import NATS_PER_UNIT

MOST = 8  # classes of a view; fewer if there are fewer
_CHUNK = 1 << 20  # numbers that are widened to float64 together


@dataclass(frozen=True, eq=False)
class LikelyClasses:
    """The K likeliest classes of each region's view, and their probabilities.

    They depend on the view alone: neither on the picture's label nor on the rest of the picture.
    Else bets on these classes would not be fair (:class:`AnyPrior`).

    Attributes:
        classes: Int32 (n, R, K), the likeliest first; −1 if the picture does not have the region.
        probabilities: q(c | v), float32 (n, R, K); NaN if the picture does not have the region.
    """

    classes: Tensor
    probabilities: Tensor

    @classmethod
    def of(cls, information: Tensor, score: Score, outputs: int) -> LikelyClasses:
        """Choose the likeliest classes by q(c | v) = exp(i(c; v) + log π_c).

        Args:
            information: i(c; v) about all M classes, or all groups, (n, R, M), in the score's unit;
                NaN if a picture does not have the region.
            score: How outputs were read.
            outputs: The number of the network's classes.

        Example:
            >>> import torch
            >>> from captum_infomask import Score
            >>> from captum_infomask.scores.likely_classes import LikelyClasses
            >>> bits = torch.tensor([[[-1.0, 0.585]]])
            >>> found = LikelyClasses.of(bits, Score(), 2)
            >>> found.classes.tolist(), found.probabilities.numpy().round(2).tolist()
            ([[[1, 0]]], [[[0.75, 0.25]]])
        """
        count = information.shape[-1]
        log_priors = score.log_priors(torch.arange(count, device="cpu"), outputs).to(
            information.device
        )
        nats = NATS_PER_UNIT[score.unit]
        size = max(1, _CHUNK // max(1, math.prod(information.shape[1:])))
        parts = []
        for some in information.split(size):
            log_p = some.double() * nats + log_priors
            missing = log_p.isnan().any(-1, keepdim=True)
            best = log_p.topk(min(MOST, count), dim=-1)
            parts.append((best.indices.masked_fill(missing, -1).int(), best.values.exp().float()))
        classes, probabilities = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        return cls(classes, probabilities)

    def of_picture(self, k: int) -> LikelyClasses:
        """Those of one picture."""
        return LikelyClasses(self.classes[k : k + 1], self.probabilities[k : k + 1])

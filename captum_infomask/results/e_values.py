# When the scores of an InfoMap are bets at the odds of the prior, 2^bits is an e-value.
from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_infomask._errors import ArgumentError
from captum_infomask._messages import unsaid, warn
from captum_infomask._types import Tensors
from captum_infomask.masks import FalseDiscoveries, MaxFraction, threshold_mask
from captum_infomask.regions.region_protocol import Regions
from captum_infomask.scores.discoveries import e_bh
from captum_infomask.scores.heads import SOFTMAX_HEADS
from captum_infomask.scores.score import Score

FROM_PRIOR = ("crop", "keep", "features")  # the views that are read from the prior

_WANTED = "Expected scores i(y; v), counted from the prior, for e-values"
_HEADS = {
    "raw": "raw outputs, which are no distribution over classes",
    "sigmoid": "one of several labels, whose absence is not scored. For a single label f(x), "
    "lambda x: torch.cat([-f(x), f(x)], 1) / 2 gives the logits of two classes",
}


def check_bets(
    view: str, score: Score | None, contrast: object = None, targets: object = True
) -> None:
    """Refuse scores that are no bets on a target at the odds of a prior.

    Raises:
        ArgumentError: They are differences, those of a head without a distribution over classes,
            about no single target, or about values that the network predicts.
    """
    got = why_no_bets(view, score, contrast, targets)
    if got:
        raise ArgumentError(f"{_WANTED}; got {got}.")


def why_no_bets(
    view: str, score: Score | None, contrast: object = None, targets: object = True
) -> str:
    """Say what the scores are if they are no bets; empty if they are."""
    if contrast is not None:
        return "those of a contrast, which are differences. Leave out `contrast`"
    if view not in FROM_PRIOR:
        return (
            f"view={view!r}, whose scores are differences. Pass view='crop', 'keep' or 'features'"
        )
    if score is None:
        return "an InfoMap that does not say how outputs were read: an earlier version wrote it"
    if not score.has_classes:
        own = "values that the network predicts itself. Pass the true ones as `value`"
        return own if targets is None else ""
    if score.head not in SOFTMAX_HEADS:
        return _HEADS[str(score.head)]
    return "scores about no single target" if targets is None else ""


def doubt_prior(score: Score | None) -> bool:
    """Warn if the prior is not known to be that of the labels; say whether it warned."""
    is_unknown = score is not None and score.prior is None
    if is_unknown:
        warn(
            "E-values hold if `prior` is the distribution of the labels. None was given, so it is "
            "uniform. Pass prior=estimate_prior(labels) to InfoMask (of='predictions' if the "
            "targets are the network's own answers), or prior='balanced' if labels are known to be "
            "equally likely."
        )
    return is_unknown


def found_by(rule: FalseDiscoveries, log2_e: Tensor) -> Tensor:
    """The regions that a rule finds, (N, R), from log₂ of the e-values."""
    if rule.family == "batch":
        return e_bh(log2_e, rule.rate, closed=rule.closed)
    return torch.stack([e_bh(row, rule.rate, closed=rule.closed) for row in log2_e])


def discovered(log2_e: Tensor, found: Tensor, regions: Regions) -> Tensors:
    """The regions that were found, spread over the elements: 1 inside, 0 elsewhere."""
    return regions.paint(found.to(log2_e.dtype), "max", 1.0)


def discovered_mask(
    painted: Tensors,
    log2_e: Tensor,
    most: Tensor | None,
    rule: FalseDiscoveries,
    *,
    smooth: int,
    min_area: float,
) -> Tensors:
    """The mask of the discovered regions; a warning names the images without any.

    Args:
        painted: The regions that were found, spread over the elements.
        log2_e: log₂ of the e-values, (N, R).
        most: The largest possible e-value of each image's target, 1/π_y, (N,), if it is known.
        rule: The rule that found the regions.
        smooth: As for :func:`threshold_mask`.
        min_area: As for :func:`threshold_mask`.
    """
    nothing = [k for k in range(len(log2_e)) if not any(bool(part[k].any()) for part in painted)]
    if nothing:
        _say_why(nothing, log2_e, most, rule)
    with unsaid("The mask of example"):
        return threshold_mask(painted, MaxFraction(1.0), smooth=smooth, min_area=min_area)


def _say_why(
    nothing: list[int], log2_e: Tensor, most: Tensor | None, rule: FalseDiscoveries
) -> None:
    """Say why the first image has no discoveries, and how many others have none."""
    k = nothing[0]
    largest = 2 ** float(torch.nan_to_num(log2_e[k].double(), nan=-math.inf).max())
    others = f" and {len(nothing) - 1} other images" if len(nothing) > 1 else ""
    words = (
        f"No region of image {k}{others} is beyond chance at rate {rule.rate:g}: the largest "
        f"e-value is {largest:.3g}, and those that are found have a mean of at least "
        f"{1 / rule.rate:g}."
    )
    if most is not None and _is_beyond(rule, most[k]):
        words += f" {_at_most(most[k])}"
    warn(words)


def doubt_rate(rule: FalseDiscoveries, most: Tensor | None) -> None:
    """Warn if no e-value of any image can be a discovery at the rate."""
    if most is not None and _is_beyond(rule, most.max()):
        warn(f"No region can be beyond chance at rate {rule.rate:g}. {_at_most(most.max())}")


def _is_beyond(rule: FalseDiscoveries, most: Tensor) -> bool:
    return float(most) * (1 + 1e-4) < 1 / rule.rate


def _at_most(most: Tensor) -> str:
    return (
        f"One label of this class is worth at most 1/π = {float(most):.3g}, so no region of one "
        f"picture can be found; combine_evidence adds up pictures."
    )

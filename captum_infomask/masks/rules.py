# Rules: the threshold that cuts the attributions of one example.
from __future__ import annotations

import difflib
import numbers
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from captum_infomask._checks import describe, finite_number, one_of, open_share, plain
from captum_infomask._errors import ArgumentError

Family = Literal["image", "batch"]


def _check_fraction(argument: str, given: object) -> None:
    if not isinstance(given, numbers.Real) or not 0 < float(given) <= 1:
        raise ArgumentError(f"Expected `{argument}` above 0 and at most 1; got {describe(given)}.")


@runtime_checkable
class Rule(Protocol):
    """Chooses the threshold that cuts the attributions of one example."""

    def threshold(self, values: Tensor) -> float:
        """The smallest value that is kept, from an example's values (1-D, some positive)."""
        ...


@dataclass(frozen=True)
class MaxFraction:
    """Keep values of at least a fraction of the example's maximum.

    Args:
        fraction: Between 0 (exclusive) and 1.

    Raises:
        ArgumentError: ``fraction`` is out of range.

    Example:
        >>> import torch
        >>> from captum_infomask import MaxFraction, threshold_mask
        >>> threshold_mask(torch.tensor([[0.1, 0.4, 1.0]]), MaxFraction(0.3))
        tensor([[False,  True,  True]])

    Source: 20% of the maximum is the threshold of Zhou et al., "Learning Deep Features for
    Discriminative Localization", CVPR 2016, which arXiv 1910.02629 follows.
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", plain(self.fraction))
        _check_fraction("fraction", self.fraction)

    def threshold(self, values: Tensor) -> float:
        """``fraction`` of the largest value."""
        return self.fraction * float(values.max())


@dataclass(frozen=True)
class TopFraction:
    """Keep the largest values: this share of the example's elements, positive ones only.

    Elements of equal value are kept together, so a region is never cut in two. The kept share can
    therefore be larger.

    Args:
        fraction: Between 0 (exclusive) and 1.

    Raises:
        ArgumentError: ``fraction`` is out of range.

    Example:
        >>> import torch
        >>> from captum_infomask import TopFraction, threshold_mask
        >>> threshold_mask(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), TopFraction(0.25))
        tensor([[False, False, False,  True]])
    """

    fraction: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", plain(self.fraction))
        _check_fraction("fraction", self.fraction)

    def threshold(self, values: Tensor) -> float:
        """The smallest of the kept values."""
        count = max(1, round(self.fraction * values.numel()))
        return float(values.topk(count).values[-1])


@dataclass(frozen=True)
class Otsu:
    """Keep positive values above Otsu's threshold of the example's values.

    Example:
        >>> import torch
        >>> from captum_infomask import Otsu, threshold_mask
        >>> threshold_mask(torch.tensor([[0.0, 0.1, 0.9, 1.0]]), Otsu())
        tensor([[False, False,  True,  True]])

    Source: Otsu, IEEE Trans. SMC 9(1), 1979, as ``skimage.filters.threshold_otsu`` computes it.
    """

    def threshold(self, values: Tensor) -> float:
        """The value that separates the two groups best; the common value if all are equal."""
        from skimage.filters import threshold_otsu

        levels, counts = np.unique(values.double().cpu().numpy(), return_counts=True)
        if len(levels) == 1:
            return float(levels[0])
        # We use the values' own levels. The edges of 256 bins would separate regions of close
        # values.
        return float(levels[levels > threshold_otsu(hist=(counts, levels))][0])


@dataclass(frozen=True)
class AtLeast:
    """Keep values of at least so many bits: a threshold that means the same everywhere.

    Args:
        bits: The smallest value that is kept, above 0, in the attributions' own unit.

    Raises:
        ArgumentError: ``bits`` is not a finite number above 0.

    Example:
        >>> import torch
        >>> from captum_infomask import AtLeast, threshold_mask
        >>> threshold_mask(torch.tensor([[0.5, 1.0, 2.0]]), AtLeast(1.0))
        tensor([[False,  True,  True]])
    """

    bits: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", plain(self.bits))
        finite_number("bits", self.bits, above=0)

    def threshold(self, values: Tensor) -> float:
        """``bits``."""
        return self.bits


@dataclass(frozen=True)
class FalseDiscoveries:
    """Keep regions whose e-values are beyond chance, so that few of them are false.

    It needs the e-values of regions, so it cuts the masks of an :class:`InfoMap` (``infomap.mask``,
    ``infomap.boxes``, ``InfoMask.mask``), and no other attributions. The mask is the union of the
    regions that :meth:`InfoMap.discoveries` finds.

    Args:
        rate: The false discovery rate, above 0 and below 1: the expected share of the kept regions
            that say nothing about the target.
        closed: Use closed e-BH, which finds at least as much as e-BH at the same rate.
        family: ``image`` for a rate per image, ``batch`` for one rate over all images.

    Raises:
        ArgumentError: ``rate`` or ``family`` is wrong.

    Example:
        >>> import torch
        >>> from captum_infomask import FalseDiscoveries, InfoMask, grid
        >>> x = torch.zeros(1, 1, 8, 8)
        >>> x[..., :4, :4] = 1
        >>> def network(x):
        ...     return 9 * torch.stack([x.mean((1, 2, 3)) > 0.2] * 30, 1) * torch.eye(30)[3]
        >>> infomask = InfoMask(network, prior="balanced")
        >>> options = {"view": "keep", "reference": "prior", "regions": grid(x, 2, 2)}
        >>> mask = infomask.mask(x, target=3, rule=FalseDiscoveries(rate=0.2), **options)
        >>> mask[0, 0, ::4, ::4]
        tensor([[ True, False],
                [False, False]])

    Source: e-BH: Wang & Ramdas, JRSS B 84(3), 2022, arXiv 2009.02824; closed e-BH: Xu et al., arXiv
    2504.11759 and 2509.02517.
    """

    rate: float = 0.1
    closed: bool = False
    family: Family = "image"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", plain(self.rate))
        open_share("rate", self.rate)
        one_of("family", self.family, get_args(Family))

    def threshold(self, values: Tensor) -> float:
        """Refuse: attributions have no e-values."""
        raise ArgumentError(
            f"Expected {self} to cut the mask of an InfoMap, which has e-values; got attributions. "
            f"Write InfoMask(model, prior=...).score_regions(...).mask({self})."
        )


def as_rule(rule: object, argument: str = "rule") -> Rule:
    """The rule that is given; a number between 0 and 1 is a share of the maximum.

    Raises:
        ArgumentError: It is no rule; for a name, the error gives the nearest rule.
    """
    number = plain(rule)
    if isinstance(number, float) and 0 < number < 1:
        return MaxFraction(number)
    if isinstance(rule, str):
        names = (
            *("MaxFraction", "TopFraction", "Otsu", "AtLeast", "Hysteresis"),
            "FalseDiscoveries",
        )
        near = difflib.get_close_matches(rule, names, n=1, cutoff=0.0)[0]
        raise ArgumentError(
            f"Expected `{argument}` to be a rule object; got the string {rule!r}. Did you mean "
            f"{near}(…)?"
        )
    if not isinstance(rule, Rule) or isinstance(rule, type):
        raise ArgumentError(
            f"Expected `{argument}` to be a rule, such as MaxFraction(0.2), TopFraction(0.1), "
            f"Otsu(), AtLeast(bits=1.0) or Hysteresis(); got {describe(rule)}.{_meant(rule)}"
        )
    return rule


def _meant(given: object) -> str:
    """The rule that the user probably meant by a class or a number."""
    if isinstance(given, type):
        return f" Make one: {given.__name__}(…)." if issubclass(given, Rule) else ""
    number = plain(given)
    if isinstance(number, int | float) and not isinstance(number, bool) and number > 0:
        return f" Did you mean {'MaxFraction' if number <= 1 else 'AtLeast'}({number})?"
    return ""


def check_no_rule(*arguments: object) -> None:
    """Refuse a rule that is given by position, in the place of another argument."""
    for given in arguments:
        if isinstance(given, Rule) and not isinstance(given, type):
            raise ArgumentError(
                f"Expected `rule` by name; got {given} by place. Pass rule={given}."
            )


@dataclass(frozen=True)
class Hysteresis:
    """Keep pixels that pass a low threshold and are connected to one that passes a high one.

    Pixels that touch at an edge or a corner are connected. Attributions must be of images, signals
    or volumes, (N, C, ...). A pixel counts if any channel passes, and all channels of the mask are
    equal.

    Args:
        low: The rule that draws the outline, such as ``MaxFraction(0.2)`` or ``AtLeast(1.0)``.
        high: The rule that at least one pixel of each connected part must pass.

    Raises:
        ArgumentError: One of them is not a rule or is itself ``Hysteresis``; or both are of one
            kind and ``low`` keeps less than ``high``.

    Example:
        >>> import torch
        >>> from captum_infomask import AtLeast, threshold_mask
        >>> from captum_infomask.masks import Hysteresis
        >>> bits = torch.tensor([[[[2.0, 5.0, 0.0, 2.0]]]])
        >>> threshold_mask(bits, Hysteresis(AtLeast(1.0), AtLeast(4.0)))
        tensor([[[[ True,  True, False, False]]]])

    Source: Canny, IEEE Trans. PAMI 8(6), 1986; ``skimage.filters.apply_hysteresis_threshold`` is
    the same with thresholds that are numbers and pixels that touch at edges only.
    """

    low: Rule = MaxFraction(0.2)
    high: Rule = MaxFraction(0.6)

    def __post_init__(self) -> None:
        for argument in ("low", "high"):
            given = as_rule(getattr(self, argument), argument)
            object.__setattr__(self, argument, given)
            if isinstance(given, Hysteresis | FalseDiscoveries):
                raise ArgumentError(
                    f"Expected `{argument}` to be a rule of one threshold; got {describe(given)}."
                )
        if type(self.low) is type(self.high) and _strictness(self.low) > _strictness(self.high):
            raise ArgumentError(
                f"Expected `low` to keep at least what `high` keeps; got {self.low} and "
                f"{self.high}."
            )

    def threshold(self, values: Tensor) -> float:
        """The low threshold, or the high one if that is lower."""
        return min(self.low.threshold(values), self.high.threshold(values))


def hanging_together(
    kept: npt.NDArray[np.bool_], strong: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """The connected parts of ``kept``, (H, W) or with other places, with a ``strong`` pixel."""
    from skimage.measure import label

    parts = label(kept, connectivity=kept.ndim)
    chosen = np.zeros(parts.max() + 1, dtype=bool)
    chosen[parts[strong]] = True
    chosen[0] = False
    result: npt.NDArray[np.bool_] = chosen[parts]
    return result


def _strictness(rule: Rule) -> float:
    """A number that orders rules of one kind: a larger number keeps less."""
    if isinstance(rule, MaxFraction):
        return rule.fraction
    if isinstance(rule, AtLeast):
        return rule.bits
    return -rule.fraction if isinstance(rule, TopFraction) else 0.0

# A rule of two thresholds: where evidence is strong, and what hangs together with it.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask.masks.rules import (
    AtLeast,
    MaxFraction,
    Rule,
    TopFraction,
    check_rule,
)


@dataclass(frozen=True)
class Hysteresis:
    """Keep what passes a low threshold and hangs together with something that passes a high one.

    Pixels that touch at an edge or a corner hang together. Attributions must be of images,
    (N, C, H, W); a pixel counts if any channel passes, and all channels of the mask are alike.

    Args:
        low: The rule that draws the outline, such as ``MaxFraction(0.2)`` or ``AtLeast(1.0)``.
        high: The rule that something in each connected part must pass.

    Raises:
        ArgumentError: One of them is no rule or is itself ``Hysteresis``; both are of one kind and
            ``low`` keeps less than ``high``.

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
        for argument, given in (("low", self.low), ("high", self.high)):
            check_rule(given, argument)
            if isinstance(given, Hysteresis):
                raise ArgumentError(
                    f"Expected `{argument}` to be a rule of one threshold; got {describe(given)}."
                )
        if type(self.low) is type(self.high) and _strictness(self.low) > _strictness(self.high):
            raise ArgumentError(
                f"Expected `low` to keep at least what `high` keeps; got {self.low} and "
                f"{self.high}."
            )

    def threshold(self, values: Tensor) -> float:
        """The low threshold, or the high one where that is lower."""
        return min(self.low.threshold(values), self.high.threshold(values))


def hanging_together(
    kept: npt.NDArray[np.bool_], strong: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """The connected parts of ``kept``, (H, W), that hold a ``strong`` pixel."""
    from skimage.measure import label

    parts = label(kept, connectivity=2)
    chosen = np.zeros(parts.max() + 1, dtype=bool)
    chosen[parts[strong]] = True
    chosen[0] = False
    result: npt.NDArray[np.bool_] = chosen[parts]
    return result


def _strictness(rule: Rule) -> float:
    """A number that is larger the less a rule of one kind keeps."""
    if isinstance(rule, MaxFraction):
        return rule.fraction
    if isinstance(rule, AtLeast):
        return rule.bits
    return -rule.fraction if isinstance(rule, TopFraction) else 0.0

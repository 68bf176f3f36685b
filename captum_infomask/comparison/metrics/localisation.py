# Metrics that need to know which pixels are right.
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from captum_infomask._checks import finite_number
from captum_infomask._errors import ArgumentError
from captum_infomask.comparison.ground_truth import average_precision, positive_share
from captum_infomask.comparison.localisation import mask_iou
from captum_infomask.comparison.metrics.base import Measured, Sample
from captum_infomask.report.content import Better


@dataclass(frozen=True)
class PointingGame:
    """Whether the largest attribution lies on what is right.

    1 if it does, 0 if not. Where several pixels share the largest attribution, as in a window, the
    share of them that do: the mean over all orders of equal pixels.

    Args:
        tolerance: A pixel hits if one that is right is at most so many pixels away. The paper
            allows 15 in photographs of full size; 0 if not given.

    Raises:
        ArgumentError: ``tolerance`` is below 0.

    Example:
        >>> from captum_infomask.comparison.metrics.localisation import PointingGame
        >>> PointingGame(tolerance=15).name
        'pointing_game'

    Source: Zhang et al., "Top-down Neural Attention by Excitation Backprop", arXiv 1608.00507,
    Sec. 4.1.
    """

    tolerance: float = 0

    name: ClassVar[str] = "pointing_game"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite_number("tolerance", self.tolerance, least=0)

    @property
    def note(self) -> str:
        """What it is."""
        return (
            "Whether the largest attribution lies on what is right, with a tolerance of "
            f"{self.tolerance:g} pixels; of several that are equal, the share that do (Zhang et "
            "al., arXiv 1608.00507)."
        )

    def __call__(self, sample: Sample) -> Measured:
        """Look at the largest pixels."""
        largest = (sample.plane == sample.plane.max()).cpu().numpy()
        away = distance_transform_edt(~_truth(sample)[0].numpy())
        return Measured(float(np.mean(away[largest] <= self.tolerance)))


@dataclass(frozen=True)
class MaskIoU:
    """Intersection over union of the mask and what is right.

    Example:
        >>> from captum_infomask.comparison.metrics.localisation import MaskIoU
        >>> MaskIoU().name
        'iou'

    Source: Jaccard's index; :func:`captum_infomask.comparison.localisation.mask_iou`.
    """

    name: ClassVar[str] = "iou"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = "Intersection over union of the mask and what is right."

    def __call__(self, sample: Sample) -> Measured:
        """Count pixels."""
        mask = sample.mask.cpu()[None, None]
        return Measured(float(mask_iou(mask, _truth(sample)[None])))


@dataclass(frozen=True)
class RelevanceMass:
    r"""Share of the positive attribution that lies on what is right.

    .. math::

        \frac{\sum_{p \in R} \max(a_p, 0)}{\sum_p \max(a_p, 0)}

    0 where no attribution is positive.

    Example:
        >>> from captum_infomask.comparison.metrics.localisation import RelevanceMass
        >>> RelevanceMass().name
        'relevance_mass'

    Source: Arras et al., "CLEVR-XAI", arXiv 2003.07258, Sec. 3.3: relevance mass accuracy.
    """

    name: ClassVar[str] = "relevance_mass"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = (
        "Share of the positive attribution that lies on what is right (relevance mass accuracy of "
        "Arras et al., arXiv 2003.07258)."
    )

    def __call__(self, sample: Sample) -> Measured:
        """Add up what is positive."""
        return Measured(float(positive_share(_plane(sample), _truth(sample))))


@dataclass(frozen=True)
class RelevanceRank:
    """Share of the K largest attributions that lie on the K pixels that are right.

    Pixels that are equal at the K-th place count by the share that their number leaves room for:
    the mean over all orders of equal pixels.

    Example:
        >>> from captum_infomask.comparison.metrics.localisation import RelevanceRank
        >>> RelevanceRank().name
        'relevance_rank'

    Source: Arras et al., "CLEVR-XAI", arXiv 2003.07258, Sec. 3.3: relevance rank accuracy.
    """

    name: ClassVar[str] = "relevance_rank"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = (
        "Share of the K largest attributions that lie on the K pixels that are right (relevance "
        "rank accuracy of Arras et al., arXiv 2003.07258)."
    )

    def __call__(self, sample: Sample) -> Measured:
        """Count the largest pixels."""
        plane, truth = _plane(sample)[0], _truth(sample)[0]
        count = int(truth.sum())
        last = plane.flatten().topk(count).values[-1]
        above, level = plane > last, plane == last
        room = (count - above.sum()) / level.sum()
        return Measured(float(((above & truth).sum() + room * (level & truth).sum()) / count))


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of ranking the pixels by attribution, right pixels first.

    Example:
        >>> from captum_infomask.comparison.metrics.localisation import AveragePrecision
        >>> AveragePrecision().name
        'average_precision'

    Source: :func:`captum_infomask.comparison.ground_truth.average_precision`: scikit-learn's, and
    the mean over all orders of pixels that are equal.
    """

    name: ClassVar[str] = "average_precision"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = (
        "Average precision of ranking the pixels by attribution, right pixels first; of several "
        "that are equal, the mean over their orders (McSherry & Najork, ECIR 2008)."
    )

    def __call__(self, sample: Sample) -> Measured:
        """Rank the pixels."""
        return Measured(float(average_precision(_plane(sample), _truth(sample))))


def _plane(sample: Sample) -> Tensor:
    """The attribution as a batch of one, (1, H, W), float64, on the CPU."""
    return sample.plane.detach().double().cpu()[None]


def _truth(sample: Sample) -> Tensor:
    """The right pixels as a batch of one, (1, H, W), on the CPU."""
    if sample.truth is None or not sample.truth.any():
        raise unknown("this metric")
    return sample.truth.cpu()[None]


def unknown(name: str) -> ArgumentError:
    """Nothing is known to be right."""
    return ArgumentError(
        f"Expected a sample of which the right pixels are known; {name} cannot be had without."
    )

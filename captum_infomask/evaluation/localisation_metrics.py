# Metrics that need ground-truth pixels or boxes.
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from captum_infomask._checks import finite_number, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask.evaluation.ground_truth import average_precision, positive_share
from captum_infomask.evaluation.metric_protocol import Measured, Sample
from captum_infomask.evaluation.object_localisation import best_overlaps, mask_iou
from captum_infomask.masks.mask_planes import normalised
from captum_infomask.report.page_content import Better

_RIGHT = (0.3, 0.5, 0.7)  # the least IoU of a right box


@dataclass(frozen=True)
class PointingGame:
    """Whether the largest attribution lies on a right pixel.

    The value is 1 if it does, and 0 if not. If several pixels share the largest attribution, as in
    a window, the value is the share of right pixels among them. This is the mean over all orders of
    equal pixels.

    Args:
        tolerance: A pixel is a hit if a right pixel is at most so many pixels away. The paper
            allows 15 in photographs of full size. The default is 0.

    Raises:
        ArgumentError: ``tolerance`` is below 0.

    Example:
        >>> from captum_infomask.evaluation.localisation_metrics import PointingGame
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
            "Whether the largest attribution lies on a right pixel, with a tolerance of "
            f"{self.tolerance:g} pixels; for equal ones, the share that does (Zhang et al., "
            "arXiv 1608.00507)."
        )

    def __call__(self, sample: Sample) -> Measured:
        """Compare the largest pixels with the right ones."""
        largest = (sample.plane == sample.plane.max()).cpu().numpy()
        away = distance_transform_edt(~_truth(sample)[0].numpy())
        return Measured(float(np.mean(away[largest] <= self.tolerance)))


@dataclass(frozen=True)
class MaskIoU:
    """Intersection over union of the mask and the right pixels.

    Example:
        >>> from captum_infomask.evaluation.localisation_metrics import MaskIoU
        >>> MaskIoU().name
        'iou'

    Source: Jaccard's index; :func:`captum_infomask.evaluation.object_localisation.mask_iou`.
    """

    name: ClassVar[str] = "iou"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = "Intersection over union of the mask and the right pixels."

    def __call__(self, sample: Sample) -> Measured:
        """Count pixels."""
        mask = sample.mask.cpu()[None, None]
        return Measured(float(mask_iou(mask, _truth(sample)[None])))


@dataclass(frozen=True)
class RelevanceMass:
    r"""Share of the positive attribution that lies on right pixels.

    .. math::

        \frac{\sum_{p \in R} \max(a_p, 0)}{\sum_p \max(a_p, 0)}

    The value is 0 if no attribution is positive.

    Example:
        >>> from captum_infomask.evaluation.localisation_metrics import RelevanceMass
        >>> RelevanceMass().name
        'relevance_mass'

    Source: Arras et al., "CLEVR-XAI", arXiv 2003.07258, Sec. 3.3: relevance mass accuracy.
    """

    name: ClassVar[str] = "relevance_mass"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = (
        "Share of the positive attribution that lies on right pixels (relevance mass accuracy of "
        "Arras et al., arXiv 2003.07258)."
    )

    def __call__(self, sample: Sample) -> Measured:
        """Add up the positive attribution."""
        return Measured(float(positive_share(_plane(sample), _truth(sample))))


@dataclass(frozen=True)
class RelevanceRank:
    """Share of the K largest attributions that lie on the K right pixels.

    If pixels are equal at the K-th place, each counts with the share of them that fits. This is the
    mean over all orders of equal pixels.

    Example:
        >>> from captum_infomask.evaluation.localisation_metrics import RelevanceRank
        >>> RelevanceRank().name
        'relevance_rank'

    Source: Arras et al., "CLEVR-XAI", arXiv 2003.07258, Sec. 3.3: relevance rank accuracy.
    """

    name: ClassVar[str] = "relevance_rank"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = (
        "Share of the K largest attributions that lie on the K right pixels (relevance "
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
    """Average precision if pixels are ranked by attribution.

    Example:
        >>> from captum_infomask.evaluation.localisation_metrics import AveragePrecision
        >>> AveragePrecision().name
        'average_precision'

    Source: :func:`captum_infomask.evaluation.ground_truth.average_precision`. It is scikit-learn's,
    with the mean over all orders of equal pixels.
    """

    name: ClassVar[str] = "average_precision"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True
    note: ClassVar[str] = (
        "Average precision if pixels are ranked by attribution; for equal pixels, the mean over "
        "their orders (McSherry & Najork, ECIR 2008)."
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
    """The error if there is no ground truth."""
    return ArgumentError(
        f"Expected a sample of which the right pixels are known; {name} cannot be had without."
    )


@dataclass(frozen=True)
class _Boxes:
    """What metrics of boxes share: overlaps at every threshold."""

    thresholds: int

    name: ClassVar[str]
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive_int("thresholds", self.thresholds)

    def _overlaps(self, sample: Sample) -> Tensor:
        """The best overlap of a box around the largest values with a right one, by threshold."""
        if sample.boxes is None:
            raise unknown(self.name)
        cuts = tuple(step / self.thresholds for step in range(self.thresholds))
        plane = normalised(sample.plane.detach().double().cpu().numpy())
        return torch.from_numpy(best_overlaps(plane, sample.boxes.double().cpu(), cuts, "all"))


@dataclass(frozen=True)
class BestBoxIoU(_Boxes):
    r"""The largest overlap of a box around large attributions with a right box, at any threshold.

    .. math::

        \max_\tau \max_{b, g} \mathrm{IoU}\bigl(b, g\bigr)

    over the boxes b around the connected parts of :math:`\{s \ge \tau\}` and the right boxes g; s
    is the attribution, scaled to [0, 1] by its own minimum and maximum. With its own threshold, the
    picture would count as found by MaxBoxAcc at an overlap δ if this value is at least δ.

    Args:
        thresholds: T, the number of thresholds: 0, 1/T, …, (T − 1)/T.

    Raises:
        ArgumentError: ``thresholds`` is not an integer of at least 1.

    Example:
        >>> from captum_infomask.evaluation.localisation_metrics import BestBoxIoU
        >>> BestBoxIoU().name
        'box_iou'

    Source: similar to MaxBoxAcc of Choe et al., CVPR 2020, Sec. 3.2, which has one threshold for
    all pictures: :func:`captum_infomask.evaluation.object_localisation.max_box_acc`.
    """

    thresholds: int = 100

    name: ClassVar[str] = "box_iou"

    @property
    def note(self) -> str:
        """What it is."""
        return (
            "Best box IoU: the largest overlap of a box around large attributions with a right "
            f"box, at the best of {self.thresholds} thresholds for each picture (after MaxBoxAcc, "
            "Choe et al., CVPR 2020)."
        )

    def __call__(self, sample: Sample) -> Measured:
        """Try the thresholds."""
        return Measured(float(self._overlaps(sample).max()))


@dataclass(frozen=True)
class MaxBoxAcc(_Boxes):
    r"""MaxBoxAccV2: how often a box around large attributions is right, at the best threshold.

    .. math::

        \frac{1}{3} \sum_{\delta \in \{0.3, 0.5, 0.7\}} \max_\tau \frac{1}{N} \sum_n
            \mathbf{1}\!\left[\max_{b, g} \mathrm{IoU}\bigl(b, g\bigr) \ge \delta\right]

    as in :func:`captum_infomask.max_box_acc`. For each overlap there is one threshold for all
    pictures of a method. So a picture's value, the share of overlaps that it reaches, depends on
    the other pictures.

    Args:
        thresholds: The number of thresholds, from 0 up to but not including 1.

    Raises:
        ArgumentError: ``thresholds`` is not an integer of at least 1.

    Example:
        >>> import torch
        >>> from captum_infomask.evaluation.localisation_metrics import MaxBoxAcc
        >>> MaxBoxAcc(2).over(torch.tensor([[0.4, 0.8], [0.6, 0.2]])).tolist()
        [0.6666666666666666, 0.6666666666666666]

    Source: Choe et al., arXiv 2007.04178, Section 3.2.
    """

    thresholds: int = 1000

    name: ClassVar[str] = "max_box_acc"

    @property
    def note(self) -> str:
        """What it is."""
        return (
            "MaxBoxAccV2: the share of pictures with a box that overlaps a right one by 0.3, 0.5 "
            f"and 0.7, mean of the three, each at the best of {self.thresholds} thresholds for all "
            "pictures (Choe et al., arXiv 2007.04178)."
        )

    def __call__(self, sample: Sample) -> Measured:
        """Overlaps at every threshold; the value is for this picture alone."""
        overlaps = self._overlaps(sample)
        return Measured(float(self.over(overlaps[None])), overlaps=overlaps)

    def over(self, overlaps: Tensor) -> Tensor:
        """Each picture's share of the overlaps that it reaches, at common thresholds."""
        right = torch.stack([overlaps >= delta for delta in _RIGHT]).double()
        best = right.mean(1).argmax(1)
        return torch.stack([hits[:, cut] for hits, cut in zip(right, best, strict=True)]).mean(0)

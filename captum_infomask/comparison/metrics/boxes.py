# Metrics of boxes around large attributions, where the right boxes are known.
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_infomask._checks import positive_int
from captum_infomask.comparison.localisation import best_overlaps
from captum_infomask.comparison.metrics.base import Measured, Sample
from captum_infomask.comparison.metrics.localisation import unknown
from captum_infomask.masks.planes import normalised
from captum_infomask.report.content import Better

_RIGHT = (0.3, 0.5, 0.7)  # overlaps from which a box is right


@dataclass(frozen=True)
class BestBoxIoU:
    r"""The largest overlap of a box around large attributions with a right box, at any threshold.

    .. math::

        \max_\tau \max_{b, g} \mathrm{IoU}\bigl(b, g\bigr)

    over the boxes b around the connected parts of :math:`\{s \ge \tau\}` and the right boxes g; s
    is the attribution, brought to [0, 1] by its own minimum and maximum. The picture counts as
    found by MaxBoxAcc at an overlap δ, with a threshold of its own, if this is at least δ.

    Args:
        thresholds: How many τ are tried: 0, 1/T, …, (T − 1)/T.

    Raises:
        ArgumentError: ``thresholds`` is no integer of at least 1.

    Example:
        >>> from captum_infomask.comparison.metrics.boxes import BestBoxIoU
        >>> BestBoxIoU().name
        'box_iou'

    Source: after MaxBoxAcc of Choe et al., CVPR 2020, Sec. 3.2, which looks for one threshold for
    all pictures: :func:`captum_infomask.comparison.localisation.max_box_acc`.
    """

    thresholds: int = 100

    name: ClassVar[str] = "box_iou"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive_int("thresholds", self.thresholds)

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
        return Measured(float(_overlaps(sample, self.name, self.thresholds).max()))


@dataclass(frozen=True)
class MaxBoxAcc:
    r"""MaxBoxAccV2: how often a box around large attributions is right, at the best threshold.

    .. math::

        \frac{1}{3} \sum_{\delta \in \{0.3, 0.5, 0.7\}} \max_\tau \frac{1}{N} \sum_n
            \mathbf{1}\!\left[\max_{b, g} \mathrm{IoU}\bigl(b, g\bigr) \ge \delta\right]

    as :func:`captum_infomask.max_box_acc` has it. One threshold for each overlap serves all
    pictures of a method, so that a picture's value, the share of overlaps that it reaches, depends
    on the others.

    Args:
        thresholds: How many thresholds are tried, from 0 up to 1, which is left out.

    Raises:
        ArgumentError: ``thresholds`` is no integer of at least 1.

    Example:
        >>> import torch
        >>> from captum_infomask.comparison.metrics.boxes import MaxBoxAcc
        >>> MaxBoxAcc(2).over(torch.tensor([[0.4, 0.8], [0.6, 0.2]])).tolist()
        [0.6666666666666666, 0.6666666666666666]

    Source: Choe et al., arXiv 2007.04178, Section 3.2.
    """

    thresholds: int = 1000

    name: ClassVar[str] = "max_box_acc"
    better: ClassVar[Better] = "higher"
    needs_truth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive_int("thresholds", self.thresholds)

    @property
    def note(self) -> str:
        """What it is."""
        return (
            "MaxBoxAccV2: the share of pictures with a box that overlaps a right one by 0.3, 0.5 "
            f"and 0.7, mean of the three, each at the best of {self.thresholds} thresholds for all "
            "pictures (Choe et al., arXiv 2007.04178)."
        )

    def __call__(self, sample: Sample) -> Measured:
        """Overlaps at every threshold; the value is that of the picture alone."""
        overlaps = torch.from_numpy(_overlaps(sample, self.name, self.thresholds))
        return Measured(float(self.over(overlaps[None])), overlaps=overlaps)

    def over(self, overlaps: Tensor) -> Tensor:
        """Each picture's share of overlaps that it reaches, at thresholds common to all."""
        right = torch.stack([overlaps >= delta for delta in _RIGHT]).double()
        best = right.mean(1).argmax(1)
        return torch.stack([hits[:, cut] for hits, cut in zip(right, best, strict=True)]).mean(0)


def _overlaps(sample: Sample, name: str, thresholds: int) -> npt.NDArray[np.float64]:
    """The best overlap of a box around the largest values with a right one, by threshold."""
    if sample.boxes is None:
        raise unknown(name)
    cuts = tuple(step / thresholds for step in range(thresholds))
    plane = normalised(sample.plane.detach().double().cpu().numpy())
    return best_overlaps(plane, sample.boxes.double().cpu(), cuts, "all")

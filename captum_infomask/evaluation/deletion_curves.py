# Deletion and insertion: what the network says while the largest pixels go, or come.
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from captum_infomask._checks import positive_int
from captum_infomask.engines.memory import default_views
from captum_infomask.engines.untouched import untouched
from captum_infomask.evaluation.ground_truth import group_edges
from captum_infomask.evaluation.metric_protocol import Measured, Sample
from captum_infomask.report.page_content import Better


@dataclass(frozen=True)
class _Walk(ABC):
    """What deletion and insertion share: an order of pixels, and the network's word on the way."""

    steps: int = 32

    needs_truth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive_int("steps", self.steps)

    def __call__(self, sample: Sample) -> Measured:
        """Walk from none of the pixels to all of them."""
        before, after = self._ends(sample)
        plane, device = sample.plane.detach(), sample.inputs.device
        order = plane.flatten().argsort(descending=True)
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order), device=order.device)
        ranks = ranks.reshape(plane.shape).to(device)
        edges = group_edges(plane.flatten()[order])
        counts = torch.arange(self.steps + 1) * len(order) // self.steps
        low = edges[torch.searchsorted(edges, counts, right=True) - 1]
        high = edges[torch.searchsorted(edges, counts)]
        shown, places = torch.stack([low, high]).unique(return_inverse=True)
        views = default_views(sample.inputs.numel(), device)
        said = []
        with untouched(sample.forward, sample.seed):
            for count in shown.to(device).split(views):
                changed = ranks < count[:, None, None, None]
                said.append(sample.probability(torch.where(changed, after, before)).cpu())
        first, last = torch.cat(said)[places]
        way = (counts - low).double() / (high - low).clamp_min(1)
        curve = first + way * (last - first)
        return Measured(float(torch.trapezoid(curve)) / self.steps, curve)

    @staticmethod
    @abstractmethod
    def _ends(sample: Sample) -> tuple[Tensor, Tensor]:
        """The picture at the start of the walk and at its end."""


@dataclass(frozen=True)
class Deletion(_Walk):
    r"""Area under the target's probability while the largest pixels are replaced by the fill.

    .. math::

        \frac{1}{S} \sum_{k=1}^{S} \frac{p_{k-1} + p_k}{2}, \qquad p_k = p_\theta(y \mid x_k),

    where x_k has the ⌊k P / S⌋ pixels of the largest attribution replaced, of P, in all channels.
    Pixels of equal attribution have no order: where step k comes within a group of them, p_k lies
    on the straight line from before the group to after it. Lower is better.

    Args:
        steps: S; the network sees S + 1 pictures, from the whole one to the fill alone, or with
            groups of equal pixels at most twice as many.

    Raises:
        ArgumentError: ``steps`` is no integer of at least 1.

    Example:
        >>> from captum_infomask.evaluation.deletion_curves import Deletion
        >>> Deletion().name, Deletion().better
        ('deletion', 'lower')

    Source: Petsiuk et al., "RISE", arXiv 1806.07421, Sec. 4.1, Algorithm 1.
    """

    name: ClassVar[str] = "deletion"
    better: ClassVar[Better] = "lower"

    @property
    def note(self) -> str:
        """What it is."""
        return (
            "Area under p(target) while the pixels of the largest attribution are replaced by the "
            f"fill, in {self.steps} equal steps; the fill is the same for all methods, and a group "
            "of equal pixels is a straight line (Petsiuk et al., arXiv 1806.07421)."
        )

    @staticmethod
    def _ends(sample: Sample) -> tuple[Tensor, Tensor]:
        return sample.inputs, sample.fill


@dataclass(frozen=True)
class Insertion(_Walk):
    """Area under the target's probability while the largest pixels are put back on the fill.

    :class:`Deletion`'s walk the other way: x_k shows the ⌊k P / S⌋ pixels of the largest
    attribution, and the fill everywhere else. Higher is better.

    Args:
        steps: S; the network sees S + 1 pictures, from the fill alone to the whole one, or with
            groups of equal pixels at most twice as many.

    Raises:
        ArgumentError: ``steps`` is no integer of at least 1.

    Example:
        >>> from captum_infomask.evaluation.deletion_curves import Insertion
        >>> Insertion().name, Insertion().better
        ('insertion', 'higher')

    Source: Petsiuk et al., "RISE", arXiv 1806.07421, Sec. 4.1.
    """

    name: ClassVar[str] = "insertion"
    better: ClassVar[Better] = "higher"

    @property
    def note(self) -> str:
        """What it is."""
        return (
            "Area under p(target) while the pixels of the largest attribution are put back on the "
            f"fill, in {self.steps} equal steps; the fill is the same for all methods, and a group "
            "of equal pixels is a straight line (Petsiuk et al., arXiv 1806.07421)."
        )

    @staticmethod
    def _ends(sample: Sample) -> tuple[Tensor, Tensor]:
        return sample.fill, sample.inputs

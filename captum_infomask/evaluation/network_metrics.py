# Metrics that run the network: deletion, insertion, and Captum's infidelity and sensitivity.
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor

from captum_infomask._checks import finite_number, positive_int, random_seed
from captum_infomask._errors import ArgumentError
from captum_infomask._types import TensorOrTensors, Tensors
from captum_infomask.engines.memory import default_views
from captum_infomask.engines.untouched import untouched
from captum_infomask.evaluation.ground_truth import group_edges
from captum_infomask.evaluation.metric_protocol import Measured, Sample
from captum_infomask.report.page_content import Better


@dataclass(frozen=True)
class _Walk(ABC):
    """The common part of deletion and insertion: an order of pixels, and the network's answers."""

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

    where x_k is the picture with the ⌊k P / S⌋ pixels of the largest attribution, of P pixels,
    replaced in all channels. Pixels of equal attribution have no order. If step k falls inside a
    group of equal pixels, p_k lies on the straight line from before the group to after it. Lower is
    better.

    Args:
        steps: S. The network sees S + 1 pictures, from the whole picture to the fill alone. With
            groups of equal pixels it sees at most twice as many.

    Raises:
        ArgumentError: ``steps`` is not an integer of at least 1.

    Example:
        >>> from captum_infomask.evaluation.network_metrics import Deletion
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

    This is :class:`Deletion` in the other direction: x_k shows the ⌊k P / S⌋ pixels of the largest
    attribution, and the fill everywhere else. Higher is better.

    Args:
        steps: S. The network sees S + 1 pictures, from the fill alone to the whole picture. With
            groups of equal pixels it sees at most twice as many.

    Raises:
        ArgumentError: ``steps`` is not an integer of at least 1.

    Example:
        >>> from captum_infomask.evaluation.network_metrics import Insertion
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


@dataclass(frozen=True)
class Infidelity:
    r"""How badly sums of attributions over squares predict the effect of hiding the squares.

    .. math::

        \frac{1}{n} \sum_{q} \Bigl(\beta \sum_{p \in q} a_p
            - \bigl[\log p_\theta(y \mid x) - \log p_\theta(y \mid x_{\setminus q})\bigr]\Bigr)^2

    over n random squares q, which the fill replaces in all channels. β is the best factor for the
    attribution, so the number does not depend on the attribution's unit. Lower is better. The unit
    is nats squared.

    Args:
        n: Number of squares.
        side: Side of the squares, as a share of the picture's shorter side.

    Raises:
        ArgumentError: ``n`` is not an integer of at least 1, or ``side`` is not above 0 and at most
            1.

    Example:
        >>> from captum_infomask.evaluation.network_metrics import Infidelity
        >>> Infidelity(n=10).better
        'lower'

    Source: ``captum.metrics.infidelity`` with ``normalize=True``; Yeh et al., "On the (In)fidelity
    and Sensitivity of Explanations", arXiv 1901.09392, Sec. 2.
    """

    n: int = 32
    side: float = 0.25

    name: ClassVar[str] = "infidelity"
    better: ClassVar[Better] = "lower"
    needs_truth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive_int("n", self.n)
        if finite_number("side", self.side, above=0) > 1:
            raise ArgumentError(f"Expected `side` to be at most 1; got {self.side}.")

    @property
    def note(self) -> str:
        """What it is."""
        return (
            "captum.metrics.infidelity, normalised, of log p(target) in nats, over "
            f"{self.n} random squares, of {self.side:g} of the shorter side, that the fill "
            "replaces (Yeh et al., arXiv 1901.09392)."
        )

    def __call__(self, sample: Sample) -> Measured:
        """Hide squares and compare."""
        generator = torch.Generator().manual_seed(random_seed(sample.seed))
        height, width = sample.plane.shape
        side = max(1, round(self.side * min(height, width)))

        def hide(pictures: Tensor) -> tuple[Tensor, Tensor]:
            hidden = torch.zeros_like(pictures)
            for picture in hidden:
                top, left = (
                    int(torch.randint(length - side + 1, (), generator=generator))
                    for length in (height, width)
                )
                picture[:, top : top + side, left : left + side] = 1
            return hidden, torch.where(hidden > 0, sample.fill, pictures)

        plane = sample.plane.detach().to(sample.inputs)
        views = default_views(sample.inputs.numel(), sample.inputs.device)
        with untouched(sample.forward, sample.seed):
            value = infidelity(
                sample.log_probability,
                hide,
                sample.inputs,
                plane.expand_as(sample.inputs),
                n_perturb_samples=self.n,
                max_examples_per_batch=min(self.n, views),
                normalize=True,
            )
        return Measured(float(value))


@dataclass(frozen=True)
class Sensitivity:
    r"""The largest change of an attribution when the picture changes a little.

    .. math::

        \max_{\|\delta\|_\infty \le r} \frac{\|a(x + \delta) - a(x)\|}{\|a(x)\|}

    over n draws of δ. The method runs n + 1 more times. Lower is better.

    Args:
        n: Number of draws.
        radius: r, as a share of the standard deviation of the picture's values.

    Raises:
        ArgumentError: ``n`` is not an integer of at least 1, or ``radius`` is not above 0.

    Example:
        >>> from captum_infomask.evaluation.network_metrics import Sensitivity
        >>> Sensitivity(n=3).better
        'lower'

    Source: ``captum.metrics.sensitivity_max``; Yeh et al., arXiv 1901.09392, Definition 3.1.
    """

    n: int = 10
    radius: float = 0.02

    name: ClassVar[str] = "sensitivity"
    better: ClassVar[Better] = "lower"
    needs_truth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive_int("n", self.n)
        finite_number("radius", self.radius, above=0)

    @property
    def note(self) -> str:
        """What it is."""
        return (
            f"captum.metrics.sensitivity_max: the largest relative change of the map over {self.n} "
            f"uniform changes of every value by at most {self.radius:g} of the picture's standard "
            "deviation (Yeh et al., arXiv 1901.09392)."
        )

    def __call__(self, sample: Sample) -> Measured:
        """Call the method again."""
        generator = torch.Generator().manual_seed(random_seed(sample.seed))
        radius = self.radius * float(sample.inputs.double().std(correction=0))

        def move(pictures: Tensor) -> Tensor:
            noise = torch.rand(pictures.shape, generator=generator, dtype=torch.float64)
            return pictures + ((2 * noise - 1) * radius).to(pictures)

        def explain(pictures: TensorOrTensors) -> Tensors:
            picture = pictures[0] if isinstance(pictures, tuple) else pictures
            # Captum 0.9 treats the batch of a plain tensor as a tuple of inputs.
            return (sample.attribute(picture).detach().contiguous(),)

        with untouched(sample.forward, sample.seed):
            value = sensitivity_max(
                explain,
                sample.inputs,
                move,
                n_perturb_samples=self.n,
                max_examples_per_batch=1,
            )
        return Measured(float(value))

# The protocol of metrics: a number, or a curve, for one method's map of one picture.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from captum_infomask._outputs import read_logits
from captum_infomask._process import users_default
from captum_infomask.report.page_content import Better
from captum_infomask.scores.score import Score


@dataclass(frozen=True, eq=False)
class Sample:
    """One method's map of one picture, with everything that a metric may need.

    Args:
        forward: The network: (n, C, H, W) → what it returns; :meth:`outputs` reads its logits.
        inputs: The picture, (1, C, H, W).
        target: Index of the class.
        attributions: The method's attributions, (1, C', H, W) with C' = C or 1.
        plane: Their mean over channels, (H, W).
        mask: The pixels that the threshold keeps, bool (H, W).
        attribute: The method itself: (1, C, H, W) → attributions, for metrics that call it again.
        fill: The values for hidden pixels, (1, C, H, W), the same for all methods.
        truth: The right pixels, bool (H, W); None if there is no ground truth.
        boxes: The right boxes, (K, 4): x0, y0, x1, y1, half-open, or None.
        seed: The seed of the metric's draws.
        score: The reader of outputs.
    """

    forward: Callable[[Tensor], Any]
    inputs: Tensor
    target: int
    attributions: Tensor
    plane: Tensor
    mask: Tensor
    attribute: Callable[[Tensor], Tensor]
    fill: Tensor
    truth: Tensor | None = None
    boxes: Tensor | None = None
    seed: int = 0
    score: Score = field(default_factory=Score)

    def outputs(self, pictures: Tensor) -> Tensor:
        """The network's outputs for pictures (n, C, H, W): (n, M), or (n,) for one logit each."""
        with users_default():
            return read_logits(self.forward(pictures), "model")

    def probability(self, pictures: Tensor) -> Tensor:
        """p(target) of pictures (n, C, H, W), read by the score: (n,), float64."""
        return self.score.probabilities(self.outputs(pictures).double())[:, self.target]

    def log_probability(self, pictures: Tensor) -> Tensor:
        """Its logarithm, in nats, in the network's own precision: (n,)."""
        return self.score.log_probabilities(self.outputs(pictures))[:, self.target]


@dataclass(frozen=True, eq=False)
class Measured:
    """The result of a metric.

    Args:
        value: The number.
        curve: For a walk through the picture, the K values at k / (K − 1) of the walk; (K,),
            float64, on the CPU.
        overlaps: For a metric with a common threshold for all pictures: the best overlap of a box
            at each of T thresholds, (T,), float64, on the CPU.
    """

    value: float
    curve: Tensor | None = None
    overlaps: Tensor | None = None


@runtime_checkable
class Metric(Protocol):
    """A metric and its settings."""

    @property
    def name(self) -> str:
        """The metric's name in tables."""
        ...

    @property
    def better(self) -> Better:
        """Which direction is better."""
        ...

    @property
    def note(self) -> str:
        """A sentence about the metric, its settings and its source."""
        ...

    @property
    def needs_truth(self) -> bool:
        """Whether it needs the right pixels."""
        ...

    def __call__(self, sample: Sample) -> Measured:
        """Measure one map."""
        ...


@runtime_checkable
class CommonThreshold(Metric, Protocol):
    """A metric with one threshold for all pictures; it is chosen after all are measured."""

    def over(self, overlaps: Tensor) -> Tensor:
        """Each picture's value, (n,), from the overlaps of n pictures, (n, T)."""
        ...

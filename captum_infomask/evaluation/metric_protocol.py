# What a metric is: a number, or a walk through the picture, for one method's map of one picture.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from captum_infomask.report.page_content import Better
from captum_infomask.scores.score import Score


@dataclass(frozen=True, eq=False)
class Sample:
    """One method's map of one picture, with what a metric may ask about it.

    Args:
        forward: The network: (n, C, H, W) → its outputs, (n, M), or (n,) for one logit each.
        inputs: The picture, (1, C, H, W).
        target: Index of the class.
        attributions: The method's answer, (1, C', H, W) with C' = C or 1.
        plane: Its mean over channels, (H, W).
        mask: What the threshold keeps, bool (H, W).
        attribute: The method itself: (1, C, H, W) → attributions, for metrics that ask again.
        fill: What hidden pixels become, (1, C, H, W): the same for all methods.
        truth: The pixels that are known to be right, bool (H, W); None where nothing is known.
        boxes: The boxes that are known to be right, (K, 4): x0, y0, x1, y1, half-open, or None.
        seed: The seed of whatever the metric draws.
        score: How outputs are read.
    """

    forward: Callable[[Tensor], Tensor]
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

    def probability(self, pictures: Tensor) -> Tensor:
        """p(target) of pictures (n, C, H, W), as the score reads it: (n,), float64."""
        return self.score.probabilities(self.forward(pictures).double())[:, self.target]

    def log_probability(self, pictures: Tensor) -> Tensor:
        """Its logarithm, in nats, in the network's own precision: (n,)."""
        return self.score.log_probabilities(self.forward(pictures))[:, self.target]


@dataclass(frozen=True, eq=False)
class Measured:
    """What a metric found.

    Args:
        value: The number.
        curve: For a walk through the picture, the K values on the way, at k / (K − 1) of it; (K,),
            float64, on the CPU.
        overlaps: For a metric with a threshold common to all pictures, (T,), the best overlap of a
            box at each of T thresholds, float64, on the CPU.
    """

    value: float
    curve: Tensor | None = None
    overlaps: Tensor | None = None


@runtime_checkable
class Metric(Protocol):
    """A metric and its settings."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def better(self) -> Better:
        """Which end is better."""
        ...

    @property
    def note(self) -> str:
        """What it is, with its settings and its source, in a sentence."""
        ...

    @property
    def needs_truth(self) -> bool:
        """Whether it can only be had where the right pixels are known."""
        ...

    def __call__(self, sample: Sample) -> Measured:
        """Measure one map."""
        ...


@runtime_checkable
class CommonThreshold(Metric, Protocol):
    """A metric whose threshold is one for all pictures, and so is chosen when all are measured."""

    def over(self, overlaps: Tensor) -> Tensor:
        """Each picture's value, (n,), from the overlaps of n pictures, (n, T)."""
        ...

# How calibrated a network is without a temperature and with the fitted one.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from captum_infomask.report.reliability import ReliabilityBins, reliability_figure

_CHUNK = 2**22  # numbers held in double precision at a time


@dataclass(frozen=True, eq=False)
class FittedTemperature:
    """A temperature, and how calibrated the network is without and with it.

    ``InfoMask(model, temperature=fitted)`` and ``float(fitted)`` take it as a number.

    Attributes:
        temperature: τ.
        nll_before: Mean negative log-likelihood of the labels at τ = 1, in nats.
        nll_after: The same at the fitted τ.
        before: Expected calibration error at τ = 1, and confidence, accuracy and count per bin.
        after: The same at the fitted τ.
        count: n, the number of examples.

    Example:
        >>> import torch
        >>> from captum_infomask import fit_temperature
        >>> logits, labels = torch.tensor([[9.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
        >>> fitted = fit_temperature(lambda x: x, [(logits, labels)])
        >>> round(fitted.ece_before, 2), round(fitted.ece_after, 2), fitted.count
        (0.25, 0.0, 4)
    """

    temperature: float
    nll_before: float
    nll_after: float
    before: ReliabilityBins
    after: ReliabilityBins
    count: int

    @property
    def ece_before(self) -> float:
        """Expected calibration error at τ = 1, from 0 to 1."""
        return self.before.error

    @property
    def ece_after(self) -> float:
        """Expected calibration error at the fitted τ, from 0 to 1."""
        return self.after.error

    def __float__(self) -> float:
        """The temperature."""
        return self.temperature

    def __repr__(self) -> str:
        """What a notebook or prompt shows."""
        return (
            f"FittedTemperature({self.temperature:.4g}: on {self.count} examples negative "
            f"log-likelihood {self.nll_before:.3f} → {self.nll_after:.3f} nats, calibration error "
            f"{self.ece_before:.3f} → {self.ece_after:.3f})"
        )

    def figure(self) -> tuple[Figure, list[Axes]]:
        """Reliability diagrams before and after, on an Agg canvas (no window, no pyplot state)."""
        return reliability_figure(
            [("before, τ = 1", self.before), (f"after, τ = {self.temperature:.2f}", self.after)]
        )


def calibration(
    logits: Tensor, labels: Tensor, offset: Tensor, temperature: float, bins: int
) -> tuple[float, ReliabilityBins]:
    """Mean negative log-likelihood, and the expected calibration error with its bins."""
    nll = 0.0
    parts = []
    for values, classes in chunks(logits, labels):
        log_posterior = (values / temperature + offset).log_softmax(1)
        nll += float(F.nll_loss(log_posterior, classes, reduction="sum"))
        parts.append(log_posterior.exp().float())
    posterior = torch.cat(parts)
    error = multiclass_calibration_error(
        posterior, labels, num_classes=posterior.shape[1], n_bins=bins, norm="l1"
    )
    confidence, predicted = posterior.max(1)
    # The edges, and the side of a tie, are torchmetrics' own.
    edges = torch.linspace(0, 1, bins + 1)
    which = (torch.bucketize(confidence, edges, right=True) - 1).clamp_max(bins - 1)
    count = torch.bincount(which, minlength=bins)
    mean_confidence, accuracy = (
        (torch.bincount(which, weights=numbers.double(), minlength=bins) / count).numpy()
        for numbers in (confidence, predicted == labels)
    )
    found = ReliabilityBins(mean_confidence, accuracy, count.numpy(), float(error))
    return nll / len(labels), found


def chunks(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits in double precision and their labels, so many at a time that memory suffices."""
    rows = max(1, _CHUNK // logits.shape[1])
    for values, classes in zip(logits.split(rows), labels.split(rows), strict=True):
        yield values.double(), classes

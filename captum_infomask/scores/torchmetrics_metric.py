# Conditional mutual information as a torchmetrics metric.
from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_infomask._checks import describe
from captum_infomask._errors import ArgumentError
from captum_infomask._keywords import keywords, told
from captum_infomask.scores.bounds import with_softmax
from captum_infomask.scores.score import Score, score_from


class ConditionalMutualInformation(Metric):
    r"""Donsker–Varadhan estimate of the information about the labels in a network's outputs.

    .. math::

        \hat I = \frac{1}{N} \sum_n \left( T_{y_n}(x_n) - \log \sum_k \pi_k\, e^{T_k(x_n)} \right),

    with the critic :math:`T = f/\tau - \log \pi` for a network trained by cross-entropy, so the
    estimate is E[log softmax] − E[log π_y]. For a network trained by PC-softmax,
    :math:`T = f/\tau`. The maximum is −E[log π_y], which is log M for a uniform prior. On a
    validation pass, the estimate is a lower bound of the true information, up to the error of a
    mean over N. On the training pass it may be higher, because a network can learn its examples by
    heart. Sums are kept in float64, or in float32 on Apple's GPUs, which have no float64.

    Args:
        score: How the outputs are read; the head must be a softmax's. For one logit f of a binary
            network, pass ``torch.stack([0 * f, f], 1)``.
        **kwargs: The settings of :class:`Score` by name, instead of ``score``; and those of every
            torchmetrics metric (``dist_sync_on_step``, ``process_group``, …).

    Raises:
        ArgumentError: A setting is out of range; or, from ``update``, outputs or labels do not fit
            it, or the outputs are not finite.

    Example:
        >>> import torch
        >>> from captum_infomask import ConditionalMutualInformation
        >>> metric = ConditionalMutualInformation()
        >>> metric.update(torch.tensor([[30.0, 0.0], [0.0, 30.0]]), torch.tensor([0, 1]))
        >>> metric.update(torch.tensor([[0.0, 0.0], [5.0, 5.0]]), torch.tensor([1, 0]))
        >>> print(f"{metric.compute():.3f} bits")
        0.500 bits

    Source: Qin & Kim, arXiv 1910.02629, Eq. 17 to 23 and Figure 1.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False

    total: Tensor
    count: Tensor

    @told(options_of=Score, passes_on=True)
    def __init__(
        self,
        *,
        score: Score | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {name: kwargs.pop(name) for name in keywords(Score) if name in kwargs}
        super().__init__(**kwargs)
        self._score = with_softmax(score_from(score, settings))
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        # A MetricCollection lets metrics share states that are close after the first batch. The
        # states of two temperatures may be close. It does not share states whose names differ.
        self.add_state(_name_of(self._score), torch.zeros(()), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            preds: The network's outputs, (B, M); half precision is computed in float32.
            target: The labels, integers (B,).
        """
        table = self._checked(preds, target)
        values = self._score(preds, table)
        if not bool(values.isfinite().all()):
            raise ArgumentError(
                f"Expected `preds` to be finite; got information that is not for "
                f"{int((~values.isfinite()).sum())} of {len(values)} examples."
            )
        self.total = self.total + values.to(self.total.device).sum(dtype=self.total.dtype)
        self.count = self.count + len(values)

    def compute(self) -> Tensor:
        """The estimate over all examples since the last reset, in the unit; NaN for none."""
        return self.total / self.count

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        """Move the states, to float32 if there is no float64."""
        if fn(torch.zeros(0)).device.type == "mps":
            self.total = self.total.float()
            self._defaults["total"] = torch.zeros(())
        return super()._apply(fn, exclude_state)

    def _checked(self, preds: object, target: object) -> Tensor:
        """Return the labels as a table (B, 1); refuse a batch that does not fit the settings."""
        if not isinstance(preds, Tensor) or preds.dim() != 2 or len(preds) == 0:
            raise ArgumentError(
                f"Expected `preds` to be a tensor (B, M), a value per class for each example; got "
                f"{describe(preds)}."
            )
        if (
            not isinstance(target, Tensor)
            or target.shape != preds.shape[:1]
            or target.is_floating_point()
            or target.is_complex()
            or target.dtype == torch.bool
        ):
            raise ArgumentError(
                f"Expected `target` to hold integers ({len(preds)},), a class per example; got "
                f"{describe(target)}."
            )
        table = target.detach().cpu().long()[:, None]
        self._score.check(preds, table)
        self._score.check_target(table)
        return table


def _name_of(score: Score) -> str:
    """A name that two metrics share only if their settings are the same."""
    return f"settings_{hashlib.sha256(repr(score.named()).encode()).hexdigest()[:16]}"

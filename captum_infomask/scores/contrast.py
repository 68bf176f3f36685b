# Contrasts: the information about the target, less the information about another class.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from captum_infomask._checks import describe, folded, named_like
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.class_scores import ClassScore
from captum_infomask.scores.heads import AnyHead
from captum_infomask.scores.readings import Reading
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import check_range, target_table

# A class by number or by name, or ``runner_up``.
Contrast: TypeAlias = int | str | Sequence[int] | Sequence[str] | Tensor | None

RUNNER_UP = "runner_up"


def is_runner_up(contrast: object) -> bool:
    """Whether the contrast is the likeliest class other than the target."""
    return isinstance(contrast, str) and folded(contrast) == folded(RUNNER_UP)


@dataclass(frozen=True)
class ContrastScore:
    r"""Reads outputs as i(y; v) − i(y′; v), the information about y less that about another class.

    .. math::

        i(y; v) - i(y'; v) = \log \frac{p(y \mid v)}{p(y' \mid v)} - \log \frac{\pi_y}{\pi_{y'}}.

    A row of the table holds the entry of ``reader`` for y, followed by the entry for y′. The result
    is differentiable if ``reader`` is.

    Attributes:
        reader: Reads the information about one class, or about several.

    Source: the question "why P, rather than Q?" of Prabhushankar et al., arXiv 2008.00178.
    Finer-CAM, arXiv 2501.11309, takes the difference of two logits, which is the same without
    priors.
    """

    reader: Score | ClassScore

    @property
    def head(self) -> AnyHead:
        """What the output holds."""
        return self.reader.head

    @property
    def unit(self) -> str:
        """``bits`` or ``nats``."""
        return self.reader.unit

    @property
    def has_partition(self) -> bool:
        """False, because the partition cancels."""
        return False

    def check(self, output: Tensor, table: Tensor | None) -> None:
        """Refuse outputs and targets that do not fit."""
        self.reader.check(output, _halves(table)[0])

    def __call__(self, output: Tensor, table: Tensor | None) -> Tensor:
        """The difference of each example, in the unit."""
        first, second = self.terms(output, table)
        return first - second

    def terms(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """Both informations."""
        return tuple(self.reader(output, half) for half in _halves(table))

    def critic(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        """The difference in nats, float64, without a partition."""
        first, second = (self.reader.critic(output, half) for half in _halves(table))
        difference = (first[0] - first[1]) - (second[0] - second[1])
        return difference, torch.zeros_like(difference)


@dataclass(frozen=True, eq=False)
class Told:
    """Targets with the classes that they are compared with.

    Attributes:
        reader: Reads the difference.
        table: The reader's entry for each image.
        total: i(y; x) − i(y′; x) of the whole images, (n, K). If the network was sampled, its
            standard errors are the sums of both classes' errors, the most that they can be:
            how the two vary together was not kept.
        classes: y and y′, long (n, 2, K), on the CPU.
    """

    reader: ContrastScore
    table: Tensor
    total: Reading
    classes: Tensor


@dataclass(frozen=True, eq=False)
class Against:
    """The class that each image's target is compared with.

    Attributes:
        classes: Long (n, 1), on the CPU; None for the runner-up.
        score: How outputs are read.
    """

    classes: Tensor | None
    score: Score

    def told(
        self, reader: Score | ClassScore, every: Reading, targets: Tensor, place: Tensor
    ) -> Told:
        """Find the class y′ of each target, after the whole images were read.

        Args:
            reader: Reads the information about targets.
            every: The whole images' information about all M classes, (n, M).
            targets: The classes y, (n, K).
            place: The place of the target in the picture, (n, d); (n, 0) if targets are only
                classes.

        Raises:
            ArgumentError: There is no such class, or it is the target itself.
        """
        contrast = self._choose(every.information, targets)
        first, second = (_about(every, classes) for classes in (targets, contrast))
        errors = None
        if first.standard_errors is not None and second.standard_errors is not None:
            errors = first.standard_errors + second.standard_errors
        return Told(
            ContrastScore(reader),
            torch.cat([targets, place, contrast, place], dim=1),
            Reading(first.information - second.information, standard_errors=errors),
            torch.stack([targets, contrast], dim=1),
        )

    def others(self, classes: Tensor) -> Tensor:
        """All classes of each image, (n, K), except the one that they are compared with."""
        if self.classes is None:
            return classes
        return classes[classes != self.classes].reshape(len(classes), -1)

    def _choose(self, every: Tensor, targets: Tensor) -> Tensor:
        """The class that each target (n, K) is compared with, (n, K)."""
        if self.classes is not None:
            check_range(self.classes, tuple(every.shape), "contrast")
            _check_apart(targets, self.classes)
            return self.classes.expand_as(targets)
        likely = self.score.likelihoods(every.cpu().double())
        prior = self.score.target_prior
        if prior is not None and prior.dim() == 1:
            likely = likely.masked_fill(prior == 0, -torch.inf)
        others = [likely.scatter(1, column[:, None], -torch.inf).max(1) for column in targets.T]
        if any(bool(found.values.isneginf().any()) for found in others):
            raise ArgumentError(
                "Expected at least two classes (or `groups`) of a probability above 0 for "
                "contrast='runner_up'; there is no other one than the target."
            )
        return torch.stack([found.indices for found in others], dim=1)


def checked_contrast(
    contrast: object, targets: Tensor | None, n: int, score: Score, overlap: object
) -> Against | None:
    """Return the classes that targets are compared with, if any; check all that is known.

    Args:
        contrast: A class, one per image, or ``runner_up``.
        targets: Each image's targets, (n, K); K = 0 if they are not known yet.
        n: The number of images.
        score: How outputs are read.
        overlap: The rule for regions that overlap.
    """
    if contrast is None:
        return None
    if targets is None:
        raise ArgumentError(
            f"Expected `target` with `contrast`, the class that it is told from; got None and "
            f"{describe(contrast)}."
        )
    if overlap == "mixture":
        raise ArgumentError(
            "Expected `overlap` 'mean' or 'max' with `contrast`; got 'mixture', the mean of "
            "probabilities, where a contrast is a ratio of two."
        )
    if isinstance(contrast, str):
        named_like("contrast", contrast, (RUNNER_UP,))
        return Against(None, score)
    classes = target_table(contrast, n, "contrast")  # type: ignore[arg-type]
    assert classes is not None, "it is given"
    if classes.shape[1] != 1:
        raise ArgumentError(
            f"Expected `contrast` to be a class alone, whose place is the target's; got "
            f"{describe(contrast)}."
        )
    score.check_target(classes, "contrast")
    _check_apart(targets, classes)
    return Against(classes, score)


def _about(every: Reading, classes: Tensor) -> Reading:
    """The reading of some classes of each image, (n, K), from that of all."""
    return every.map(lambda part: part.gather(1, classes.to(part.device)))


def _check_apart(targets: Tensor, contrast: Tensor) -> None:
    """Refuse targets (n, K) that are compared with themselves, (n, 1)."""
    same = (targets == contrast).any(1).nonzero()[:, 0]
    if len(same):
        image = int(same[0])
        raise ArgumentError(
            f"Expected `contrast` to be another class than the target; both are "
            f"{int(contrast[image, 0])} for image {image}."
        )


def _halves(table: Tensor | None) -> tuple[Tensor, ...]:
    assert table is not None, "a contrast has a target"
    return table.chunk(2, dim=1)

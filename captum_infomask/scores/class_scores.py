# Chooses the classes that are scored: given ones, all, or the likeliest.
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_infomask._checks import describe, positive_int
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.heads import SOFTMAX_HEADS, AnyHead, rows_of
from captum_infomask.scores.score import Score
from captum_infomask.scores.targets import check_range


@dataclass(frozen=True)
class ClassScore:
    """Reads outputs as information about K classes, or all M classes; ``Score`` reads one.

    Attributes:
        score: How outputs are read.
        at_place: Whether the table holds each image's target, at whose place in the picture all
            classes are read. Else it holds the classes that are read.
    """

    score: Score
    at_place: bool = False

    @property
    def head(self) -> AnyHead:
        """The kind of output."""
        return self.score.head

    @property
    def unit(self) -> str:
        """``bits`` or ``nats``."""
        return self.score.unit

    @property
    def has_partition(self) -> bool:
        """Whether a partition turns the critic into a probability."""
        return self.score.has_partition

    def __call__(self, output: Tensor, table: Tensor | None) -> Tensor:
        """Information of each example about its classes (B, K), or about all: (B, K) or (B, M)."""
        rows, classes = self._asked(output, table)
        return self._of(self.score.of_all(rows), classes)

    def terms(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """Only the information."""
        return (self(output, table),)

    def critic(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        """The critic's values and log partitions, of the same shape, in nats."""
        rows, classes = self._asked(output, table)
        value, partition = self.score.critic_of_all(rows)
        return self._of(value, classes), self._of(partition, classes)

    def check(self, output: Tensor, table: Tensor | None) -> None:
        """Refuse outputs without one number per class, and classes that they do not have."""
        if self.at_place:
            self.score.check(output, table)
            return
        output = rows_of(output)
        if output.dim() != 2:
            raise ArgumentError(
                f"Expected `forward_func` to return (N, M), a number per class, for score_classes; "
                f"got {tuple(output.shape)}."
            )
        columns = torch.zeros(1, 1, device="cpu").long() if table is None else table
        for column in columns.T:
            self.score.check(output, column[:, None])

    def _asked(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Every class's output for each example, and the classes that are asked for."""
        return (_at_place(output, table), None) if self.at_place else (rows_of(output), table)

    def _of(self, values: Tensor, table: Tensor | None) -> Tensor:
        """The values of the requested classes; if all are requested, 0 for classes of prior 0."""
        if table is not None:
            return values.gather(1, table.to(values.device))
        prior = self.score.target_prior
        if prior is None or prior.dim() == 0:
            return values
        return torch.where(prior.to(values.device) > 0, values, 0)


def _at_place(output: Tensor, table: Tensor | None) -> Tensor:
    """Every class's output where the target is: (B, M, ...) → (B, M)."""
    rows = rows_of(output)
    if table is None or rows.dim() == 2:
        return rows
    place = table[:, 1:].to(rows.device).unbind(1)
    return rows.movedim(1, -1)[(torch.arange(len(rows), device=rows.device), *place)]


def checked_classes(classes: object, top_k: object, n: int) -> Tensor | int | None:
    """The requested classes: given ones (n, K), the likeliest ``top_k``, or all.

    Returns:
        Class numbers (n, K), the number of likeliest classes, or None for every class.

    Raises:
        ArgumentError: Both are given, or one of them is not a class number or a count.
    """
    if classes is not None and top_k is not None:
        raise ArgumentError("Expected one of `classes` and `top_k`; got both.")
    if top_k is not None:
        return positive_int("top_k", top_k)
    if classes is None:
        return None
    try:
        numbers = torch.as_tensor(classes, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.empty(0, device="cpu")
    if (
        numbers.dim() != 1
        or not len(numbers)
        or numbers.is_floating_point()
        or numbers.is_complex()
        or numbers.dtype == torch.bool
        or bool((numbers < 0).any())
    ):
        raise ArgumentError(
            f"Expected `classes` to be a list of class numbers of at least 0, or of names if the "
            f"categories are known; got {describe(classes)}."
        )
    if len(numbers.unique()) < len(numbers):
        raise ArgumentError(f"Expected `classes` to name each once; got {describe(classes)}.")
    return numbers.long().cpu().expand(n, -1)


def choose_classes(asked: Tensor | int | None, totals: Tensor, score: Score) -> Tensor:
    """The classes of each image, long (n, K), from its information about all, (n, M)."""
    n, count = totals.shape
    possible = torch.arange(count, device="cpu")
    prior = score.target_prior
    if prior is not None and prior.dim() == 1:
        possible = prior.nonzero()[:, 0]
    if isinstance(asked, Tensor):
        check_range(asked.amax(1, keepdim=True), (n, count))
        return asked
    if asked is None:
        return possible.expand(n, -1)
    if asked > len(possible):
        raise ArgumentError(
            f"Expected `top_k` of at most {len(possible)}, the "
            f"{'classes' if score.groups is None else 'groups'}; got {asked}."
        )
    likely = score.likelihoods(totals.cpu())
    return possible[likely[:, possible].topk(asked, dim=1).indices]


def all_log_priors(classes: Tensor, totals: Tensor, score: Score) -> Tensor | None:
    """Log π of each image's classes, (n, K), if these are all classes of a softmax.

    Args:
        classes: Long (n, K).
        totals: Each image's information about all M classes, (n, M).
        score: How outputs are read.

    Returns:
        In nats, float64, on the CPU. None if classes with a prior above 0 are missing (classes in
        no group may be), or if classes do not exclude each other.
    """
    if score.head not in SOFTMAX_HEADS or score.groups is not None:
        return None
    log_prior = score.log_prior(totals.double())
    log_prior = torch.as_tensor(log_prior, dtype=torch.float64, device="cpu")
    log_prior = log_prior.expand(totals.shape[1])
    is_all = classes.shape[1] == int(log_prior.isfinite().sum())
    return log_prior[classes] if is_all else None

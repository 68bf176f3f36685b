# Pointwise mutual information from a network's output (DESIGN: the formulas of every head).
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, SupportsFloat

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_infomask._checks import describe, one_of
from captum_infomask._errors import ArgumentError
from captum_infomask.scores.heads import (
    AnyHead,
    Head,
    check_head_output,
    log_partition,
    log_posterior,
    rows_of,
    scaled_logits,
    widen,
)
from captum_infomask.scores.score_settings import (
    NATS_PER_UNIT,
    Balanced,
    Prior,
    TrainedWith,
    Unit,
    as_argument,
    checked_density,
    checked_head,
    checked_prior,
    checked_temperature,
)
from captum_infomask.scores.targets import (
    CheckedGroups,
    Groups,
    check_members,
    check_possible,
    check_range,
    checked_groups,
    merged_classes,
    select,
)
from captum_infomask.scores.value_heads import Normal, ValueHead


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Score:
    r"""The settings by which a network's outputs are read as information, as one value.

    .. math::

        i(y; v) = \log p_\theta(y \mid v) - \log \pi_y

    :class:`InfoMask`, :func:`compare`, :func:`run_dataset`, :func:`fit_temperature`,
    :func:`measure_bounds` and :func:`information` take ``score=Score(...)``, or the same settings
    by name. ``dataclasses.replace(score, temperature=2.0)`` changes one setting.

    Args:
        head: The kind of output: ``logits``, ``log_probs``, ``probs``, ``sigmoid`` (logits of
            independent labels, or one logit) or ``raw`` (any number per example; the paper's
            un-normalised critic). For a regression network, :class:`Gaussian` or :class:`Laplace`.
        prior: p(y), one probability per class; uniform if None (1/2 for ``sigmoid``).
            ``balanced`` is uniform too, and says that the labels are known to be so; e-values
            (:meth:`InfoMap.e_values`) ask for this. For a head of values, :class:`Normal`.
        trained_with: ``cross_entropy``, or ``pc_softmax`` for prior-corrected softmax.
        temperature: τ > 0, by which logits are divided: a number, or what :func:`fit_temperature`
            returns. A softmax of base ψ is τ = 1/ln ψ.
        unit: ``bits`` or ``nats``.
        groups: Classes that count as one: a list of lists of their numbers, each class in at most
            one. Their probabilities add up, p(G | v) = Σ p(y | v) and π_G = Σ π_y. Targets then
            count groups. Classes in no group keep their share of the probability and cannot be
            targets. For softmax heads.

    Attributes:
        prior: float64 (M,), or () for one number, on the CPU; ``balanced`` or None for the uniform
            one; a :class:`Normal` for a head of values.
        groups: Tuples of class numbers; None if each class counts alone.

    Raises:
        ArgumentError: A setting is out of range, or two of them contradict each other.

    Example:
        >>> from captum_infomask import InfoMask, Score
        >>> score = Score(prior=[0.5, 0.25, 0.25], temperature=1.5)
        >>> score
        Score(head='logits', prior=[0.5, 0.25, 0.25], temperature=1.5, unit='bits')
        >>> InfoMask(lambda x: x, score=score).score == score
        True

    Source: Qin & Kim, arXiv 1910.02629, Eq. 17 to 23; PC-softmax: Qin, Kim & Gedeon,
    arXiv 1911.10688.
    """

    head: AnyHead
    prior: Tensor | Balanced | Normal | None
    trained_with: str
    temperature: float
    unit: str
    groups: CheckedGroups | None

    def __init__(
        self,
        *,
        head: Head | ValueHead = "logits",
        prior: Prior = None,
        trained_with: TrainedWith = "cross_entropy",
        temperature: SupportsFloat = 1.0,
        unit: Unit = "bits",
        groups: Groups = None,
    ) -> None:
        name = checked_head(head)
        training = one_of("trained_with", trained_with, ("cross_entropy", "pc_softmax"))
        if training == "pc_softmax" and name != "logits":
            raise ArgumentError(
                f"Expected head='logits' for trained_with='pc_softmax', whose critic is the "
                f"logits; got head={name!r}."
            )
        values: Tensor | Balanced | Normal | None
        if isinstance(name, ValueHead):
            values = checked_density(prior, name)
        else:
            values = checked_prior(prior, name)
        vars(self).update(
            head=name,
            prior=values,
            trained_with=training,
            temperature=checked_temperature(temperature, name),
            unit=one_of("unit", unit, tuple(NATS_PER_UNIT)),
            groups=checked_groups(groups, name, values if isinstance(values, Tensor) else None),
        )

    def named(self) -> dict[str, Any]:
        """The settings by name: plain numbers and words, heads of values and their priors."""
        prior = self.prior.tolist() if isinstance(self.prior, Tensor) else self.prior
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"prior": prior}

    def changed(self) -> dict[str, Any]:
        """The settings that are not defaults, by name."""
        usual = Score().named()
        return {name: value for name, value in self.named().items() if value != usual[name]}

    def __eq__(self, other: object) -> bool:
        """Whether all settings are the same."""
        return isinstance(other, Score) and self.named() == other.named()

    def __hash__(self) -> int:
        """The same for equal settings."""
        return hash(repr(self.named()))

    def __repr__(self) -> str:
        """What a notebook or prompt shows."""
        return f"Score({self.words()})"

    @property
    def is_usual(self) -> bool:
        """Whether outputs are unscaled logits of a softmax with equally likely classes."""
        told = self.changed().items()
        return all(name == "unit" or value == "balanced" for name, value in told)

    def words(self) -> str:
        """The settings that are not defaults, and the head and the unit, as arguments."""
        told = {"head": self.head, **self.changed()}
        told["unit"] = told.pop("unit", self.unit)
        return ", ".join(f"{name}={as_argument(name, value)}" for name, value in told.items())

    def all_words(self) -> str:
        """The settings as arguments, defaults too: head, prior, temperature, unit."""
        usual = {"prior": "1/2" if self.head == "sigmoid" else "uniform"}
        usual = {} if self.head == "raw" else usual
        told = {"head": repr(self.head), **usual, "temperature": f"{self.temperature:g}"}
        told["unit"] = repr(self.unit)
        changed = {name: as_argument(name, value) for name, value in self.changed().items()}
        return ", ".join(f"{name}={value}" for name, value in {**told, **changed}.items())

    @property
    def has_classes(self) -> bool:
        """Whether targets are classes; if not, they are values."""
        return not isinstance(self.head, ValueHead)

    @property
    def has_probabilities(self) -> bool:
        """Whether outputs are read as probabilities of classes."""
        return self.has_classes and self.head != "raw"

    def with_classes(self, asked: str) -> Score:
        """Return this score; refuse a head of values for what needs classes.

        Args:
            asked: What needs them, as the subject of a sentence.
        """
        if self.has_classes:
            return self
        raise ArgumentError(
            f"Expected `head` to be one with classes: {asked}; got head={self.head!r}. "
            f"score_regions, attribute and mask read values."
        )

    @property
    def class_prior(self) -> Tensor | None:
        """The prior of the classes; None if they count as equally likely."""
        return self.prior if isinstance(self.prior, Tensor) else None

    @cached_property
    def target_prior(self) -> Tensor | None:
        """The prior of the targets' units, classes or groups; None if none is given."""
        prior = self.class_prior
        if self.groups is None or prior is None:
            return prior
        return torch.stack([prior[list(group)].sum() for group in self.groups])

    def check_target(self, table: Tensor | None, argument: str = "target") -> None:
        """Refuse targets that prior and groups already show to be out of range."""
        if table is not None:
            check_possible(table[:, 0], self.target_prior, self.groups, argument)

    def check(self, output: Tensor, table: Tensor | None, argument: str = "forward_func") -> None:
        """Refuse outputs and targets that do not fit the settings."""
        check_head_output(output, self.head, argument)
        shape = tuple(output.shape)
        if self.groups is not None:
            check_members(self.groups, shape[1], f"the output has shape {shape}")
            shape = (shape[0], len(self.groups), *shape[2:])
        check_range(table, shape)
        if self.class_prior is not None and self.class_prior.dim() == 1:
            classes = output.shape[1] if output.dim() > 1 else 1
            if len(self.class_prior) != classes:
                raise ArgumentError(
                    f"Expected `prior` to hold {classes} probabilities, one per class of the "
                    f"output of shape {tuple(output.shape)}; got {len(self.class_prior)}."
                )

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Log p(y | v) of all classes, or all groups, in nats: (N, M), or (N, 1) for one number."""
        found = self._of_classes(rows_of(output))
        return found if self.groups is None else merged_classes(found, self.groups)

    def probabilities(self, output: Tensor) -> Tensor:
        """p(y | v) of all classes, or all groups, in the same shape."""
        rows = rows_of(output)
        is_plain = self.head == "logits" and self.trained_with != "pc_softmax"
        if not is_plain or self.groups is not None:
            return self.log_probabilities(rows).exp()
        return (widen(rows) / self.temperature).softmax(1)

    def log_priors(self, targets: Tensor, classes: int) -> Tensor:
        """Log π of some targets, float64, of a network with M classes."""
        usual = 0.5 if self.head == "sigmoid" else 1 / classes
        prior = torch.tensor(usual, dtype=torch.float64, device="cpu")
        if self.groups is not None:
            prior = self._prior_of_groups(classes)
        elif self.class_prior is not None:
            prior = self.class_prior
        return prior.log()[targets] if prior.dim() else prior.log().expand(len(targets))

    def merged(self, output: Tensor) -> Tensor:
        """Outputs as logits of the groups: log Σ exp over each one's classes; (N, G, ...).

        If every class is in a group, their softmax gives probabilities.
        """
        assert self.groups is not None, "asked for groups only"
        joint = self._joint(scaled_logits(output, self.head, self.temperature))
        return merged_classes(joint, self.groups)

    def likelihoods(self, information: Tensor) -> Tensor:
        """Values that order all classes, or groups, by p(y | x), from their information (N, M).

        They are log p(y | x) up to a constant; for ``raw`` they are the output itself.
        """
        if self.head == "raw":
            return information
        if self.groups is None:
            log_prior = self.log_prior(information)
        else:
            log_prior = self._prior_of_groups(1).log().to(information)
        return information + log_prior / NATS_PER_UNIT[self.unit]

    def __call__(self, output: Tensor, table: Tensor | None) -> Tensor:
        """Information of each example, shape (B,), in the unit."""
        return select(self.of_all(output), table)

    def terms(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, ...]:
        """The terms of a value for averages over draws: here only the information."""
        return (self(output, table),)

    @property
    def has_partition(self) -> bool:
        """Whether a partition turns the critic into a probability; its mean needs bounds."""
        return self.head != "raw"

    def of_all(self, output: Tensor) -> Tensor:
        """Information about all classes, or all groups, shaped like the output, in the unit."""
        if self.groups is not None:
            log_p = self._of_classes(output)
            nats = self._less_prior(merged_classes(log_p, self.groups), log_p)
        elif self.trained_with == "pc_softmax":
            nats = self._prior_corrected(output)
        else:
            nats = log_posterior(output, self.head, self.temperature)
            if self.head != "raw":
                nats = nats - self.log_prior(nats)
        return nats / NATS_PER_UNIT[self.unit]

    def critic(self, output: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        """The critic's value T_y and log Σ_k π_k exp(T_k) of each example: float64 (B,), in nats.

        Their difference is the information. For a stochastic network we need both separately,
        because the mean over its samples goes inside the logarithm (paper Eq. 25). They are in
        float64, because a shift that would keep the digits of large logits changes that mean.
        """
        value, partition = self.critic_of_all(output)
        return select(value, table), select(partition, table)

    def critic_of_all(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The same for all classes, or all groups, both shaped like the output.

        A group's critic is log Σ (π_y / π_G) exp(T_y) over its classes. The partition is the same.
        """
        scaled = scaled_logits(output, self.head, 1.0).double() / self.temperature
        if self.groups is not None:
            joint = self._joint(scaled)
            value = self._less_prior(merged_classes(joint, self.groups), joint)
            return value, log_partition(joint, self.head).expand_as(value)
        if self.trained_with == "pc_softmax":
            return scaled, self._log_mean_exp(scaled).expand_as(scaled)
        partition = log_partition(scaled, self.head).expand_as(scaled)
        return scaled if self.head == "raw" else scaled - self.log_prior(scaled), partition

    def _of_classes(self, output: Tensor) -> Tensor:
        """Log p(y | v) of every class, in nats, shaped like the output."""
        if self.trained_with == "pc_softmax":
            return F.log_softmax(self._joint(widen(output) / self.temperature), dim=1)
        return log_posterior(output, self.head, self.temperature)

    def _joint(self, values: Tensor) -> Tensor:
        """The values whose softmax is p(y | v), for both trainings, from logits over τ."""
        is_corrected = self.trained_with == "pc_softmax"
        return values + self.log_prior(values) if is_corrected else values

    def _prior_of_groups(self, classes: int) -> Tensor:
        """π_G of each group, (G,), float64, for M classes."""
        assert self.groups is not None, "asked for groups only"
        if self.target_prior is not None:
            return self.target_prior
        sizes = torch.tensor([len(group) for group in self.groups], device="cpu")
        return sizes.double() / classes

    def _less_prior(self, values: Tensor, like: Tensor) -> Tensor:
        """Subtract log π_G from the groups' values; ``like`` has the classes' shape (N, M, ...)."""
        log_prior = self._prior_of_groups(like.shape[1]).log().to(values)
        return values - log_prior.reshape(-1, *[1] * (values.dim() - 2))

    def _prior_corrected(self, output: Tensor) -> Tensor:
        """f_y/τ − log Σ_k π_k exp(f_k/τ)."""
        critic = widen(output) / self.temperature
        # A shift only keeps the digits that large logits would lose. Classes that never occur do
        # not influence the shift.
        weighted = critic.detach() + self.log_prior(critic)
        critic = critic - weighted.amax(dim=1, keepdim=True)
        return critic - self._log_mean_exp(critic)

    def _log_mean_exp(self, critic: Tensor) -> Tensor:
        """Log Σ_k π_k exp(T_k), kept as dimension 1."""
        return torch.logsumexp(critic + self.log_prior(critic), dim=1, keepdim=True)

    def log_prior(self, values: Tensor) -> Tensor | float:
        """Each class's log π_k, shaped to be added to values with classes in dimension 1."""
        if self.class_prior is None:
            return -math.log(2 if self.head == "sigmoid" else values.shape[1])
        log_prior = self.class_prior.log().to(values)
        return log_prior.reshape(-1, *[1] * (values.dim() - 2)) if log_prior.dim() else log_prior


def score_from(score: Score | None, settings: Mapping[str, Any]) -> Score:
    """The score of a call, given as one value or as settings by name.

    Raises:
        ArgumentError: Both are given, or a setting is wrong.
    """
    if score is None:
        return Score(**settings)
    if not isinstance(score, Score):
        raise ArgumentError(f"Expected `score` to be a Score; got {describe(score)}.")
    if settings:
        raise ArgumentError(
            f"Expected `score` or its settings, not both; got {score} and "
            f"{', '.join(f'{name}=' for name in settings)}."
        )
    return score

# Data sets whose places say nothing: what bets over their pictures come to.
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from experiments.evidence_draws import CRITICS, Counts, Floats, drawn_classes, seen, tempered

from captum_infomask.scores.betting import AnyPrior, KnownPrior


@dataclass(frozen=True)
class Bets:
    """Bets over the pictures of a data set whose places say nothing.

    Args:
        name: The bets, and how the labels came.
        mean: The mean of E after the last picture.
        error: Its standard error over the draws of labels.
        ever: For α of 0.1, 0.05 and 0.01: how often E is 1/α or more after any number of pictures.
        errors: Their standard errors.
        draws: The number of draws of labels, each with ``places``.
    """

    name: tuple[str, str]
    mean: float
    error: float
    ever: tuple[float, ...]
    errors: tuple[float, ...]
    draws: int

    @property
    def holds(self) -> bool:
        """Within three standard errors of what must be."""
        allowed = (a + 3 * error for a, error in zip((0.1, 0.05, 0.01), self.errors, strict=True))
        return self.mean <= 1 + 3 * self.error and all(map(float.__le__, self.ever, allowed))


def ordered(kind: str, labels: Counts, rng: np.random.Generator) -> Counts:
    """The labels of a data set, as they come."""
    if kind == "sorted":
        return np.sort(labels)
    if kind == "stratified":  # fixed numbers, in a random order
        return rng.permutation(np.arange(len(labels)) % (int(labels.max()) + 1))
    return labels


def bets(draws: int, pictures: int = 300, places: int = 50, seed: int = 0) -> Iterator[Bets]:
    """Bets on labels that do not depend on what places show."""
    ways = [("KnownPrior", kind) for kind in ("drawn", "predictions")]
    ways += [("AnyPrior", kind) for kind in ("drawn", "stratified", "sorted", "predictions")]
    for name, (rule, kind) in enumerate(ways):
        rng = np.random.default_rng([seed, name])
        ends, evers = [], []
        for _ in range(draws):
            classes = int(rng.integers(2, 5))
            prior = rng.dirichlet(np.full(classes, 0.5)) * 0.96 + 0.04 / classes
            labels = ordered(kind, drawn_classes(prior, (pictures,), rng), rng)
            if kind == "predictions":  # what the network says of the main object
                views = seen(labels, rng.normal(size=(pictures, classes)))
                labels = tempered(1)(views, prior, rng).argmax(1)
                # The prior of its answers, from as many answers as one likes: others of its kind.
                others = drawn_classes(prior, (100_000,), rng)
                views = seen(others, rng.normal(size=(100_000, classes)))
                answers = tempered(1)(views, prior, rng).argmax(1)
                prior = np.bincount(answers, minlength=classes) / len(answers)
            objects = drawn_classes(np.full(classes, 1 / classes), (pictures, places), rng)
            views = seen(objects, rng.normal(size=(pictures, places, classes)))
            critics = ("calibrated", "logits × 3", "logits ÷ 3", "one class at random")
            critic = CRITICS[critics[int(rng.integers(4))]]
            capital = _course(rule, np.exp(critic(views, prior, rng)), labels, prior)
            ends.append(capital[-1].mean())
            evers.append([(capital.max(0) >= 1 / a).mean() for a in (0.1, 0.05, 0.01)])
        errors = np.std(evers, axis=0, ddof=1) / math.sqrt(draws)
        yield Bets(
            (rule, kind),
            float(np.mean(ends)),
            float(np.std(ends, ddof=1)) / math.sqrt(draws),
            tuple(np.mean(evers, axis=0).tolist()),
            tuple(errors.tolist()),
            draws,
        )


def _course(rule: str, q: Floats, labels: Counts, prior: Floats) -> Floats:
    """E of each place, and class, in the course of the pictures, (times, places · classes)."""
    n, places, classes = q.shape
    course = []
    if rule == "KnownPrior":
        told = np.take_along_axis(q, labels[:, None, None], -1)[..., 0]
        with np.errstate(divide="ignore"):
            bits = np.log2(told / prior[labels][:, None])
        known = KnownPrior(places)
        for row in bits:  # after each picture
            known.add(row[None])
            course.append(2 ** known.log2_e_values())
        return np.stack(course)
    free = AnyPrior(classes, places)
    bet_on = np.broadcast_to(np.arange(classes), q.shape)
    stops = np.unique(np.geomspace(1, n, 16).round().astype(int))
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        free.add(labels[start:stop], bet_on[start:stop], q[start:stop])
        course.append(2 ** free.log2_e_values().ravel())
    return np.stack(course)

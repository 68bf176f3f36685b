# What is no evidence although it looks like it, by how much, and what to do instead.
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from experiments.evidence_draws import (
    CRITICS,
    SIGNAL,
    Counts,
    Floats,
    drawn_classes,
    log_softmax,
    seen,
)

from captum_infomask.scores.betting import SHARES, AnyPrior, KnownPrior, log2_of_mean
from captum_infomask.scores.discoveries import e_bh


@dataclass(frozen=True)
class Abuse:
    """A number that is wrong, and the same with what the package does.

    Args:
        what: What is done, in words.
        number: What was measured, in words.
        wrong: Its value.
        instead: What to do instead.
        right: The value with that.
        most: The most that the value may be.
    """

    what: str
    number: str
    wrong: float
    instead: str
    right: float
    most: float


def abuses(draws: int, seed: int = 0) -> Iterator[Abuse]:
    """All of them; draws is about the number of e-values for each."""
    for number, one in enumerate(_ALL):
        yield from one(draws, np.random.default_rng([seed, number]))


def _differences(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """q(y | x) / q(y | x without R): R shows noise that has nothing to do with the label."""
    classes = 10
    label = drawn_classes(np.full(classes, 0.1), (draws,), rng)
    rest = SIGNAL * seen(label, rng.normal(size=(draws, classes)))
    noise = 2 * rng.normal(size=(draws, classes))
    rows = np.arange(draws)
    for factor, words in ((1, "right"), (3, "too sure (logits × 3)")):
        whole, hidden = (log_softmax(factor * part) for part in (rest + noise, rest))
        ratio = np.exp((whole - hidden)[rows, label])
        alone = classes * np.exp(log_softmax(factor * noise)[rows, label])
        yield Abuse(
            f"2^bits of `drop` for a region of noise; without it the network is {words}",
            "mean",
            float(ratio.mean()),
            "bits of the region alone (`crop`, `features`)",
            float(alone.mean()),
            1.0,
        )


def _own_answers(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """The network's answers as labels; it says class 0 for 60% of pictures, and of parts too."""
    classes, n = 10, 300
    prior = np.array([0.6] + [0.4 / 9] * 9)
    answers = drawn_classes(prior, (draws // 50, n), rng)
    single, known, free = [], {"uniform": [], "own": []}, []
    for labels in answers:
        objects = drawn_classes(prior, (n, 1), rng)
        q = np.exp(CRITICS["calibrated"](seen(objects, rng.normal(size=(n, 1, 10))), prior, rng))
        told = q[np.arange(n), 0, labels]
        single.append((classes * told, told / prior[labels]))
        for name, assumed in (("uniform", np.full(classes, 0.1)), ("own", prior)):
            known[name].append(_known(told / assumed[labels]))
        free.append(_place(labels, q))
    wrong, right = (float(np.mean([pair[k] for pair in single])) for k in (0, 1))
    yield Abuse(
        "the network's answers as targets, 60% one class, with a uniform prior",
        "mean e of one picture",
        wrong,
        "the prior of its answers",
        right,
        1.0,
    )
    beyond = {
        name: float(np.mean(np.array(values) >= math.log2(20))) for name, values in known.items()
    }
    yield Abuse(
        f"the same over {n} pictures",
        "share of E ≥ 20",
        beyond["uniform"],
        "the prior of its answers",
        beyond["own"],
        0.05,
    )
    yield Abuse(
        f"the same over {n} pictures",
        "share of E ≥ 20",
        beyond["uniform"],
        "ClassMaps, labels='predictions'",
        float(np.mean(np.array(free) >= math.log2(20))),
        0.05,
    )


def _one_class(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """A network that says 90% for class 0, whatever it sees; bits of the pictures of class 0."""
    classes, n = 10, 300
    labels = drawn_classes(np.full(classes, 0.1), (n,), rng)
    q = np.full((n, 1, classes), 0.1 / 9)
    q[..., 0] = 0.9
    own = int((labels == 0).sum())
    yield Abuse(
        f"bits summed over the {own} pictures of one class; the network always says that class",
        "log₂ E",
        own * math.log2(9),
        "bets on the class in all pictures",
        float(_free(labels, q)[0]),
        0.0,
    )


def _chosen_by_the_picture(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """Bets on the class that the whole picture chose; the region says 50% for every class."""
    classes, n = 10, 300
    labels = drawn_classes(np.full(classes, 0.1), (n,), rng)
    q = np.full((n, 1, 1), 0.5)
    chosen = AnyPrior(classes, 1)
    chosen.add(labels, labels[:, None, None], q)  # the picture's first class is mostly its label
    yield Abuse(
        "bets only on each picture's likeliest class; the region says 50% for any class",
        "log₂ E, largest",
        float(chosen.log2_e_values().max()),
        "bets on all classes",
        float(_free(labels, np.full((n, 1, classes), 0.1)).max()),
        0.0,
    )


def _estimated_priors(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """A prior from n₀ labels; the critic knows the true one, and sees nothing."""
    classes, known = 10, 200
    for ratio in (0.1, 1, 10):
        n, courses = round(ratio * known), max(draws // 50, 10)
        single, capital, free = [], [], []
        for _ in range(courses):
            prior = rng.dirichlet(np.ones(classes))
            first = np.bincount(drawn_classes(prior, (known,), rng), minlength=classes)
            guessed = (first + 1) / (known + classes)
            labels = drawn_classes(prior, (n,), rng)
            pays = (prior / guessed)[labels]
            single.append(float((prior**2 / guessed).sum()))
            capital.append(_known(pays))
            free.append(_place(labels, np.broadcast_to(prior, (n, 1, classes))))
        if ratio == 0.1:
            yield Abuse(
                f"a prior from {known} labels, for one picture",
                f"mean e (at most {(known + classes) / (known + 1):.3f})",
                float(np.mean(single)),
                "it is small: no other",
                float(np.mean(single)),
                (known + classes) / (known + 1),
            )
        for number, most, value in (
            ("mean E", 1.0, lambda log2_e: np.exp2(log2_e).mean()),
            ("share of E ≥ 20", 0.05, lambda log2_e: (log2_e >= math.log2(20)).mean()),
        ):
            yield Abuse(
                f"a prior from {known} labels, for {n} pictures",
                number,
                float(value(np.array(capital))),
                "ClassMaps, which need no prior",
                float(value(np.array(free))),
                most,
            )


def _own_training_pictures(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """A linear network has learned 200 pictures of noise by heart, and is tested on them."""
    n, classes, pixels = 200, 4, 300
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    x = torch.randn(2 * n, pixels, generator=generator)
    y = torch.randint(classes, (2 * n,), generator=generator)
    weights = torch.zeros(pixels, classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=50)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = torch.nn.functional.cross_entropy(x[:n] @ weights, y[:n])
        found.backward()
        return found

    optimiser.step(loss)
    q = (x @ weights).softmax(1).detach().double().numpy()[:, None]
    labels = y.numpy()
    yield Abuse(
        f"a network tested on the {n} pictures of noise that it was trained on",
        "log₂ E, largest",
        float(_free(labels[:n], q[:n]).max()),
        "other pictures",
        float(_free(labels[n:], q[n:]).max()),
        0.0,
    )


def _largest_of_many(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """49 regions that say nothing; 100 classes; a critic that puts all on one class at random."""
    label = rng.integers(0, 100, (draws // 10, 1))
    said = rng.integers(0, 100, (draws // 10, 49))
    log2_e = np.where(said == label, math.log2(100), -40.0)
    found = [bool(e_bh(row, 0.05).any()) for row in torch.from_numpy(log2_e)]
    yield Abuse(
        "the largest of 49 regions, taken as if it were the only one",
        "share of p ≤ 0.05",
        float((log2_e.max(1) >= math.log2(20)).mean()),
        "`discoveries(rate=0.05)`",
        float(np.mean(found)),
        0.05,
    )


def _labels_foretold(draws: int, rng: np.random.Generator) -> Iterator[Abuse]:
    """Sorted labels, and a share that follows the labels before: (1 − λ) π̃ᵢ + λ q."""
    n = 1000
    labels = np.sort(rng.integers(0, 2, n))
    before = np.concatenate([[0], np.cumsum(labels)[:-1]])
    guess = (before + 1) / (np.arange(n) + 2)
    guess = np.where(labels == 1, guess, 1 - guess)
    log_capital = np.log2(1 - SHARES + SHARES * 0.5 / guess[:, None]).sum(0)
    yield Abuse(
        f"{n} labels sorted by class; bets mix in the share of the labels before; q = 1/2",
        "log₂ E",
        float(np.logaddexp2.reduce(log_capital)) - 3 - math.log2(n + 1),
        "one share θ for all pictures",
        float(_free(labels, np.full((n, 1, 2), 0.5)).max()),
        0.0,
    )


def _known(pays: Floats) -> float:
    """log₂ E of bets at one place that paid so much."""
    bets = KnownPrior(1)
    bets.add(np.log2(pays)[:, None])
    return float(bets.log2_e_values()[0])


def _free(labels: Counts, q: Floats) -> Floats:
    """log₂ E of each class at one place."""
    bets = AnyPrior(q.shape[2], 1)
    bets.add(labels, np.broadcast_to(np.arange(q.shape[2]), q.shape), q)
    return bets.log2_e_values()[:, 0]


def _place(labels: Counts, q: Floats) -> float:
    """log₂ E of the place: the mean over the classes."""
    return float(log2_of_mean(_free(labels, q), 0))


_ALL: tuple[Callable[[int, np.random.Generator], Iterator[Abuse]], ...] = (
    _differences,
    _own_answers,
    _one_class,
    _chosen_by_the_picture,
    _estimated_priors,
    _own_training_pictures,
    _largest_of_many,
    _labels_foretold,
)

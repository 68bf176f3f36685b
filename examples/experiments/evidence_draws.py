# Draws in which the truth is known: how often e-values, e-BH and bets over pictures are wrong.
from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from captum_infomask import InfoMap, InfoMask, grid
from captum_infomask.scores.discoveries import e_bh

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Critic = Callable[[Floats, Floats, np.random.Generator], Floats]

CLASSES = (2, 10, 100, 1000)
ALPHAS = (0.5, 0.2, 0.1, 0.05, 0.01, 0.005, 0.001)
SIGNAL = 3.0  # an object's class stands out of the noise by so many standard deviations


def priors(classes: int) -> dict[str, Floats]:
    """Equally likely classes, and classes whose chances fall like 1/k (Zipf's law)."""
    zipf = 1 / np.arange(1, classes + 1)
    return {"uniform": np.full(classes, 1 / classes), "skewed": zipf / zipf.sum()}


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def drawn_classes(prior: Floats, shape: tuple[int, ...], rng: np.random.Generator) -> Counts:
    return np.searchsorted(prior.cumsum()[:-1], rng.random(shape), side="right")


def seen(objects: Counts, noise: Floats) -> Floats:
    """What a view of an object shows: noise for every class, and the object's class stands out."""
    shown = noise.copy()
    np.put_along_axis(
        shown, objects[..., None], np.take_along_axis(noise, objects[..., None], -1) + SIGNAL, -1
    )
    return shown


def tempered(factor: float) -> Critic:
    """A calibrated posterior about the object that is seen, its logits times a factor."""
    return lambda views, prior, _: log_softmax(factor * (np.log(prior) + SIGNAL * views))


def _one(views: Floats, classes: Counts) -> Floats:
    """All but a trace of the probability on one class."""
    found = np.full(views.shape, -40.0)
    np.put_along_axis(found, classes[..., None], 0.0, -1)
    return found


CRITICS: dict[str, Critic] = {
    "calibrated": tempered(1),
    "logits × 3": tempered(3),
    "logits ÷ 3": tempered(1 / 3),
    "always the rarest class": lambda views, prior, _: _one(
        views, np.full(views.shape[:-1], prior.argmin())
    ),
    "the inverse prior": lambda views, prior, _: np.broadcast_to(
        log_softmax(-np.log(prior)), views.shape
    ),
    "one class at random": lambda views, prior, rng: _one(
        views, rng.integers(0, len(prior), views.shape[:-1])
    ),
}


@dataclass(frozen=True)
class Null:
    """e-values of regions that say nothing about the label.

    Args:
        name: The classes, the prior and the critic.
        mean: The mean e-value.
        error: Its standard error.
        rates: How often e is 1/α or more, for each α of ``ALPHAS``.
        draws: The number of e-values.
    """

    name: tuple[int, str, str]
    mean: float
    error: float
    rates: tuple[float, ...]
    draws: int

    @property
    def holds(self) -> bool:
        """Within three standard errors of what must be."""
        allowed = (a + 3 * math.sqrt(a * (1 - a) / self.draws) for a in ALPHAS)
        return self.mean <= 1 + 3 * self.error and all(map(float.__le__, self.rates, allowed))


def null_regions(draws: int, seed: int = 0) -> Iterator[Null]:
    """A region shows an object; the label is another draw from the prior."""
    for classes in CLASSES:
        for name, prior in priors(classes).items():
            rng = np.random.default_rng([seed, classes])
            values: dict[str, list[Floats]] = {critic: [] for critic in CRITICS}
            for _ in range(10):
                n = draws // 10
                views = seen(drawn_classes(prior, (n,), rng), rng.normal(size=(n, classes)))
                label = drawn_classes(prior, (n,), rng)
                for critic, posterior in CRITICS.items():
                    told = posterior(views, prior, rng)[np.arange(n), label]
                    values[critic].append(np.exp(told - np.log(prior[label])))
            for critic, parts in values.items():
                e = np.concatenate(parts)
                rates = tuple(float((e >= 1 / a * (1 - 1e-12)).mean()) for a in ALPHAS)
                error = float(e.std(ddof=1)) / math.sqrt(len(e))
                yield Null((classes, name, critic), float(e.mean()), error, rates, len(e))


def lookup_maps(pictures: int, classes: int, seed: int = 0) -> tuple[InfoMap, torch.Tensor]:
    """InfoMaps of a network that looks its answers up: what a cell shows is a row of a table.

    Returns:
        Maps of 9 cells about the labels, and which cells show the label: the first two. The others
        show other objects.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (pictures,), generator=generator)
    cells = torch.randint(classes, (pictures, 9), generator=generator)
    cells[:, :2] = labels[:, None]
    table = torch.eye(classes) * 2 * math.log(classes)
    table += torch.randn(classes, classes, generator=generator)
    x = cells.reshape(-1, 1, 3, 3).float()
    infomask = InfoMask(lambda x: table[x.mean((1, 2, 3)).round().long()], prior="balanced")
    with warnings.catch_warnings():  # that lone parts say little, as most do here
        warnings.simplefilter("ignore", UserWarning)
        maps = infomask.score_regions(x, target=labels, view="crop", regions=grid(x, 3, 3))
    return maps, torch.arange(9) < 2


Dependence = Literal["independent", "windows", "identical"]


@dataclass(frozen=True)
class Setting:
    """Pictures whose true and false regions are known.

    Args:
        classes: M, equally likely.
        regions: R, 9 or 49.
        rate: The false discovery rate that is asked for.
        dependence: How the false regions depend: ``independent``; ``windows``, blocks of 3 × 3
            that show one object and share half of the noise's variance; or ``identical``.
        true: The share of regions that show the label's object.
        critic: A name of ``CRITICS``.
        pictures: Pictures that share the rate.
    """

    classes: int
    regions: int
    rate: float
    dependence: Dependence
    true: float
    critic: str
    pictures: int = 1


def settings() -> list[Setting]:
    """40 settings: 24 of one picture, 16 of five that share the rate."""
    kinds: tuple[Dependence, ...] = ("independent", "windows", "identical")
    critics = ("calibrated", "one class at random", "logits × 3")
    # One label of M classes is worth at most M: lower rates find nothing, and would show nothing.
    rates = {
        2: (0.5,),
        10: (0.2, 0.5, 0.1),
        100: (0.05, 0.1, 0.2, 0.5),
        1000: (0.05, 0.2, 0.1, 0.5),
    }
    one = [
        Setting(
            m, r, rates[m][k % len(rates[m])], kind, (0.0, 0.2, 0.5)[k % 3], critics[k // 2 % 3]
        )
        for k, (m, r, kind) in enumerate(product(CLASSES, (9, 49), kinds))
    ]
    # Four where nothing is true and all regions say the same: the rate is reached, not passed.
    for place, m, r, rate in (
        (2, 2, 9, 0.5),
        (8, 10, 9, 0.1),
        (11, 10, 49, 0.1),
        (17, 100, 49, 0.05),
    ):
        one[place] = Setting(m, r, rate, "identical", 0.0, "one class at random")
    several = [
        Setting(m, r, rate, kinds[k % 3], (0.1, 0.3, 0.0)[k // 2 % 3], critics[k % 2], 5)
        for k, (m, r, rate) in enumerate(product((10, 100), (9, 49), (0.05, 0.1, 0.2, 0.5)))
    ]
    return one + several


def setting_log2_e(
    setting: Setting, draws: int, rng: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """log₂ of the e-values, (draws, pictures, R), and which are true."""
    m, side, n = setting.classes, math.isqrt(setting.regions), (draws, setting.pictures)
    prior = np.full(m, 1 / m)
    label = drawn_classes(prior, n, rng)
    is_true = rng.random((*n, setting.regions)).argsort(-1) < round(setting.true * setting.regions)
    block = np.add.outer(np.arange(side) // 3 * side, np.arange(side) // 3).ravel()
    group = {
        "independent": np.arange(setting.regions),
        "windows": np.unique(block, return_inverse=True)[1].ravel(),
        "identical": np.zeros(setting.regions, np.int64),
    }[setting.dependence]
    groups = int(group.max()) + 1
    objects = drawn_classes(prior, (*n, groups), rng)[..., group]
    shared = rng.normal(size=(*n, groups, m)).astype(np.float32)
    noise = shared[..., group, :]
    if setting.dependence == "windows":
        noise = math.sqrt(0.5) * (noise + rng.normal(size=noise.shape).astype(np.float32))
    if setting.critic == "one class at random":  # of true regions it knows nine in ten
        said = rng.integers(0, m, (*n, groups))[..., group]
        log_q = np.where(said == label[..., None], 0.0, -40.0)
        of_true = np.where(rng.random(is_true.shape) < 0.9, 0.0, -40.0)
    else:
        log_q, of_true = (
            np.take_along_axis(
                CRITICS[setting.critic](views, prior, rng), label[..., None, None], -1
            )[..., 0]
            for views in (
                seen(objects, noise),
                seen(
                    np.broadcast_to(label[..., None], is_true.shape),
                    rng.normal(size=(*is_true.shape, m)).astype(np.float32),
                ),
            )
        )
    found: Floats = (np.where(is_true, of_true, log_q) + math.log(m)) / math.log(2)
    return found, is_true


@dataclass(frozen=True)
class FalseShare:
    """What e-BH, or closed e-BH, found over many draws of a setting.

    Args:
        mean: The mean share of false ones among the regions found: the false discovery rate.
        error: Its standard error.
        power: The share of the true regions that were found; NaN if there are none.
    """

    mean: float
    error: float
    power: float


def false_share(setting: Setting, draws: int, closed: bool, seed: int = 0) -> FalseShare:
    """Draw pictures and discover."""
    rng = np.random.default_rng(seed)
    shares, found_true, all_true = [], 0, 0
    for _ in range(10):  # in parts: the views of 1,000 classes are large
        log2_e, is_true = setting_log2_e(setting, draws // 10, rng)
        for values, true in zip(torch.from_numpy(log2_e), is_true, strict=True):
            found = e_bh(values, setting.rate, closed=closed).numpy()
            shares.append((found & ~true).sum() / max(int(found.sum()), 1))
            found_true += int((found & true).sum())
            all_true += int(true.sum())
    error = float(np.std(shares, ddof=1)) / math.sqrt(len(shares))
    return FalseShare(
        float(np.mean(shares)), error, found_true / all_true if all_true else math.nan
    )

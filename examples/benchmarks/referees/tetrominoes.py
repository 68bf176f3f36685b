# XAI-TRIS: a T or an L somewhere in noise, where what is right is known by construction.
#
# Clark et al. 2024, arXiv 2306.12816; patterns, places, smoothing, shares of the signal and the
# network are those of its published settings for 64 × 64 pixels. In the correlated background the
# noise beside a pattern tells about the noise upon it: pixels there suppress, and methods that
# follow the weights point at them although they say nothing about the class.
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from .cases import Case, Subject
from .measures import localisation
from .small_networks import Lab, trained

SIDE = 64
_STEPS = 600
_PICTURES = 4_000
_ASKED = 600  # whatever the number of cases: the first of them are the first of more
_PLACES = ((8, 8), (32, 40))
_T, _L = (np.array(rows, float) for rows in (((1, 0), (1, 1), (1, 0)), ((1, 0), (1, 0), (1, 1))))

# Share of the signal, by scenario and background.
SHARES = {
    "linear": {"white": 0.03, "correlated": 0.02},
    "multiplicative": {"white": 0.2, "correlated": 0.65},
    "rotated and moved": {"white": 0.575, "correlated": 0.375},
    "XOR": {"white": 0.35, "correlated": 0.15},
}
TETROMINOES = {"rank": "precision", "ap": "average precision", "mass": "mass"}

Plane = npt.NDArray[np.float64]


def measure(plane: Tensor, case: Case) -> dict[str, float]:
    """As published, of a map's magnitude: the share of the K largest pixels that are right."""
    plane, truth = plane.detach().abs().double(), case.truth
    count = int(truth.sum())
    last = plane.flatten().topk(count).values[-1]
    above, level = plane > last, plane == last
    room = (count - above.sum()) / level.sum()
    found = localisation(plane, truth)
    found["rank"] = (((above & truth).sum() + room * (level & truth).sum()) / count).item()
    return found


def pictures(
    scenario: str, background: str, count: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pictures (N, 1, 64, 64), their labels, and the pixels that are right, (N, 64, 64)."""
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=count)
    draw = _PATTERNS[scenario]
    patterns = np.stack([draw(int(label), random) for label in labels])
    noise = random.normal(0, 0.5, patterns.shape)
    if background == "correlated":
        noise = gaussian_filter(noise, (0, 10, 10))
    share = SHARES[scenario][background]
    if scenario == "multiplicative":
        made = _scaled(1 - share * patterns) * _scaled(noise)
    else:
        made = share * _scaled(patterns) + (1 - share) * _scaled(noise)
    made /= made.std()
    if scenario == "rotated and moved":
        truth = np.abs(patterns) >= 0.05
    else:  # both places tell: one by what is there, the other by what is not
        both = np.abs(_placed(_T, 8, _PLACES[0])) + np.abs(_placed(_L, 8, _PLACES[1]))
        truth = np.broadcast_to(both >= 0.05, patterns.shape).copy()
    return (
        torch.from_numpy(made).float()[:, None],
        torch.from_numpy(labels),
        torch.from_numpy(truth),
    )


def _scaled(planes: Plane) -> Plane:
    return planes / np.linalg.norm(planes)


def _placed(pattern: Plane, scale: int, place: tuple[int, int]) -> Plane:
    """A pattern at its place, blurred."""
    large = np.kron(pattern, np.ones((scale, scale)))
    plane = np.zeros((SIDE, SIDE))
    top, left = place
    plane[top : top + large.shape[0], left : left + large.shape[1]] = large
    return np.asarray(gaussian_filter(plane, 1.5))


def _fixed(label: int, random: Generator) -> Plane:
    return _placed((_T, _L)[label], 8, _PLACES[label])


def _moved(label: int, random: Generator) -> Plane:
    pattern = np.rot90((_T, _L)[label], random.integers(4))
    height, width = (SIDE - 4 * length for length in pattern.shape)
    place = int(random.integers(height + 1)), int(random.integers(width + 1))
    return _placed(pattern, 4, place)


def _xor(label: int, random: Generator) -> Plane:
    sign = random.choice((-1, 1))
    other = sign if label == 0 else -sign
    return sign * _placed(_T, 8, _PLACES[0]) + other * _placed(_L, 8, _PLACES[1])


_PATTERNS: dict[str, Callable[[int, Generator], Plane]] = {
    "linear": _fixed,
    "multiplicative": _fixed,
    "rotated and moved": _moved,
    "XOR": _xor,
}


def network() -> nn.Module:
    """The published network: four convolutions of 4 × 4, maxima between them, one linear map."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 4), (4, 8), (8, 16), (16, 32)):
        layers += [nn.Conv2d(inputs, outputs, 4, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 3 * 3, 2))


def tetrominoes(scenario: str, background: str, count: int, lab: Lab) -> Subject:
    """A network for one scenario, and pictures that it gets right."""
    name = f"{scenario}, {background}"
    file = lab.cache / f"tetrominoes-{name.replace(' ', '-').replace(',', '')}"
    fitted = trained(
        network,
        partial(_training, scenario, background, lab.count(_PICTURES)),
        lab.count(_STEPS),
        file,
    )
    shown, labels, truth = pictures(scenario, background, _ASKED, seed=1)
    with torch.no_grad():
        right = fitted(shown).argmax(1) == labels
    kept = right.nonzero()[:count, 0].tolist()
    cases = [Case(str(k), shown[k : k + 1], int(labels[k]), truth[k]) for k in kept]
    layer = fitted[10]
    return Subject("tetrominoes", name, fitted, cases, {_LAYER: layer}, _LAYER)


_LAYER = "last activation (its authors' layer)"


def _training(scenario: str, background: str, count: int) -> tuple[Tensor, Tensor]:
    shown, labels, _ = pictures(scenario, background, count, seed=0)
    return shown, labels


def subjects(count: int, lab: Lab) -> dict[str, partial[Subject]]:
    """What makes each subject, by its name."""
    return {
        f"{scenario}, {background}": partial(tetrominoes, scenario, background, count, lab)
        for scenario, backgrounds in SHARES.items()
        for background in backgrounds
    }

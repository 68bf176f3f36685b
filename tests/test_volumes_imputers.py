"""Imputers of signals (N, C, T) and volumes (N, C, D, H, W), against loops over elements."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from refused import refused
from torch import Tensor

from captum_infomask import (
    Blur,
    ConditionalPatches,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    RemoveTokens,
    UniformNoise,
)

SIDES = {1: (17,), 2: (7, 8), 3: (5, 6, 4)}
PLACES = sorted(SIDES)


def picture(places: int, n: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(places)
    return torch.randn(n, 2, *SIDES[places], generator=generator, dtype=torch.float64) * 3 + 5


def hole(places: int) -> Tensor:
    """A box in the middle that both channels hide, and a line that the second hides too."""
    hidden = torch.zeros(2, 2, *SIDES[places], dtype=torch.bool)
    hidden[(slice(None), slice(None), *(slice(1, side - 1) for side in SIDES[places]))] = True
    hidden[1, 1] = False
    hidden[(1, 1, *(side // 2 for side in SIDES[places]))] = True
    return hidden


def values_of(imputer, x: Tensor, hidden: Tensor) -> Tensor:
    (values,) = imputer.prepare((x,))(torch.arange(len(x)), (hidden,))
    return values.expand_as(x)


def everywhere(places: int) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, SIDES[places])))


def mirrored(place: int, size: int) -> int:
    """The place inside that a place outside mirrors, without repeating the border."""
    while not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


def blurred_slowly(plane: np.ndarray, sigmas: tuple[float, ...]) -> np.ndarray:
    """Each element is the mean of those around it, by a Gaussian cut off at four deviations."""
    reach = [
        min(round(4 * sigma), size - 1) for sigma, size in zip(sigmas, plane.shape, strict=True)
    ]
    found = np.zeros_like(plane)
    for place in np.ndindex(*plane.shape):
        total = weight = 0.0
        for step in itertools.product(*(range(-r, r + 1) for r in reach)):
            own = math.exp(-0.5 * sum((d / s) ** 2 for d, s in zip(step, sigmas, strict=True)))
            at = [mirrored(p + d, n) for p, d, n in zip(place, step, plane.shape, strict=True)]
            total, weight = total + own * plane[tuple(at)], weight + own
        found[place] = total / weight
    return found


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("sigma", [0.7, "each", None])
def test_blur(places, sigma):
    x = picture(places)
    given = (0.5, 0.8, 0.6)[:places] if sigma == "each" else sigma
    values = values_of(Blur(given), x, hole(places))
    short = min(SIDES[places][-2:])
    own = tuple(min(side, short) / 16 for side in SIDES[places])
    sigmas = own if given is None else given if isinstance(given, tuple) else (given,) * places
    for image, channel in itertools.product(range(2), range(2)):
        want = torch.from_numpy(blurred_slowly(x[image, channel].numpy(), sigmas))
        torch.testing.assert_close(values[image, channel], want, atol=1e-6, rtol=0)
    assert float((values - x).abs().max()) > (1 if given else 0.001)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("sigma", [1.3, "each", None])
def test_local_mean(places, sigma):
    x, hidden = picture(places), hole(places)
    given = (0.9, 1.4, 0.6)[:places] if sigma == "each" else sigma
    values = values_of(LocalMean(given), x, hidden)
    short = min(SIDES[places][-2:])
    own = tuple(min(side, short) / 16 for side in SIDES[places])
    sigmas = own if given is None else given if isinstance(given, tuple) else (given,) * places
    for image, channel in itertools.product(range(2), range(2)):
        plane, mask = x[image, channel], hidden[image, channel]
        mean = float(plane[~mask].mean())
        for place in everywhere(places):
            if not mask[place]:
                continue
            total, weight = 1e-3 * mean, 1e-3
            for other in everywhere(places):
                if not mask[other]:
                    density = math.prod(
                        math.exp(-0.5 * ((p - q) / s) ** 2) / (s * math.sqrt(2 * math.pi))
                        for p, q, s in zip(place, other, sigmas, strict=True)
                    )
                    total, weight = total + density * float(plane[other]), weight + density
            assert float(values[image, channel][place]) == pytest.approx(total / weight, abs=1e-9)


def test_few_frames_are_blurred_little_along_time():
    video = torch.rand(1, 1, 4, 32, 32)
    want = values_of(Blur((0.25, 2.0, 2.0)), video, torch.ones(1, 1, 1, 1, 1, dtype=torch.bool))
    own = values_of(Blur(), video, torch.ones(1, 1, 1, 1, 1, dtype=torch.bool))
    assert torch.equal(own, want)


@pytest.mark.parametrize("places", PLACES)
def test_noisy_linear_is_the_mean_of_neighbours(places):
    """Each hidden element equals the mean of its neighbours, by products of 1, 2 and 1."""
    x, hidden = picture(places), hole(places)
    values = torch.where(hidden, values_of(NoisyLinear(noise=0), x, hidden), x)
    for image, channel in itertools.product(range(2), range(2)):
        plane = values[image, channel]
        for place in everywhere(places):
            if not hidden[image, channel][place]:
                continue
            total = weight = 0.0
            for step in itertools.product((-1, 0, 1), repeat=places):
                at = tuple(p + d for p, d in zip(place, step, strict=True))
                inside = all(0 <= a < n for a, n in zip(at, plane.shape, strict=True))
                if any(step) and inside:
                    own = math.prod(2 if d == 0 else 1 for d in step)
                    total, weight = total + own * float(plane[at]), weight + own
            assert float(plane[place]) == pytest.approx(total / weight, abs=1e-7)


def test_noisy_linear_of_a_large_hole_in_a_volume():
    """Conjugate gradients: a linear ramp goes on under the hole."""
    ramp = torch.arange(20.0, dtype=torch.float64)
    x = (ramp[:, None, None] + 2 * ramp[:, None] - 3 * ramp).reshape(1, 1, 20, 20, 20)
    hidden = torch.zeros(1, 1, 20, 20, 20, dtype=torch.bool)
    hidden[..., 2:18, 2:18, 2:18] = True
    torch.testing.assert_close(values_of(NoisyLinear(0), x, hidden), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("imputer", [NormalNoise(), UniformNoise()], ids=["normal", "uniform"])
def test_noise_has_each_channels_own_scale(places, imputer):
    sides = (400,) if places == 1 else (8, 8, 8)
    x = torch.randn(1, 2, *sides)
    x[:, 1] = 100 + 20 * x[:, 1]
    values = values_of(imputer, x, torch.ones(1, 1, *[1] * places, dtype=torch.bool))
    for channel in range(2):
        own, drawn = x[0, channel], values[0, channel]
        if isinstance(imputer, NormalNoise):
            assert abs(float(drawn.mean() - own.mean())) < 0.2 * float(own.std())
            assert float(drawn.std() / own.std()) == pytest.approx(1, abs=0.15)
        else:
            assert bool((drawn >= own.min()).all() & (drawn <= own.max()).all())
            assert float(drawn.max() - drawn.min()) > 0.95 * float(own.max() - own.min())


@pytest.mark.parametrize("places", [1, 3])
def test_patches_come_from_another_example(places):
    x, others = picture(places), picture(places, n=6) + 0.5
    hidden = hole(places)
    values = values_of(MarginalPatches(others).draw(0, 1), x, hidden)
    assert bool((values[0] == others).flatten(1).all(1).any())
    twin = others.clone()
    border = ~hidden[0]
    twin[4][border] = x[0][border] + 0.01  # alike around the hole, and different inside
    near = values_of(ConditionalPatches(twin, neighbours=1, border=2), x[:1], hidden[:1])
    assert torch.equal(near[0], twin[4])


@pytest.mark.parametrize(
    ("words", "imputer", "x"),
    [
        (("Inpaint", "(1, 1, 8)", "Blur() or LocalMean()"), Inpaint(), torch.rand(1, 1, 8)),
        (("Inpaint", "(1, 1, 4, 4, 4)"), Inpaint(), torch.rand(1, 1, 4, 4, 4)),
        (("RemoveTokens", "(1, 1, 8)"), RemoveTokens(), torch.rand(1, 1, 8)),
        (("Blur", "(N, C, T)", "(2, 8)"), Blur(), torch.rand(2, 8)),
        (("LocalMean", "(N, C, T)", "(2, 8)"), LocalMean(), torch.rand(2, 8)),
        (("NoisyLinear", "(N, C, T)", "int64"), NoisyLinear(), torch.ones(1, 1, 8).long()),
        (("`sigma`", "each of the 1 places"), Blur((1.0, 2.0)), torch.rand(1, 1, 8)),
        (("`sigma`", "each of the 3 places"), LocalMean((1.0, 2.0)), torch.rand(1, 1, 4, 4, 4)),
    ],
)
def test_refused(words, imputer, x):
    refused(words, lambda: imputer.prepare((x,)))


@pytest.mark.parametrize("sigma", [(), (1.0, 0.0), (1.0, None), "wide"])
@pytest.mark.parametrize("kind", [Blur, LocalMean])
def test_bad_deviations_are_refused_when_made(kind, sigma):
    refused(("`sigma`",), lambda: kind(sigma))

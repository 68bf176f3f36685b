# Each imputer's own promise, against the literal equation of its docstring.
import itertools
import math
import time

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from captum_infomask import (
    Blur,
    ConditionalPatches,
    Constant,
    InfoMask,
    Inpaint,
    LocalMean,
    MarginalPatches,
    NoisyLinear,
    NormalNoise,
    UniformNoise,
)

HIDDEN = torch.zeros(1, 1, 12, 10, dtype=torch.bool)
HIDDEN[..., 3:9, 2:7] = True
HIDDEN[..., 0, 8:] = True  # at the border too
HOLES = {"some": HIDDEN, "most": ~HIDDEN}


def filled(imputer, pictures, hidden):
    (values,) = imputer.prepare((pictures,))(torch.arange(len(pictures)), (hidden,))
    return torch.where(hidden, values, pictures)


@pytest.mark.parametrize("hidden", HOLES.values(), ids=HOLES)
@pytest.mark.parametrize("sigma", [0.3, 1, 4.0])
def test_local_mean_is_the_weighted_mean_of_the_visible_pixels(sigma, hidden):
    picture = torch.rand(1, 2, 12, 10, dtype=torch.float64) * 9 - 4
    visible = [(y, x) for y, x in np.ndindex(12, 10) if not hidden[0, 0, y, x]]
    mean = sum(picture[0, :, v, u] for v, u in visible) / len(visible)
    want = picture.clone()
    for y, x in hidden[0, 0].nonzero().tolist():
        total, weight = 0.001 * mean, 0.001
        for v, u in visible:
            distance = (y - v) ** 2 + (x - u) ** 2
            density = math.exp(-distance / (2 * sigma**2)) / (2 * math.pi * sigma**2)
            total, weight = total + density * picture[0, :, v, u], weight + density
        want[0, :, y, x] = total / weight
    torch.testing.assert_close(filled(LocalMean(sigma), picture, hidden), want)


def test_nothing_is_known_of_hidden_values():
    picture = torch.rand(1, 3, 12, 10)
    other = torch.where(HIDDEN, torch.rand(1, 3, 12, 10) * 100, picture)
    for imputer in (LocalMean(), Inpaint(), Inpaint("navier_stokes"), NoisyLinear(0)):
        assert torch.equal(
            torch.where(HIDDEN, filled(imputer, picture, HIDDEN), 0),
            torch.where(HIDDEN, filled(imputer, other, HIDDEN), 0),
        )


@pytest.mark.parametrize("hidden", HOLES.values(), ids=HOLES)
def test_noisy_linear_solves_the_equations_of_the_paper(hidden):
    picture = torch.rand(1, 2, 12, 10, dtype=torch.float64)
    places = hidden[0, 0].nonzero().tolist()
    for channel in range(2):
        plane = picture[0, channel]
        system, known = (
            torch.eye(len(places), dtype=torch.float64),
            torch.zeros(len(places)).double(),
        )
        for row, (y, x) in enumerate(places):
            weights = {}
            for down, across in itertools.product((-1, 0, 1), repeat=2):
                inside = 0 <= y + down < 12 and 0 <= x + across < 10
                if inside and (down or across):
                    weights[y + down, x + across] = 1 / 12 if down and across else 1 / 6
            for (v, u), weight in weights.items():
                share = weight / sum(weights.values())
                if [v, u] in places:
                    system[row, places.index([v, u])] -= share
                else:
                    known[row] += share * plane[v, u]
        want = torch.linalg.solve(system, known)
        got = filled(NoisyLinear(0), picture, hidden)[0, channel][hidden[0, 0]]
        torch.testing.assert_close(got, want)


def test_noisy_linear_restores_a_linear_ramp():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    ramp = torch.stack([0.1 * x + 0.3 * y, -x])[None]
    inside = HIDDEN.clone()
    inside[..., 0, :] = False
    assert bool((filled(LocalMean(), ramp, inside) - ramp).abs().max() > 0.3)
    torch.testing.assert_close(filled(NoisyLinear(0), ramp, inside), ramp, atol=1e-3, rtol=0)


def test_noise_of_noisy_linear_is_a_share_of_the_pictures_deviation():
    pictures = torch.rand(2, 3, 64, 64) * torch.tensor([1.0, 50.0]).reshape(2, 1, 1, 1)
    hidden = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    hidden[..., :8, :] = False
    noise = filled(NoisyLinear(0.2), pictures, hidden) - filled(NoisyLinear(0), pictures, hidden)
    spread = noise[:, :, 8:].std((1, 2, 3)) / pictures.std((1, 2, 3))
    torch.testing.assert_close(spread, torch.full((2,), 0.2), rtol=0.05, atol=0)
    assert not noise[:, :, :8].any()


@pytest.mark.parametrize("method", ["telea", "navier_stokes"])
@pytest.mark.parametrize("radius", [1, 3, 8])
def test_inpainting_is_opencvs_on_the_whole_scaled_plane(method, radius):
    """To the last bits of float32: only the hole's surroundings are looked at, which is exact."""
    flag = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[method]
    picture = torch.rand(1, 4, 70, 60)
    hidden = torch.zeros(1, 1, 70, 60, dtype=torch.bool)
    hidden[..., 30:44, 20:28] = True
    hidden[..., 40:50, 26:33] = True
    got = filled(Inpaint(method, radius), picture * 3 - 1, hidden)
    for channel in range(4):
        plane = picture[0, channel].numpy()
        visible = plane[~hidden[0, 0].numpy()]
        low, high = visible.min(), visible.max()
        levels = 255 * (plane - low) / (high - low)
        painted = cv2.inpaint(levels, hidden[0, 0].numpy().astype(np.uint8), radius, flag)
        want = torch.from_numpy(painted.clip(0, 255) / 255 * (high - low) + low) * 3 - 1
        torch.testing.assert_close(
            got[0, channel][hidden[0, 0]], want[hidden[0, 0]], atol=2e-4, rtol=0
        )
    rounded = cv2.inpaint(
        levels.astype(np.uint8), hidden[0, 0].numpy().astype(np.uint8), radius, flag
    )
    assert np.abs(rounded - painted)[hidden[0, 0].numpy()].max() > 0.5


def test_inpainting_a_hundred_views_is_quick():
    pictures = torch.rand(10, 3, 224, 224)
    hidden = torch.zeros(10, 1, 224, 224, dtype=torch.bool)
    hidden[..., 84:140, 84:140] = True
    stand_in = Inpaint().prepare((pictures,))
    begun = time.process_time()
    for _ in range(10):
        stand_in(torch.arange(10), (hidden,))
    assert time.process_time() - begun < 2


def test_marginal_patches_take_every_picture_in_turn():
    others = torch.rand(5, 3, 12, 10)
    imputer = MarginalPatches(others)
    pictures = torch.rand(2, 3, 12, 10)
    turns = {}
    for seed in (0, 1, 2):
        shown = [filled(imputer.draw(seed, index), pictures, HIDDEN) for index in range(6)]
        turns[seed] = tuple(
            next(
                k
                for k, other in enumerate(others)
                if torch.equal(picture[0][:, 4, 4], other[:, 4, 4])
            )
            for picture in shown
        )
        assert sorted(turns[seed][:5]) == [0, 1, 2, 3, 4]
        assert turns[seed][5] == turns[seed][0]
        for picture, other in zip(shown, turns[seed], strict=False):
            assert torch.equal(picture, torch.where(HIDDEN, others[other], pictures))
    assert len(set(turns.values())) > 1


@pytest.mark.parametrize("border", [1, 2])
def test_conditional_patches_are_the_nearest_by_border(border):
    others, pictures = torch.rand(20, 3, 12, 10), torch.rand(2, 3, 12, 10)
    # The one picture's own copy is no neighbour, however near.
    others[7] = pictures[1]
    imputer = ConditionalPatches(others, neighbours=4, border=border)
    ring = [
        (y, x)
        for y, x in itertools.product(range(12), range(10))
        if not HIDDEN[0, 0, y, x]
        and HIDDEN[
            0, 0, max(y - border, 0) : y + border + 1, max(x - border, 0) : x + border + 1
        ].any()
    ]
    shown = [filled(imputer.draw(3, index), pictures, HIDDEN) for index in range(5)]
    for k, picture in enumerate(pictures):
        distances = [
            sum(float((picture - z)[:, y, x].square().sum()) for y, x in ring) for z in others
        ]
        nearest = sorted((d, number) for number, d in enumerate(distances) if (k, number) != (1, 7))
        want = {number for _, number in nearest[:4]}
        found = [
            next(
                j
                for j, z in enumerate(others)
                if torch.equal(s[k], torch.where(HIDDEN[0], z, picture))
            )
            for s in shown
        ]
        assert set(found[:4]) == want
        assert found[4] == found[0]


def test_conditional_patches_without_a_border_are_marginal():
    others, picture = torch.rand(6, 3, 12, 10), torch.rand(1, 3, 12, 10)
    everything = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    for index in range(7):
        got, want = (
            filled(imputer.draw(2, index), picture, everything)
            for imputer in (ConditionalPatches(others, neighbours=2), MarginalPatches(others))
        )
        assert torch.equal(got, want)
    # Its own copy is passed over.
    own = ConditionalPatches(torch.cat([picture, others[:1]]), neighbours=1)
    for index in range(2):
        assert torch.equal(filled(own.draw(0, index), picture, everything), others[:1])


def test_patches_read_a_loader_once_and_to_its_limit():
    others = torch.rand(10, 3, 12, 10)
    read = []

    def batches():
        for start in range(0, 10, 4):
            read.append(start)
            yield others[start : start + 4]

    assert torch.equal(MarginalPatches(batches(), limit=6).images, others[:6])
    assert read == [0, 4]
    labelled = DataLoader(TensorDataset(others, torch.zeros(10).long()), batch_size=3)
    assert torch.equal(ConditionalPatches(labelled).images, others)


def test_noise_has_the_distribution_that_is_asked_for():
    pictures = (
        torch.rand(2, 2, 100, 100) * torch.tensor([[1.0, 20.0], [5.0, 0.1]])[:, :, None, None]
    )
    everything = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    even, bell = (
        filled(imputer, pictures, everything) for imputer in (UniformNoise(), NormalNoise())
    )
    for statistic in (torch.mean, torch.std):
        ratio = statistic(bell, (2, 3)) / statistic(pictures, (2, 3))
        torch.testing.assert_close(ratio, torch.ones(2, 2), atol=0.03, rtol=0)
    torch.testing.assert_close(even.amin((2, 3)), pictures.amin((2, 3)), atol=1e-2, rtol=0)
    assert bool((even.amax((2, 3)) / pictures.amax((2, 3)) > 0.99).all())
    assert bool((even.amax((2, 3)) <= pictures.amax((2, 3))).all())
    # A normal distribution has 68 % within one deviation, an even one 58 %.
    for values, share in ((bell, 0.683), (even, 0.577)):
        flat = values.flatten(2)
        inside = (flat - flat.mean(2, keepdim=True)).abs() < flat.std(2, keepdim=True)
        torch.testing.assert_close(
            inside.float().mean(2), torch.full((2, 2), share), atol=0.03, rtol=0
        )
    given = filled(UniformNoise(3, 5), pictures, everything)
    assert 3 <= float(given.min()) < 3.01
    assert 4.99 < float(given.max()) <= 5


def test_noise_takes_inputs_of_any_shape_and_number():
    inputs = torch.rand(3, 400) * 7, torch.rand(3, 2, 200) - 5
    everything = torch.ones(1, 1, dtype=torch.bool)
    stand_in = NormalNoise().draw(1, 2).prepare(inputs)
    first, second = stand_in(torch.arange(3), (everything, everything[None]))
    assert (first.shape, second.shape) == (inputs[0].shape, inputs[1].shape)
    torch.testing.assert_close(second.mean((1, 2)), inputs[1].mean((1, 2)), atol=0.05, rtol=0)
    share = (first - first.mean(1, keepdim=True))[0] / first[0].std()
    other = (second - second.mean((1, 2), keepdim=True))[0].flatten() / second[0].std()
    assert abs(float((share * other).mean())) < 0.2


def test_blur_is_the_gaussian():
    """Far from borders: a point becomes the product of two normal densities."""
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    blurred = Blur(2.0).prepare((point,)).pictures[0][0, 0]
    offsets = torch.arange(-20, 21).float()
    density = (-(offsets**2) / 8).exp()
    want = torch.outer(density, density) / density.sum() ** 2
    torch.testing.assert_close(blurred, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "baselines",
    [0.5, torch.full((1, 3, 12, 10), 0.5), torch.full((2, 3, 12, 10), 0.5), (0.5,), 1],
    ids=["number", "one picture", "per picture", "tuple", "int"],
)
def test_baselines_in_every_form(net, baselines):
    pictures = torch.rand(2, 3, 12, 10, dtype=torch.float64)
    options = {
        "target": 1,
        "view": "drop",
        "sliding_window_shapes": (3, 4, 5),
        "strides": (3, 4, 5),
    }
    got = InfoMask(net).attribute(pictures, baselines, **options)
    value = 1.0 if isinstance(baselines, int) else 0.5
    want = InfoMask(net).attribute(pictures, imputer=Constant(value), **options)
    torch.testing.assert_close(got, want)
    assert bool((want - InfoMask(net).attribute(pictures, **options)).abs().max() > 1e-3)

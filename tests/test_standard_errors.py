"""Standard errors and intervals of draws, samples and crops at random, against exact values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from over_seeds import DRAWS, check, over_seeds
from scipy.stats import t as student
from tiny import Net, images

from captum_infomask import (
    ArgumentError,
    Constant,
    InfoMap,
    InfoMask,
    Score,
    UniformNoise,
    grid,
)
from captum_infomask.imputers import MarginalPatches
from captum_infomask.scores.readings import Draws, Samples

LEVELS = (-1.0, 0.2, 0.7, 1.6)


def level(seed, index):
    return float(np.random.default_rng((seed, index)).choice(LEVELS))


@dataclass(frozen=True)
class Levels:
    """Each draw hides pixels behind a level of a list, independent of all other draws."""

    def prepare(self, inputs):
        return self.draw(0, 0).prepare(inputs)

    def draw(self, seed, index):
        return Constant(level(seed, index))


def network(x):
    """Three classes; each pixel of the picture (N, 1, 1, 2) counts, and their product."""
    a, b = x.flatten(1).double().unbind(1)
    return torch.stack([a + 0.3 * b + 1.2 * a * b, 0.5 * b - a, 0.2 * a], dim=1)


PICTURE = torch.tensor([[[[0.9, 0.4]]]], dtype=torch.float64)


def bits(pixels, y):
    """log2 of the mean of p(y | v) over pictures v, less log2 of 1/3."""
    pictures = torch.tensor(pixels, dtype=torch.float64).reshape(-1, 1, 1, 2)
    return math.log2(float(network(pictures).softmax(1)[:, y].mean())) + math.log2(3)


def exact(view, y=0):
    """The scores of both pixels over all levels."""
    kept = [bits([(0.9, v) for v in LEVELS], y), bits([(v, 0.4) for v in LEVELS], y)]
    if view == "drop":
        return [bits([(0.9, 0.4)], y) - without for without in reversed(kept)]
    return [own - bits([(v, v) for v in LEVELS], y) for own in kept]


@pytest.mark.parametrize("view", ["keep", "drop"])
def test_errors_of_draws_are_those_of_other_seeds(view):
    options = {"view": view, "imputer": Levels(), "n_samples": DRAWS}
    check(over_seeds(network, PICTURE, grid(PICTURE, 1, 2), **options), exact(view))


def test_draws_of_a_view_and_its_blank_are_paired():
    """Both are hidden behind the same level: squares of two errors would not add."""
    options = {"view": "keep", "imputer": Levels(), "regions": grid(PICTURE, 1, 2)}
    infomask = InfoMask(network)
    paired = infomask.score_regions(PICTURE, target=0, n_samples=400, **options)
    alone = infomask.score_regions(PICTURE, target=0, n_samples=400, reference="prior", **options)
    levels = [level(0, k) for k in range(400)]
    shown, blank = (
        network(torch.tensor(pixels, dtype=torch.float64).reshape(-1, 1, 1, 2)).softmax(1)[:, 0]
        for pixels in ([(0.9, v) for v in levels], [(v, v) for v in levels])
    )
    share = shown / shown.mean() - blank / blank.mean()
    error = float(share.std()) / math.sqrt(400) / math.log(2)
    assert float(paired.standard_errors[0, 0]) == pytest.approx(error, abs=1e-12)
    of_blank = float((blank / blank.mean()).std()) / math.sqrt(400) / math.log(2)
    in_squares = math.hypot(float(alone.standard_errors[0, 0]), of_blank)
    assert abs(in_squares / error - 1) > 0.2
    assert float(paired.spread[0, 0]) == pytest.approx(
        float((shown / blank).log2().std()), abs=1e-12
    )


def test_a_contrast_is_read_in_the_same_draws():
    options = {"view": "drop", "imputer": Levels(), "n_samples": DRAWS, "contrast": 1}
    wanted = np.subtract(exact("drop", 0), exact("drop", 1))
    check(over_seeds(network, PICTURE, grid(PICTURE, 1, 2), **options), wanted)


@pytest.mark.parametrize("head", ["logits", "raw"])
@pytest.mark.parametrize("unit", ["bits", "nats"])
def test_intervals_of_draws_cover_the_exact_value(head, unit):
    """Each of many views is a mean over draws of its own."""
    views, generator = 4000, torch.Generator().manual_seed(0)
    account = Draws(Score(head=head, unit=unit), views)
    table = torch.zeros(views, 1, dtype=torch.long)
    choices = torch.tensor([[1.0, 0.0], [-1.5, 0.2], [0.4, 0.3]], dtype=torch.float64)
    for _ in range(DRAWS):
        drawn = torch.randint(3, (views,), generator=generator)
        account.add(torch.arange(views), choices[drawn], table)
    found = account.reading()
    nats = math.log(2) if unit == "bits" else 1.0
    wanted = float(choices.softmax(1)[:, 0].mean().log() + math.log(2)) / nats
    if head == "raw":
        wanted = float(choices[:, 0].mean()) / nats
    width = student.ppf(0.975, DRAWS - 1) * found.standard_errors
    covered = float(((found.information - wanted).abs() <= width).double().mean())
    assert 0.92 < covered < 0.98
    rms = float(found.standard_errors.square().mean().sqrt())
    assert rms == pytest.approx(float(found.information.std()), rel=0.06)


def test_draws_with_tiny_probabilities_have_errors():
    """p of 2^-2000 is 0 in floating point; its error relative to its mean is not."""
    account = Draws(Score(head="log_probs", unit="nats", prior=None), 1)
    table = torch.zeros(1, 1, dtype=torch.long)
    for log_p in (-1386.0, -1386.0 + math.log(3)):
        account.add(torch.tensor([0]), torch.tensor([[log_p, 0.0]], dtype=torch.float64), table)
    # Shares 1/2 and 3/2 of the mean: their deviation is sqrt(1/2), over sqrt(2).
    assert float(account.reading().standard_errors) == pytest.approx(0.5, abs=1e-9)


class Coin:
    """A network that adds a level to class 0 for half of its examples, by PyTorch's generator."""

    def __init__(self, forward, level=1.5):
        self.forward, self.level = forward, level

    def __call__(self, x):
        heads = torch.rand(len(x), 1) < 0.5
        return self.forward(x) + heads * torch.tensor([self.level, 0.0, 0.0], dtype=torch.float64)


def mean_bits(pixels, contrast=None):
    """E[log2 p(0 | v)/π], or E[log2 p(0 | v)/p(contrast | v)], over both sides of the coin."""
    logits = network(torch.tensor(pixels, dtype=torch.float64).reshape(1, 1, 1, 2))
    log_p = torch.stack([logits, logits + torch.tensor([1.5, 0.0, 0.0])]).log_softmax(-1)
    value = (
        log_p[..., 0] + math.log(3) if contrast is None else log_p[..., 0] - log_p[..., contrast]
    )
    return float(value.mean()) / math.log(2)


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        ("keep", mean_bits((0.9, 0.0)) - mean_bits((0.0, 0.0))),
        ("drop", mean_bits((0.9, 0.4)) - mean_bits((0.0, 0.4))),
    ],
)
def test_errors_of_samples_are_those_of_other_seeds(view, wanted):
    """Views are sampled in passes of their own, so squares of two errors add."""
    regions = grid(PICTURE, 1, 2)
    found = over_seeds(Coin(network), PICTURE, regions, view=view, n_samples=DRAWS)
    check([part[:, :1] for part in found], [wanted])


@pytest.mark.parametrize(("contrast", "other"), [(1, 1), ("runner_up", 2)])
def test_the_error_of_a_sampled_contrast_is_enough(contrast, other):
    """For `drop` the whole picture's error is at most the sum of both classes' errors."""
    options = {"view": "drop", "n_samples": DRAWS, "contrast": contrast}
    scores, errors, low, high = over_seeds(
        Coin(network), PICTURE, grid(PICTURE, 1, 2), seeds=120, **options
    )
    ratio = errors.square().mean(0).sqrt() / scores.std(0)
    assert bool(((ratio > 0.9) & (ratio < 1.5)).all())
    wanted = mean_bits((0.9, 0.4), other) - mean_bits((0.0, 0.4), other)
    assert float(((low <= wanted) & (wanted <= high))[:, 0].double().mean()) >= 0.92


def test_errors_of_samples_are_stable_far_from_0():
    account = Samples(Score(head="raw", unit="nats"), 2)
    table = torch.zeros(2, 1, dtype=torch.long)
    for value in (1.0, 2.0, 4.0):
        output = torch.tensor([[1e9 + value, 0.0], [-value, 0.0]], dtype=torch.float64)
        account.add(torch.arange(2), output, table)
    wanted = float(np.std([1, 2, 4], ddof=1)) / math.sqrt(3)
    found = account.reading()
    assert found.standard_errors.tolist() == pytest.approx([wanted, wanted], rel=1e-6)


@pytest.mark.parametrize("n_samples", [1, 2])
def test_one_draw_or_sample_has_no_error(n_samples):
    x = images().double()
    net, regions = Net().double(), grid(images(), 2, 2)
    drawn = InfoMask(net).score_regions(
        x, target=1, view="drop", imputer=UniformNoise(), n_samples=n_samples, regions=regions
    )
    sampled = InfoMask(lambda x: net(x) + torch.randn(len(x), 1) * torch.arange(5)).score_regions(
        x, target=1, view="drop", n_samples=n_samples, regions=regions
    )
    for infomap in (drawn, sampled):
        parts = (infomap.standard_errors, *infomap.interval())
        assert all(bool(part.isnan().all() if n_samples == 1 else part.isfinite().all())
                   for part in parts)  # fmt: skip
    assert drawn.lower is None
    assert sampled.spread is None


def test_pictures_that_are_taken_once_have_at_most_the_error():
    """With each of four pictures taken once, all seeds agree; errors are those of four of many."""
    x = images(1).double()
    options = {
        "view": "drop", "imputer": MarginalPatches(images(4, seed=3).double()), "n_samples": 2,
    }  # fmt: skip
    infomask, regions = InfoMask(Net().double()), grid(x, 2, 2)
    found = [
        infomask.score_regions(x, target=1, regions=regions, seed=seed, **options)
        for seed in range(60)
    ]
    scores = torch.cat([one.scores for one in found])
    errors = torch.cat([one.standard_errors for one in found])
    ratio = errors.square().mean(0).sqrt() / scores.std(0)
    # Two of four: the error over seeds is smaller by the finite population's sqrt(1 - 2/4).
    assert bool((ratio > 1.15).all())
    assert bool((ratio < 1.8).all())


def test_classes_have_the_errors_of_their_own_maps():
    x = images().double()
    infomask, options = InfoMask(Net().double()), {"regions": grid(images(), 2, 2)}
    for more in ({"crop_jitter": 0.3}, {"view": "keep", "imputer": UniformNoise(-2, 2)}):
        maps = infomask.score_classes(x, classes=[3, 0, 1], **options, **more)
        for k, target in enumerate((3, 0, 1)):
            alone = infomask.score_regions(x, target=target, **options, **more)
            for found in (maps.rank(k), maps.of_class(target)):
                torch.testing.assert_close(found.standard_errors, alone.standard_errors)
                torch.testing.assert_close(found.interval(), alone.interval())
    gain = infomask.score_classes(x, view="drop", imputer=UniformNoise(-2, 2), **options)
    assert bool((gain.information_gain().standard_errors > 0).all())


@pytest.mark.parametrize("view", ["crop", "keep", "drop", "features", "evidence", "relay"])
def test_what_is_not_random_has_no_error(view):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 3),
    ).eval()  # fmt: skip
    x = images()
    infomap = InfoMask(net).score_regions(x, target=1, view=view, regions=grid(x, 2, 2))
    assert infomap.standard_errors is None
    with pytest.raises(ArgumentError, match=rf"random imputer.*crop_jitter=.*got view='{view}'"):
        infomap.interval()


def test_errors_are_kept_in_files_parts_and_tables(tmp_path):
    x = images().double()
    infomap = InfoMask(Net().double()).score_regions(
        x, target=1, regions=[grid(x, 2, 2), grid(x, 1, 2)], crop_jitter=0.3
    )
    infomap.save(tmp_path / "map.safetensors")
    again = InfoMap.load(tmp_path / "map.safetensors")
    assert torch.equal(again.standard_errors, infomap.standard_errors)
    assert torch.equal(again.interval(0.9)[0], infomap.interval(0.9)[0])
    assert torch.equal(infomap.to("cpu")[1].standard_errors, infomap.standard_errors[1:])
    fine, coarse = infomap.scales()
    both = torch.cat([fine.standard_errors, coarse.standard_errors], 1)
    assert torch.equal(both, infomap.standard_errors)
    table = infomap.to_pandas()
    assert np.array_equal(table.standard_error, infomap.standard_errors.flatten())
    half = (infomap.interval()[1] - infomap.interval()[0]) / 2
    torch.testing.assert_close(half, student.ppf(0.975, 7) * infomap.standard_errors)

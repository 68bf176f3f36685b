# Deletion and insertion: closed forms, a slow walk, and pytorch-grad-cam and Quantus on the way.
import itertools
import math

import numpy as np
import pytest
import torch
from metric_samples import Linear, sample
from refused import refused
from state import unchanged

from captum_infomask import Deletion, Insertion
from captum_infomask.evaluation import network_metrics
from captum_infomask.evaluation.metric_protocol import Metric

SHAPE = (4, 6)


def weights(seed=0):
    """Positive, of sum 0.8, all different."""
    drawn = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.8 * drawn / drawn.sum()


def literal_walk(network, inputs, fill, plane, target, steps, *, insert):
    """p(target) on the way, one picture and one group of equal pixels at a time."""
    places = list(np.ndindex(*plane.shape))
    picture = (fill if insert else inputs).clone()
    walk = []  # pixels that are changed, and p(target)
    for value in [math.inf, *sorted(set(plane.flatten().tolist()), reverse=True)]:
        for i, j in places:
            if plane[i, j] == value:
                picture[0, :, i, j] = (inputs if insert else fill)[0, :, i, j]
        logits = network(picture)[0].tolist()
        count = sum(float(plane[place]) >= value for place in places)
        walk.append((count, math.exp(logits[target]) / sum(map(math.exp, logits))))
    counts, said = zip(*walk, strict=True)
    curve = [float(np.interp(len(places) * k // steps, counts, said)) for k in range(steps + 1)]
    area = sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / steps
    return area, curve


def test_linear_networks_have_closed_forms():
    w = weights()
    ranked = sorted(w.flatten().tolist(), reverse=True)
    made = sample(w, Linear(w))
    # The pixel of rank r stays through r whole steps of deletion, and half of the next.
    kept = sum(value * (rank + 0.5) for rank, value in enumerate(ranked)) / w.numel()
    assert Deletion(w.numel())(made).value == pytest.approx(0.1 + kept, abs=1e-12)
    put_back = 0.1 + 0.8 - kept
    assert Insertion(w.numel())(made).value == pytest.approx(put_back, abs=1e-12)
    assert put_back - (0.1 + kept) > 0.1
    worst = sample(-w, Linear(w))
    assert Deletion(w.numel())(worst).value == pytest.approx(put_back, abs=1e-12)
    assert Insertion(w.numel())(worst).value == pytest.approx(0.1 + kept, abs=1e-12)


def test_equal_weights_give_a_straight_line():
    w = torch.full(SHAPE, 0.8 / 24, dtype=torch.float64)
    for steps in (1, 3, 8, 24):
        deleted, inserted = (
            Deletion(steps)(sample(w, Linear(w))),
            Insertion(steps)(sample(w, Linear(w))),
        )
        line = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        torch.testing.assert_close(deleted.curve, line, rtol=0, atol=1e-12)
        torch.testing.assert_close(inserted.curve, line.flip(0), rtol=0, atol=1e-12)
        assert deleted.value == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 5, 24, 32, 100])
def test_walks_are_the_slow_ones(net, steps):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(1, 3, *SHAPE, generator=generator, dtype=torch.float64)
    fill = torch.randn(1, 3, *SHAPE, generator=generator, dtype=torch.float64)
    plane = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    plane[1] = plane[0, 0]
    plane[2, :2] = plane[3, :2] = -10
    made = sample(plane, net, inputs=inputs, fill=fill, target=2)
    for metric in (Deletion(steps), Insertion(steps)):
        area, curve = literal_walk(
            net, inputs, fill, plane, 2, steps, insert=metric.name == "insertion"
        )
        found = metric(made)
        torch.testing.assert_close(found.curve.tolist(), curve, rtol=0, atol=1e-12)
        assert found.value == pytest.approx(area, abs=1e-12)
        assert found.curve.dtype == torch.float64
        assert max(curve) - min(curve) > 0.05


def test_equal_pixels_have_no_order():
    w = torch.zeros(SHAPE, dtype=torch.float64)
    w[0] = 0.8 / 6
    flat = Linear(w)
    line = Deletion(4)(sample(torch.ones(SHAPE), flat)).curve
    assert line.tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1], abs=1e-12)
    assert flat.seen == [2]
    # Twelve pixels first, that hold half of the weight: two straight lines.
    halves = torch.zeros(SHAPE)
    halves[:, :3] = 1
    curve = Insertion(8)(sample(halves, Linear(torch.where(halves > 0, w * 2 / 3, w * 4 / 3))))
    steps = [0.1 + 0.8 / 3 * k / 4 for k in range(5)]
    steps += [0.1 + 0.8 / 3 * (1 + 2 * k / 4) for k in range(1, 5)]
    assert curve.curve.tolist() == pytest.approx(steps, abs=1e-12)


@pytest.mark.parametrize("kind", [Deletion, Insertion])
def test_a_picture_turned_with_its_map_keeps_its_walk(kind):
    generator = torch.Generator().manual_seed(3)
    w = weights(3)
    plane = torch.randint(0, 3, SHAPE, generator=generator).double()
    found = kind(7)(sample(plane, Linear(w)))
    for turned in (lambda x: x.flip(0), lambda x: x.flip(1), lambda x: x.rot90(), lambda x: x.T):
        again = kind(7)(sample(turned(plane), Linear(turned(w))))
        torch.testing.assert_close(again.curve, found.curve, rtol=0, atol=1e-12)
    other = kind(7)(sample(plane, Linear(w.flip(1))))
    assert (other.curve - found.curve).abs().max() > 1e-3


def test_few_pictures_at_a_time_and_nothing_is_changed(net, monkeypatch):
    monkeypatch.setattr(network_metrics, "default_views", lambda elements, device: 5)
    w = weights()
    network = Linear(w)
    Deletion(32)(sample(w, network))
    assert sum(network.seen) == 25  # no picture twice
    assert max(network.seen) == 5
    net.train()
    inputs = torch.randn(1, 3, *SHAPE, dtype=torch.float64)
    made = sample(w, net, inputs=inputs)
    with unchanged(net, inputs, made.plane, made.fill):
        found = Insertion(4)(made)
    assert not found.curve.requires_grad


def test_networks_that_draw_are_drawn_by_the_seed():
    def noisy(pictures):
        return torch.randn(len(pictures), 2, dtype=torch.float64)

    plane = weights()
    first, again, other = (Deletion(4)(sample(plane, noisy, seed=seed)).value for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("share", [10, 25, 50, 75, 90])
def test_pytorch_grad_cam_says_the_same(net, share):
    confidence = pytest.importorskip("pytorch_grad_cam.metrics.perturbation_confidence")
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(1, 3, 10, 10, generator=generator, dtype=torch.float64)
    fill = torch.randn(1, 3, 10, 10, generator=generator, dtype=torch.float64)
    plane = torch.rand(10, 10, generator=generator, dtype=torch.float64)

    def impute(picture, kept):
        return torch.where(kept > 0, picture, fill[0])

    theirs = confidence.PerturbationConfidenceMetric(
        confidence.RemoveMostRelevantFirst(100 - share, impute)
    )(
        inputs,
        plane.numpy()[None],
        [lambda logits: logits.softmax(-1)[1]],
        net,
        return_diff=False,
    )
    ours = Deletion(20)(sample(plane, net, inputs=inputs, fill=fill, target=1))
    assert float(ours.curve[share // 5]) == pytest.approx(float(theirs[0]), abs=1e-6)
    assert abs(float(ours.curve[share // 5] - ours.curve[0])) > 1e-3


def test_quantus_says_the_same(net):
    quantus = pytest.importorskip("quantus")
    generator = torch.Generator().manual_seed(2)
    inputs = torch.rand(1, 1, 8, 8, generator=generator)
    plane = torch.rand(8, 8, generator=generator)
    flipping = quantus.PixelFlipping(
        features_in_step=8, normalise=False, perturb_baseline=0.0, disable_warnings=True
    )
    # Quantus flips numbers, not pixels: they are the same where there is one channel.
    grey = torch.nn.Sequential(_Spread(), net.float()).eval()
    ours = Deletion(8)(sample(plane, grey, inputs=inputs, target=1)).curve
    (theirs,) = flipping(
        grey, inputs.numpy(), np.array([1]), plane[None, None].numpy(), channel_first=True
    )
    np.testing.assert_allclose(ours[1:].numpy(), theirs, rtol=0, atol=1e-6)
    assert np.ptp(theirs) > 1e-2


class _Spread(torch.nn.Module):
    """One channel to three."""

    def forward(self, x):
        return x.expand(-1, 3, -1, -1) * torch.tensor([1.0, -0.5, 2.0])[:, None, None]


@pytest.mark.parametrize("kind", [Deletion, Insertion])
def test_settings(kind):
    for steps in (0, -1, 2.0, True, None, "8"):
        refused(("`steps`", "at least 1"), lambda steps=steps: kind(steps))
    metric = kind(16)
    assert isinstance(metric, Metric)
    assert "16 equal steps" in metric.note
    assert "1806.07421" in metric.note
    assert "fill" in metric.note
    assert not metric.needs_truth
    assert metric == kind(16) != kind(17)

# Signals and volumes whose exact bits are known: a network that is Bayes' rule must give them.
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captum_infomask import InfoMask

NOISE, CLASSES = 0.8, 3


def bayes_network(means, conv):
    """One convolution over everything: log p(x | y) of noise around means (K, ...), up to a sum."""
    network = nn.Sequential(conv(1, len(means), tuple(means.shape[1:])), nn.Flatten()).double()
    with torch.no_grad():
        network[0].weight[:, 0] = means / NOISE**2
        network[0].bias[:] = -means.flatten(1).square().sum(1) / (2 * NOISE**2)
    return network.eval()


def log_posterior(x, means, prior, shown):
    """log p(y | x_S) of the shown elements S: (N, K), by Bayes' rule."""
    away = (x[:, 0, None] - means).square() / (2 * NOISE**2)
    return (prior.log() - (away * shown).flatten(2).sum(2)).log_softmax(1)


@pytest.fixture(
    params=[(nn.Conv1d, (24,), (4,)), (nn.Conv3d, (6, 8, 4), (3, 4, 2))], ids=["1d", "3d"]
)
def world(request):
    """Means of classes that differ in one part each, the network, the examples, the windows."""
    conv, sizes, part = request.param
    generator = torch.Generator().manual_seed(0)
    means = torch.zeros(CLASSES, *sizes, dtype=torch.float64)
    corner = [slice(0, size) for size in part]
    far = [slice(-size, None) for size in part]
    means[(1, *corner)] = 0.5
    means[(2, *far)] = -0.4
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    labels = torch.arange(12) % CLASSES
    noise = torch.randn(12, *sizes, generator=generator, dtype=torch.float64)
    x = (means[labels] + NOISE * noise)[:, None]
    network = bayes_network(means, conv)
    with torch.no_grad():
        network[0].bias += prior.log()
    # In the middle between two means, a hidden part speaks for neither.
    nothing = (means.amin(0) + means.amax(0)) / 2
    windows = {"sliding_window_shapes": (1, *part), "strides": (1, *part)}
    return network, x, labels, means, prior, nothing, windows


def parts_of(infomap):
    """Which elements lie in each region: (R, ...)."""
    for region in range(len(infomap.regions)):
        (mask,) = infomap.regions.masks(
            torch.tensor([0]), torch.tensor([region]), torch.device("cpu")
        )
        yield mask[0, 0].expand(infomap.regions.shapes[0][1:]).double()


@pytest.mark.parametrize("view", ["drop", "keep"])
def test_bits_are_those_of_bayes_rule(world, view):
    network, x, labels, means, prior, nothing, windows = world
    reference = {"reference": "prior"} if view == "keep" else {}
    infomap = InfoMask(network, prior=prior.tolist()).score_regions(
        x, target=labels, view=view, baselines=nothing[None, None], **reference, **windows
    )
    rows = torch.arange(len(x))
    whole = log_posterior(x, means, prior, torch.ones_like(nothing))
    known = []
    for part in parts_of(infomap):
        shown = log_posterior(x, means, prior, 1 - part if view == "drop" else part)
        bits = whole - shown if view == "drop" else shown - prior.log()
        known.append(bits[rows, labels] / np.log(2))
    torch.testing.assert_close(infomap.scores.double(), torch.stack(known, 1), atol=1e-5, rtol=0)
    total = (whole - prior.log())[rows, labels] / np.log(2)
    torch.testing.assert_close(infomap.total.double(), total, atol=1e-5, rtol=0)


def test_the_map_lies_where_the_classes_differ_and_so_does_the_figure(world):
    network, x, labels, means, prior, nothing, windows = world
    infomap = InfoMask(network, prior=prior.tolist()).score_regions(
        x, target=1, view="drop", baselines=nothing[None, None], **windows
    )
    differs = means.amin(0) < means.amax(0)
    bits = infomap.attributions()[:, 0]
    assert float(bits[:, ~differs].abs().max()) < 1e-6
    assert float(bits[:, differs].abs().amin(1).max()) > 0.1
    k = int(labels.tolist().index(1))
    figure, axes = infomap.figure(x[k], k)
    values = bits[k].numpy()
    peak = np.abs(values).max()
    if values.ndim == 1:
        words = axes.texts[0].get_text()
        assert words.endswith("bits, the peak")
        assert abs(float(words.split()[0].replace("−", "-"))) == pytest.approx(peak, rel=0.05)
    else:
        titles = [panel.get_title("left").split() for panel in figure.axes[:3]]
        assert abs(values[tuple(int(words[2]) for words in titles)]) == pytest.approx(peak)

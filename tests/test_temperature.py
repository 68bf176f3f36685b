# Fitted temperatures: against a search over the literal likelihood, and what can go wrong.
from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from refused import refused
from state import unchanged
from tiny import Net, images as tiny_images
from torch import nn

from captum_infomask import InfoMask, fit_temperature

SKEWED = [0.5, 0.3, 0.2]


def identity(x):
    return x


def logits_and_labels(true_temperature=1.0, offset=None, n=4000, classes=3, seed=0):
    """Logits that are `true_temperature` times too large for the labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    posterior = (logits if offset is None else logits + offset).softmax(1)
    labels = torch.multinomial(posterior, 1, generator=generator)[:, 0]
    return true_temperature * logits, labels


def literal_nll(rows, labels, temperature, prior=None):
    """Mean negative log-likelihood in nats, one Python float at a time."""
    total = 0.0
    for row, y in zip(rows, labels, strict=True):
        values = [f / temperature + (math.log(prior[k]) if prior else 0) for k, f in enumerate(row)]
        top = max(values)
        total -= values[y] - top - math.log(sum(math.exp(v - top) for v in values))
    return total / len(rows)


def golden_section(function, low, high):
    """The minimum of a function with one minimum, between two numbers on a logarithmic scale."""
    a, b = math.log(low), math.log(high)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        if function(math.exp(c)) < function(math.exp(d)):
            b = d
        else:
            a = c
    return math.exp((a + b) / 2)


@pytest.mark.parametrize("trained_with", ["cross_entropy", "pc_softmax"])
def test_temperature_minimises_the_literal_likelihood(trained_with):
    prior = SKEWED if trained_with == "pc_softmax" else None
    logits, labels = logits_and_labels(
        2.5, None if prior is None else torch.tensor(prior).log(), 300
    )
    fitted = fit_temperature(identity, [(logits, labels)], prior=prior, trained_with=trained_with)
    rows, classes = logits.tolist(), labels.tolist()
    want = golden_section(lambda t: literal_nll(rows, classes, t, prior), 0.5, 10)
    assert float(fitted) == pytest.approx(want, rel=1e-4)
    assert fitted.nll_before == pytest.approx(literal_nll(rows, classes, 1.0, prior), abs=1e-9)
    assert fitted.nll_after == pytest.approx(literal_nll(rows, classes, want, prior), abs=1e-9)
    assert fitted.nll_before - fitted.nll_after > 0.1
    if prior is not None:
        assert abs(want - golden_section(lambda t: literal_nll(rows, classes, t), 0.5, 10)) > 0.05


@pytest.mark.parametrize("true", [1e-4, 0.3, 1.0, 3.0, 1e4])
def test_any_scale_of_logits_is_undone(true):
    logits, labels = logits_and_labels(true)
    fitted = fit_temperature(identity, [(logits, labels)])
    assert fitted.temperature / true == pytest.approx(1, abs=0.06)
    scaled = fit_temperature(identity, [(7 * logits, labels)])
    assert scaled.temperature == pytest.approx(7 * fitted.temperature, rel=1e-6)


def test_batches_and_their_sizes_make_no_difference():
    logits, labels = logits_and_labels(2.0, n=1000)
    whole = fit_temperature(identity, [(logits, labels)])
    parts = list(zip(logits.split(300), labels.split(300), strict=True))
    assert float(fit_temperature(identity, parts)) == pytest.approx(float(whole), rel=1e-9)
    assert whole.count == 1000


def test_heads_agree():
    logits, labels = logits_and_labels(2.0, classes=2)
    want = float(fit_temperature(identity, [(logits, labels)]))
    for head, output in {
        "log_probs": logits.log_softmax(1),
        "probs": logits.softmax(1),
        "sigmoid": logits[:, 1:] - logits[:, :1],
    }.items():
        assert float(fit_temperature(identity, [(output, labels)], head=head)) == pytest.approx(
            want, rel=1e-5
        )
    flat = logits[:, 1] - logits[:, 0]
    assert float(fit_temperature(identity, [(flat, labels)], head="sigmoid")) == pytest.approx(want)
    assert abs(want - 1) > 0.5


def test_calibration_error_and_bins_are_their_definitions():
    logits, labels = logits_and_labels(3.0, n=2000)
    fitted = fit_temperature(identity, [(logits, labels)], bins=8)
    for found, temperature in ((fitted.before, 1.0), (fitted.after, float(fitted))):
        rows = [[] for _ in range(8)]
        for row, y in zip((logits / temperature).softmax(1).tolist(), labels.tolist(), strict=True):
            top = max(row)
            rows[min(int(top * 8), 7)].append((top, row.index(top) == y))
        assert found.count.tolist() == [len(row) for row in rows]
        error = 0.0
        for k, row in enumerate(rows):
            if not row:
                assert np.isnan(found.accuracy[k])
                continue
            confidence, accuracy = (sum(column) / len(row) for column in zip(*row, strict=True))
            assert found.confidence[k] == pytest.approx(confidence, abs=1e-6)
            assert found.accuracy[k] == pytest.approx(accuracy, abs=1e-6)
            error += abs(confidence - accuracy) * len(row) / 2000
        assert found.error == pytest.approx(error, abs=1e-5)
    assert fitted.ece_before == fitted.before.error > 0.15
    assert fitted.ece_after == fitted.after.error < 0.04


def test_info_mask_takes_the_fit_as_its_temperature():
    logits, labels = logits_and_labels(2.5, n=500)
    fitted = fit_temperature(identity, [(logits, labels)])
    x = tiny_images(channels=1, height=2, width=2)

    def network(x):
        return 5 * x.flatten(1)

    taken = InfoMask(network, temperature=fitted).attribute(x, target=0, view="drop")
    named = InfoMask(network, temperature=float(fitted)).attribute(x, target=0, view="drop")
    plain = InfoMask(network).attribute(x, target=0, view="drop")
    assert torch.equal(taken, named)
    assert (taken - plain).abs().max() > 0.1


def test_figure_shows_both_diagrams_without_a_window():
    logits, labels = logits_and_labels(2.5, n=500)
    fitted = fit_temperature(identity, [(logits, labels)], bins=10)
    figure, panels = fitted.figure()
    assert [panel.get_title(loc="left") for panel in panels[::2]] == [
        "before, τ = 1",
        f"after, τ = {float(fitted):.2f}",
    ]
    shown = [bar for bar in panels[0].patches if bar.get_height() > 0]
    top = max(bar.get_y() + bar.get_height() for bar in shown)
    tallest = np.nanmax(np.fmax(fitted.before.accuracy, fitted.before.confidence))
    assert top == pytest.approx(tallest)
    assert sum(bar.get_height() for bar in panels[1].patches) == pytest.approx(1)
    figure.canvas.draw()


@pytest.mark.filterwarnings("ignore:The network's answers change")
def test_nothing_of_the_users_is_changed():
    net = Net().train()
    x, labels = tiny_images(64), torch.arange(64) % 5
    data = torch.utils.data.TensorDataset(x, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    with unchanged(net, x, labels), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrained network may not identify a temperature
        fit_temperature(net, loader)
    with unchanged(net, x, labels):
        refused(("labels below 5",), lambda: fit_temperature(net, [(x, labels + 1)]))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_off(mode):
    logits, labels = logits_and_labels(2.0, n=500)
    want = float(fit_temperature(identity, [(logits, labels)]))
    with mode():
        assert float(fit_temperature(identity, [(logits.clone(), labels)])) == want


def test_half_precision_and_linear_models():
    net = nn.Linear(3, 3, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        net.weight.copy_(2 * torch.eye(3))
    logits, labels = logits_and_labels(1.0)
    fitted = fit_temperature(net, [(logits.to(torch.bfloat16), labels)])
    assert float(fitted) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (torch.eye(3).repeat(4, 1), torch.zeros(12, dtype=torch.long), "all 12 labels are class 0"),
        (torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4), "the likeliest class"),
        (-torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4), "numbered the classes differently"),
        (torch.ones(6, 3), torch.arange(3).repeat(2), "no larger than the average"),
    ],
)
def test_what_is_not_identified_is_said_and_left_at_one(logits, labels, words):
    with pytest.warns(UserWarning, match=words) as caught:
        fitted = fit_temperature(identity, [(logits, labels)])
    assert caught[0].filename == __file__
    assert float(fitted) == 1.0
    assert fitted.nll_before == fitted.nll_after
    assert math.isfinite(fitted.nll_after)


def test_one_mistake_is_enough_to_bound_the_temperature():
    logits = 10 * torch.eye(3).repeat(10, 1)
    labels = torch.arange(3).repeat(10)
    labels[0] = 1
    assert 1.5 < float(fit_temperature(identity, [(logits, labels)])) < 5


X = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
Y = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_temperature("net", [(X, Y)]), ["`forward_func`", "'net'"]),
        (lambda: fit_temperature(identity, []), ["`loader`", "at least one batch"]),
        (lambda: fit_temperature(identity, iter([])), ["`loader`", "pass the loader itself"]),
        (lambda: fit_temperature(identity, [X]), ["`loader`", "(inputs, labels)"]),
        (lambda: fit_temperature(identity, [(X, Y + 2)]), ["`loader`", "below 3", "got 3"]),
        (lambda: fit_temperature(identity, [(X, Y - 1)]), ["`loader`", "at least 0"]),
        (lambda: fit_temperature(identity, [(X, Y[:1])]), ["`loader`", "integers (2,)"]),
        (lambda: fit_temperature(identity, [(X / 0, Y)]), ["`loader`", "batch 0", "NaN"]),
        (
            lambda: fit_temperature(lambda x: x / (x > 0), [(X + 1, Y), (X, Y)]),
            ["`forward_func`", "batch 1", "NaN"],
        ),
        (lambda: fit_temperature(lambda x: x[:1], [(X, Y)]), ["`forward_func`", "2 examples"]),
        (lambda: fit_temperature(lambda x: x[:, 0], [(X, Y)]), ["`forward_func`", "(N, M)"]),
        (lambda: fit_temperature(lambda x: [x], [(X, Y)]), ["`forward_func`", "list"]),
        (lambda: fit_temperature(lambda x: x[..., None], [(X, Y)]), ["`forward_func`", "(N, M)"]),
        (lambda: fit_temperature(identity, [(X, Y)], head="sigmoid"), ["one logit", "sigmoid"]),
        (lambda: fit_temperature(identity, [(X, Y)], head="probs"), ["`forward_func`", "sum to 1"]),
        (lambda: fit_temperature(identity, [(X, Y)], head="raw"), ["`head`", "not normalised"]),
        (lambda: fit_temperature(identity, [(X, Y)], head="logit"), ["`head`", "'logits'"]),
        (lambda: fit_temperature(identity, [(X, Y)], bins=0), ["`bins`", "at least 1"]),
        (lambda: fit_temperature(identity, [(X, Y)], prior=SKEWED), ["`prior`", "pc_softmax"]),
        (
            lambda: fit_temperature(
                identity, [(X, Y)], prior=[0.5, 0.5], trained_with="pc_softmax"
            ),
            ["`prior`", "3 probabilities"],
        ),
        (lambda: fit_temperature(identity, [(X, Y), (X[:, :2], Y)]), ["`forward_func`", "[3, 2]"]),
    ],
)
def test_bad_arguments_are_named(call, words):
    refused(tuple(words), call)

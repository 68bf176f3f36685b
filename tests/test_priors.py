# Priors and PC-softmax against literal sums, and against classes whose information is known.
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from refused import refused
from tiny import Counting
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from captum_infomask import InfoMask, Score, estimate_prior, information, pc_cross_entropy

PRIOR = [0.6, 0.3, 0.1]
LABELS = [2, 0, 0, 1, 0, 2, 0]


def draws(*shape, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow_loss(row, y, prior):
    """−(f_y − log Σ π e^f), in Python floats."""
    top = max(row)
    return math.log(math.fsum(p * math.exp(f - top) for f, p in zip(row, prior, strict=True))) - (
        row[y] - top
    )


# Priors


@pytest.mark.parametrize("smoothing", [0, 0.5, 1.0, 10])
@pytest.mark.parametrize("classes", [None, 3, 5])
def test_it_is_laplaces_rule(smoothing, classes):
    count = classes or 3
    want = [(LABELS.count(k) + smoothing) / (len(LABELS) + smoothing * count) for k in range(count)]
    found = estimate_prior(LABELS, classes=classes, smoothing=smoothing)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(want, abs=1e-15)


@pytest.mark.parametrize(
    "labels",
    [
        tuple(LABELS),
        [np.int64(label) for label in LABELS],
        np.array(LABELS),
        np.array(LABELS, dtype=np.uint8),
        torch.tensor(LABELS),
        torch.tensor(LABELS, dtype=torch.int8),
    ],
)
def test_all_forms_of_labels_are_one(labels):
    assert torch.equal(estimate_prior(labels), estimate_prior(LABELS))


def test_a_loader_is_read_once_and_its_inputs_are_not_looked_at():
    inputs = torch.full((7, 2), math.nan)
    data = DataLoader(TensorDataset(inputs, torch.tensor(LABELS)), batch_size=3, shuffle=True)
    read = Counting(iter)

    class Loader:
        def __iter__(self):
            return read(data)

    state = torch.get_rng_state()
    assert torch.equal(estimate_prior(Loader()), estimate_prior(LABELS))
    assert torch.equal(torch.get_rng_state(), state)
    assert read.calls == 1
    batches = [(None, [2, 0, 0]), [None, torch.tensor([1, 0, 2, 0])]]
    assert torch.equal(estimate_prior(batches), estimate_prior(LABELS))


@pytest.mark.usefixtures("terminal")
def test_a_bar_counts_the_batches(capsys):
    estimate_prior([(None, [0, 1]), (None, [1])], show_progress=True)
    shown = capsys.readouterr().err
    assert "Counting labels" in shown
    assert "2/2" in shown


def test_infomask_takes_it():
    prior = estimate_prior([0, 0, 0, 1], smoothing=0)
    picture = torch.tensor([[[[40.0]]], [[[-40.0]]]])

    def classifier(x):
        return torch.cat([x.flatten(1), 0 * x.flatten(1)], dim=1)

    found = InfoMask(classifier, prior=prior).attribute(
        picture, target=[0, 1], view="crop", sliding_window_shapes=(1, 1, 1), crop_size="native"
    )
    assert found.flatten().tolist() == pytest.approx([-math.log2(3 / 4), 2.0], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([], {}, ("labels_or_loader", "none")),
        (torch.zeros(0).long(), {}, ("labels_or_loader", "at least one label")),
        (torch.zeros(3), {}, ("labels_or_loader", "integers", "float32")),
        ([31.0, 45.5], {}, ("labels_or_loader", "integers", "of='values'")),
        (torch.zeros(3, 2).long(), {}, ("labels_or_loader", "(3, 2)")),
        (np.zeros(3), {}, ("labels_or_loader", "(inputs, labels)")),
        ([0, -1], {}, ("labels_or_loader", "-1")),
        ([True, False], {}, ("labels_or_loader", "integers")),
        ([0, 3], {"classes": 3}, ("labels_or_loader", "0 to 2", "got 3")),
        ([0, 1], {"classes": 0}, ("classes", "got 0")),
        ([0, 1], {"smoothing": -1}, ("smoothing", "-1")),
        ([0, 1], {"smoothing": math.nan}, ("smoothing", "nan")),
        ([torch.zeros(2, 3)], {}, ("labels_or_loader", "yield")),
        ([(None, [0]), (None, [0.5])], {}, ("labels_or_loader", "batch 1", "0.5")),
        (iter([]), {}, ("labels_or_loader", "at least one batch")),
        (3, {}, ("labels_or_loader", "3 (int)")),
        ("0120", {}, ("labels_or_loader", "'0120'")),
    ],
)
def test_bad_labels_are_refused(given, options, words):
    refused(words, lambda: estimate_prior(given, **options))


# PC-softmax


@pytest.mark.parametrize("prior", [None, PRIOR, torch.tensor(PRIOR)])
def test_the_loss_is_its_equation(prior):
    logits, target = draws(6, 3), torch.arange(6) % 3
    weights = [1 / 3] * 3 if prior is None else PRIOR
    want = [
        slow_loss(row, y, weights) for row, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    found = pc_cross_entropy(logits, target, prior, reduction="none")
    assert found.tolist() == pytest.approx(want, abs=1e-6 if prior is not None else 1e-12)
    assert pc_cross_entropy(logits, target, prior, reduction="sum") == found.sum()
    assert pc_cross_entropy(logits, target, prior) == found.mean()


def test_dimensions_are_those_of_cross_entropy():
    logits, target = draws(2, 3, 4, 5), torch.arange(40).reshape(2, 4, 5) % 3
    found = pc_cross_entropy(logits, target, PRIOR, reduction="none")
    plain = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    assert found.shape == plain.shape == (2, 4, 5)
    for n, i, j in ((0, 0, 0), (1, 2, 3), (1, 3, 4)):
        want = slow_loss(logits[n, :, i, j].tolist(), int(target[n, i, j]), PRIOR)
        assert found[n, i, j].item() == pytest.approx(want, abs=1e-12)
    lone = pc_cross_entropy(logits[0, :, 0, 0], target[0, 0, 0], PRIOR)
    assert lone.shape == ()
    assert lone == found[0, 0, 0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0, 50), shift=st.floats(-100, 100))
def test_it_is_the_negative_information(seed, scale, shift):
    logits, target = draws(5, 3, scale=scale, seed=seed), torch.arange(5) % 3
    read = information(logits, target, prior=PRIOR, trained_with="pc_softmax", unit="nats")
    loss = pc_cross_entropy(logits + shift, target, PRIOR, reduction="none")
    torch.testing.assert_close(loss, -read, atol=1e-9, rtol=0)
    # The same posterior, as cross-entropy with the prior in its logits has it.
    moved = logits + torch.tensor(PRIOR).double().log()
    also = information(moved, target, prior=PRIOR, unit="nats")
    torch.testing.assert_close(loss, -also, atol=1e-6, rtol=0)


def test_its_gradient_is_the_posterior_minus_the_label():
    logits, target = draws(6, 3).requires_grad_(True), torch.arange(6) % 3
    pc_cross_entropy(logits, target, PRIOR, reduction="sum").backward()
    odds = torch.tensor(PRIOR).double() * logits.detach().exp()
    want = odds / odds.sum(1, keepdim=True) - torch.nn.functional.one_hot(target, 3)
    torch.testing.assert_close(logits.grad, want, atol=1e-7, rtol=0)
    assert logits.grad.abs().max() > 0.1


def test_an_absent_class_may_have_prior_zero():
    logits = torch.tensor([[1.0, 2.0, 50.0]], requires_grad=True)
    loss = pc_cross_entropy(logits, torch.tensor([0]), [0.5, 0.5, 0.0])
    assert loss.item() == pytest.approx(slow_loss([1.0, 2.0], 0, [0.5, 0.5]), abs=1e-5)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 2].abs() < 1e-5 < logits.grad[0, 0].abs()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_and_half_precision(dtype):
    logits = torch.tensor([[1e4, 1e4, -1e4], [3.0, 1.0, 2.0]], dtype=dtype, requires_grad=True)
    losses = pc_cross_entropy(logits, torch.tensor([1, 2]), PRIOR, reduction="none")
    want = [
        slow_loss(row, y, PRIOR) for row, y in zip(logits.double().tolist(), (1, 2), strict=True)
    ]
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx(want, abs=1e-5)
    losses.sum().backward()
    assert logits.grad.dtype == dtype
    assert logits.grad.isfinite().all()


# Two Gaussian classes, 95 to 5: log-odds are linear in x, and so is the known information.
MEANS = torch.tensor([[0.0, 0.0], [1.5, 1.0]], dtype=torch.float64)
SKEWED = [0.95, 0.05]


def gaussian_classes(n, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < SKEWED[1]).long()
    x = MEANS[labels] + torch.randn(n, 2, generator=generator, dtype=torch.float64)
    densities = [
        [math.exp(-(math.dist(point, mean) ** 2) / 2) for mean in MEANS.tolist()]
        for point in x.tolist()
    ]
    true = [
        math.log2(row[y] / math.fsum(p * d for p, d in zip(SKEWED, row, strict=True)))
        for row, y in zip(densities, labels.tolist(), strict=True)
    ]
    return x, labels, torch.tensor(true, dtype=torch.float64)


def fitted(x, labels, loss):
    """A linear network at the loss' minimum."""
    network = torch.nn.Linear(2, 2, dtype=torch.float64)
    optimiser = torch.optim.LBFGS(
        network.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def step():
        optimiser.zero_grad()
        value = loss(network(x), labels)
        value.backward()
        return value

    optimiser.step(step)
    return network.requires_grad_(False)


def test_both_trainings_recover_the_known_information_of_imbalanced_classes():
    x, labels, _ = gaussian_classes(20_000, seed=0)
    unseen, wanted, true = gaussian_classes(5_000, seed=1)
    prior = estimate_prior(labels)
    assert prior.tolist() == pytest.approx(SKEWED, abs=0.005)
    plain = fitted(x, labels, torch.nn.functional.cross_entropy)
    corrected = fitted(x, labels, lambda logits, y: pc_cross_entropy(logits, y, prior))
    read = {
        "cross-entropy": information(plain(unseen), wanted, prior=prior),
        "PC-softmax": information(
            corrected(unseen), wanted, prior=prior, trained_with="pc_softmax"
        ),
        "no prior": information(plain(unseen), wanted),
        "the other reading": information(corrected(unseen), wanted, prior=prior),
    }
    errors = {name: (found - true).abs().mean().item() for name, found in read.items()}
    assert errors["cross-entropy"] < 0.02
    assert errors["PC-softmax"] < 0.02
    assert errors["no prior"] > 0.5
    assert errors["the other reading"] > 0.5
    torch.testing.assert_close(read["PC-softmax"], read["cross-entropy"], atol=1e-3, rtol=0)
    rare = wanted == 1
    assert (read["PC-softmax"][rare].mean() - true[rare].mean()).abs() < 0.1
    assert true[rare].mean() > 1.5


@pytest.mark.parametrize(
    ("logits", "target", "prior", "reduction", "words"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), PRIOR, "mean", ("target", "got 3")),
        (torch.zeros(2, 3), torch.tensor([0, -100]), PRIOR, "mean", ("target", "got -100")),
        (torch.zeros(2, 3), torch.tensor([0]), PRIOR, "mean", ("target", "(2,)")),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), PRIOR, "mean", ("target", "integers")),
        (torch.zeros(2, 3, 4), torch.tensor([0, 1]), PRIOR, "mean", ("target", "(2, 4)")),
        (torch.zeros(2, 3), torch.tensor([0, 1]), [0.5, 0.5], "mean", ("prior", "3 prob")),
        (torch.zeros(2, 3), torch.tensor([0, 1]), [0.5, 0.5, 0.5], "mean", ("prior", "sum")),
        (torch.zeros(2, 3), torch.tensor([0, 2]), [0.5, 0.5, 0.0], "mean", ("prior", "class 2")),
        (torch.zeros(2, 3), torch.tensor([0, 1]), PRIOR, "average", ("reduction", "'mean'")),
        (torch.zeros(()), torch.tensor(0), PRIOR, "mean", ("logits",)),
        ([[0.0, 1.0, 2.0]], torch.tensor([0]), PRIOR, "mean", ("logits",)),
    ],
)
def test_bad_losses_are_refused(logits, target, prior, reduction, words):
    refused(words, lambda: pc_cross_entropy(logits, target, prior, reduction=reduction))


# Priors of predictions


def batches_of(x, size=3):
    return [(part, torch.zeros(len(part), dtype=torch.long)) for part in x.split(size)]


@pytest.mark.parametrize("form", ["tensor", "loader", "inputs"])
def test_predictions_are_counted(form):
    x = draws(20, 4)
    want = (torch.bincount(x.argmax(1), minlength=4).double() + 1) / 24
    given = {"tensor": x, "loader": batches_of(x), "inputs": list(x.split(7))}[form]
    found = estimate_prior(given, of="predictions", forward_func=lambda x: x)
    assert torch.equal(found, want)
    first = estimate_prior(x[:1], of="predictions", forward_func=lambda x: x, smoothing=0)
    assert first.shape == (4,)


def test_predictions_hold_the_prior_that_was_trained_with():
    x = draws(40, 3, scale=0.5)
    score = Score(prior=PRIOR, trained_with="pc_softmax")
    found = estimate_prior(x, of="predictions", forward_func=lambda x: x, score=score, smoothing=0)
    likely = (x + torch.tensor(PRIOR).log()).argmax(1)
    assert found.tolist() == (torch.bincount(likely, minlength=3).double() / 40).tolist()
    assert found[0] > (x.argmax(1) == 0).double().mean() + 0.2


def test_the_network_stays_as_it_was():
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(12, 3)]
    model = nn.Sequential(*layers).double()
    before = {name: own.clone() for name, own in model.state_dict().items()}
    random = torch.get_rng_state()
    loader = DataLoader(
        TensorDataset(draws(8, 1, 4, 4), torch.zeros(8)), batch_size=4, shuffle=True
    )
    estimate_prior(loader, of="predictions", forward_func=model.eval())
    assert not model.training
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_mean_of_one_pictures_evidence_under_an_estimated_prior():
    """E over n labels of Σ_y π_y q_y / π̂_y = (n + M)/(n + 1) · Σ q_y (1 − (1 − π_y)^(n + 1))."""
    n, q = 6, [0.1, 0.2, 0.7]
    mean = 0.0
    for labels in itertools.product(range(3), repeat=n):
        guess = estimate_prior(list(labels), classes=3).tolist()
        chance = math.prod(PRIOR[y] for y in labels)
        mean += chance * math.fsum(PRIOR[y] * q[y] / guess[y] for y in range(3))
    want = (n + 3) / (n + 1) * math.fsum(q[y] * (1 - (1 - PRIOR[y]) ** (n + 1)) for y in range(3))
    assert mean == pytest.approx(want, rel=1e-9)
    assert mean <= (n + 3) / (n + 1)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (LABELS, {"of": "answers"}, ("`of`", "predictions")),
        (LABELS, {"forward_func": len}, ("forward_func", "of='predictions'")),
        (LABELS, {"score": Score()}, ("score", "of='predictions'")),
        (draws(4, 3), {"of": "predictions"}, ("forward_func",)),
        (draws(4, 3), {"of": "predictions", "forward_func": torch.sum}, ("(N, M)",)),
        *(
            (
                torch.eye(3)[[0, 1]],
                {"of": "predictions", "forward_func": torch.clone, "classes": classes},
                ("`classes`", "3", f"got {classes}"),
            )
            for classes in (2, 5)
        ),
        (
            draws(4, 3),
            {"of": "predictions", "forward_func": torch.clone, "score": Score(head="raw")},
            ("score", "raw"),
        ),
    ],
)
def test_bad_predictions(given, options, words):
    refused(words, lambda: estimate_prior(given, **options))

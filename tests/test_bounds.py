# The bounds against literal sums, against worlds whose information is known, and over loaders.
from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from refused import refused
from sklearn.datasets import load_digits
from state import unchanged
from tiny import Counting, Net, images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from captum_infomask import (
    donsker_varadhan,
    information,
    keep_dropout,
    log_softmax_sandwich,
    measure_bounds,
)

PRIOR = [0.6, 0.3, 0.1]
SETTINGS = [
    {},
    {"prior": PRIOR},
    {"prior": PRIOR, "trained_with": "pc_softmax"},
    {"prior": PRIOR, "temperature": 1.7, "unit": "nats"},
]


def log_mean_exp(values, weights=None):
    """log Σ w e^v, in Python floats."""
    weights = weights or [1 / len(values)] * len(values)
    top = max(values)
    return top + math.log(
        math.fsum(w * math.exp(v - top) for w, v in zip(weights, values, strict=True))
    )


def slow_donsker_varadhan(joint, marginal, prior):
    """The bound in nats: joint[s][n], marginal[s][n][k]."""
    samples, examples = len(joint), len(joint[0])
    terms = []
    for n in range(examples):
        every = [value for s in range(samples) for value in marginal[s][n]]
        partition = log_mean_exp(every, [p / samples for _ in range(samples) for p in prior])
        terms.append(math.fsum(joint[s][n] for s in range(samples)) / samples - partition)
    return math.fsum(terms) / examples


def slow_sandwich(
    logits, y, prior=None, trained_with="cross_entropy", temperature=1.0, unit="bits"
):
    """The four bounds of one example, from logits[s][k]."""
    classes = len(logits[0])
    prior = prior or [1 / classes] * classes
    correction = [0.0 if trained_with == "pc_softmax" else math.log(p) for p in prior]
    critic = [[f / temperature - c for f, c in zip(row, correction, strict=True)] for row in logits]
    partitions = [log_mean_exp(row, prior) for row in critic]
    ratios = [row[y] - z for row, z in zip(critic, partitions, strict=True)]
    four = (
        math.fsum(row[y] for row in critic) / len(critic) - log_mean_exp(partitions),
        math.fsum(ratios) / len(ratios),
        log_mean_exp(ratios),
        -math.log(prior[y]),
    )
    return [value / (math.log(2) if unit == "bits" else 1) for value in four]


def draws(*shape, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


# Against literal sums


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("prior", [None, PRIOR])
def test_donsker_varadhan_is_its_equation(samples, prior):
    joint, marginal = draws(samples, 5), draws(samples, 5, 3, seed=1)
    want = slow_donsker_varadhan(joint.tolist(), marginal.tolist(), prior or [1 / 3] * 3)
    found = donsker_varadhan(joint, marginal, prior=prior, unit="nats")
    assert found.item() == pytest.approx(want, abs=1e-12)
    bits = donsker_varadhan(joint, marginal, prior=prior)
    assert bits.item() == pytest.approx(want / math.log(2), abs=1e-12)
    if samples == 1:
        assert donsker_varadhan(joint[0], marginal[0], prior=prior).item() == bits.item()


@pytest.mark.parametrize("options", SETTINGS)
def test_sandwich_is_its_equations(options):
    logits, target = draws(4, 6, 3), [0, 1, 2, 0, 1, 2]
    found = log_softmax_sandwich(logits, target, **options)
    for n, y in enumerate(target):
        want = slow_sandwich(logits[:, n].tolist(), y, **options)
        assert found.per_example[:, n].tolist() == pytest.approx(want, abs=1e-10)
    means = found.per_example.mean(1).tolist()
    assert [found.lower, found.information, found.upper, found.ceiling] == means
    assert found.log_softmax == found.information - found.ceiling < 0
    rows = found.per_example.tolist()
    for row, mean, error in zip(rows, means, found.standard_errors.values(), strict=True):
        variance = math.fsum((value - mean) ** 2 for value in row) / 5
        assert error == pytest.approx(math.sqrt(variance / 6), abs=1e-12)
    assert (found.n, found.samples, found.unit) == (6, 4, options.get("unit", "bits"))


@pytest.mark.parametrize("options", SETTINGS)
def test_one_sample_is_the_information_and_the_donsker_varadhan_value(options):
    logits, target = draws(7, 3), torch.arange(7) % 3
    found = log_softmax_sandwich(logits, target, **options)
    want = information(logits, target, **options)
    for row in found.per_example[:3]:
        torch.testing.assert_close(row, want, atol=1e-12, rtol=0)
    critic = logits / options.get("temperature", 1.0)
    if options.get("trained_with") != "pc_softmax":
        critic = critic - torch.tensor(options.get("prior", [1 / 3] * 3)).double().log()
    bound = donsker_varadhan(
        critic[torch.arange(7), target],
        critic,
        prior=options.get("prior"),
        unit=options.get("unit", "bits"),
    )
    assert found.lower == pytest.approx(bound.item(), abs=1e-6)


def test_identity_of_a_deterministic_network():
    network, x = Net(), images(40)
    target = torch.arange(40) % 5
    logits = network(x).detach()
    log_softmax = [
        math.log(math.exp(row[y]) / math.fsum(map(math.exp, row)))
        for row, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    want = math.fsum(log_softmax) / 40 + math.log(5)
    joint = logits[torch.arange(40), target]
    assert donsker_varadhan(joint, logits, unit="nats").item() == pytest.approx(want, abs=1e-6)
    measured = measure_bounds(network, [(x, target)], unit="nats")
    assert measured.information == pytest.approx(want, abs=1e-6)
    assert abs(want) > 0.1
    assert logits.std() > 0.5


# Identities


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.0, 30.0), option=st.sampled_from(SETTINGS))
def test_the_order_holds_for_every_example(seed, scale, option):
    logits = draws(5, 8, 3, scale=scale, seed=seed).float()
    rows = log_softmax_sandwich(logits, (torch.arange(8) % 3), **option).per_example
    assert (rows.diff(dim=0) >= 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_a_shift_that_samples_share_changes_nothing(seed, shift):
    logits, target = draws(3, 4, 3, seed=seed), [0, 1, 2, 0]
    moved = logits + shift * torch.arange(4.0).double()[:, None]
    first, second = (log_softmax_sandwich(given, target).per_example for given in (logits, moved))
    torch.testing.assert_close(first, second, atol=1e-9, rtol=0)


def test_a_shift_of_one_sample_loosens_the_lower_bound_alone():
    logits, target = draws(3, 4, 3), [0, 1, 2, 0]
    moved = logits + 30.0 * torch.arange(3.0).double()[:, None, None]
    first, second = (log_softmax_sandwich(given, target).per_example for given in (logits, moved))
    torch.testing.assert_close(first[1:], second[1:], atol=1e-9, rtol=0)
    assert (second[0] < first[0] - 10).all()
    normal = log_softmax_sandwich(logits.log_softmax(2), target).per_example
    torch.testing.assert_close(normal[0], first[1], atol=1e-9, rtol=0)


# p(x, y) · 16 of a world with four kinds of x and three labels, and its information.
COUNTS = [[4, 0, 0], [1, 2, 1], [0, 1, 3], [3, 1, 0]]
WORLD = [
    (x, y) for x, row in enumerate(COUNTS) for y, count in enumerate(row) for _ in range(count)
]
LABEL_PRIOR = [sum(row[y] for row in COUNTS) / 16 for y in range(3)]
TRUE_BITS = math.fsum(
    count / 16 * math.log2(count / sum(row) / LABEL_PRIOR[y])
    for row in COUNTS
    for y, count in enumerate(row)
    if count
)


def world_bound(critic, **options):
    """The bound of a critic T[x, y] over the whole world."""
    x, y = torch.tensor(WORLD).T
    return donsker_varadhan(critic[x, y], critic[x], prior=LABEL_PRIOR, **options)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 20.0))
def test_no_critic_tells_more_than_there_is(seed, scale):
    assert world_bound(draws(4, 3, scale=scale, seed=seed)).item() < TRUE_BITS - 1e-6


def test_the_best_critic_tells_all_and_training_finds_it():
    posterior = torch.tensor(COUNTS).double() / 4
    best = (posterior.clamp_min(1e-300) / torch.tensor(LABEL_PRIOR)).log()
    assert TRUE_BITS > 0.5
    assert world_bound(best).item() == pytest.approx(TRUE_BITS, abs=1e-12)
    shifted = best + torch.tensor([[3.0], [-8.0], [0.5], [100.0]])
    assert world_bound(shifted).item() == pytest.approx(TRUE_BITS, abs=1e-12)
    critic = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    assert world_bound(critic).item() == pytest.approx(0, abs=1e-12)
    optimiser = torch.optim.LBFGS([critic], max_iter=200, line_search_fn="strong_wolfe")

    def step():
        optimiser.zero_grad()
        loss = -world_bound(critic)
        loss.backward()
        return loss

    optimiser.step(step)
    assert world_bound(critic).item() == pytest.approx(TRUE_BITS, abs=1e-3)


# Large values and half precision


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_values_of_ten_thousand_do_not_overflow(dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype)
    samples = torch.stack([logits, logits.flip(1)])
    found = log_softmax_sandwich(samples, [0, 1])
    for n, y in enumerate([0, 1]):
        want = slow_sandwich(samples[:, n].tolist(), y)
        assert found.per_example[:, n].tolist() == pytest.approx(want, abs=1e-6)
    bound = donsker_varadhan(samples[:, :, 0], samples)
    want = slow_donsker_varadhan(samples[:, :, 0].tolist(), samples.tolist(), [1 / 3] * 3)
    assert bound.item() == pytest.approx(want / math.log(2), abs=1e-6)


# Over a loader


@pytest.mark.parametrize("prior", [None, [0.7, 0.2, 0.1], [0.55, 0.35, 0.1]])
def test_certainty_reaches_the_ceiling_and_no_further(prior):
    outputs = 200 * torch.eye(3)
    found = measure_bounds(nn.Identity(), [(outputs, torch.arange(3))], prior=prior)
    assert (found.per_example.diff(dim=0) >= 0).all()
    assert found.ceiling - found.lower < 1e-6
    assert found.log_softmax <= 0


class Scripted:
    """A stochastic network whose draws are written down: the k-th call for a batch adds draw k."""

    def __init__(self, noise):
        self.noise, self.calls = noise, 0

    def __call__(self, x):
        self.calls += 1
        return x + self.noise[(self.calls - 1) % len(self.noise)]


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("size", [1, 4, 10])
def test_a_loader_gives_what_its_examples_give(options, size):
    x, labels, noise = draws(10, 3), torch.arange(10) % 3, draws(4, 3, seed=5)
    network = Scripted(noise)
    read = Counting(iter)
    data = DataLoader(TensorDataset(x, labels), batch_size=size)

    class Loader:
        def __iter__(self):
            return read(data)

    found = measure_bounds(network, Loader(), n_samples=4, **options)
    want = log_softmax_sandwich(x + noise[:, None], labels, **options)
    torch.testing.assert_close(found.per_example, want.per_example, atol=1e-10, rtol=0)
    assert read.calls == 1
    assert network.calls == 4 * math.ceil(10 / size)


@pytest.mark.parametrize("head", ["log_probs", "probs"])
def test_probabilities_are_read_as_probabilities(head):
    probs = draws(8, 3).softmax(1)
    labels = torch.arange(8) % 3
    output = probs if head == "probs" else probs.log()
    found = measure_bounds(nn.Identity(), [(output, labels)], head=head, prior=PRIOR)
    want = [math.log2(probs[n, y].item() / PRIOR[y]) for n, y in enumerate(labels.tolist())]
    assert found.per_example[1].tolist() == pytest.approx(want, abs=1e-10)


def loader(n=12, size=5, **options):
    return DataLoader(TensorDataset(images(n), torch.arange(n) % 5), batch_size=size, **options)


def test_draws_follow_the_seed_and_nothing_is_touched():
    network = Net()
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(found))
        with unchanged(network), keep_dropout(network):
            found.append(measure_bounds(network, loader(), n_samples=6, seed=seed).per_example)
    assert torch.equal(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 0.01
    spread = found[0][2] - found[0][0]
    assert (spread > 0.01).all()

    with unchanged(network), keep_dropout(network):
        shuffled = measure_bounds(network, loader(shuffle=True), n_samples=2)
    assert shuffled.n == 12


@pytest.mark.filterwarnings("ignore:The network's answers change")
def test_nothing_is_touched_by_an_error():
    network = Net().train()

    def fail(module, inputs):
        torch.rand(3)
        raise RuntimeError("interrupted")

    handle = network.head.register_forward_pre_hook(fail)
    with unchanged(network), pytest.raises(RuntimeError, match="interrupted"):
        measure_bounds(network, loader(shuffle=True), n_samples=3)
    handle.remove()


def test_a_deterministic_network_is_told_apart():
    with pytest.warns(UserWarning, match="deterministic"):
        found = measure_bounds(Net(), loader(), n_samples=3)
    assert found.upper - found.lower < 1e-6
    measure_bounds(Net(), loader())  # one pass needs no warning


@pytest.mark.usefixtures("terminal")
def test_a_bar_counts_the_batches(capsys):
    measure_bounds(Net(), loader(), show_progress=True)
    shown = capsys.readouterr().err
    assert "Measuring bounds" in shown
    assert "3/3" in shown


def test_the_sandwich_holds_on_held_out_digits():
    bunch = load_digits()
    x, y = torch.tensor(bunch.data).float() / 16, torch.tensor(bunch.target)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    train, held_out = TensorDataset(x[:1347], y[:1347]), TensorDataset(x[1347:], y[1347:])
    for _, (some, labels) in itertools.product(range(12), DataLoader(train, 64, shuffle=True)):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(some), labels).backward()
        optimiser.step()
    network.eval()
    with keep_dropout(network):
        found = measure_bounds(network, DataLoader(held_out, 64), n_samples=20)
    assert (found.per_example.diff(dim=0) >= 0).all()
    assert 1.0 < found.lower < found.information - 0.01
    assert found.information + 0.01 < found.upper < found.ceiling == pytest.approx(math.log2(10))


# Dropout


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        kinds = [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d]
        kinds += [nn.AlphaDropout, nn.FeatureAlphaDropout]
        self.drops = nn.ModuleList(kind(0.5) for kind in kinds)
        self.others = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))


def test_only_dropout_layers_are_kept_on():
    model = Mixed().eval()
    model.drops[2].train()
    before = [module.training for module in model.modules()]
    with keep_dropout(model):
        assert all(layer.training for layer in model.drops)
        assert not any(module.training for module in [model, model.drops, *model.others.modules()])
        with pytest.raises(KeyError), keep_dropout(model):
            raise KeyError
        assert all(layer.training for layer in model.drops)
    assert [module.training for module in model.modules()] == before
    with pytest.raises(KeyError), keep_dropout(model):
        raise KeyError
    assert [module.training for module in model.modules()] == before


def test_a_model_without_dropout_is_refused():
    refused(("model", "dropout"), lambda: keep_dropout(nn.Linear(2, 2)).__enter__())
    refused(("model", "Module"), lambda: keep_dropout(torch.relu).__enter__())


# Bad input

GOOD = (images(2), torch.tensor([0, 1]))
BAD_LOADERS = {
    "empty": ([], ("loader", "at least one batch")),
    "a tensor": (images(2), ("loader", "DataLoader")),
    "inputs alone": ([images(2)], ("loader", "(inputs, labels)")),
    "NaN": ([GOOD, (images(2) * math.nan, GOOD[1])], ("loader", "finite", "batch 1", "2 of 2")),
    "label too large": ([(GOOD[0], torch.tensor([0, 5]))], ("loader", "below 5", "got 5")),
    "negative label": ([(GOOD[0], torch.tensor([0, -1]))], ("loader", "-1")),
    "too few labels": ([(GOOD[0], torch.tensor([0]))], ("loader", "(2,)")),
    "float labels": ([(GOOD[0], torch.tensor([0.0, 1.0]))], ("loader", "integers")),
}


@pytest.mark.parametrize("name", BAD_LOADERS)
def test_bad_loaders_are_refused(name):
    given, words = BAD_LOADERS[name]
    network = Net()
    with unchanged(network):
        refused(words, lambda: measure_bounds(network, given))


BAD_SETTINGS = {
    "n_samples": ({"n_samples": 0}, ("n_samples", "0")),
    "seed": ({"seed": "x"}, ("seed", "'x'")),
    "head": ({"head": "sigmoid"}, ("head", "'probs'")),
    "unit": ({"unit": "bit"}, ("unit", "'bits'")),
    "prior": ({"prior": [0.5, 0.5]}, ("prior", "5 probabilities", "got 2")),
    "impossible": ({"prior": [0.0, 0.4, 0.2, 0.2, 0.2]}, ("prior", "class 0")),
    "temperature": ({"temperature": 0}, ("temperature", "0")),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_refused(name):
    options, words = BAD_SETTINGS[name]
    refused(words, lambda: measure_bounds(Net(), [GOOD], **options))


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda x: x, ("forward_func", "(2, M)")),
        (lambda x: x.flatten(1)[:1], ("forward_func", "(2, M)")),
        (lambda x: (x.flatten(1),), ("forward_func", "tuple")),
        (lambda x: x.flatten(1) * math.inf, ("forward_func", "2 of 2", "batch 0")),
    ],
)
def test_bad_outputs_are_refused(forward, words):
    refused(words, lambda: measure_bounds(forward, [GOOD]))


@pytest.mark.parametrize(
    ("joint", "marginal", "options", "words"),
    [
        (torch.zeros(3), torch.zeros(4, 2), {}, ("marginal", "(3, 'M')", "(4, 2)")),
        (torch.zeros(3), torch.zeros(3), {}, ("marginal", "(N, M)")),
        (torch.zeros(0), torch.zeros(0, 2), {}, ("joint",)),
        ([1.0], torch.zeros(1, 2), {}, ("joint", "[1.0]")),
        (torch.zeros(3), torch.full((3, 2), math.nan), {}, ("marginal", "finite", "6 of 6")),
        (torch.zeros(3), torch.zeros(3, 2), {"prior": PRIOR}, ("prior", "2 prob", "got 3")),
        (torch.zeros(3), torch.zeros(3, 2), {"unit": "bytes"}, ("unit",)),
    ],
)
def test_bad_critics_are_refused(joint, marginal, options, words):
    refused(words, lambda: donsker_varadhan(joint, marginal, **options))


@pytest.mark.parametrize(
    ("logits", "target", "options", "words"),
    [
        (torch.zeros(3), 0, {}, ("logits", "(N, M)")),
        (torch.zeros(2, 3), [0, 3], {}, ("target", "0 and 2", "got 3")),
        (torch.zeros(2, 3), None, {}, ("target",)),
        (torch.zeros(2, 2, 3), [0, 1, 2], {}, ("target", "2", "got 3")),
        (torch.full((2, 3), math.nan), 0, {}, ("logits", "finite")),
        (torch.zeros(2, 3), 0, {"prior": [0.5, 0.5]}, ("prior", "3 prob")),
        (torch.zeros(2, 3), 0, {"prior": [0.0, 0.5, 0.5]}, ("prior", "class 0")),
    ],
)
def test_bad_samples_are_refused(logits, target, options, words):
    refused(words, lambda: log_softmax_sandwich(logits, target, **options))

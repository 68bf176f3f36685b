# Infidelity and sensitivity: Captum's own, on stubs of which the answers are known.
import math

import captum.metrics
import pytest
import torch
from metric_samples import Linear, sample
from refused import refused
from state import unchanged

from captum_infomask import Infidelity, Sensitivity
from captum_infomask.evaluation.metric_protocol import Metric

SHAPE = (8, 12)


def exponential(weights):
    """A network whose log-probability of class 0 is linear: Σ w x − 1."""

    def forward(pictures):
        log_p = (pictures * weights).sum((1, 2, 3)) - 1
        return torch.stack([log_p, torch.log1p(-log_p.exp())], 1)

    return forward


def test_infidelity_is_zero_where_sums_foretell_the_answer_in_any_unit():
    w = torch.rand(3, *SHAPE, dtype=torch.float64) / 3 / 96
    inputs = 0.5 + torch.rand(1, 3, *SHAPE, dtype=torch.float64)
    fill = torch.rand(1, 3, *SHAPE, dtype=torch.float64) / 4
    right = (w * (inputs - fill)[0]).sum(0)
    for plane in (right, 1e3 * right):
        made = sample(plane, exponential(w), inputs=inputs, fill=fill)
        assert Infidelity()(made).value < 1e-15
    for wrong in (right.flip(1), torch.zeros(SHAPE, dtype=torch.float64)):
        made = sample(wrong, exponential(w), inputs=inputs, fill=fill)
        assert Infidelity()(made).value > 1e-5


def test_infidelity_is_the_formula():
    w = torch.rand(SHAPE, dtype=torch.float64) / 150
    plane = torch.randn(SHAPE, dtype=torch.float64)
    made = sample(plane, Linear(w), seed=5)
    generator = torch.Generator().manual_seed(5)
    sums, changes = [], []
    for _ in range(20):
        top = int(torch.randint(8 - 4 + 1, (), generator=generator))
        left = int(torch.randint(12 - 4 + 1, (), generator=generator))
        spot = (slice(top, top + 4), slice(left, left + 4))
        sums.append(float(plane[spot].sum()))
        whole = 0.1 + float(w.sum())
        changes.append(math.log(whole) - math.log(whole - float(w[spot].sum())))
    beta = sum(a * b for a, b in zip(sums, changes, strict=True)) / sum(a * a for a in sums)
    want = sum((beta * a - b) ** 2 for a, b in zip(sums, changes, strict=True)) / 20
    assert Infidelity(n=20, side=0.5)(made).value == pytest.approx(want, rel=1e-9)
    assert want > 1e-4


def test_sensitivity_of_a_linear_method_is_captums():
    inputs = torch.randn(1, 3, *SHAPE, dtype=torch.float64)
    asked = []

    def attribute(picture):
        asked.append(picture)
        return picture[:, :1].expand(-1, 3, -1, -1)

    made = sample(inputs[0, 0], None, inputs=inputs, attribute=attribute)
    found = Sensitivity(n=4, radius=0.5)(made).value
    assert [len(picture) for picture in asked] == [1] * 5
    assert torch.equal(asked[0], inputs)
    moves = [(picture - inputs)[:, 0] for picture in asked[1:]]
    want = max(float(move.norm() / inputs[:, 0].norm()) for move in moves)
    assert found == pytest.approx(want, rel=1e-12)
    largest = max(float(move.abs().max()) for move in moves)
    assert 0.45 * float(inputs.std(correction=0)) < largest <= 0.5 * float(inputs.std(correction=0))
    assert len({float(move.sum()) for move in moves}) == 4
    theirs = captum.metrics.sensitivity_max(
        lambda x: (attribute(x[0] if isinstance(x, tuple) else x).contiguous(),),
        inputs,
        perturb_func=lambda x: x + torch.cat([p - inputs for p in asked[1:5]]),
        n_perturb_samples=4,
    )
    assert found == pytest.approx(float(theirs), rel=1e-12)


def test_sensitivity_of_a_map_that_never_moves_is_zero():
    plane = torch.randn(SHAPE, dtype=torch.float64)
    assert Sensitivity(n=2)(sample(plane, None)).value == 0


def test_sensitivity_draws_by_the_seed_and_leaves_all_as_it_was(net):
    inputs = torch.randn(1, 3, *SHAPE, dtype=torch.float64)

    def gradient(picture):
        with torch.enable_grad():
            moved = picture.clone().requires_grad_()
            return torch.autograd.grad(net(moved)[0, 1], moved)[0]

    values = []
    for seed in (0, 0, 1):
        made = sample(torch.zeros(SHAPE), net, inputs=inputs, attribute=gradient, seed=seed)
        with unchanged(net, inputs):
            values.append(Sensitivity(n=2)(made).value)
    assert values[0] == values[1] != values[2]
    assert values[0] > 0


def test_errors_of_the_method_come_through_and_leave_the_random_state():
    def failing(picture):
        torch.rand(1)
        raise RuntimeError("no map today")

    made = sample(torch.zeros(SHAPE), None, attribute=failing)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no map today"):
        Sensitivity()(made)
    assert torch.equal(before, torch.get_rng_state())


def test_settings():
    for kind in (Infidelity, Sensitivity):
        metric = kind(n=7)
        assert isinstance(metric, Metric)
        assert (metric.better, metric.needs_truth) == ("lower", False)
        assert " 7 " in metric.note
        assert "1901.09392" in metric.note
        for n in (0, 1.0, None, True):
            refused(("`n`", "at least 1"), lambda n=n, kind=kind: kind(n=n))
    for side in (0, -1, math.nan, "0.5", True):
        refused(("`side`",), lambda side=side: Infidelity(side=side))
    refused(("`side`", "at most 1", "1.5"), lambda: Infidelity(side=1.5))
    for radius in (0, -1.0, math.inf, None):
        refused(("`radius`",), lambda radius=radius: Sensitivity(radius=radius))

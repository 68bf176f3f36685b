# Capital of bets on labels: against literal products, and exact means over all labels.
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from captum_infomask.scores.betting import SHARES, AnyPrior, KnownPrior, log2_of_mean

PRIOR = [0.6, 0.3, 0.1]


def posteriors(n, places, classes, seed=0):
    return np.random.default_rng(seed).dirichlet([0.4] * classes, (n, places))


def all_classes(q):
    return np.broadcast_to(np.arange(q.shape[2]), q.shape)


def slow_known(bits):
    """The mean over shares of the product of 1 − λ + λ 2^bits, for one place."""
    return math.fsum(
        math.prod(1 - share + share * 2**b for b in bits if not math.isnan(b)) for share in SHARES
    ) / len(SHARES)


def slow_any(labels, q, c):
    """The same for class c against the rest, by Laplace's rule, for one place; q is (n, M)."""
    total = 0.0
    for share in SHARES:
        capital, count = 1.0, 0
        for i, (y, own) in enumerate(zip(labels, q, strict=True)):
            guess = (count + 1) / (i + 2)
            pays = own[c] / guess if y == c else (1 - own[c]) / (1 - guess)
            if not math.isnan(own[c]):
                capital *= 1 - share + share * pays
            count += y == c
        total += capital
    return total / len(SHARES) / (len(labels) + 1)


def test_known_prior_is_its_literal_product():
    bits = np.random.default_rng(1).normal(0, 3, (20, 4))
    bits[3, 2] = np.nan
    bits[5, 1] = -np.inf
    capital = KnownPrior(4)
    capital.add(bits[:7])
    capital.add(bits[7:])
    want = [slow_known(column) for column in bits.T.tolist()]
    assert 2 ** capital.log2_e_values() == pytest.approx(want, rel=1e-9)


def test_the_mean_over_labels_of_the_prior_is_one():
    q = posteriors(4, 1, 3)[:, 0]
    mean = 0.0
    for labels in itertools.product(range(3), repeat=4):
        bits = [math.log2(q[i, y] / PRIOR[y]) for i, y in enumerate(labels)]
        capital = KnownPrior(1)
        capital.add(np.array(bits)[:, None])
        mean += math.prod(PRIOR[y] for y in labels) * 2 ** float(capital.log2_e_values()[0])
    assert mean == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_any_prior_is_its_literal_product(chunk):
    q = posteriors(50, 3, 4)
    q[8, 1, 2] = np.nan
    labels = np.random.default_rng(2).choice(4, 50, p=[0.5, 0.3, 0.15, 0.05])
    capital = AnyPrior(4, 3)
    for start in range(0, 50, chunk):
        part = slice(start, start + chunk)
        capital.add(labels[part], all_classes(q)[part], q[part])
    found = 2 ** capital.log2_e_values()
    for c in range(4):
        for place in range(3):
            want = slow_any(labels.tolist(), q[:, place].tolist(), c)
            assert found[c, place] == pytest.approx(want, rel=1e-9)
    assert capital.counts.tolist() == np.bincount(labels, minlength=4).tolist()


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_its_sum_over_all_orders_is_exact(n):
    """Σ over labels of E / C(n, n_c) = 1: so the mean over the orders of any labels is at most 1.

    A wrong guess of the chance, such as (n_c + 1)/(i + 1), or a missing 1/(n + 1), changes it.
    """
    q = posteriors(n, 1, 2, seed=n)
    total = 0.0
    for labels in itertools.product([0, 1], repeat=n):
        capital = AnyPrior(2, 1)
        capital.add(np.array(labels), all_classes(q), q)
        total += 2 ** float(capital.log2_e_values()[1, 0]) / math.comb(n, sum(labels))
    assert total == pytest.approx(1, abs=1e-12)


def test_the_mean_over_orders_of_fixed_labels_is_at_most_one():
    """The worst network: it is sure, and is right about the number of labels of each class."""
    q = np.zeros((6, 1, 2))
    q[:3, 0, 0] = q[3:, 0, 1] = 1
    means = []
    for labels in itertools.permutations([0, 0, 0, 1, 1, 1]):
        capital = AnyPrior(2, 1)
        capital.add(np.array(labels), all_classes(q), q)
        means.append(2 ** float(capital.log2_e_values()[1, 0]))
    assert 0.1 < np.mean(means) <= 1


def test_classes_that_views_leave_out_keep_their_capital():
    q = posteriors(30, 2, 5)
    labels = np.random.default_rng(3).integers(0, 5, 30)
    kept = np.argsort(-q, axis=2)[:, :, :2]
    some, masked = AnyPrior(5, 2), AnyPrior(5, 2)
    some.add(labels, kept, np.take_along_axis(q, kept, 2))
    left_out = np.full(q.shape, np.nan)
    np.put_along_axis(left_out, kept, np.take_along_axis(q, kept, 2), 2)
    masked.add(labels, all_classes(q), left_out)
    assert some.log2_e_values() == pytest.approx(masked.log2_e_values(), abs=1e-9)


def test_one_sure_mistake_does_not_take_all():
    """40 marked pictures of 400 are read, and one is read wrongly, as sure as can be."""
    labels = np.repeat([0, 1], [360, 40])
    q = np.full((400, 1, 2), [0.9, 0.1])
    q[360:, 0] = [0, 1]
    q[10, 0] = [0, 1]
    capital = AnyPrior(2, 1)
    order = np.random.default_rng(0).permutation(400)
    capital.add(labels[order], all_classes(q), q[order])
    assert capital.log2_e_values()[1, 0] > 60
    product = np.log2(np.where(labels == 1, q[:, 0, 1] / 0.1, q[:, 0, 0] / 0.9) + 1e-300).sum()
    assert product < -600


def test_large_capital_does_not_overflow():
    bits = np.full((3000, 1), 10.0)
    capital = KnownPrior(1)
    capital.add(bits)
    assert capital.log2_e_values()[0] == pytest.approx(
        3000 * math.log2(1 / 16 + 15 / 16 * 1024), abs=4
    )
    assert log2_of_mean(np.array([5000.0, -np.inf]), 0) == 4999

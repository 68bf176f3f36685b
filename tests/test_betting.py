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


# Bets without a prior


def log2_e(labels, posteriors):
    """log₂ E of each class at one place; posteriors are (n, M)."""
    n, count = posteriors.shape
    bets = AnyPrior(count, 1)
    bets.add(labels, np.tile(np.arange(count), (n, 1, 1)), posteriors[:, None])
    return bets.log2_e_values()[:, 0]


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("order", ["sorted", "blocks", "alternating", "drawn"])
def test_no_order_of_labels_is_evidence(classes, order):
    """Labels that can be foretold from those before, and views that say nothing."""
    drawn = np.random.default_rng(0).integers(0, classes, 1000)
    labels = {
        "sorted": np.sort(drawn),
        "blocks": np.arange(1000) // 50 % classes,
        "alternating": np.arange(1000) % classes,
        "drawn": drawn,
    }[order]
    assert (log2_e(labels, np.full((1000, classes), 1 / classes)) < 0).all()


def test_the_order_of_the_pictures_changes_nothing():
    generator = np.random.default_rng(1)
    labels, q = generator.integers(0, 4, 300), generator.dirichlet(np.ones(4), 300)
    order = generator.permutation(300)
    assert np.array_equal(log2_e(labels, q), log2_e(labels[order], q[order]))


def test_the_mean_over_all_matches_is_at_most_one():
    """Over all matches of labels and pictures, and all numbers of labels: at most 1 in all."""
    q = np.array([0.999, 0.01, 0.5, 0.3, 0.9, 0.07])
    means = []
    for own in range(7):
        matched = []
        for where in itertools.combinations(range(6), own):
            labels = np.ones(6, np.int64)
            labels[list(where)] = 0
            matched.append(2 ** log2_e(labels, np.stack([q, 1 - q], 1)))
        means.append(np.mean(matched, 0))
    assert (np.array(means) <= 1).all()
    assert (np.sum(means, 0) <= 1 + 1e-9).all()
    assert (np.sum(means, 0) > 0.8).all()  # what is left out is little


@pytest.mark.parametrize("pictures", [40, 2000])
def test_the_capital_is_the_mean_taken_literally(pictures):
    """q is on the levels of log-odds; θ is even in arcsin √θ; what is left out is a bit at most."""
    generator = np.random.default_rng(2)
    q = 1 / (1 + np.exp2(-generator.integers(-12, 13, pictures) / 4))
    labels = (generator.random(pictures) > q).astype(np.int64)  # class 0 with the chance q
    own, of_share = labels == 0, []
    for share in SHARES:
        for theta in np.sin((np.arange(512) + 0.5) * math.pi / 2 / 512) ** 2:
            mixed = (1 - share) * theta + share * q
            of_share.append(np.log2(np.where(own, mixed, 1 - mixed)).sum())
    ways = math.log2(math.comb(pictures, int(own.sum())))
    wanted = ways + np.logaddexp2.reduce(of_share) - math.log2(len(of_share))
    found = log2_e(labels, np.stack([q, 1 - q], 1))
    assert wanted > 3
    assert wanted - 1 <= found[0] <= wanted + 0.1
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_parts_of_the_pictures_add_up_and_classes_without_a_bet_keep_their_capital():
    generator = np.random.default_rng(3)
    labels, q = generator.integers(0, 3, 200), generator.dirichlet(np.ones(3), 200)
    parts, whole = AnyPrior(3, 2), AnyPrior(3, 2)
    chosen = generator.permuted(np.tile(np.arange(3), (200, 2, 1)), axis=2)[:, :, :2]
    told = q[np.arange(200)[:, None, None], chosen]
    told[:, 1] = np.nan
    whole.add(labels, chosen, told)
    for rows in (slice(0, 70), slice(70, 200)):
        parts.add(labels[rows], chosen[rows], told[rows])
    assert np.array_equal(whole.log2_e_values(), parts.log2_e_values())
    no_bets = AnyPrior(3, 2)
    no_bets.add(labels, chosen, np.full_like(told, np.nan))
    at_most_one = no_bets.log2_e_values()
    assert np.array_equal(whole.log2_e_values()[:, 1], at_most_one[:, 1])
    assert (at_most_one < 0).all()

"""Bets without a prior: the mean over all orders, taken literally; no order tells anything."""

import itertools
import math

import numpy as np
import pytest

from captum_infomask.scores.betting import SHARES, AnyPrior


def capital(labels, posteriors):
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
    assert (capital(labels, np.full((1000, classes), 1 / classes)) < 0).all()


def test_the_order_of_the_pictures_changes_nothing():
    generator = np.random.default_rng(1)
    labels, q = generator.integers(0, 4, 300), generator.dirichlet(np.ones(4), 300)
    order = generator.permutation(300)
    assert np.array_equal(capital(labels, q), capital(labels[order], q[order]))


def test_the_mean_over_all_matches_is_at_most_one():
    """Over all matches of labels and pictures, and all numbers of labels: at most 1 in all."""
    q = np.array([0.999, 0.01, 0.5, 0.3, 0.9, 0.07])
    means = []
    for own in range(7):
        matched = []
        for where in itertools.combinations(range(6), own):
            labels = np.ones(6, np.int64)
            labels[list(where)] = 0
            matched.append(2 ** capital(labels, np.stack([q, 1 - q], 1)))
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
    found = capital(labels, np.stack([q, 1 - q], 1))
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

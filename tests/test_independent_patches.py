# Known truth: closed forms against loops over Python floats, and InfoMask against closed forms.
from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from refused import refused

from captum_infomask import InfoMask, grid
from captum_infomask.datasets import CategoricalPatches, GaussianPatches, IndependentPatches

PRIORS = {"uniform": None, "skewed": [0.1, 0.2, 0.7]}
TRAININGS = ("cross_entropy", "pc_softmax")
FAMILIES = {
    "Gaussian": GaussianPatches.random(
        classes=3, positions=6, channels=2, side=2, strength=1.2, seed=1
    ),
    "categorical": CategoricalPatches.random(
        classes=3, positions=6, channels=2, side=2, strength=0.7, seed=2
    ),
    "shared Gaussian": GaussianPatches.random(classes=3, channels=2, side=2, strength=1.2, seed=3),
    "shared categorical": CategoricalPatches.random(
        classes=3, channels=2, side=2, strength=0.7, seed=4
    ),
}
SHARED = [family for family in FAMILIES if family.startswith("shared")]


def made(family="Gaussian", prior="uniform", rows=2, columns=3, **options):
    return IndependentPatches(FAMILIES[family], rows, columns, PRIORS[prior], **options)


def patches_of(image, pictures):
    """The patches of one picture, row by row, each a flat list of floats."""
    _, height, width = pictures.patches.patch_shape
    return [
        image[:, i * height : (i + 1) * height, j * width : (j + 1) * width].flatten().tolist()
        for i in range(pictures.rows)
        for j in range(pictures.columns)
    ]


def literal_log_likelihood(patch, k, r, family):
    """log p(patch | class k) at place r, by the definition."""
    if isinstance(family, GaussianPatches):
        mean = family.means[k, r % family.positions].flatten().tolist()
        normaliser = -0.5 * math.log(2 * math.pi * family.deviation**2)
        return sum(
            normaliser - (x - m) ** 2 / (2 * family.deviation**2)
            for x, m in zip(patch, mean, strict=True)
        )
    found = [
        float(probability)
        for symbol, probability in zip(
            family.symbols, family.probabilities[k, r % family.positions], strict=True
        )
        if symbol.flatten().tolist() == pytest.approx(patch, abs=1e-6)
    ]
    assert len(found) == 1
    return math.log(found[0])


def literal_scores(patches, y, pictures, view):
    """Information of each patch in bits, from joint probabilities by Bayes' rule."""
    classes = range(pictures.patches.classes)
    prior = [1 / 3] * 3 if pictures.prior is None else pictures.prior.tolist()
    table = [
        [literal_log_likelihood(patch, k, r, pictures.patches) for k in classes]
        for r, patch in enumerate(patches)
    ]

    @functools.cache
    def bits(shown):
        joint = [prior[k] * math.exp(sum(table[r][k] for r in shown)) for k in classes]
        return math.log2(joint[y] / sum(joint) / prior[y])

    everything = frozenset(range(len(patches)))
    if view == "drop":
        return [bits(everything) - bits(everything - {r}) for r in range(len(patches))]
    if view != "chain":
        return [bits(frozenset({r})) for r in range(len(patches))]
    gains = [[] for _ in patches]
    for order in itertools.permutations(everything):
        for place, r in enumerate(order):
            before = frozenset(order[:place])
            gains[r].append(bits(before | {r}) - bits(before))
    return [sum(gain) / len(gain) for gain in gains]


@pytest.mark.slow
@pytest.mark.parametrize("view", ["crop", "keep", "drop", "chain"])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_closed_form_is_bayes_rule_over_loops(family, prior, view):
    pictures = made(family, prior)
    images, labels = pictures.draw(3, seed=5, dtype=torch.float64)
    effects = []
    for target in (labels, torch.tensor([2, 0, 1])):
        got = pictures.information(images, target, view=view)
        for image, y, scores in zip(images, target.tolist(), got.tolist(), strict=True):
            want = literal_scores(patches_of(image, pictures), y, pictures, view)
            assert scores == pytest.approx(want, abs=1e-9)
            effects += map(abs, want)
    assert sum(effects) / len(effects) > 0.1


def scored(pictures, images, target, trained_with, **options):
    """InfoMask's map of the optimal network, a region for every patch."""
    infomask = InfoMask(
        pictures.network(trained_with), prior=pictures.prior, trained_with=trained_with
    )
    regions = grid(images, pictures.rows, pictures.columns)
    return infomask.score_regions(images, target=target, regions=regions, **options)


@pytest.mark.parametrize("trained_with", TRAININGS)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("view", ["keep", "drop"])
@pytest.mark.parametrize("family", FAMILIES)
def test_info_mask_of_the_optimal_network_is_the_closed_form(family, view, prior, trained_with):
    pictures = made(family, prior)
    images, _ = pictures.draw(16, seed=6)
    infomap = scored(pictures, images, 0, trained_with, view=view)
    exact = pictures.information(images, 0, view=view)
    torch.testing.assert_close(infomap.scores, exact, atol=1e-4, rtol=0)
    torch.testing.assert_close(infomap.total, pictures.total(images, 0), atol=1e-4, rtol=0)
    assert exact.abs().mean() > 0.2
    other = pictures.information(images, 0, view="drop" if view == "keep" else "keep")
    assert (exact - other).abs().mean() > 0.05


@pytest.mark.parametrize("trained_with", TRAININGS)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("family", SHARED)
def test_crop_shows_a_single_patch_to_the_optimal_network(family, prior, trained_with):
    pictures = made(family, prior)
    images, _ = pictures.draw(16, seed=7)
    infomap = scored(pictures, images, 2, trained_with, view="crop", crop_size="native")
    exact = pictures.information(images, 2, view="crop")
    torch.testing.assert_close(infomap.scores, exact, atol=1e-4, rtol=0)
    assert exact.abs().mean() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("trained_with", TRAININGS)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_chain_over_all_orders_is_the_closed_form(family, prior, trained_with):
    pictures = made(family, prior)
    images, _ = pictures.draw(3, seed=12)
    infomap = scored(pictures, images, 1, trained_with, view="chain", n_samples=math.factorial(6))
    exact = pictures.information(images, 1, view="chain")
    torch.testing.assert_close(infomap.scores, exact, atol=1e-4, rtol=0)
    assert infomap.standard_errors.max() == 0
    for view in ("keep", "drop"):
        assert (exact - pictures.information(images, 1, view=view)).abs().mean() > 0.02


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_chain_over_some_orders_is_within_its_standard_errors(family, prior):
    pictures = made(family, prior)
    images, _ = pictures.draw(10, seed=13)
    infomap = scored(pictures, images, 1, "cross_entropy", view="chain", n_samples=240, seed=1)
    exact = pictures.information(images, 1, view="chain")
    away = (infomap.scores - exact).abs()
    assert (away <= 4 * infomap.standard_errors + 1e-9).all()
    assert 1e-4 < infomap.standard_errors.mean() < 0.1
    torch.testing.assert_close(infomap.scores.sum(1), pictures.total(images, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_patches_are_left_out(family, prior):
    """Any baseline will do, and the closed form ignores hidden patches as the network does."""
    pictures = made(family, prior, baseline=0.25)
    images, labels = pictures.draw(4, seed=8, dtype=torch.float64)
    hidden = images.clone()
    hidden[:, :, :2, :2] = 0.25
    without = pictures.total(images, labels) - pictures.information(images, labels, "drop")[:, 0]
    torch.testing.assert_close(pictures.total(hidden, labels), without)
    assert (without - pictures.total(images, labels)).abs().max() > 0.05
    everything = torch.full_like(images, 0.25)
    posterior = pictures.network()(everything).softmax(1)
    torch.testing.assert_close(posterior, pictures.log_prior.exp().expand(4, -1))


@pytest.mark.parametrize("prior", PRIORS)
def test_symbols_are_drawn_with_their_probabilities(prior):
    pictures = made("categorical", prior)
    images, labels = pictures.draw(30_000, seed=9)
    patches = images.reshape(-1, 2, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    symbols = pictures.patches.symbols.flatten(1).float()
    drawn = (patches[:, :, None] == symbols).all(3)
    assert (drawn.sum(2) == 1).all()
    expected = pictures.log_prior.exp()
    for k in range(3):
        share = (labels == k).float().mean()
        assert abs(share - expected[k]) < 0.01
        seen = drawn[labels == k].double().mean(0)
        wanted = pictures.patches.probabilities[k]
        assert (seen - wanted).abs().max() < 0.03
    assert (pictures.patches.probabilities[0] - wanted).abs().max() > 0.1


def test_gaussian_patches_have_their_means_and_deviation():
    family = GaussianPatches(FAMILIES["Gaussian"].means, deviation=0.5)
    pictures = IndependentPatches(family, 2, 3)
    images, labels = pictures.draw(30_000, seed=10, dtype=torch.float64)
    for k in range(3):
        drawn = images[labels == k]
        wanted = family.means[k].reshape(2, 3, 2, 2, 2).permute(2, 0, 3, 1, 4).reshape(2, 4, 6)
        assert (drawn.mean(0) - wanted).abs().max() < 0.02
        assert (drawn.std(0) - 0.5).abs().max() < 0.02
    assert family.means.std() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_posteriors_of_drawn_pictures_average_to_the_prior(family, prior):
    """E_x[p(y|x)] = p(y), for whole pictures and for each patch: draws and densities agree."""
    pictures = made(family, prior)
    images, _ = pictures.draw(20_000, seed=11)
    for y in range(3):
        whole = (2 ** pictures.total(images, y)).mean()
        single = (2 ** pictures.information(images, y, view="keep")).mean(0)
        assert abs(whole - 1) < 0.06
        assert (single - 1).abs().max() < 0.06


def test_seed_decides_and_the_global_generator_stays():
    pictures = made()
    before = torch.get_rng_state()
    images, labels = pictures.draw(8, seed=1)
    again, other = pictures.draw(8, seed=1), pictures.draw(8, seed=2)
    assert torch.equal(images, again[0])
    assert torch.equal(labels, again[1])
    assert not torch.equal(images, other[0])
    assert images.dtype == torch.float32
    assert torch.equal(before, torch.get_rng_state())
    options = {"classes": 3, "positions": 6}
    assert not torch.equal(
        GaussianPatches.random(seed=1, **options).means,
        GaussianPatches.random(seed=2, **options).means,
    )


def test_strength_is_the_distance_between_means_in_deviations():
    means = GaussianPatches.random(classes=2, positions=400, side=4, strength=3.0).means
    distances = (means[0] - means[1]).flatten(1).norm(dim=1)
    assert abs(distances.mean() - 3) < 0.1


def test_single_precision_network():
    pictures = made("Gaussian")
    images, _ = pictures.draw(4)
    network = pictures.network().float()
    assert network(images).dtype == torch.float32
    exact = pictures.network()(images)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(network(images).double(), exact, atol=1e-4, rtol=0)


SYMBOLS = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)) + 1
EVEN = torch.full((2, 1, 3), 1 / 3)
IMAGES = torch.zeros(2, 2, 4, 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GaussianPatches(torch.zeros(3, 1, 2, 2)), ["`means`", "(M, P, C, h, w)"]),
        (lambda: GaussianPatches(torch.full((2, 1, 1, 2, 2), math.nan)), ["`means`", "finite"]),
        (lambda: GaussianPatches(torch.zeros(1, 1, 1, 2, 2)), ["`means`", "2 classes"]),
        (lambda: GaussianPatches(torch.zeros(2, 1, 1, 2, 2), 0.0), ["`deviation`", "above 0"]),
        (lambda: GaussianPatches.random(classes=2, side=0), ["`side`", "at least 1"]),
        (lambda: GaussianPatches.random(classes=2, strength=-1), ["`strength`", "-1"]),
        (lambda: CategoricalPatches(SYMBOLS[:, 0], EVEN), ["`symbols`", "(A, C, h, w)"]),
        (lambda: CategoricalPatches(SYMBOLS[[0, 1, 1]], EVEN), ["`symbols`", "all different"]),
        (lambda: CategoricalPatches(SYMBOLS, EVEN[:, 0]), ["`probabilities`", "(M, P, A)"]),
        (lambda: CategoricalPatches(SYMBOLS, 2 * EVEN), ["`probabilities`", "sum"]),
        (
            lambda: CategoricalPatches(SYMBOLS, EVEN[..., :2] * 1.5),
            ["`probabilities`", "(M, P, 3)"],
        ),
        (
            lambda: CategoricalPatches(SYMBOLS, torch.tensor([[[0.0, 0.5, 0.5]]] * 2)),
            ["`probabilities`", "above 0"],
        ),
        (lambda: CategoricalPatches.random(classes=2, alphabet=1.5), ["`alphabet`", "1.5"]),
        (lambda: made(rows=2, columns=2), ["`patches`", "4 = 2 × 2", "got 6"]),
        (lambda: made(rows=0), ["`rows`", "at least 1"]),
        (
            lambda: IndependentPatches(
                CategoricalPatches(
                    torch.ones(1, 1, 2, 2).repeat(3, 1, 1, 1)
                    * torch.arange(3.0)[:, None, None, None],
                    EVEN,
                ),
                2,
                2,
                baseline=2.0,
            ),
            ["`baseline`", "2.0"],
        ),
        (lambda: IndependentPatches(FAMILIES["Gaussian"], 2, 3, [0.5, 0.5]), ["`prior`", "3 prob"]),
        (lambda: IndependentPatches(FAMILIES["Gaussian"], 2, 3, [0.5, 0.5, 0]), ["`prior`", "abo"]),
        (lambda: IndependentPatches(FAMILIES["Gaussian"], 2, 3, "even"), ["`prior`", "'even'"]),
        (lambda: made().draw(0), ["`count`", "at least 1"]),
        (lambda: made().network("hinge"), ["`trained_with`", "'hinge'"]),
        (lambda: made().information(IMAGES, 0, view="dorp"), ["`view`", "'drop'"]),
        (lambda: made().information(IMAGES, 3, view="drop"), ["`target`", "0 to 2"]),
        (
            lambda: made().information(IMAGES, torch.tensor([0, 1, 2]), "keep"),
            ["`target`", "2 pict"],
        ),
        (lambda: made().total(IMAGES, torch.tensor(0.0)), ["`target`"]),
        (lambda: made().total(IMAGES[:, :1], 0), ["`images`", "(N, 2, 4, 6)"]),
        (lambda: made().total("picture", 0), ["`images`", "'picture'"]),
        (lambda: made().network()(IMAGES[..., :4]), ["`images`", "2 × 3 patches"]),
        (lambda: made("shared Gaussian").network()(IMAGES[..., :3]), ["`images`", "any number"]),
        (
            lambda: made("shared Gaussian", rows=4, columns=4).information(
                torch.zeros(1, 2, 8, 8), 0, view="chain"
            ),
            ["at most 12", "got 16"],
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    refused(tuple(words), call)
